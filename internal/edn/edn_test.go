package edn_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/edn"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// notations pairs text with bytes; most are from RFC 8949 appendix A.
var notations = []struct{ text, hex string }{
	{"0", "00"}, {"23", "17"}, {"24", "1818"}, {"1000000000000", "1b000000e8d4a51000"},
	{"18446744073709551615", "1bffffffffffffffff"},
	{"-1", "20"}, {"-1000", "3903e7"}, {"-18446744073709551616", "3bffffffffffffffff"},
	{"1_0", "1801"}, {"1_3", "1b0000000000000001"}, {"-1_1", "390000"},
	{"0.0", "f90000"}, {"-0.0", "f98000"}, {"1.1", "fb3ff199999999999a"}, {"1.5", "f93e00"},
	{"65504.0", "f97bff"}, {"100000.0", "fa47c35000"}, {"3.4028234663852886e+38", "fa7f7fffff"},
	{"5.960464477539063e-08", "f90001"}, {"6.103515625e-05", "f90400"}, {"1.5_3", "fb3ff8000000000000"},
	{"Infinity", "f97c00"}, {"-Infinity_2", "faff800000"}, {"NaN", "f97e00"}, {"float'7fc00000'", "fa7fc00000"},
	{"float'7e01'", "f97e01"},
	{"false", "f4"}, {"true", "f5"}, {"null", "f6"}, {"undefined", "f7"}, {"simple(16)", "f0"}, {"simple(255)", "f8ff"},
	{"h''", "40"}, {"h'010203'", "43010203"}, {"'IETF'", "4449455446"}, {"h'01'_0", "580101"},
	{`""`, "60"}, {`"\"\\"`, "62225c"}, {`"ü水"`, "65c3bce6b0b4"}, {`"a\nb\u0007"`, "64610a6207"},
	{"[]", "80"}, {"[1, [2, 3]]", "8201820203"}, {"[_0 1]", "980101"}, {"[_ 1]", "9f01ff"},
	{"{}", "a0"}, {"{1: 2, 3: 4}", "a201020304"}, {"{_ 1: 2}", "bf0102ff"}, {"{[h'00']: 1}", "a1814100" + "01"},
	{"1(1363896240)", "c11a514b67b0"}, {"32_1(0)", "d9002000"}, {"2(h'010000000000000000')", "c249010000000000000000"},
	{"<< [1, 2] >>", "43820102"}, {"<< {1: << [] >>} >>", "44a1014180"},
	{"(_ h'01', h'0203')", "5f4101420203ff"}, {`(_ "a")`, "7f6161ff"}, {"''_", "5fff"}, {`""_`, "7fff"},
}

func TestNotation(t *testing.T) {
	for _, v := range notations {
		data := unhex(t, v.hex)
		got, err := edn.Parse(v.text)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("Parse(%s) = %x, %v; want %s", v.text, got, err, v.hex)
		}
		text, err := edn.Format(data, edn.Options{})
		want := strings.Replace(v.text, "<< [] >>", "h'80'", 1) // one byte is too little to guess
		if err != nil || text != want {
			t.Errorf("Format(%s) = %s, %v; want %s", v.hex, text, err, want)
		}
	}
}

func TestParseFurther(t *testing.T) {
	for text, want := range map[string]string{
		"0x1F": "181f", "0b101": "05", "0o17": "0f", "+5": "05", "0x1p-1": "f93800", "1e3": "f963d0",
		"18446744073709551616":      "c249010000000000000000",
		"-18446744073709551617":     "c349010000000000000000",
		"/ a / [1, # rest\n 2,]":    "820102",
		"h'01 /one/ 02 # two\n 03'": "43010203",
		"h'01' h'02' + 'a'":         "43010261",
		`"a" h'62'`:                 "626162",
		`'a' "b"`:                   "426162",
		"b64'AQID'":                 "43010203",
		"b64'_-8='":                 "42ffef",
		"b64'/+8'":                  "42ffef",
		`'it\'s "so"'`:              "4969742773" + "2022736f22",
		`"\ud83d\ude00\u{1F600}"`:   "68f09f9880f09f9880",
		"<< 1, 2 >>":                "420102",
		"<< >>":                     "40",
		"[<<1>>,<<\"a\">>]":         "82" + "4101" + "426161",
		"/ empty comment //**/ 1":   "01",
		"{ 1 : 2 / last / , }":      "a10102",
		"18([h'', {}, null, h''])":  "d28440a0f640",
		"1_i":                       "01",
	} {
		if got, err := edn.Parse(text); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("Parse(%s) = %x, %v; want %s", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, problem := range map[string]string{
		"":                        "line 1, column 1: a data item is missing",
		"1 2":                     "text follows",
		"[1, 2":                   "comma or ]",
		"[1 2]":                   "comma or ]",
		"{1, 2}":                  "colon",
		"{1: }":                   "does not start",
		"/ open":                  "comment is not closed",
		"h'0'":                    "pairs",
		"h'0g'":                   "pairs",
		"h'00":                    "not closed",
		"h'0011...'":              "cut short",
		"b64'?'":                  "not base64",
		"b64'AB'":                 "not base64",
		"\"a":                     "not closed",
		"\"\\x\"":                 "unknown escape",
		"\"\\ud800\"":             "surrogate",
		"\"\\u{110000}\"":         "no character",
		"\"\xff\"":                "UTF-8",
		`"a" h'ff'`:               "UTF-8",
		"007":                     "not a number",
		"0x":                      "not a number",
		"1.2.3":                   "not a floating-point",
		"1e999":                   "not a floating-point",
		"300_0":                   "does not fit",
		"24_i":                    "does not fit",
		"1.1_1":                   "does not fit",
		"1_7":                     "unknown encoding indicator",
		"18446744073709551616_3":  "bignum",
		"-1(0)":                   "between 0 and",
		"18446744073709551616(0)": "between 0 and",
		"1(0":                     "expected )",
		"simple(24)":              "simple values",
		"simple(256)":             "simple values",
		"maybe":                   "unknown word",
		"[\n  1,\n  @]":           "line 3, column 3",
		"(_ )":                    "empty string",
		"(_ 1)":                   "one kind",
		"(_ h'', \"\")":           "one kind",
		"h'00'_":                  "empty string",
		"float'7e'":               "4, 8 or 16",
		"'a' + 1":                 "after +",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "nested deeper",
	} {
		_, err := edn.Parse(text)
		var syntax *edn.SyntaxError
		if !errors.As(err, &syntax) || !errors.Is(err, edn.ErrSyntax) || !strings.Contains(err.Error(), problem) {
			t.Errorf("Parse(%.40q): %v; want %q", text, err, problem)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":               "",
		"trailing bytes":        "0000",
		"truncated head":        "19 01",
		"truncated string":      "42 01",
		"huge string":           "5b ffffffffffffffff 00",
		"truncated array":       "82 01",
		"huge array":            "9b ffffffffffffffff",
		"huge map":              "bb ffffffffffffffff",
		"map without value":     "bf 01 ff",
		"break alone":           "ff",
		"break in array":        "82 01 ff",
		"no break":              "9f 01",
		"reserved head":         "1c",
		"indefinite integer":    "1f",
		"indefinite tag":        "df 00",
		"two-byte simple below": "f8 14",
		"text not UTF-8":        "61 ff",
		"chunk of other kind":   "5f 61 61 ff",
		"nested chunk":          "5f 5f ff ff",
		"too deep":              strings.Repeat("81", 80) + "00",
	} {
		if text, err := edn.Format(unhex(t, strings.ReplaceAll(data, " ", "")), edn.Options{}); !errors.Is(err, edn.ErrMalformed) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestTooManyItems shows that memory is bounded before it is used.
func TestTooManyItems(t *testing.T) {
	many := append([]byte{0x9a, 0x00, 0x04, 0x00, 0x01}, make([]byte, edn.MaxItems+1)...)
	if _, err := edn.Format(many, edn.Options{}); !errors.Is(err, edn.ErrMalformed) {
		t.Error(err)
	}
	if _, err := edn.Parse("[" + strings.Repeat("0,", edn.MaxItems+1) + "]"); !errors.Is(err, edn.ErrSyntax) {
		t.Error(err)
	}
}

// signSchema describes a COSE_Sign1 whose payload is a little protocol message.
func signSchema() *edn.Schema {
	header := &edn.Schema{Members: map[int64]edn.Field{
		1: {Name: "alg", Schema: &edn.Schema{Values: map[int64]string{-9: "ESP256"}}},
		4: {Name: "kid", Schema: &edn.Schema{Opaque: true}},
	}}
	message := &edn.Schema{Name: "message", Elements: []edn.Field{
		{Name: "type", Schema: &edn.Schema{Values: map[int64]string{1: "query-request"}}},
		{Name: "options", Schema: &edn.Schema{
			Members:     map[int64]edn.Field{20: {Name: "token"}},
			TextMembers: map[string]edn.Field{"#tc": {Name: "payload"}},
			Other:       edn.Field{Name: "extension"},
		}},
		{Name: "wanted", Schema: &edn.Schema{Bits: []string{"attestation", "components"}}},
	}, Rest: edn.Field{Name: "more"}}
	sign1 := &edn.Schema{Name: "COSE_Sign1", Elements: []edn.Field{
		{Name: "protected", Schema: &edn.Schema{Wraps: header}},
		{Name: "unprotected", Schema: header},
		{Name: "payload", Schema: &edn.Schema{Wraps: message}},
		{Name: "signature"},
	}}
	return &edn.Schema{Select: func(item []byte) *edn.Schema {
		if item[0] == 0xd2 {
			return sign1
		}
		return nil
	}}
}

func TestSchema(t *testing.T) {
	data, err := edn.Parse(`18([<<{1: -9}>>, {4: h'820102'}, <<[1, {20: h'a0a1', "#tc": 'code', 9: true}, 7, 0]>>, h'00'])`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := edn.Format(data, edn.Options{Schema: signSchema()})
	if err != nil {
		t.Fatal(err)
	}
	const want = `18([
  / protected / << {
    / alg / 1: -9 / ESP256 /
  } >>,
  / unprotected / {
    / kid / 4: h'820102'
  },
  / payload / << / message / [
    / type / 1 / query-request /,
    / options / {
      / token / 20: h'a0a1',
      / payload / "#tc": 'code',
      / extension / 9: true
    },
    / wanted / 7 / attestation | components | bit 2 /,
    / more / 0
  ] >>,
  / signature / h'00'
])`
	if text != want {
		t.Errorf("got\n%s", text)
	}
	again, err := edn.Parse(text)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("%v: %x", err, again)
	}
}

// TestCommentsCannotBreakOut: names reach a terminal and must not end the comment.
func TestCommentsCannotBreakOut(t *testing.T) {
	evil := &edn.Schema{Values: map[int64]string{1: "a / 99 \n\x1b[2J"}}
	text, err := edn.Format([]byte{1}, edn.Options{Schema: evil})
	if err != nil || strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("%q, %v", text, err)
	}
	if again, err := edn.Parse(text); err != nil || !bytes.Equal(again, []byte{1}) {
		t.Errorf("%q: %x, %v", text, again, err)
	}
}

func TestMaxBytes(t *testing.T) {
	data := append([]byte{0x58, 100}, make([]byte, 100)...)
	text, err := edn.Format(data, edn.Options{MaxBytes: 4})
	if err != nil || text != "h'00000000...' / 100 bytes /" {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := edn.Parse(text); !errors.Is(err, edn.ErrSyntax) {
		t.Errorf("a byte string that was cut parsed: %v", err)
	}
}

func TestClosed(t *testing.T) {
	text, err := edn.Format([]byte{0x43, 0x82, 1, 2}, edn.Options{Closed: true})
	if err != nil || text != "h'820102'" {
		t.Errorf("%s, %v", text, err)
	}
}

// TestSchemaLoop: schemas that choose each other must not hang.
func TestSchemaLoop(t *testing.T) {
	a, b := &edn.Schema{}, &edn.Schema{}
	a.Select = func([]byte) *edn.Schema { return b }
	b.Select = func([]byte) *edn.Schema { return a }
	if _, err := edn.Format([]byte{0x80}, edn.Options{Schema: a}); err != nil {
		t.Error(err)
	}
}

// FuzzFormatParse: whatever Format can print reads back as the very same bytes.
func FuzzFormatParse(f *testing.F) {
	for _, v := range notations {
		f.Add(unhex(f, v.hex))
	}
	for _, data := range binaries(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []edn.Options{{}, {Schema: signSchema(), Width: 20}} {
			text, err := edn.Format(data, o)
			if err != nil {
				return
			}
			again, err := edn.Parse(text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if !bytes.Equal(again, data) {
				t.Fatalf("%x became %x through\n%s", data, again, text)
			}
		}
	})
}

// FuzzParseFormat: what parses prints, and the print means the same.
func FuzzParseFormat(f *testing.F) {
	for _, v := range notations {
		f.Add(v.text)
	}
	f.Add(`/ c / {"a": [1.5, -2, h'00' 'x', b64'AQID', <<{1: 2}>>], 18(0): (_ "a", "b")} # end`)
	f.Fuzz(func(t *testing.T, text string) {
		data, err := edn.Parse(text)
		if err != nil {
			return
		}
		printed, err := edn.Format(data, edn.Options{})
		if err != nil {
			t.Fatalf("%q encodes to %x, which does not print: %v", text, data, err)
		}
		again, err := edn.Parse(printed)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q → %x → %q → %x (%v)", text, data, printed, again, err)
		}
	})
}

func TestLongText(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"abcdef", `"abcdef"`}, {"abcdefg", `"abcdef"... / 7 bytes of text /`}, {"abcdeü", `"abcde"... / 7 bytes of text /`}, {"abcd\"ef", `"abcd\"e"... / 7 bytes of text /`},
		{"üüüü", `"üüü"... / 8 bytes of text /`},
	} {
		got, err := edn.Format(append([]byte{0x60 + byte(len(c.text))}, c.text...), edn.Options{MaxText: 6})
		if err != nil || got != c.want {
			t.Errorf("%s is shown as %s (%v), want %s", c.text, got, err, c.want)
		}
		if _, err := edn.Parse(got); (err == nil) != (c.text == "abcdef") {
			t.Errorf("%s is read back: %v", got, err)
		}
	}
	got, err := edn.Format(append(append([]byte{0x7f, 0x67}, "abcdefg"...), 0xff), edn.Options{MaxText: 6})
	if err != nil || !strings.Contains(got, `"abcdef"...`) {
		t.Errorf("in a chunk: %s (%v)", got, err)
	}
}

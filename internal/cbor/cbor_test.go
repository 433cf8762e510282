package cbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/vectors"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPolicyRefuses goes through what arrives from outside and must not be decoded.
func TestPolicyRefuses(t *testing.T) {
	deep := strings.Repeat("81", MaxNesting+1) + "00"
	for name, in := range map[string]string{
		"nothing":                       "",
		"indefinite byte string":        "5f 41 00 ff",
		"indefinite text":               "7f 61 61 ff",
		"indefinite array":              "9f 00 ff",
		"indefinite map":                "bf 00 00 ff",
		"duplicate integer key":         "a2 01 00 01 00",
		"duplicate key, longer form":    "a2 01 00 18 01 00",
		"duplicate text key":            "a2 61 61 00 61 61 00",
		"duplicate key in a nested map": "a1 00 a2 01 00 01 00",
		"text that is not UTF-8":        "61 ff",
		"key that is not UTF-8":         "a1 61 ff 00",
		"nesting beyond the limit":      deep,
		"truncated head":                "19 01",
		"truncated byte string":         "45 01 02",
		"truncated array":               "82 00",
		"array longer than its bytes":   "9a ff ff ff ff 00",
		"map longer than its bytes":     "bb ff ff ff ff ff ff ff ff 00",
		"too many elements":             "9a 00 01 00 01",
		"reserved additional info":      "1c",
		"break by itself":               "ff",
		"integer beyond 64 bits signed": "1b ff ff ff ff ff ff ff ff",
	} {
		t.Run(name, func(t *testing.T) {
			var v any
			if err := Unmarshal(unhex(t, in), &v); err == nil {
				t.Errorf("decoded to %v", v)
			}
		})
	}
}

func TestTrailingBytes(t *testing.T) {
	var v any
	if err := Unmarshal(unhex(t, "00 00"), &v); !errors.Is(err, ErrTrailing) {
		t.Errorf("got %v, want ErrTrailing", err)
	}
	rest, err := UnmarshalFirst(unhex(t, "00 01"), &v)
	if err != nil || !bytes.Equal(rest, []byte{1}) {
		t.Errorf("rest %x, %v", rest, err)
	}
	if err := Wellformed(unhex(t, "00 00")); err == nil {
		t.Error("two items are one well-formed item")
	}
}

// TestAcceptedThoughNotDeterministic: what conforming older encoders may send is read, and told.
func TestAcceptedThoughNotDeterministic(t *testing.T) {
	for name, in := range map[string]string{"long integer": "18 01", "unsorted map": "a2 02 00 01 00", "long length": "58 01 00"} {
		t.Run(name, func(t *testing.T) {
			data := unhex(t, in)
			var v any
			if err := Unmarshal(data, &v); err != nil {
				t.Errorf("refused: %v", err)
			}
			if IsDeterministic(data) {
				t.Error("called deterministic")
			}
		})
	}
	if !IsDeterministic(unhex(t, "a2 01 00 02 00")) || IsDeterministic(unhex(t, "00 00")) || IsDeterministic(nil) {
		t.Error("IsDeterministic is wrong about a sorted map, two items, or nothing")
	}
}

func TestMarshalIsDeterministic(t *testing.T) {
	got, err := Marshal(map[any]any{"b": 1, int64(10): 2, "a": 3, int64(-1): 4, int64(100): 5})
	if err != nil {
		t.Fatal(err)
	}
	// RFC 8949 §4.2.1: by the bytes of the encoded key.
	if want := unhex(t, "a5 0a 02 18 64 05 20 04 61 61 03 61 62 01"); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestDiagnose(t *testing.T) {
	if s, err := Diagnose(unhex(t, "a1 01 43 01 02 03")); err != nil || s != "{1: h'010203'}" {
		t.Errorf("%q, %v", s, err)
	}
	if _, err := Diagnose(unhex(t, "45 01")); err == nil {
		t.Error("a truncated item has a notation")
	}
}

// FuzzPolicy holds three promises for every input: no panic; what decodes encodes to something
// that decodes to the same; and what is called deterministic encodes to the very same bytes.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{"00", "a2 01 00 02 00", "5f ff", "d8 6b a1 02 41 00", "f6", "fb 3f f0 00 00 00 00 00 00"} {
		f.Add(unhex(f, seed))
	}
	for _, name := range vectors.Names(f, "suit", ".suit") {
		f.Add(vectors.Read(f, name))
	}
	for _, name := range vectors.Names(f, "teep-es256", ".cbor") {
		f.Add(vectors.Read(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		err := Unmarshal(data, &v)
		if err == nil && Wellformed(data) != nil {
			t.Fatal("decoded, and not well-formed")
		}
		if err != nil {
			if IsDeterministic(data) {
				t.Fatal("deterministic, and not decodable")
			}
			return
		}
		again, err := Marshal(v)
		if err != nil {
			return // such as a NaN payload that is no map key
		}
		var w any
		if err := Unmarshal(again, &w); err != nil {
			t.Fatalf("%x became %x, which does not decode: %v", data, again, err)
		}
		third, err := Marshal(w)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x became %x and then %x (%v)", data, again, third, err)
		}
		if IsDeterministic(data) != bytes.Equal(data, again) {
			t.Fatalf("%x: IsDeterministic is %v, and the encoding is %x", data, IsDeterministic(data), again)
		}
	})
}

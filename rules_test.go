package teep

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/edn"
)

func notation(t *testing.T, text string) []byte {
	t.Helper()
	data, err := edn.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return data
}

const (
	ednSuites   = "[[[18, -9]]]"
	ednProfiles = "[[-16, -9, -29, -65534]]"
	ednToken    = "20: h'0001020304050607'"
)

func ednQuery(options string, items string) string {
	return "[1, {" + options + "}, " + ednSuites + ", " + ednProfiles + ", " + items + "]"
}

func ednBytes(n int) string { return "h'" + strings.Repeat("ab", n) + "'" }

func TestDecodeRefuses(t *testing.T) {
	long := strings.Repeat("x", 129)
	for name, c := range map[string]struct{ text, want string }{
		"a map":                         {"{}", "not [type, options"},
		"empty array":                   {"[]", "not [type, options"},
		"type alone":                    {"[5]", "not [type, options"},
		"type as text":                  {`["5", {}]`, "not [type, options"},
		"type null":                     {`[null, {}]`, "not [type, options"},
		"negative type":                 {"[-5, {}]", "not [type, options"},
		"tagged type":                   {"[1(5), {}]", "not [type, options"},
		"options an array":              {"[5, []]", "not [type, options"},
		"options null":                  {"[5, null]", "not [type, options"},
		"text label":                    {`[5, {"token": 1}]`, "not [type, options"},
		"negative label":                {"[5, {-1: 1}]", "not [type, options"},
		"reserved type 0":               {"[0, {}]", "unknown message type 0"},
		"reserved type 4":               {"[4, {}]", "unknown message type 4"},
		"unknown type":                  {"[7, {}]", "unknown message type 7"},
		"success with a third element":  {"[5, {}, 1]", "3 elements, expected 2"},
		"error without code":            {"[6, {}]", "2 elements, expected 3"},
		"request of four":               {"[1, {}, [], []]", "4 elements, expected 5"},
		"token of 7 bytes":              {"[5, {20: " + ednBytes(7) + "}]", "token of 7 bytes"},
		"token of 65 bytes":             {"[5, {20: " + ednBytes(65) + "}]", "token of 65 bytes"},
		"empty token":                   {"[5, {20: h''}]", "token of 0 bytes"},
		"token as text":                 {`[5, {20: "12345678"}]`, "token is not a byte string"},
		"token null":                    {"[5, {20: null}]", "token is not a byte string"},
		"token as array of bytes":       {"[5, {20: [1,2,3,4,5,6,7,8]}]", "token is not a byte string"},
		"tagged token":                  {"[5, {20: 2(" + ednBytes(8) + ")}]", "token is not a byte string"},
		"empty msg":                     {`[5, {11: ""}]`, "msg is empty"},
		"msg of 129 bytes":              {`[5, {11: "` + long + `"}]`, "msg of 129 bytes"},
		"msg with line feed":            {`[5, {11: "a\nb"}]`, "control characters"},
		"msg with escape":               {`[5, {11: "\u001b[31m"}]`, "control characters"},
		"msg with byte order mark":      {`[5, {11: "\ufeffa"}]`, "byte order mark"},
		"empty reports":                 {"[5, {19: []}]", "suit-reports is empty"},
		"report not CBOR":               {"[5, {19: [h'ff']}]", "suit-reports element 0 is not CBOR"},
		"report of two items":           {"[5, {19: [h'0000']}]", "suit-reports element 0 is not CBOR"},
		"report unwrapped":              {"[5, {19: [{1: 2}]}]", "suit-reports element 0 is not a byte string"},
		"challenge of 7 bytes":          {ednQuery("2: "+ednBytes(7), "1"), "challenge of 7 bytes"},
		"challenge of 513 bytes":        {ednQuery("2: "+ednBytes(513), "1"), "challenge of 513 bytes"},
		"challenge without attestation": {ednQuery(ednToken+", 2: "+ednBytes(8), "2"), "challenge without the attestation bit"},
		"freshness without attestation": {ednQuery(ednToken+", 21: [0]", "2"), "supported-freshness-mechanisms without"},
		"empty freshness":               {ednQuery("21: []", "1"), "supported-freshness-mechanisms is empty"},
		"empty versions":                {ednQuery("3: []", "1"), "versions is empty"},
		"version of 5 bytes":            {ednQuery("3: [4294967296]", "1"), "versions element 0 exceeds 4 bytes"},
		"negative version":              {ednQuery("3: [-1]", "1"), "versions element 0 is not an unsigned integer"},
		"no suites":                     {"[1, {}, [], " + ednProfiles + ", 1]", "supported-teep-cipher-suites is empty"},
		"no profiles":                   {"[1, {}, " + ednSuites + ", [], 1]", "supported-suit-cose-profiles is empty"},
		"suite without operations":      {"[1, {}, [[]], " + ednProfiles + ", 1]", "without operations"},
		"operation of three":            {"[1, {}, [[[18, -9, 0]]], " + ednProfiles + ", 1]", "an operation has 2"},
		"operation with text":           {`[1, {}, [[[18, "ESP256"]]], ` + ednProfiles + ", 1]", "is not an integer"},
		"profile of three":              {"[1, {}, " + ednSuites + ", [[-16, -9, -29]], 1]", "a SUIT profile has 4"},
		"data items negative":           {ednQuery("", "-1"), "data-item-requested is not an unsigned integer"},
		"data items beyond bit 31":      {ednQuery("", "4294967297"), "bits beyond 31"},
		"format empty":                  {ednQuery(`13: ""`, "1"), "attestation-payload-format is empty"},
		"format without slash":          {ednQuery(`13: "eat"`, "1"), "not a media type"},
		"format with line feed":         {ednQuery(`13: "application/eat\r\nx: y"`, "1"), "not a media type"},
		"claims not a map":              {"[2, {8: [1]}]", "tc-list element 0 is not a map"},
		"empty requested list":          {"[2, {14: []}]", "requested-tc-list is empty"},
		"requested without id":          {"[2, {14: [{17: 1}]}]", "requested-tc-list element 0 has no component-id"},
		"have-binary without number":    {"[2, {14: [{16: [h'01'], 18: true}]}]", "have-binary is true without tc-manifest-sequence-number"},
		"have-binary as number":         {"[2, {14: [{16: [h'01'], 17: 1, 18: 1}]}]", "have-binary is neither true nor false"},
		"component id of text":          {`[2, {15: [["a"]]}]`, "is not a byte string"},
		"component id flat":             {`[2, {15: [h'01']}]`, "is not an array"},
		"selected version too large":    {"[2, {6: 4294967296}]", "selected-version exceeds 4 bytes"},
		"extension info too large":      {"[2, {9: [4294967296]}]", "ext-list element 0 exceeds 4 bytes"},
		"manifest not CBOR":             {"[3, {10: [h'']}]", "manifest-list element 0 is not CBOR"},
		"manifest unwrapped":            {"[3, {10: [{}]}]", "manifest-list element 0 is not a byte string"},
		"update err-code 0":             {"[3, {23: 0}]", "err-code is 0"},
		"update err-code negative":      {"[3, {23: -1}]", "err-code is not an unsigned integer"},
		"empty language":                {`[3, {23: 1, 22: ""}]`, "err-lang is empty"},
		"language of 36 bytes":          {`[3, {23: 1, 22: "en-` + strings.Repeat("abcdefgh-", 3) + `abcdef"}]`, "err-lang"},
		"language with space":           {`[3, {23: 1, 22: "en us"}]`, "err-lang"},
		"error code 0":                  {"[6, {}, 0]", "err-code is 0"},
		"error code as text":            {`[6, {}, "1"]`, "err-code is not an unsigned integer"},
		"suites missing":                {"[6, {}, 5]", "ERR_UNSUPPORTED_CIPHER_SUITES without supported-teep-cipher-suites"},
		"freshness missing":             {"[6, {}, 3]", "ERR_UNSUPPORTED_FRESHNESS_MECHANISMS without supported-freshness-mechanisms"},
		"profiles missing":              {"[6, {}, 8]", "ERR_UNSUPPORTED_SUIT_REPORT without supported-suit-cose-profiles"},
		"versions missing":              {"[6, {}, 4]", "ERR_UNSUPPORTED_MSG_VERSION without versions"},
		"error with empty suites":       {"[6, {1: []}, 5]", "supported-teep-cipher-suites is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Decode(notation(t, c.text))
			var pe *ProtocolError
			if !errors.As(err, &pe) || m != nil {
				t.Fatalf("decoded %+v, error %v; want a ProtocolError", m, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want %q in it", err, c.want)
			}
			want := ErrPermanentError
			if strings.Contains(c.want, "unknown message type") {
				want = ErrUnsupportedExtension
			}
			if pe.Code != want {
				t.Errorf("code %v, want %v", pe.Code, want)
			}
			if _, err := Encode(AsErrorMessage(err)); err != nil {
				t.Errorf("the answer cannot be sent: %v", err)
			}
		})
	}
}

func TestDecodeRefusesBytes(t *testing.T) {
	valid := notation(t, "[5, {"+ednToken+"}]")
	for name, data := range map[string][]byte{
		"nothing":           {},
		"trailing byte":     append(bytes.Clone(valid), 0),
		"truncated":         valid[:len(valid)-1],
		"duplicate label":   {0x82, 0x05, 0xa2, 0x0b, 0x61, 'a', 0x0b, 0x61, 'b'},
		"indefinite array":  {0x9f, 0x05, 0xa0, 0xff},
		"indefinite token":  {0x82, 0x05, 0xa1, 0x14, 0x5f, 0x48, 1, 2, 3, 4, 5, 6, 7, 8, 0xff},
		"invalid UTF-8 msg": {0x82, 0x05, 0xa1, 0x0b, 0x62, 0xc3, 0x28},
		"reserved item":     {0x82, 0x05, 0x1c},
	} {
		if m, err := Decode(data); err == nil {
			t.Errorf("%s: decoded %+v", name, m)
		}
	}
}

func TestDecodeAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"token of 8 bytes":              "[5, {20: " + ednBytes(8) + "}]",
		"token of 64 bytes":             "[5, {20: " + ednBytes(64) + "}]",
		"challenge of 8 bytes":          ednQuery("2: "+ednBytes(8), "1"),
		"challenge of 512 bytes":        ednQuery("2: "+ednBytes(512), "1"),
		"token with attestation bit":    ednQuery(ednToken, "1"),
		"no token without the bit":      ednQuery("", "2"),
		"reserved data item":            ednQuery("", "17"),
		"unknown freshness":             ednQuery("21: [0, 99]", "1"),
		"unknown suite of two steps":    "[1, {}, [[[98, -7], [16, 1]], [[18, -9]]], " + ednProfiles + ", 1]",
		"format without payload":        ednQuery(`13: "application/x"`, "1"),
		"msg of 128 bytes":              `[5, {11: "` + strings.Repeat("x", 128) + `"}]`,
		"msg not normalized":            `[5, {11: "e\u0301"}]`,
		"msg with CR LF":                `[5, {11: "a\r\nb"}]`,
		"language of 35 bytes":          `[3, {23: 1, 22: "en-` + strings.Repeat("abcdefgh-", 3) + `abcde"}]`,
		"unassigned code":               "[6, {}, 11]",
		"code beyond 23":                "[6, {}, 4711]",
		"empty tc-list":                 "[2, {8: []}]",
		"empty ext-list":                "[2, {9: []}]",
		"empty manifest-list":           "[3, {10: []}]",
		"empty unneeded-manifest-list":  "[3, {15: []}]",
		"have-binary false":             "[2, {14: [{16: [h'01'], 18: false}]}]",
		"unknown option":                `[5, {5: 1, 500: "x"}]`,
		"unknown entry of requested":    "[2, {14: [{16: [h'01'], 99: 1}]}]",
		"option of another message":     `[5, {12: "x"}]`,
		"error with what code not asks": "[6, {3: [0]}, 10]",
	} {
		t.Run(name, func(t *testing.T) {
			data := notation(t, text)
			m, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			again, err := EncodeUnchecked(m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, data) {
				t.Errorf("encodes to %x, want %x", again, data)
			}
		})
	}
}

// Labels in another order, and integers that are longer than they need be, are CBOR all the same.
func TestDecodeOtherEncodings(t *testing.T) {
	data := []byte{0x82, 0x18, 0x05, 0xa2, 0x0b, 0x61, 'a', 0x18, 0x14, 0x58, 0x08, 1, 2, 3, 4, 5, 6, 7, 8}
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.(*Success); s.Msg != "a" || len(s.Token) != 8 {
		t.Errorf("%+v", s)
	}
}

func TestRejectionEchoesTheToken(t *testing.T) {
	_, err := Decode(notation(t, "[3, {"+ednToken+", 23: 0}]"))
	if m := AsErrorMessage(err); !bytes.Equal(m.Token, []byte{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("answer %+v has no token", m)
	}
	_, err = Decode(notation(t, "[3, {20: h'01', 23: 0}]"))
	if m := AsErrorMessage(err); m.Token != nil {
		t.Errorf("answer %+v echoes a token that it may not send", m)
	}
}

func ptr[T any](v T) *T { return &v }

func token8() []byte { return []byte{0, 1, 2, 3, 4, 5, 6, 7} }

func validMessages() []Message {
	id := ComponentID{[]byte("app"), {1, 2}}
	return []Message{
		&QueryRequest{
			FreshnessMechanisms: []FreshnessMechanism{FreshnessNonce, FreshnessTimestamp}, Challenge: token8(), Versions: []Version{0},
			AttestationFormat: "application/cmw+cbor", AttestationPayload: []byte("?"), SUITReports: [][]byte{{0xa0}},
			CipherSuites: MandatoryCipherSuites(), SUITProfiles: MandatorySUITProfiles(), DataItems: DataAttestation | DataSUITReports,
			Extensions: map[uint64]RawMessage{300: {0x01}, 5: {0xf6}},
		},
		&QueryRequest{Token: token8(), CipherSuites: MandatoryCipherSuites(), SUITProfiles: MandatorySUITProfiles(), DataItems: DataExtensions},
		&QueryResponse{
			Token: token8(), SelectedVersion: ptr(Version(0)), AttestationPayload: []byte{0xa0}, SUITReports: [][]byte{{0xa0}},
			TrustedComponents:   []RawMessage{{0xa1, 0x00, 0x80}},
			RequestedComponents: []RequestedComponent{{ID: id}, {ID: id, MinSequence: ptr(uint64(7)), HaveBinary: ptr(true)}},
			UnneededManifests:   []ComponentID{id, {}}, ExtensionList: []ExtensionInfo{}, Extensions: map[uint64]RawMessage{5: {0x80}},
		},
		&QueryResponse{},
		&Update{Token: token8(), UnneededManifests: []ComponentID{id}, Manifests: [][]byte{{0xa0}, {0xd8, 0x6b, 0xa0}}, AttestationPayload: []byte{0x80}},
		&Update{ErrorCode: ErrAttestationRequired, ErrorMessage: "é", ErrorLanguage: "fr-CA"},
		&Success{}, &Success{Token: token8(), Msg: "fine", SUITReports: [][]byte{{0xa0}}},
		&Error{Code: ErrTemporaryError},
		&Error{
			Token: token8(), Message: "no", Language: "en", CipherSuites: MandatoryCipherSuites(), FreshnessMechanisms: []FreshnessMechanism{0},
			SUITProfiles: MandatorySUITProfiles(), Challenge: token8(), Versions: []Version{0, 1}, SUITReports: [][]byte{{0xa0}},
			Code: ErrUnsupportedCipherSuites, Extensions: map[uint64]RawMessage{99: {0x20}},
		},
	}
}

func TestEncodeDecodeIsTheIdentity(t *testing.T) {
	for i, m := range validMessages() {
		data, err := Encode(m)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		for range 3 {
			if again, _ := Encode(m); !bytes.Equal(again, data) {
				t.Errorf("%d: the encoding is not deterministic", i)
			}
		}
		back, err := Decode(data)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if !reflect.DeepEqual(back, m) {
			t.Errorf("%d: got  %+v\nwant %+v", i, back, m)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	request := func(edit func(*QueryRequest)) *QueryRequest {
		q := &QueryRequest{CipherSuites: MandatoryCipherSuites(), SUITProfiles: MandatorySUITProfiles(), DataItems: DataAttestation}
		edit(q)
		return q
	}
	own := func(label uint64) map[uint64]RawMessage { return map[uint64]RawMessage{label: {0x01}} }
	for name, c := range map[string]struct {
		m    Message
		want string
	}{
		"token with the bit":        {request(func(q *QueryRequest) { q.Token = token8() }), "token with the attestation bit"},
		"no token without the bit":  {request(func(q *QueryRequest) { q.DataItems = DataExtensions }), "token missing"},
		"challenge without the bit": {request(func(q *QueryRequest) { q.DataItems, q.Token, q.Challenge = 2, token8(), token8() }), "challenge without"},
		"freshness without the bit": {request(func(q *QueryRequest) {
			q.DataItems, q.Token, q.FreshnessMechanisms = 2, token8(), []FreshnessMechanism{0}
		}), "without the attestation bit"},
		"short challenge":         {request(func(q *QueryRequest) { q.Challenge = []byte{1} }), "challenge of 1 bytes"},
		"no suites":               {request(func(q *QueryRequest) { q.CipherSuites = nil }), "supported-teep-cipher-suites is empty"},
		"no profiles":             {request(func(q *QueryRequest) { q.SUITProfiles = nil }), "supported-suit-cose-profiles is empty"},
		"format without payload":  {request(func(q *QueryRequest) { q.AttestationFormat = "a/b" }), "without attestation-payload"},
		"payload not an EAT":      {request(func(q *QueryRequest) { q.AttestationPayload = []byte("text") }), "does not name another format"},
		"empty payload":           {&QueryResponse{AttestationPayload: []byte{}}, "attestation-payload is empty"},
		"token too long":          {&QueryResponse{Token: make([]byte, 65)}, "token of 65 bytes"},
		"claims not CBOR":         {&QueryResponse{TrustedComponents: []RawMessage{{0xa1}}}, "tc-list element 0"},
		"have-binary":             {&QueryResponse{RequestedComponents: []RequestedComponent{{ID: ComponentID{{1}}, HaveBinary: ptr(true)}}}, "have-binary"},
		"manifest not CBOR":       {&Update{Manifests: [][]byte{{}}}, "manifest-list element 0"},
		"err-msg too long":        {&Update{ErrorCode: 1, ErrorMessage: strings.Repeat("é", 65)}, "err-msg of 130 bytes"},
		"err-msg not NFC":         {&Update{ErrorCode: 1, ErrorMessage: "e\u0301"}, "normalization form C"},
		"err-msg not UTF-8":       {&Error{Code: 1, Message: "\xff"}, "is not UTF-8"},
		"msg with tab":            {&Success{Msg: "a\tb"}, "control characters"},
		"msg with CR alone":       {&Success{Msg: "a\rb"}, "control characters"},
		"msg with C1 control":     {&Success{Msg: "a\u0085b"}, "control characters"},
		"language":                {&Error{Code: 1, Language: "deutsch und englisch"}, "err-lang"},
		"code 0":                  {&Error{}, "err-code is 0"},
		"code 5 without suites":   {&Error{Code: ErrUnsupportedCipherSuites}, "without supported-teep-cipher-suites"},
		"own label in extensions": {&Success{Extensions: own(LabelToken)}, "which is token"},
		"own label in requested":  {&QueryResponse{RequestedComponents: []RequestedComponent{{ID: ComponentID{}, Extensions: own(17)}}}, "which is tc-manifest-sequence-number"},
		"extension not CBOR":      {&Success{Extensions: map[uint64]RawMessage{99: {0x82}}}, "extension under label 99"},
		"extension empty":         {&Success{Extensions: map[uint64]RawMessage{99: nil}}, "extension under label 99"},
		"nil":                     {nil, "no message"},
	} {
		t.Run(name, func(t *testing.T) {
			if data, err := Encode(c.m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("encoded to %x, error %v; want %q", data, err, c.want)
			}
		})
	}
}

type notice struct{ text string }

func (notice) Type() MessageType { return 13 }

func (n notice) Frame() (Frame, error) {
	return Frame{Type: 13, Options: map[uint64]RawMessage{400: {0x01}}, Further: []RawMessage{append(RawMessage{0x60 + byte(len(n.text))}, n.text...)}}, nil
}

func TestExtensionMessages(t *testing.T) {
	registry := Registry{
		13: func(f Frame) (Message, error) {
			if len(f.Further) != 1 {
				return nil, errors.New("one element, please")
			}
			return notice{string(f.Further[0][1:])}, nil
		},
		14: func(Frame) (Message, error) { return notice{}, nil },
		15: func(Frame) (Message, error) { return nil, &ProtocolError{Code: ErrUnsupportedExtension, Msg: "later"} },
		5:  func(Frame) (Message, error) { return notice{}, nil },
	}
	data, err := Encode(notice{"hi"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decoder{Extensions: registry}.Decode(data)
	if n, ok := m.(notice); err != nil || !ok || n.text != "hi" {
		t.Errorf("%v, %v", m, err)
	}
	if m, _ := (Decoder{Extensions: registry}).Decode(notation(t, "[5, {}]")); m.Type() != TypeSuccess {
		t.Error("an extension took over a type of the text")
	}
	for text, code := range map[string]ErrorCode{
		"[13, {}]": ErrPermanentError, "[14, {}]": ErrPermanentError, "[15, {}]": ErrUnsupportedExtension, "[16, {}]": ErrUnsupportedExtension,
	} {
		var pe *ProtocolError
		if _, err := (Decoder{Extensions: registry}).Decode(notation(t, text)); !errors.As(err, &pe) || pe.Code != code {
			t.Errorf("%s: %v, want %v", text, err, code)
		}
	}
	if _, err := Encode(brokenExtension{Frame0: Frame{Type: 13, Options: map[uint64]RawMessage{1: {0xff}}}}); err == nil {
		t.Error("an extension that is no CBOR was encoded")
	}
	if _, err := Encode(brokenExtension{Frame0: Frame{Type: 12}}); err == nil {
		t.Error("an extension with another type's frame was encoded")
	}
	if _, err := Encode(foreign{}); err == nil {
		t.Error("a message without frame was encoded")
	}
}

type brokenExtension struct{ Frame0 Frame }

func (brokenExtension) Type() MessageType       { return 13 }
func (b brokenExtension) Frame() (Frame, error) { return b.Frame0, nil }

type foreign struct{}

func (foreign) Type() MessageType { return 13 }

func TestManyOptions(t *testing.T) {
	extensions := make(map[uint64]RawMessage)
	for i := range uint64(300) {
		extensions[1000+i*1e9] = RawMessage{0x01}
	}
	data, err := Encode(&Success{Extensions: extensions})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(data)
	if err != nil || len(m.(*Success).Extensions) != 300 {
		t.Errorf("%v, %v", m, err)
	}
}

func ExampleDecode() {
	m, err := Decode([]byte{0x82, 0x05, 0xa1, 0x14, 0x48, 1, 2, 3, 4, 5, 6, 7, 8})
	fmt.Println(m.Type(), TokenOf(m), err)
	// Output: success [1 2 3 4 5 6 7 8] <nil>
}

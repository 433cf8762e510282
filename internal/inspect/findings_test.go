package inspect

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
)

func fromNotation(t testing.TB, text string) []byte {
	t.Helper()
	data, err := edn.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return data
}

func inspected(t testing.TB, data []byte, o Options) *Report {
	t.Helper()
	r, err := Inspect(data, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t testing.TB, k *cose.Key, payload []byte, o cose.SignOptions) []byte {
	t.Helper()
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := cose.Sign1(rand.Reader, payload, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

const (
	suites   = "[[[18, -9]]], [[-16, -9, -29, -65534]]"
	token    = "h'0011223344556677'"
	update8  = "[3, {20: " + token + "}]"
	shortTok = "[3, {20: h'00112233'}]"
)

// TestFindings gives each check something to find. Messages stand in diagnostic notation; most are
// not protected, which is a warning of its own.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		notation string
		severity Severity
		want     string
	}{
		"token too short":            {shortTok, SeverityError, "TEEP §4.4: token is 4 bytes, allowed are 8 to 64 (at token)"},
		"token too long":             {"[5, {20: h'" + strings.Repeat("00", 65) + "'}]", SeverityError, "TEEP §4.5: token is 65 bytes, allowed are 8 to 64"},
		"token of another type":      {"[5, {20: \"12345678\"}]", SeverityError, "TEEP §4.5: token is not a byte string"},
		"not protected":              {update8, SeverityWarning, "TEEP §4.1.2 step 2: not protected"},
		"unknown type":               {"[4, {}]", SeverityError, "TEEP §14.2: message type 4 is unknown"},
		"too few elements":           {"[1, {20: " + token + "}]", SeverityError, "TEEP §4.2: an array of 2 elements; a query-request has 5"},
		"too many elements":          {"[5, {20: " + token + "}, 1]", SeverityError, "TEEP §4.5: an array of 3 elements; a success has 2"},
		"challenge too short":        {"[1, {2: h'00', 21: [0]}, " + suites + ", 1]", SeverityError, "TEEP §4.2: challenge is 1 bytes, allowed are 8 to 512"},
		"challenge without bit":      {"[1, {2: " + token + ", 20: " + token + "}, " + suites + ", 2]", SeverityError, "challenge with the attestation bit clear"},
		"no token without bit":       {"[1, {}, " + suites + ", 2]", SeverityWarning, "no token although the attestation bit is clear"},
		"token with bit":             {"[1, {20: " + token + "}, " + suites + ", 1]", SeverityWarning, "a token although the attestation bit is set"},
		"empty versions":             {"[1, {3: [], 20: " + token + "}, " + suites + ", 2]", SeverityError, "versions is empty"},
		"unknown data item":          {"[1, {20: " + token + "}, " + suites + ", 18]", SeverityNote, "TEEP §14.3: bits that this version does not know"},
		"bad cipher suite":           {"[1, {20: " + token + "}, [[18, -9]], [[-16, -9, -29, -65534]], 2]", SeverityError, "TEEP §4.2"},
		"option of another message":  {"[5, {20: " + token + ", 10: []}]", SeverityWarning, "manifest-list is not an option of a success"},
		"unknown option":             {"[5, {20: " + token + ", 99: 1}]", SeverityNote, "TEEP §6: option 99 is unknown"},
		"option of earlier drafts":   {"[2, {5: [[18, -7]], 20: " + token + "}]", SeverityNote, "earlier drafts"},
		"label not a number":         {"[5, {\"token\": " + token + "}]", SeverityError, "label is not an unsigned integer"},
		"err-msg too long":           {"[6, {12: \"" + strings.Repeat("x", 129) + "\", 20: " + token + "}, 1]", SeverityError, "err-msg is 129 bytes, allowed are 1 to 128"},
		"err-lang no language":       {"[6, {12: \"x\", 20: " + token + ", 22: \"_\"}, 1]", SeverityError, "err-lang"},
		"err-code zero":              {"[6, {20: " + token + "}, 0]", SeverityError, "TEEP §4.6: err-code is 0"},
		"err-code unknown":           {"[6, {20: " + token + "}, 99]", SeverityNote, "TEEP §14.4: err-code 99"},
		"err-code without parameter": {"[6, {20: " + token + "}, 4]", SeverityError, "ERR_UNSUPPORTED_MSG_VERSION without versions"},
		"have-binary alone":          {"[2, {14: [{16: [h'00'], 18: true}], 20: " + token + "}]", SeverityError, "have-binary is true without"},
		"component-id missing":       {"[2, {14: [{17: 1}], 20: " + token + "}]", SeverityError, "component-id is missing"},
		"empty attestation":          {"[2, {7: h'', 20: " + token + "}]", SeverityWarning, "attestation-payload is empty"},
		"format without payload":     {"[2, {13: \"a/b\", 20: " + token + "}]", SeverityWarning, "attestation-payload-format without"},
		"other evidence":             {"[2, {7: h'00', 13: \"application/x-tpm\", 20: " + token + "}]", SeverityNote, "which is for its verifier"},
		"manifest is no envelope":    {"[3, {10: [<< {1: 2, -1: 1} >>], 20: " + token + "}]", SeverityError, "a COSE_Key where a SUIT_Envelope belongs (at manifest-list[0])"},
		"manifest is no CBOR":        {"[3, {10: [h'ff'], 20: " + token + "}]", SeverityError, "not well-formed CBOR: at byte 0: 0xff begins no item (at manifest-list[0])"},
		"report is no report":        {"[5, {19: [<< {99: [\"\", [-16, h'00']]} >>], 20: " + token + "}]", SeverityError, "SUIT Report §4"},
		"tag around a message":       {"18([3, {20: " + token + "}])", SeverityError, "tag 18 says COSE_Sign1, but a TEEP message is inside"},
		"duplicate key":              {"[5, {20: " + token + ", 20: " + token + "}]", SeverityError, "RFC 8949 §5.6: a key that the map has twice"},
		"indefinite length":          {"[_ 5, {20: " + token + "}]", SeverityError, "RFC 8949 §4.2.1: indefinite length (at byte 0)"},
		"long number":                {"[5_0, {20: " + token + "}]", SeverityNote, "not deterministic: a number or length in more bytes"},
		"unsorted map":               {"[5, {20: " + token + ", 11: \"done\"}]", SeverityNote, "not deterministic: map keys out of order"},
		"wrapped in a byte string":   {"<< 18([<< {1: -9} >>, {}, << [5, {}] >>, h'00']) >>", SeverityWarning, "a byte string is wrapped around a COSE_Sign1"},
		"something else":             {"{\"a\": 1}", SeverityNote, "none of the structures"},
		"unknown tag":                {"4711([5, {20: " + token + "}])", SeverityWarning, "tag 4711 is not one"},

		"alg missing":          {"18([h'', {}, h'00', h'']) ", SeverityError, "RFC 9052 §3.1: alg is missing"},
		"alg not protected":    {"18([h'', {1: -9}, h'00', h''])", SeverityError, "alg is not protected"},
		"alg unknown":          {"18([<< {1: -12345} >>, {}, h'00', h''])", SeverityError, "algorithm -12345 is not supported"},
		"older alg":            {"18([<< {1: -7} >>, {}, h'00', h''])", SeverityWarning, "ES256 leaves the curve open"},
		"in both buckets":      {"18([<< {1: -9} >>, {1: -9}, h'00', h''])", SeverityError, "header parameter 1 is in both buckets"},
		"crit not protected":   {"18([<< {1: -9} >>, {2: [1]}, h'00', h''])", SeverityError, "crit is not protected"},
		"crit names nothing":   {"18([<< {1: -9, 2: [4]} >>, {}, h'00', h''])", SeverityError, "crit names 4, which is not in"},
		"crit not understood":  {"18([<< {1: -9, 2: [99], 99: 1} >>, {}, h'00', h''])", SeverityError, "do not understand"},
		"crit empty":           {"18([<< {1: -9, 2: []} >>, {}, h'00', h''])", SeverityError, "not a list of one label"},
		"protected no map":     {"18([<< [] >>, {}, h'00', h''])", SeverityError, "does not wrap a map"},
		"protected empty map":  {"18([<< {} >>, {}, h'00', h''])", SeverityNote, "sent as an empty byte string"},
		"signature size":       {"18([<< {1: -9} >>, {}, h'00', h'0011'])", SeverityError, "a signature of 2 bytes; ESP256 makes 64"},
		"detached":             {"18([<< {1: -9} >>, {}, null, h''])", SeverityNote, "the payload is detached"},
		"no signatures":        {"98([h'', {}, h'00', []])", SeverityError, "a COSE_Sign without signatures"},
		"broken signature":     {"98([h'', {}, h'00', [1]])", SeverityError, "not a COSE_Signature (at signatures[0])"},
		"wrong tag":            {"96([<< {1: -9} >>, {}, h'00'])", SeverityError, "a COSE_Encrypt is an array of 4"},
		"no recipients":        {"96([<< {1: 1} >>, {}, h'00', []])", SeverityError, "a COSE_Encrypt without recipients"},
		"broken recipient":     {"96([<< {1: 1} >>, {}, h'00', [2]])", SeverityError, "not a COSE_recipient"},
		"content type":         {"18([<< {1: -9, 3: \"application/teep+cbor\"} >>, {}, << {1: 2, -1: 1} >>, h''])", SeverityError, "the content type does not fit"},
		"other content type":   {"18([<< {1: -9, 3: \"text/plain\"} >>, {}, << [5, {}] >>, h''])", SeverityError, "the content type does not fit"},
		"secret ephemeral key": {"96([<< {1: 1} >>, {}, h'00', [[<< {1: -29} >>, {-1: {1: 2, -1: 1, -4: h'" + secret + "'}}, h'00']]])", SeverityError, "the ephemeral key carries its private part"},
		"CTR protected":        {"96([<< {1: -65534} >>, {}, h'00', [[h'', {1: -3}, h'00']]])", SeverityError, "alg belongs into the unprotected bucket"},

		"private key":         {"{1: 2, -1: 1, -2: h'00', -4: h'" + secret + "'}", SeverityError, "RFC 9052 §7"},
		"symmetric key":       {"{1: 4, -1: h'" + secret + "'}", SeverityNote, "symmetric key, not shown"},
		"private cnf":         {"{8: {1: {1: 2, -1: 1, -4: h'" + secret + "'}}, 10: h'0011223344556677'}", SeverityError, "RFC 8747 §3.2: the confirmation key is not a public one"},
		"nonce too short":     {"{10: h'00', 256: h'0100112233445566'}", SeverityError, "RFC 9711 §4"},
		"profile incomplete":  {"{256: h'0100112233445566', 265: \"urn:ietf:rfc:rfcXXXX\"}", SeverityError, "TEEP §5: evidence is malformed: missing claims"},
		"another profile":     {"{256: h'0100112233445566', 265: \"urn:other\"}", SeverityNote, "not an EAT of the TEEP profile"},
		"expired":             {"{4: 1, 10: h'0011223344556677'}", SeverityWarning, "expired at 1970"},
		"not yet":             {"{5: 4000000000, 10: h'0011223344556677'}", SeverityWarning, "not valid before"},
		"issued later":        {"{6: 4000000000, 10: h'0011223344556677'}", SeverityWarning, "issued in the future"},
		"unknown claims":      {"{-70000: 1, 10: h'0011223344556677'}", SeverityNote, "claims that this tool does not know: [-70000]"},
		"envelope unreadable": {"107({2: h'00', 3: h'00'})", SeverityError, "SUIT §8.2"},
		"manifest version":    {"{1: 2, 2: 1, 3: << {2: [[h'00']]} >>}", SeverityError, "version"},
		"bare manifest":       {"{1: 1, 2: 1, 3: << {2: [[h'00']]} >>}", SeverityNote, "a manifest without its envelope"},
		"unknown command":     {"{1: 1, 2: 1, 3: << {2: [[h'00']]} >>, 7: << [99, 15] >>}", SeverityError, "SUIT §8.4.6"},
		"manifest unsorted":   {"{1: 1, 3: << {2: [[h'00']]} >>, 2: 1}", SeverityWarning, "SUIT §8.1: map keys out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			r := inspected(t, fromNotation(t, c.notation), Options{Now: time.Unix(1_800_000_000, 0)})
			if !hasFinding(r, c.severity, c.want) {
				t.Errorf("no %s %q in %v", c.severity, c.want, r.Findings)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), secret) {
				t.Error("key material is in the report")
			}
		})
	}
}

const secret = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"

// TestInputs reads one message in every form that people pass around, and almost right ones.
func TestInputs(t *testing.T) {
	data := signed(t, newKey(t, cose.AlgESP256), fromNotation(t, update8), cose.SignOptions{})
	h := hex.EncodeToString(data)
	for name, c := range map[string]struct {
		input    string
		encoding Encoding
		want     string // part of a finding; empty means a readable message
	}{
		"binary":            {string(data), EncodingBinary, ""},
		"hex":               {h, EncodingHex, ""},
		"hex with comments": {"# a message\n" + strings.ToUpper(h[:10]) + " # head\n\t" + h[10:] + "\r\n", EncodingHex, ""},
		"hex with 0x":       {"0x" + h, EncodingHex, ""},
		"base64":            {base64.StdEncoding.EncodeToString(data) + "\n", EncodingBase64, ""},
		"base64 in lines":   {base64.StdEncoding.EncodeToString(data)[:40] + "\n" + base64.StdEncoding.EncodeToString(data)[40:], EncodingBase64, ""},
		"base64url":         {base64.RawURLEncoding.EncodeToString(append(data[:len(data):len(data)], 0xff, 0xff, 0xff)), EncodingBase64URL, "3 bytes follow the data item"},
		"notation":          {update8, EncodingDiagnostic, ""},
		"in Markdown":       {"~~~ cbor-diag\n" + update8 + "\n~~~\nand so on", EncodingDiagnostic, ""},
		"empty":             {" \n", EncodingBinary, "the input is empty"},
		"odd hex":           {h[:len(h)-1], EncodingHex, "odd number of digits"},
		"letter in hex":     {h[:20] + "!" + h[20:], EncodingHex, "hexadecimal with '!' in it"},
		"JSON":              {`{"a": "b", "c": [1, 2]}` + "\n", EncodingBinary, "this is JSON"},
		"broken notation":   {"[3, {20: }", EncodingDiagnostic, "line 1, column"},
		"prose":             {"see attachment!", EncodingBinary, "neither hexadecimal, base64 nor diagnostic"},
		"truncated":         {string(data[:len(data)-1]), EncodingBinary, "truncated: at byte"},
		"trailing":          {string(data) + "\x01", EncodingBinary, "1 bytes follow the data item"},
		"two messages":      {string(data) + string(data), EncodingBinary, "they begin with another COSE_Sign1"},
		"broken PEM":        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", EncodingPEM, "cose"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := inspected(t, []byte(c.input), Options{})
			if r.Encoding != c.encoding {
				t.Errorf("taken for %s", r.Encoding)
			}
			if c.want != "" && (!hasFinding(r, SeverityError, c.want) || !r.Failed()) {
				t.Errorf("no error %q in %v", c.want, r.Findings)
			}
			if c.want == "" && (r.Failed() || r.Notation == "") {
				t.Errorf("%v", r.Findings)
			}
		})
	}
}

// TestSignatureStatus checks each outcome on a message by itself and inside of another.
func TestSignatureStatus(t *testing.T) {
	a, b, ed := newKey(t, cose.AlgESP256), newKey(t, cose.AlgESP256), newKey(t, cose.AlgEd25519)
	payload := fromNotation(t, update8)
	msg := signed(t, a, payload, cose.SignOptions{})
	forged := append([]byte(nil), msg...)
	forged[len(forged)-1] ^= 1
	anonymous := signed(t, a, payload, cose.SignOptions{OmitKeyID: true})
	sa, _ := a.Signer()
	sed, _ := ed.Signer()
	multi, err := cose.SignMulti(rand.Reader, payload, []cose.Signer{sa, sed}, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mac, err := cose.Mac0(payload, cose.NewSymmetricKey(make([]byte, 32)), cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		msg    []byte
		keys   []*cose.Key
		status []SignatureStatus
		failed bool
	}{
		"no key":             {msg, nil, []SignatureStatus{SignatureUnchecked}, false},
		"verified":           {msg, []*cose.Key{b, a}, []SignatureStatus{SignatureVerified}, false},
		"public key":         {msg, []*cose.Key{a.Public()}, []SignatureStatus{SignatureVerified}, false},
		"unknown":            {msg, []*cose.Key{b}, []SignatureStatus{SignatureUnknown}, true},
		"another algorithm":  {msg, []*cose.Key{ed}, []SignatureStatus{SignatureUnknown}, true},
		"forged":             {forged, []*cose.Key{a}, []SignatureStatus{SignatureInvalid}, true},
		"no kid":             {anonymous, []*cose.Key{b, a}, []SignatureStatus{SignatureVerified}, false},
		"no kid, no key":     {anonymous, []*cose.Key{b}, []SignatureStatus{SignatureUnknown}, true},
		"both of two":        {multi, []*cose.Key{ed, a}, []SignatureStatus{SignatureVerified, SignatureVerified}, false},
		"one of two":         {multi, []*cose.Key{ed}, []SignatureStatus{SignatureUnknown, SignatureVerified}, false},
		"none of two":        {multi, []*cose.Key{b}, []SignatureStatus{SignatureUnknown, SignatureUnknown}, true},
		"MAC":                {mac, []*cose.Key{cose.NewSymmetricKey(make([]byte, 32))}, []SignatureStatus{SignatureVerified}, false},
		"MAC of another key": {mac, []*cose.Key{cose.NewSymmetricKey([]byte(strings.Repeat("k", 32)))}, []SignatureStatus{SignatureUnknown}, true},
		"not signed":         {payload, []*cose.Key{a}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := inspected(t, c.msg, Options{Keys: c.keys})
			if len(r.Signatures) != len(c.status) {
				t.Fatalf("signatures %v", r.Signatures)
			}
			for i, s := range r.Signatures {
				if s.Status != c.status[i] {
					t.Errorf("signature %d: %v", i, s)
				}
			}
			if r.Failed() != c.failed {
				t.Errorf("failed: %v, %v", r.Failed(), r.Findings)
			}
		})
	}
	r := inspected(t, msg, Options{Keys: []*cose.Key{a}})
	if want := hex.EncodeToString(a.Thumbprint()); r.Signatures[0].Thumbprint != want || !strings.Contains(r.Signatures[0].String(), "verified by "+want) {
		t.Errorf("%v", r.Signatures[0])
	}
	if _, err := Inspect(msg, Options{DecryptKeys: []*cose.Key{a.Public()}}); err == nil {
		t.Error("a public key cannot decrypt")
	}
}

// TestEnvelopeFindings changes what is around a signed manifest.
func TestEnvelopeFindings(t *testing.T) {
	data := vectors.Read(t, "suit/exp1.suit")
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	anchor := pemKey(t, "trust_anchor")
	for name, c := range map[string]struct {
		change   func(*suit.Envelope)
		severity Severity
		want     string
	}{
		"unsigned":       {(*suit.Envelope).RemoveSignatures, SeverityWarning, "SUIT §8.3: not signed"},
		"unused payload": {func(e *suit.Envelope) { _ = e.AddIntegrated("#extra", []byte("x")) }, SeverityNote, "SUIT §5.4: no command of this manifest fetches it (at \"#extra\")"},
		"wrong payload": {func(e *suit.Envelope) {
			_ = e.AddIntegrated("http://example.com/file.bin", []byte("x"))
		}, SeverityError, "image-size says 34768"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := e.Clone()
			c.change(changed)
			r := inspected(t, changed.Encode(), Options{Keys: []*cose.Key{anchor}})
			if !hasFinding(r, c.severity, c.want) {
				t.Errorf("no %s %q in %v", c.severity, c.want, r.Findings)
			}
		})
	}
	tampered := append([]byte(nil), data...)
	tampered[len(tampered)-3] ^= 1
	if r := inspected(t, tampered, Options{}); !hasFinding(r, SeverityError, "SUIT §8.3: the digest is not that of the manifest") {
		t.Errorf("%v", r.Findings)
	}
	if r := inspected(t, data, Options{Keys: []*cose.Key{newKey(t, cose.AlgESP256)}}); !hasFinding(r, SeverityError, "none of the given keys signed") {
		t.Errorf("%v", r.Findings)
	}
}

// TestEncryptedReport follows a report into a TEEP message and out of its encryption.
func TestEncryptedReport(t *testing.T) {
	receiver := newKey(t, cose.AlgECDHESA128KW)
	report := &suit.Report{Reference: suit.Reference{Digest: suit.NewDigest([]byte("manifest"))}}
	sealed, err := suit.EncryptReport(rand.Reader, report, cose.AlgA128GCM, receiver)
	if err != nil {
		t.Fatal(err)
	}
	msg := fromNotation(t, fmt.Sprintf("[5, {19: [h'%x'], 20: %s}]", sealed, token))
	r := inspected(t, msg, Options{DecryptKeys: []*cose.Key{receiver}})
	last := r.Parts[len(r.Parts)-1]
	if last.Kind != KindReport || !last.Decrypted || !strings.Contains(last.Notation, "SUIT_Report") || last.Path != "suit-reports[0]/plaintext" {
		t.Errorf("parts %+v, findings %v", r.Parts, r.Findings)
	}
	r = inspected(t, msg, Options{DecryptKeys: []*cose.Key{newKey(t, cose.AlgECDHESA128KW)}})
	if len(r.Parts) != 2 || !hasFinding(r, SeverityNote, "not opened") || r.Failed() {
		t.Errorf("another key: parts %+v, findings %v", r.Parts, r.Findings)
	}
}

// TestKeysAreNotShown looks for private parts in everything that is printed, also where keys do
// not belong.
func TestKeysAreNotShown(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgMLDSA65} {
		k := newKey(t, alg)
		data, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		it, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		label := int64(keyPrivate)
		if k.Type() == cose.KeyTypeAKP {
			label = keyAKPPrivate
		}
		private := hex.EncodeToString(it.value(label).content)
		wrapped := fromNotation(t, fmt.Sprintf("18([<< {1: -9} >>, {-1: h'%x'}, h'%x', h''])", data, data))
		for _, input := range [][]byte{data, wrapped} {
			r := inspected(t, input, Options{FullBytes: true})
			printed, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(printed), private) || !strings.Contains(string(printed), "private key, not shown") {
				t.Errorf("%v: %s", alg, printed)
			}
		}
		text, err := k.MarshalPEM()
		if err != nil {
			continue // no PEM form
		}
		r := inspected(t, text, Options{})
		if r.Kind != KindKey || strings.Contains(fmt.Sprint(r), private) || !hasFinding(r, SeverityNote, "private key, not shown") {
			t.Errorf("PEM of %v: %+v", alg, r)
		}
	}
}

// FuzzInspect holds that no input crashes, hangs or leaves JSON behind that nobody can read.
func FuzzInspect(f *testing.F) {
	for _, set := range [][2]string{{"teep", ".hex.txt"}, {"teep-es256", ".cbor"}, {"suit", ".suit"}, {"suit-encryption", ".suit"}} {
		if _, err := os.Stat(vectors.Dir(f)); err != nil {
			break
		}
		for _, name := range vectors.Names(f, set[0], set[1]) {
			f.Add(vectors.Read(f, name))
		}
	}
	f.Add([]byte(update8))
	o := Options{Keys: []*cose.Key{newKey(f, cose.AlgESP256)}, DecryptKeys: []*cose.Key{newKey(f, cose.AlgECDHESA128KW)}}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Inspect(data, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind == "" || r.Summary == "" {
			t.Fatalf("%+v says nothing", r)
		}
		if r.Kind == KindUnreadable && !r.Failed() {
			t.Fatal("unreadable, and nothing says why")
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}

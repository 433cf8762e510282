package eat_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/internal/vectors"
)

func notation(t testing.TB, text string) []byte {
	t.Helper()
	data, err := edn.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return data
}

const digest32 = `h'a7fd6593eac32eb4be578278e6540c5c09cfd7d4d234973054833b2b93030609'`

func TestClaimsRoundTrip(t *testing.T) {
	text := `{1: "me", 4: 1800000000, 5: 1700000000, 6: 1750000000, 8: {3: ` + digest32 + `}, 10: h'948f8860d13a463e8e',
		256: h'0198f50a4ff6c05861c8860d13a638ea', 258: 64242, 259: h'549d', 260: ["1.3.4", 1], 263: 3, 265: "urn:ietf:rfc:rfcXXXX",
		270: "agent", 271: ["1.2", 16384],
		272: [[60, ["https://example.com/manifest.cbor", [-16, ` + digest32 + `]]], [258, h'a0']],
		273: [[60, << {1: ["agent", ["1.2"]], 2: [1, ` + digest32 + `]} >>], [30, {1: 2}]],
		266: {"a": {256: h'01010101010101'}, "b": [-16, ` + digest32 + `], "c": << 61([]) >>, "d": "[\"JWT\",\"x\"]"},
		1000: 32, 1001: {0: 2, 4: -3}, 1003: ["p"], 1004: {0: "dev", 1: "1"},
		-70101: ["weak"], -70102: [["c", 2, "why"]], -99999: {1: 2}, 4711: "x"}`
	c, err := eat.ParseClaims(notation(t, text))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !cbor.IsDeterministic(encoded) {
		t.Error("the encoding is not deterministic")
	}
	again, err := eat.ParseClaims(encoded)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := again.Encode()
	if err != nil || !bytes.Equal(twice, encoded) {
		t.Errorf("%x\n%x %v", encoded, twice, err)
	}
	want := notation(t, text)
	var a, b any
	if cbor.Unmarshal(want, &a) != nil || cbor.Unmarshal(encoded, &b) != nil {
		t.Fatal("undecodable")
	}
	x, _ := cbor.Marshal(a)
	if !bytes.Equal(x, encoded) {
		t.Errorf("something was lost:\n%x\n%x", x, encoded)
	}
	if c.Debug != eat.DebugDisabledPermanently || c.Submods["c"].Token == nil || c.Unknown[4711] == nil || c.Measurements[0].Component.Version.Text != "1.2" {
		t.Errorf("%+v", c)
	}
}

func TestParseClaimsRefuses(t *testing.T) {
	deep := "{}"
	for range eat.MaxSubmodDepth + 1 {
		deep = `{266: {"a": ` + deep + `}}`
	}
	for text, problem := range map[string]string{
		"[]":                          "a map",
		"null":                        "a map",
		`{"ueid": h'01010101010101'}`: "claims set",
		"{10: h'0102030405060708', 10_0: h'0102030405060708'}": "duplicate",
		"{1: h''}":                  "iss",
		`{1: ""}`:                   "iss",
		"{4: 1.5}":                  "floating point",
		"{5: \"now\"}":              "nbf",
		"{6: 1750000000.0}":         "floating point",
		"{6: null}":                 "iat",
		"{6: -1}":                   "out of range",
		"{6: 253402300800}":         "out of range",
		"{6: 18446744073709551615}": "iat",
		"{10: h'01020304050607'}":   "eat_nonce",
		"{10: [h'0102030405060708', h'0102030405060708']}":   "eat_nonce",
		"{10: \"0102030405060708\"}":                         "eat_nonce",
		"{10: h'" + strings.Repeat("00", 65) + "'}":          "eat_nonce",
		"{256: h'010101010101'}":                             "ueid",
		"{256: h'" + strings.Repeat("01", 34) + "'}":         "ueid",
		"{258: h'0102'}":                                     "oemid",
		"{258: -1}":                                          "oemid",
		"{258: null}":                                        "oemid",
		"{259: h'01'}":                                       "hwmodel without oemid",
		"{258: 1, 259: h''}":                                 "hwmodel",
		"{258: 1, 259: h'" + strings.Repeat("01", 33) + "'}": "hwmodel",
		`{260: ["1"]}`:                                       "hwversion without hwmodel",
		`{258: 1, 259: h'01', 260: "1"}`:                     "hwversion",
		`{258: 1, 259: h'01', 260: []}`:                      "hwversion",
		`{258: 1, 259: h'01', 260: ["1", 1, 1]}`:             "hwversion",
		`{258: 1, 259: h'01', 260: [h'31', 1]}`:              "hwversion",
		"{263: 5}":                                           "dbgstat",
		"{263: -1}":                                          "dbgstat",
		"{263: true}":                                        "dbgstat",
		"{263: 3}":                                           "without oemid",
		"{265: 1}":                                           "eat_profile",
		`{271: ["1"]}`:                                       "sw-version without sw-name",
		"{272: []}":                                          "manifests",
		"{272: [[60]]}":                                      "manifests",
		"{272: [[65536, h'']]}":                              "manifests",
		"{272: [[-1, h'']]}":                                 "manifests",
		`{272: [[60, {1: "u", 0: [-16, ` + digest32 + `]}]]}`:                         "array of URI and digest",
		`{272: [[60, ["u", [-16, h'00']]]]}`:                                          "32 bytes",
		`{272: [[60, ["u", [-1, h'00']]]]}`:                                           "not accepted",
		`{272: [[60, [1, [-16, ` + digest32 + `]]]]}`:                                 "URI",
		`{273: [[60, {1: ["a"]}]]}`:                                                   "measurement",
		`{273: [[60, {2: [1, ` + digest32 + `]}]]}`:                                   "id",
		`{273: [[60, {1: [""], 2: [1, ` + digest32 + `]}]]}`:                          "name",
		`{273: [[60, {1: ["a"], 2: [1, h'00']}]]}`:                                    "32 bytes",
		`{273: [[60, {1: ["a"], 2: [2, ` + digest32 + `]}]]}`:                         "none of sha-256",
		`{273: [[60, {1: ["a"], 2: ["sha-1", ` + digest32 + `]}]]}`:                   "none of sha-256",
		`{273: [[60, {1: ["a"], 2: [1, ` + digest32 + `], 3: [h'']}]]}`:               "authorities",
		`{273: [[60, {1: ["a"], 2: [1, ` + digest32 + `], 4: h'0000000000000000'}]]}`: "authorities and flags",
		`{273: [[60, {1: ["a"], 5: h'00'}]]}`:                                         "digested measurements only",
		"{8: {}}":                                                                     "no confirmation method",
		"{8: h''}":                                                                    "cnf",
		"{8: {2: [h'', {}, h'']}}":                                                    "not supported",
		"{8: {3: h''}}":                                                               "cnf",
		"{8: {5: h'00'}}":                                                             "cnf",
		"{8: {1: {1: 4, -1: h'00112233445566778899aabbccddeeff'}}}":                   "not a public key",
		"{8: {1: {1: 2}}}":                                                            "cnf",
		"{266: {}}":                                                                   "submods",
		"{266: []}":                                                                   "submods",
		`{266: {"a": 1}}`:                                                             "neither claims",
		`{266: {"a": h'0102'}}`:                                                       "not tagged",
		`{266: {"a": ""}}`:                                                            "JSON",
		`{266: {"a": [-16, h'00']}}`:                                                  "32 bytes",
		`{266: {"a": {10: h''}}}`:                                                     "eat_nonce",
		deep:                                                                          "nested deeper",
		"{1000: 1}":                                                                   "not a trustworthiness tier",
		"{1000: -1}":                                                                  "ear_status",
		"{1001: {}}":                                                                  "empty",
		"{1001: {8: 2}}":                                                              "unknown aspect",
		"{1001: {0: 128}}":                                                            "outside",
		"{1003: []}":                                                                  "ear_appraisal_policy_ids",
		`{1004: {0: "a"}}`:                                                            "build",
		`{1004: {0: "a", 1: "b", 2: "c"}}`:                                            "more than",
		"{-70101: []}":                                                                "weaknesses",
		`{-70102: [["a", 2]]}`:                                                        "reasons",
		`{-70102: [["a", 3, "b"]]}`:                                                   "tier",
		`{1: "` + strings.Repeat("a", eat.MaxTextBytes+1) + `"}`:                      "iss",
	} {
		_, err := eat.ParseClaims(notation(t, text))
		if !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), problem) {
			t.Errorf("%.90s: %v; want %q", text, err, problem)
		}
	}
	for name, data := range map[string]string{
		"nothing": "", "trailing": "a000", "indefinite": "bfff", "not UTF-8": "a10161ff", "truncated": "a10a48",
	} {
		b, _ := hex.DecodeString(data)
		if _, err := eat.ParseClaims(b); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := eat.ParseClaims(make([]byte, eat.MaxTokenBytes+1)); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

func TestPrivateKeyInCnf(t *testing.T) {
	k := newKey(t, cose.AlgESP256)
	encoded, err := k.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	data, err := cbor.Marshal(map[int64]any{8: map[int64]any{1: cbor.RawMessage(encoded)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eat.ParseClaims(data); !errors.Is(err, attest.ErrFormat) || strings.Contains(err.Error(), hex.EncodeToString(encoded[len(encoded)-8:])) {
		t.Error(err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, c := range map[string]eat.Claims{
		"short nonce":       {Nonce: []byte{1}},
		"long text":         {Issuer: strings.Repeat("a", eat.MaxTextBytes+1)},
		"not UTF-8":         {Issuer: "\xff"},
		"empty submodule":   {Submods: map[string]eat.Submodule{"a": {}}},
		"weak digest":       {Measurements: []eat.Measurement{{Component: &eat.MeasuredComponent{Name: "a", Digest: appraisal.Digest{Algorithm: -14, Value: make([]byte, 20)}}}}},
		"time out of range": {IssuedAt: time.Unix(math.MaxInt32*1000, 0)},
		"garbage oemid":     {OEMID: []byte{0xff}},
	} {
		if data, err := c.Encode(); err == nil {
			t.Errorf("%s was encoded: %x", name, data)
		}
	}
	c := &eat.Claims{}
	for range eat.MaxSubmodDepth + 1 {
		c = &eat.Claims{Submods: map[string]eat.Submodule{"a": {Claims: c}}}
	}
	if _, err := c.Encode(); err == nil {
		t.Error("submodules without end were encoded")
	}
}

func bundleOf(t *testing.T, b *bench, detached map[string][]byte, change func(*eat.Claims)) attest.Evidence {
	t.Helper()
	e := b.resign(func(c *eat.Claims) {
		c.Submods = map[string]eat.Submodule{}
		for label, set := range detached {
			sum := sha256.Sum256(set)
			c.Submods[label] = eat.Submodule{Detached: &appraisal.Digest{Algorithm: cose.AlgSHA256, Value: sum[:]}}
		}
		if change != nil {
			change(c)
		}
	})
	bundle := eat.Bundle{Token: e.Payload, Detached: detached}
	data, err := bundle.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return attest.Evidence{MediaType: eat.BundleMediaType, Payload: data}
}

func TestBundle(t *testing.T) {
	b := newBench(t)
	honest := map[string][]byte{"modem": notation(t, "{263: 1}")}
	r := b.mustAppraise(bundleOf(t, b, honest, nil))
	if r.Status != attest.StatusAffirming {
		t.Errorf("%+v", r)
	}
	// What is detached is appraised like what is not.
	if r := b.mustAppraise(bundleOf(t, b, map[string][]byte{"modem": notation(t, "{263: 0}")}, nil)); r.Status != attest.StatusContraindicated {
		t.Errorf("a detached submodule in debug mode: %+v", r)
	}
	changed := bundleOf(t, b, honest, nil)
	changed.Payload = bytes.Replace(changed.Payload, notation(t, "<< {263: 1} >>"), notation(t, "<< {263: 2} >>"), 1)
	if _, err := b.appraise(changed); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("a changed claims set: %v", err)
	}
	for name, change := range map[string]func(*eat.Claims){
		"no digest for the set": func(c *eat.Claims) { c.Submods = nil },
		"another label":         func(c *eat.Claims) { c.Submods["x"] = c.Submods["modem"]; delete(c.Submods, "modem") },
		"label used twice": func(c *eat.Claims) {
			c.Submods["sub"] = eat.Submodule{Claims: &eat.Claims{Submods: map[string]eat.Submodule{"modem": c.Submods["modem"]}}}
		},
	} {
		if _, err := b.appraise(bundleOf(t, b, honest, change)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.appraise(bundleOf(t, b, map[string][]byte{"modem": {0x01}}, nil)); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("a detached set that is none: %v", err)
	}
}

func TestParseBundleRefuses(t *testing.T) {
	for _, text := range []string{
		"602([])", "601([<< 61([]) >>, {\"a\": h'a0'}])", `602(["JWT", {"a": h'a0'}])`, "602([h'00', {\"a\": h'a0'}])",
		"602([h'8400', {\"a\": h'a0'}])", "602([<< 18([]) >>, {}])", "602([<< 18([]) >>, {1: h'a0'}])",
		`602([<< 18([]) >>, {"a": {}}])`, `602([<< 18([]) >>, {"a": h''}])`, `[<< 18([]) >>, []]`, "1", "602(602([]))",
	} {
		if b, err := eat.ParseBundle(notation(t, text)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %+v, %v", text, b, err)
		}
	}
	if _, err := eat.ParseBundle(make([]byte, eat.MaxTokenBytes+1)); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

// TestDraftExample reads the claims that the TEEP draft prints. It has two faults: SUIT_Reference
// is a map, as an older SUIT Report draft had it, and manifests stand under 273, which RFC 9711
// gave to measurements. Mended, the claims satisfy the profile.
func TestDraftExample(t *testing.T) {
	text := strings.Replace(string(vectors.Read(t, "teep/eat_diagnostic.txt")), "application/cbor", "application cbor", 1)
	if _, err := eat.ParseClaims(notation(t, text)); !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), "measurements") {
		t.Errorf("as printed: %v", err)
	}
	text = strings.Replace(text, "273: [", "272: [", 1)
	if _, err := eat.ParseClaims(notation(t, text)); !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), "older drafts") {
		t.Errorf("with a map: %v", err)
	}
	data := notation(t, text)
	old := notation(t, `{1: "https://example.com/manifest.cbor", 0: [-16, `+digest32+`]}`)
	mended := bytes.Replace(data, old, notation(t, `["https://example.com/manifest.cbor", [-16, `+digest32+`]]`), 1)
	c, err := eat.ParseClaims(mended)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckProfile(); err != nil {
		t.Error(err)
	}
	if got := c.Manifests[0].Reference.URI; got != "https://example.com/manifest.cbor" {
		t.Error(got)
	}
}

// TestOlderPeer reads the signed tokens of an older implementation: alg -7, hwversion as bytes and
// no manifests. The signatures hold where ES256 is listed; the claims are refused by name.
func TestOlderPeer(t *testing.T) {
	for file, keyFile := range map[string]string{
		"teep-es256/attestation_results_cose.cbor": "keys/verifier_prime256v1.pem",
		"teep-es256/evidence_cose.cbor":            "keys/teep_agent_prime256v1.pem",
	} {
		token := vectors.Read(t, file)
		k, err := cose.ParsePEM(vectors.Read(t, keyFile))
		if err != nil {
			t.Fatal(err)
		}
		x := eat.ResultExpectation{Verifiers: olderPeerKeys{keySet(t, k.Public())}, Key: newKey(t, cose.AlgESP256), Now: testNow}
		if _, err := eat.CheckResult(token, x); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s with ES256 not listed: %v", file, err)
		}
		x.Algorithms = []cose.Algorithm{cose.AlgES256}
		if _, err := eat.CheckResult(token, x); !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), "hwversion") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// olderPeerKeys gives the key whatever kid the message has: the older peer's is no thumbprint.
type olderPeerKeys struct{ set cose.KeySet }

func (o olderPeerKeys) VerifiersFor(alg cose.Algorithm, _ cose.Headers) []cose.Verifier {
	return o.set.VerifiersFor(alg, cose.Headers{})
}

package suit_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

func exampleReports() []*suit.Report {
	var measured suit.Parameters
	measured.SetDigest(suit.NewDigest([]byte("other image")))
	record := suit.Record{ManifestID: []uint64{1, 0}, Section: suit.LabelInstall, Offset: 18, ComponentIndex: 2, Properties: measured}
	reference := suit.Reference{URI: "https://example.com/m.suit", Digest: suit.NewDigest([]byte("manifest"))}
	return []*suit.Report{
		{Reference: reference, Records: []suit.ReportEntry{}},
		{
			Reference: reference, Nonce: []byte{1, 2, 3},
			Records: []suit.ReportEntry{
				{Record: &record},
				{Claims: &suit.SystemPropertyClaims{Component: suit.NewComponentID("hello"), Parameters: measured}},
			},
			Failure: &suit.Failure{Code: -5, Record: record, Reason: suit.ReasonConditionFailed},
			Capabilities: &suit.CapabilityReport{
				Components: []suit.ComponentCapability{{ID: suit.NewComponentID("a"), Prefix: true}, {ID: suit.NewComponentID("b", "c")}},
				Commands:   []int64{1, 2, 3}, Parameters: []int64{1, -300}, Algorithms: []int64{-9, -16},
				Manifest: []int64{24}, Paths: []suit.PathCapability{{Path: []int64{3, 3, 1}, Values: []int64{3}}},
			},
		},
	}
}

func TestReportRoundTrip(t *testing.T) {
	for i, r := range exampleReports() {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !cbor.IsDeterministic(data) && i == 0 { // the other has an array as map key
			t.Errorf("report %d is not deterministic: %x", i, data)
		}
		parsed, err := suit.ParseReport(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(parsed, r) {
			t.Errorf("report %d becomes %+v, want %+v", i, parsed, r)
		}
	}
}

func TestReportIsStrict(t *testing.T) {
	digest := []any{-16, bytes.Repeat([]byte{1}, 32)}
	reference := []any{"", digest}
	record := []any{[]any{}, 20, 0, 0, map[int]any{}}
	with := func(change func(map[any]any)) map[any]any {
		m := map[any]any{99: reference, 3: []any{}, 4: true}
		change(m)
		return m
	}
	for name, tc := range map[string]struct {
		report map[any]any
		want   string
	}{
		"no reference":        {with(func(m map[any]any) { delete(m, 99) }), "reference: is missing"},
		"no records":          {with(func(m map[any]any) { delete(m, 3) }), "records: is missing"},
		"no result":           {with(func(m map[any]any) { delete(m, 4) }), "result: is missing"},
		"unknown key":         {with(func(m map[any]any) { m[9] = 1 }), "key 9"},
		"reference as map":    {with(func(m map[any]any) { m[99] = map[int]any{1: 2} }), "reference"},
		"short reference":     {with(func(m map[any]any) { m[99] = []any{""} }), "not 2"},
		"result false":        {with(func(m map[any]any) { m[4] = false }), "result"},
		"result without code": {with(func(m map[any]any) { m[4] = map[int]any{6: record, 7: 1} }), "result"},
		"unknown reason":      {with(func(m map[any]any) { m[4] = map[int]any{5: 0, 6: record, 7: 13} }), "reason 13"},
		"short record":        {with(func(m map[any]any) { m[3] = []any{[]any{[]any{}, 20, 0, 0}} }), "records[0]"},
		"negative offset":     {with(func(m map[any]any) { m[3] = []any{[]any{[]any{}, 20, -1, 0, map[int]any{}}} }), "section-offset"},
		"claims only an id":   {with(func(m map[any]any) { m[3] = []any{map[int]any{0: []any{}}} }), "records[0]"},
		"claims without id":   {with(func(m map[any]any) { m[3] = []any{map[int]any{14: 1, 22: 1}} }), "system-component-id"},
		"nonce as text":       {with(func(m map[any]any) { m[2] = "n" }), "nonce"},
		"empty capabilities":  {with(func(m map[any]any) { m[8] = map[int]any{} }), "capability-report"},
		"no commands capable": {with(func(m map[any]any) { m[8] = map[int]any{1: []any{[]any{}}, 3: []any{1}, 4: []any{1}} }), "key 2: is missing"},
	} {
		data, err := cbor.Marshal(tc.report)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := suit.ParseReport(data); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}

func generate(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keySet(t testing.TB, keys ...*cose.Key) cose.KeySet {
	t.Helper()
	set, err := cose.NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func signerOf(t testing.TB, k *cose.Key) cose.Signer {
	t.Helper()
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReportProtection(t *testing.T) {
	report := exampleReports()[1]
	plain, err := report.Encode()
	if err != nil {
		t.Fatal(err)
	}
	agent, tam, other := generate(t, cose.AlgESP256), generate(t, cose.AlgECDHESA128KW), generate(t, cose.AlgECDHESA128KW)
	shared := generate(t, cose.AlgHMAC256)
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR, cose.AlgChaCha20Poly1305} {
		encrypted, err := suit.EncryptReport(rand.Reader, report, alg, tam.Public())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(encrypted, []byte("example.com")) {
			t.Error("encrypted report shows its reference URI")
		}
		signed, err := suit.SignReport(rand.Reader, encrypted, signerOf(t, agent))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := suit.OpenReport(signed, suit.OpenReportOptions{
			Keys: keySet(t, agent.Public()), DecryptKeys: cose.DecryptKeys{tam}, RequireEncryption: true})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(opened.Report, report) || !opened.Encrypted || !opened.Signer.Equal(agent) {
			t.Errorf("%v: opened %+v", alg, opened)
		}
		if _, err := suit.OpenReport(signed, suit.OpenReportOptions{
			Keys: keySet(t, agent.Public()), DecryptKeys: cose.DecryptKeys{other}}); err == nil {
			t.Error("another key decrypts")
		}
		signed[len(signed)-1] ^= 1
		if _, err := suit.OpenReport(signed, suit.OpenReportOptions{
			Keys: keySet(t, agent.Public()), DecryptKeys: cose.DecryptKeys{tam}}); !errors.Is(err, suit.ErrUnauthorized) {
			t.Errorf("a changed signature gives %v", err)
		}
		if opened, err := suit.OpenReport(encrypted, suit.OpenReportOptions{
			DecryptKeys: cose.DecryptKeys{tam}, AuthenticatedByContainer: true}); err != nil || opened.Signer != nil {
			t.Errorf("inside an authenticated container: %v", err)
		}
	}
	mac, err := suit.MACReport(plain, shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := suit.OpenReport(mac, suit.OpenReportOptions{MACKeys: keySet(t, shared)}); err != nil {
		t.Error(err)
	}
	if _, err := suit.OpenReport(mac, suit.OpenReportOptions{Keys: keySet(t, agent.Public())}); !errors.Is(err, suit.ErrUnauthorized) {
		t.Errorf("a MAC without MAC keys gives %v", err)
	}
	if _, err := suit.OpenReport(mac, suit.OpenReportOptions{MACKeys: keySet(t, shared), RequireEncryption: true}); !errors.Is(err, suit.ErrReportPlain) {
		t.Errorf("a report in the clear gives %v", err)
	}
	if _, err := suit.OpenReport(plain, suit.OpenReportOptions{Keys: keySet(t, agent.Public())}); !errors.Is(err, suit.ErrReportUnsigned) {
		t.Errorf("a bare report gives %v", err)
	}
}

// TestReportsWithoutTags: the text has each protection with its tag and without.
func TestReportsWithoutTags(t *testing.T) {
	report := exampleReports()[1]
	plain, err := report.Encode()
	if err != nil {
		t.Fatal(err)
	}
	agent, tam, shared, content := generate(t, cose.AlgESP256), generate(t, cose.AlgECDHESA128KW), generate(t, cose.AlgHMAC256), generate(t, cose.AlgA128GCM)
	made := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	everything := suit.OpenReportOptions{
		Keys: keySet(t, agent.Public()), MACKeys: keySet(t, shared), DecryptKeys: cose.DecryptKeys{tam}, ContentKey: content,
		AuthenticatedByContainer: true,
	}
	for name, c := range map[string]struct {
		data []byte
		tag  uint64
		head int // bytes of the tag
	}{
		"signed":        {made(suit.SignReport(rand.Reader, plain, signerOf(t, agent))), 18, 1},
		"MACed":         {made(suit.MACReport(plain, shared)), 17, 1},
		"encrypted":     {made(suit.EncryptReport(rand.Reader, report, cose.AlgA128CTR, tam.Public())), 96, 2},
		"encrypted (0)": {made(suit.EncryptReport0(rand.Reader, report, cose.AlgA128GCM, content)), 16, 1},
	} {
		for _, data := range [][]byte{c.data, c.data[c.head:]} {
			if got := suit.ReportTag(data); got != c.tag {
				t.Errorf("%s: %d, not %d", name, got, c.tag)
			}
			opened, err := suit.OpenReport(data, everything)
			if err != nil || !reflect.DeepEqual(opened.Report, report) {
				t.Errorf("%s, %d bytes: %+v, %v", name, len(data), opened, err)
			}
		}
		if _, err := suit.OpenReport(c.data[c.head:], suit.OpenReportOptions{}); err == nil {
			t.Errorf("%s without tag: opened without any key", name)
		}
	}
	for name, data := range map[string][]byte{
		"a report": plain, "nothing": {}, "an array of two": {0x82, 0x40, 0xa0}, "truncated": {0x84, 0x40, 0xa0, 0x40}, "a number in the end": {0x84, 0x40, 0xa0, 0x40, 0x01},
	} {
		if tag := suit.ReportTag(data); tag != 0 {
			t.Errorf("%s: %d", name, tag)
		}
	}
}

// A payload's key derivation must not serve reports, nor the other way round.
func TestReportAndPayloadEncryptionAreSeparate(t *testing.T) {
	tam := generate(t, cose.AlgECDHESA128KW)
	to, err := suit.PayloadRecipient(tam.Public())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := exampleReports()[0].Encode()
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := cose.Encrypt(rand.Reader, plain, cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := suit.OpenReport(msg, suit.OpenReportOptions{
		DecryptKeys: cose.DecryptKeys{tam}, AuthenticatedByContainer: true}); err == nil {
		t.Error("what was encrypted as a payload opens as a report")
	}
}

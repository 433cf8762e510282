package teep_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/internal/cbor"
)

func TestEvidenceFormats(t *testing.T) {
	option, err := teep.EvidenceFormatsOption([]string{"a/b", "c/d; e=f"})
	if err != nil {
		t.Fatal(err)
	}
	q := &teep.QueryRequest{Challenge: make([]byte, 32), DataItems: teep.DataAttestation, Extensions: option,
		CipherSuites: teep.MandatoryCipherSuites(), SUITProfiles: teep.MandatorySUITProfiles()}
	data, err := teep.Encode(q)
	if err != nil {
		t.Fatal(err)
	}
	m, err := teep.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := teep.EvidenceFormats(m.(*teep.QueryRequest).Extensions)
	if err != nil || !slices.Equal(got, []string{"a/b", "c/d; e=f"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := teep.EvidenceFormats(nil); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if option, err := teep.EvidenceFormatsOption(nil); err != nil || option != nil {
		t.Errorf("%v, %v", option, err)
	}
}

func TestEvidenceFormatsRefused(t *testing.T) {
	many := make([]string, 33)
	for i := range many {
		many[i] = "a/b"
	}
	for name, value := range map[string]any{
		"no list": "a/b", "an empty list": []string{}, "numbers": []int{1}, "an empty format": []string{""},
		"a long format": []string{strings.Repeat("a", 256)}, "many": many, "a number": 1, "bytes": []byte("a/b"), "a map": map[string]string{"a": "b"},
	} {
		raw, err := cbor.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := teep.EvidenceFormats(map[uint64]teep.RawMessage{teep.ExtensionEvidenceFormats: raw}); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, list := range map[string][]string{"an empty format": {""}, "a long format": {strings.Repeat("a", 256)}, "many": many} {
		if option, err := teep.EvidenceFormatsOption(list); err == nil {
			t.Errorf("%s: %v", name, option)
		}
	}
}

// FuzzEvidenceFormats: an option that is read writes back.
func FuzzEvidenceFormats(f *testing.F) {
	f.Add([]byte("\x82\x63a/b\x63c/d"))
	f.Add([]byte("\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := teep.EvidenceFormats(map[uint64]teep.RawMessage{teep.ExtensionEvidenceFormats: data})
		if err != nil {
			return
		}
		option, err := teep.EvidenceFormatsOption(list)
		if err != nil || string(option[teep.ExtensionEvidenceFormats]) != string(data) {
			t.Errorf("%x became %x, %v", data, option, err)
		}
	})
}

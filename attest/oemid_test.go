package attest_test

import (
	"encoding/hex"
	"testing"

	"github.com/go-teep/teep/attest"
)

func TestOEMID(t *testing.T) {
	for text, want := range map[string]string{
		"pen:0":          "00",
		"pen:64242":      "19faf2",
		"pen:4294967295": "1affffffff",
		"ieee:89-48-23":  "43894823",
		"random:00112233445566778899aabbccddeeff": "5000112233445566778899aabbccddeeff",
	} {
		got, err := attest.ParseOEMID(text)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v", text, got, err)
		}
		if back, err := attest.FormatOEMID(got); err != nil || back != text {
			t.Errorf("%s came back as %s, %v", text, back, err)
		}
	}
	if got, err := attest.ParseOEMID("ieee:ACDE48"); err != nil || hex.EncodeToString(got) != "43acde48" {
		t.Errorf("%x, %v", got, err)
	}
}

func TestOEMIDRefuses(t *testing.T) {
	for _, text := range []string{"", "pen:", "pen:-1", "pen:4294967296", "ieee:8948", "ieee:zz-48-23", "random:00", "mac:894823", "894823"} {
		if got, err := attest.ParseOEMID(text); err == nil {
			t.Errorf("%q became %x", text, got)
		}
	}
	for _, encoded := range []string{"", "20", "4489482300", "63616263", "f6", "1b0000000100000000", "f93c00", "4389482300"} {
		b, _ := hex.DecodeString(encoded)
		if text, err := attest.FormatOEMID(b); err == nil {
			t.Errorf("%s became %s", encoded, text)
		}
	}
}

// TestCanonicalOEMID: a longer head than necessary is still the same vendor.
func TestCanonicalOEMID(t *testing.T) {
	got, err := attest.CanonicalOEMID([]byte{0x58, 3, 0x89, 0x48, 0x23})
	if err != nil || hex.EncodeToString(got) != "43894823" {
		t.Errorf("%x, %v", got, err)
	}
}

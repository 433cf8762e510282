package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
)

const identityText = `identity: {vendor: example.com, class: c, oemid: "pen:1", hwmodel: m, hwversion: "1"}
`

func loaded(t *testing.T, more string) (*configuration, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(identityText+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return load(path)
}

func TestSealingSettings(t *testing.T) {
	c, err := loaded(t, "sealing: {key: tpm}\n")
	if err != nil || !slices.Equal(c.Sealing.PCRs, []int{0, 4, 8, 9, 11}) || c.Sealing.Approver != "" || c.Applications.Interpret {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = loaded(t, "sealing: {key: tpm, pcrs: [7, 9], approver: vendor.pem, version: 3}\nchannel: vsock\napplications: {interpret: true}\n")
	if err != nil || !slices.Equal(c.Sealing.PCRs, []int{7, 9}) || !filepath.IsAbs(c.Sealing.Approver) || c.Sealing.Version != 3 || !c.Applications.Interpret {
		t.Errorf("%+v, %v", c, err)
	}
	for _, key := range []string{sealingSNP, sealingDeviceSecret} {
		if c, err := loaded(t, "sealing: {key: "+key+", version: 1}\n"); err != nil || len(c.Sealing.PCRs) != 0 {
			t.Errorf("%s: %+v, %v", key, c, err)
		}
	}
}

func TestSealingSettingsRefused(t *testing.T) {
	for more, want := range map[string]string{
		"sealing: {key: secret}":                            "write tpm, sev-snp or insecure-device-secret",
		"sealing: {key: TPM}":                               "write tpm",
		"sealing: {key: [tpm]}":                             "",
		"sealing: tpm":                                      "",
		"sealing: {keys: tpm}":                              "unknown key",
		"sealing: {pcrs: [0]}":                              "sealing.key is not tpm",
		"sealing: {key: sev-snp, pcrs: [0]}":                "sealing.key is not tpm",
		"sealing: {key: tpm, pcrs: [24]}":                   "no PCR 24",
		"sealing: {key: tpm, pcrs: [-1]}":                   "no PCR -1",
		"sealing: {key: tpm, pcrs: [a]}":                    "",
		"sealing: {approver: vendor.pem}":                   "sealing.key is not tpm",
		"sealing: {key: sev-snp, approver: v.pem}":          "sealing.key is not tpm",
		"sealing: {key: insecure-device-secret, pcrs: [1]}": "sealing.key is not tpm",
		"sealing: {version: 1}":                             "remove it",
		"sealing: {key: tpm, version: -1}":                  "",
		"channel: tcp":                                      "write virtio-serial or vsock",
		"applications: {interpret: maybe}":                  "",
		"applications: {interpreter: true}":                 "unknown key",
		"applications: {memory-bytes: 1}":                   "too little",
		"applications: {storage-bytes: -1}":                 "negative",
		"algorithm: RS256":                                  "write ESP256",
		"attestation: {formats: [sgx]}":                     "attestation",
	} {
		if c, err := loaded(t, more+"\n"); err == nil || c != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "agent.yaml") {
			t.Errorf("%s: got %v, want an error with %q", more, err, want)
		}
	}
}

// TestVerifierKey: what Evidence for a verifier is encrypted to is read before anything starts.
func TestVerifierKey(t *testing.T) {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, k := range map[string]*cose.Key{"private.pem": key, "public.pem": key.Public()} {
		data, err := k.MarshalPEM()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"public.pem": "", "private.pem": "a private key", "nothing.pem": "nothing.pem", ".": "encryption-key"} {
		c, err := loaded(t, "policy: {passports: true}\nverifier: {encryption-key: "+filepath.Join(dir, name)+"}\n")
		if err != nil {
			t.Fatal(err)
		}
		var s serveTask
		err = s.readVerifierKey(c)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if k, err2 := s.verifierKey(); err != nil || err2 != nil || !k.Equal(key.Public()) {
			t.Errorf("%v, %v, %v", k, err, err2)
		}
	}
	if _, err := loaded(t, "verifier: {encryption-key: x.pem}\n"); err == nil || !strings.Contains(err.Error(), "policy.passports") {
		t.Errorf("a key for nothing: %v", err)
	}
	c, err := loaded(t, "policy: {passports: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	var s serveTask
	if err := s.readVerifierKey(c); err != nil || s.VerifierKey != nil {
		t.Errorf("%q, %v", s.VerifierKey, err)
	}
}

package main

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/cose"
)

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(t *testing.T, k *cose.Key) []byte {
	t.Helper()
	data, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newKey(t *testing.T) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// collateralText is a file that endorses one key.
func collateralText(t *testing.T, owner string, key *cose.Key) []byte {
	t.Helper()
	text, err := (&appraisal.Collateral{Owner: owner, Expires: time.Now().Add(time.Hour),
		Endorsements: []appraisal.Endorsement{{UEID: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Key: key.Public()}}}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const policyText = "id: https://example.com/p\nclasses:\n  - oemid: pen:32473\n    affirming:\n      - if: "

// TestOwnersOfCollateral: where owners are named, a file counts when one of them signed it, and it
// names that one.
func TestOwnersOfCollateral(t *testing.T) {
	dir, owner, device := t.TempDir(), newKey(t), newKey(t)
	sign := func(text []byte, k *cose.Key) []byte {
		s, err := k.Signer()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := appraisal.Sign(rand.Reader, text, s)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	good := sign(collateralText(t, "Maker", device), owner)
	v := &verifierConfig{Collateral: []string{filepath.Join(dir, "c")}, Owners: map[string][]string{"Maker": {write(t, filepath.Join(dir, "owner.pem"), pemOf(t, owner.Public()))}}}
	for name, c := range map[string]struct {
		content []byte
		text    string
	}{
		"signed":                {good, ""},
		"not signed":            {collateralText(t, "Maker", device), "none of 1 accepted owners"},
		"signed by a stranger":  {sign(collateralText(t, "Maker", device), newKey(t)), "none of 1 accepted owners"},
		"signed for another":    {sign(collateralText(t, "Other", device), owner), `names "Other" as its owner`},
		"changed after signing": {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "accepted owners"},
		"cut off":               {good[:len(good)-1], "accepted owners"},
	} {
		write(t, v.Collateral[0], c.content)
		known, err := openCollateral(v, slog.New(slog.DiscardHandler))
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
		if err == nil {
			if e, err := known.store.EndorsementFor(device.Thumbprint()); err != nil || e == nil {
				t.Errorf("%s: %v, %v", name, e, err)
			}
		}
	}
	v.Owners["Maker"] = []string{filepath.Join(dir, "none.pem")}
	if _, err := openCollateral(v, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an owner whose key is not there")
	}
}

// TestPolicyIsReadAgain: a policy that changed counts from then on; one that cannot be used leaves the
// one before in force, and the collateral with it.
func TestPolicyIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	v := &verifierConfig{Policy: filepath.Join(dir, "p.yaml"), Collateral: []string{filepath.Join(dir, "c.yaml")}}
	if _, err := openCollateral(v, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a policy that is not there was read")
	}
	write(t, v.Policy, []byte(policyText+"debug == 1\n"))
	if _, err := openCollateral(v, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Errorf("a policy with a wrong type: %v", err)
	}
	write(t, v.Policy, []byte(policyText+"debug == \"disabled\"\n"))
	known, err := openCollateral(v, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if changed, _ := known.follower.Look(); changed {
		t.Error("changed though nobody wrote")
	}
	key := newKey(t)
	write(t, v.Policy, []byte(policyText+"nonsense\n"))
	write(t, v.Collateral[0], collateralText(t, "Maker", key))
	if changed, err := known.follower.Look(); !changed || err == nil || known.policy.ID() != "https://example.com/p" {
		t.Error("a policy that cannot be used was read")
	}
	if e, err := known.store.EndorsementFor(key.Thumbprint()); err != nil || e != nil {
		t.Errorf("collateral beside a policy that cannot be used: %v, %v", e, err)
	}
	write(t, v.Policy, []byte(strings.Replace(policyText, "/p\n", "/q\n", 1)+"debug == \"disabled\" || true\n"))
	if changed, err := known.follower.Look(); !changed || err != nil || known.policy.ID() != "https://example.com/q" {
		t.Errorf("%v, %v", known.policy.ID(), err)
	}
	if e, err := known.store.EndorsementFor(key.Thumbprint()); err != nil || e == nil {
		t.Errorf("%v, %v", e, err)
	}
}

// TestVerifierOfOneFormat: a verifier for tokens knows nothing else, and TDX quotes need a cache.
func TestVerifierOfOneFormat(t *testing.T) {
	for names, accepts := range map[string]bool{"": true, "[tpm]": false, "[eat]": true, "[sev-snp, psa, cca]": false} {
		c, err := load(made(t, "verifier:", "verifier:\n  formats: "+names))
		if err != nil {
			t.Fatal(err)
		}
		known, err := openCollateral(&c.Verifier, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := c.newVerifier(known)
		if err != nil {
			t.Fatal(err)
		}
		if verifier.Accepts(builtin.EATType) != accepts {
			t.Errorf("formats %s: tokens are accepted: %t", names, !accepts)
		}
	}
	for name, to := range map[string]string{"no cache": "formats: [tdx]", "no folder": "tdx-cache: nowhere", "no certificate": "intermediates: [tam.yaml]",
		"no CA":  "remote: [{url: 'https://v.example', owner: V, format: tdx, oemid: 'pen:343', keys: [keys/verifier.pem], ca: tam.yaml}]",
		"no TLS": "remote: [{url: 'http://v.example', owner: V, format: tdx, oemid: 'pen:343', keys: [keys/verifier.pem]}]",
	} {
		c, err := load(made(t, "verifier:", "verifier:\n  "+to))
		if err != nil {
			t.Fatal(err)
		}
		known, err := openCollateral(&c.Verifier, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if v, err := c.newVerifier(known); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	c, err := load(made(t, "verifier:", "verifier:\n  remote: [{url: 'https://v.example', owner: V, format: tdx, oemid: 'pen:343', keys: [keys/verifier.pem]}]"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := openCollateral(&c.Verifier, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var v attest.Verifier
	if v, err = c.newVerifier(known); err != nil || !v.Accepts(builtin.EATType) {
		t.Error(err)
	}
}

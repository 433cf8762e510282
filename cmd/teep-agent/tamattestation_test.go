package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// TestTAMCollateral: what the agent appraises TAMs by is read before anything starts, and what cannot be used
// is said then.
func TestTAMCollateral(t *testing.T) {
	dir := t.TempDir()
	key := func(name string) *cose.Key {
		t.Helper()
		k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		if err != nil {
			t.Fatal(err)
		}
		for file, k := range map[string]*cose.Key{name + ".pem": k, name + ".pub.pem": k.Public()} {
			data, err := k.MarshalPEM()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return k
	}
	key("owner")
	attestation, message := key("attestation"), key("message")
	id := eat.Identity{
		UEID: append([]byte{1}, make([]byte, 16)...), OEMID: []byte{0x43, 0x89, 0x48, 0x23}, HWModel: []byte("server"), HWVersion: "1",
		AgentName: "teep-tam", Measurement: make([]byte, 32),
	}
	class := appraisal.Class{OEMID: id.OEMID, HWModel: id.HWModel}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	text, err := (&appraisal.Collateral{
		Owner: "me", Expires: expires,
		Endorsements: []appraisal.Endorsement{{Owner: "me", UEID: id.UEID, Key: attestation.Public(), Class: class}},
		References: []appraisal.Reference{{Owner: "me", Class: class, Expires: expires, Name: id.AgentName, Algorithm: cose.AlgSHA256,
			Digest: id.Measurement, Status: attest.StatusAffirming, Why: "test"}},
	}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"tam.yaml": string(text), "broken.yaml": "endorsements: 5"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(names ...string) []string {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return names
	}
	for name, c := range map[string]struct {
		with tamAttestation
		want string
	}{
		"no file":            {tamAttestation{Collateral: in("nothing.yaml")}, "nothing.yaml"},
		"not collateral":     {tamAttestation{Collateral: in("broken.yaml")}, "file 1"},
		"not signed":         {tamAttestation{Collateral: in("tam.yaml"), Owners: map[string][]string{"me": in("owner.pub.pem")}}, "file 1"},
		"private key":        {tamAttestation{Collateral: in("tam.yaml"), Owners: map[string][]string{"me": in("owner.pem")}}, "private key"},
		"no key":             {tamAttestation{Collateral: in("tam.yaml"), Owners: map[string][]string{"me": in("tam.yaml")}}, "owners"},
		"owner without file": {tamAttestation{Collateral: in("tam.yaml"), Owners: map[string][]string{"me": in("nobody.pem")}}, "nobody.pem"},
	} {
		if got, err := c.with.read(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if err := (&tamAttestation{Owners: map[string][]string{"me": {"x"}}}).check(); err == nil {
		t.Error("owners of nothing")
	}
	if err := (&tamAttestation{Collateral: []string{"x"}, Owners: map[string][]string{"me": nil}}).check(); err == nil {
		t.Error("an owner without keys")
	}
	if c, err := (&tamAttestation{}).read(); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	c, err := (&tamAttestation{Collateral: in("tam.yaml")}).read()
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.verifier()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := attestation.Signer()
	if err != nil {
		t.Fatal(err)
	}
	a, err := eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: signer, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("a challenge")
	e, err := a.Attest(t.Context(), "", attest.Request{Nonce: nonce, AgentKey: message.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = cmw.Wrap(e); err != nil || !v.Accepts(e.MediaType) {
		t.Fatalf("%q, %v", e.MediaType, err)
	}
	if r, err := v.Appraise(t.Context(), e, attest.Expectation{Nonce: nonce, AgentKey: message.Public()}); err != nil || r.Status != attest.StatusAffirming {
		t.Errorf("%+v, %v", r, err)
	}
	for name, x := range map[string]attest.Expectation{
		"another challenge": {Nonce: []byte("another one"), AgentKey: message.Public()}, "another key": {Nonce: nonce, AgentKey: attestation.Public()},
	} {
		if r, err := v.Appraise(t.Context(), e, x); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

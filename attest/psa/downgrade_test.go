package psa_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// TestDowngrade: a token under another protection than a signature with an algorithm of the list is
// refused, even where somebody without the private key could have made it.
func TestDowngrade(t *testing.T) {
	p := newPlatform(t, false)
	b := boundtest.New(t, device(t, p))
	good := b.Evidence()
	claims, err := func() ([]byte, error) {
		_, report := boundtest.Parts(t, good)
		return cose.UnverifiedPayload(report.Value)
	}()
	if err != nil {
		t.Fatal(err)
	}
	public, err := p.key.Public().MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	mac, err := cose.Mac0(claims, cose.NewSymmetricKey(public), cose.SignOptions{OmitKeyID: true})
	if err != nil {
		t.Fatal(err)
	}
	resigned := func(header map[int]any, signature []byte) []byte {
		protected, err := cbor.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		token, err := cbor.Marshal(cbor.Tag{Number: 18, Content: []any{protected, map[int]any{}, claims, signature}})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	random := make([]byte, 64)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string][]byte{
		"a MAC with the public key": mac,
		"no algorithm":              resigned(map[int]any{}, random),
		"no signature":              resigned(map[int]any{1: -7}, nil),
		"an HMAC's number":          resigned(map[int]any{1: 5}, random[:32]),
		"RSA with SHA-1":            resigned(map[int]any{1: -65535}, random),
		"another curve's":           resigned(map[int]any{1: -35}, append(bytes.Clone(random), random[:32]...)),
		"algorithm 0":               resigned(map[int]any{1: 0}, random),
	} {
		r, err := b.Appraise(boundtest.WithReport(t, good, func([]byte) []byte { return token }))
		if err == nil || r != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if r, err := b.Appraise(good); err != nil || r.Status != attest.StatusAffirming {
		t.Errorf("%+v, %v", r, err)
	}
}

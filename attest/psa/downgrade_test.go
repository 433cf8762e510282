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

// TestDowngradeOfHalves is the same for the two tokens of a CCA token: either of them under a protection that
// anybody could have made spoils the whole.
func TestDowngradeOfHalves(t *testing.T) {
	for label, alg := range map[int64]int{44234: -7, 44241: -35} {
		for name, change := range map[string]func(claims, signature []byte) (header map[int]any, sig []byte){
			"no algorithm":         func(_, sig []byte) (map[int]any, []byte) { return map[int]any{}, sig },
			"no signature":         func(_, _ []byte) (map[int]any, []byte) { return map[int]any{1: alg}, nil },
			"signature of zeros":   func(_, sig []byte) (map[int]any, []byte) { return map[int]any{1: alg}, make([]byte, len(sig)) },
			"an HMAC's number":     func(_, sig []byte) (map[int]any, []byte) { return map[int]any{1: 5}, sig[:32] },
			"RSA with SHA-1":       func(_, sig []byte) (map[int]any, []byte) { return map[int]any{1: -65535}, sig },
			"the other half's":     func(_, sig []byte) (map[int]any, []byte) { return map[int]any{1: -42 - alg}, sig },
			"an algorithm in text": func(_, sig []byte) (map[int]any, []byte) { return map[int]any{1: "none"}, sig },
		} {
			p := newPlatform(t, true)
			b := boundtest.New(t, device(t, p))
			p.halves = func(h map[int64][]byte) {
				var message struct {
					_                  struct{} `cbor:",toarray"`
					Protected          []byte
					Unprotected        map[int]any
					Payload, Signature []byte
				}
				var tagged cbor.Tag
				raw := h[label]
				if cbor.Unmarshal(raw, &tagged) == nil {
					inner, err := cbor.Marshal(tagged.Content)
					if err != nil {
						t.Fatal(err)
					}
					raw = inner
				}
				if err := cbor.Unmarshal(raw, &message); err != nil {
					t.Fatal(err)
				}
				header, signature := change(message.Payload, message.Signature)
				protected, err := cbor.Marshal(header)
				if err != nil {
					t.Fatal(err)
				}
				if h[label], err = cbor.Marshal(cbor.Tag{Number: 18, Content: []any{protected, map[int]any{}, message.Payload, signature}}); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := b.Appraise(b.Evidence()); err == nil || r != nil {
				t.Errorf("half %d, %s: accepted", label, name)
			}
		}
	}
}

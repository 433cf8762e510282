package processor_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/hsstest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// signatory is someone who authenticates envelopes, by signature or by MAC.
type signatory struct {
	public *cose.Key
	sign   func(e *suit.Envelope) error
}

func newSignatory(t *testing.T, alg cose.Algorithm, seed byte) signatory {
	t.Helper()
	if alg == cose.AlgHSSLMS {
		s := hsstest.New(t, 8, seed)
		return signatory{s.Public(), func(e *suit.Envelope) error { return e.Sign(nil, s) }}
	}
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	if alg == cose.AlgHMAC256 {
		return signatory{key, func(e *suit.Envelope) error { return e.Mac(key) }}
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return signatory{key.Public(), func(e *suit.Envelope) error { return e.Sign(rand.Reader, signer) }}
}

func (s signatory) envelope(l *lab, d draft) []byte {
	l.t.Helper()
	e := l.build(d)
	if err := s.sign(e); err != nil {
		l.t.Fatal(err)
	}
	return e.Encode()
}

// trusts makes a device that trusts one signatory and accepts one algorithm; 0 is the default.
func trusts(s signatory, alg cose.Algorithm) func(l *lab) {
	return func(l *lab) {
		signers, err := processor.NewSigners(processor.Signer{Key: s.public, Rights: processor.AllComponents()})
		if err != nil {
			l.t.Fatal(err)
		}
		l.cfg.Authority = signers
		if alg == cose.AlgHMAC256 {
			l.cfg.MACKeys = signers
		}
		if alg != 0 {
			l.cfg.Algorithms = []cose.Algorithm{alg}
		}
	}
}

// Every way to authenticate an envelope works where it is allowed, and only there.
func TestEveryAuthentication(t *testing.T) {
	byDefault := map[cose.Algorithm]bool{cose.AlgESP256: true, cose.AlgESP384: true, cose.AlgEd25519: true}
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgHMAC256, cose.AlgHSSLMS, cose.AlgMLDSA65} {
		t.Run(alg.String(), func(t *testing.T) {
			author, stranger := newSignatory(t, alg, 1), newSignatory(t, alg, 2)
			d := one(1, idA, appA, "x", "u")
			serve := func(l *lab) *lab { l.device.Serve("u", []byte("x")); return l }
			good := author.envelope(newLab(t), d)

			l := serve(newLab(t, trusts(author, alg)))
			if f := l.refuse(stranger.envelope(l, d), suit.ReasonUnauthorised); f.Section != 0 || len(l.trail) > 0 {
				t.Errorf("something ran: %v", f)
			}
			for at := range 7 { // in the signature, which ends the authentication wrapper
				bad := bytes.Clone(good)
				bad[bytes.Index(bad, l.build(d).ManifestBytes)-5-at*3] ^= 1
				if _, err := l.update(bad); err == nil {
					t.Fatal("a changed signature was accepted")
				}
			}
			l.mustUpdate(good)
			l.wants(appA, "x")

			other := cose.AlgESP256
			if alg == other {
				other = cose.AlgEd25519
			}
			if _, err := serve(newLab(t, trusts(author, other))).update(good); err == nil {
				t.Error("accepted where another algorithm is configured")
			}
			if _, err := serve(newLab(t, trusts(author, 0))).update(good); (err == nil) != byDefault[alg] {
				t.Errorf("with the default algorithms: %v", err)
			}
		})
	}
}

// Several signatures in one COSE_Sign: one that is known is enough, and each counts with the rights
// of its own key.
func TestSeveralSignaturesInOneBlock(t *testing.T) {
	authors := []*cose.Key{newKey(t), newKey(t)}
	var signers []cose.Signer
	for _, k := range authors {
		s, err := k.Signer()
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	l := newLab(t, func(l *lab) { l.author = authors[1]; l.trust(processor.AllComponents()) })
	l.device.Serve("u", []byte("x"))
	e := l.build(one(1, idA, appA, "x", "u"))
	if err := e.SignMulti(rand.Reader, signers...); err != nil {
		t.Fatal(err)
	}
	if _, err := newLab(t).update(e.Encode()); err == nil {
		t.Fatal("accepted although neither signer is known")
	}
	l.mustUpdate(e.Encode())
}

// No text says what delegation means, so it authorizes nobody; nor does it take anything away.
func TestDelegationAuthorizesNobody(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	stranger := newKey(t)
	chain, err := cbor.Marshal([][]byte{[]byte("a chain of tokens for the stranger")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		signer *cose.Key
		works  bool
	}{{stranger, false}, {l.author, true}} {
		e, err := suit.ParseEnvelope(l.signBy(one(1, idA, appA, "x", "u"), c.signer))
		if err != nil {
			t.Fatal(err)
		}
		e.Delegation = chain
		if !c.works {
			l.refuse(e.Encode(), suit.ReasonUnauthorised)
			continue
		}
		l.mustUpdate(e.Encode())
	}
}

// A device that is set up for one of the six algorithm profiles installs an encrypted payload of
// that profile, and refuses those of the others (SUIT MTI §3).
func TestAlgorithmProfiles(t *testing.T) {
	secret := strings.Repeat("the payload ", 1000)
	for _, profile := range suit.Profiles() {
		t.Run(profile.Name, func(t *testing.T) {
			author := newSignatory(t, profile.Authentication, 1)
			device, err := cose.GenerateKey(rand.Reader, profile.KeyExchange)
			if err != nil {
				t.Fatal(err)
			}
			to, err := suit.PayloadRecipient(device)
			if err != nil {
				t.Fatal(err)
			}
			var ciphertext bytes.Buffer
			info, err := suit.EncryptPayload(rand.Reader, strings.NewReader(secret), &ciphertext, profile.Encryption, to)
			if err != nil {
				t.Fatal(err)
			}
			d := one(1, idA, appA, secret, "u")
			d.Install.Commands = append([]suit.Command{override(func(p *suit.Parameters) {
				if err := p.SetEncryptionInfo(info); err != nil {
					t.Fatal(err)
				}
			})}, d.Install.Commands...)
			envelope := author.envelope(newLab(t), d)
			e, err := suit.ParseEnvelope(envelope)
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range suit.Profiles() {
				l := newLab(t, trusts(author, other.Authentication), func(l *lab) {
					l.device.DecryptKeys = cose.DecryptKeys{device}
					l.cfg.ContentAlgorithms = []cose.Algorithm{other.Encryption}
				})
				l.device.Serve("u", ciphertext.Bytes())
				fits := other == profile
				if err := other.Check(e); (err == nil) != fits {
					t.Errorf("checked against %s: %v", other.Name, err)
				}
				_, err := l.update(envelope)
				if (err == nil) != fits {
					t.Errorf("on a device of %s: %v", other.Name, err)
				}
			}
		})
	}
}

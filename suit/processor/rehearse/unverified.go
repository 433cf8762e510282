package rehearse

import (
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// unverified is the Authority of a rehearsal that was told not to check signatures. Whoever
// signed, it was the stand-in; and what nobody signed, the stand-in signs.
type unverified struct {
	signer  cose.Signer
	standIn *cose.Key
}

func newUnverified(rand io.Reader) (*unverified, error) {
	key, err := cose.GenerateKey(rand, cose.AlgESP256)
	if err != nil {
		return nil, fmt.Errorf("rehearse: key of the stand-in: %w", err)
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, fmt.Errorf("rehearse: key of the stand-in: %w", err)
	}
	return &unverified{signer: signer, standIn: key.Public()}, nil
}

// sign adds the stand-in's signature; what cannot be signed is left to be refused.
func (u *unverified) sign(rand io.Reader, envelope []byte) []byte {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil || e.Sign(rand, u.signer) != nil {
		return envelope
	}
	return e.Encode()
}

// VerifiersFor implements cose.KeySource.
func (u *unverified) VerifiersFor(alg cose.Algorithm, _ cose.Headers) []cose.Verifier {
	return []cose.Verifier{unchecked{alg: alg, key: u.standIn}}
}

// Rights implements processor.Authority.
func (u *unverified) Rights(*cose.Key) (processor.Rights, bool) {
	return processor.AllComponents(), true
}

// unchecked takes every signature for that of the stand-in.
type unchecked struct {
	alg cose.Algorithm
	key *cose.Key
}

func (v unchecked) Algorithm() cose.Algorithm { return v.alg }
func (v unchecked) KeyID() []byte             { return nil }
func (v unchecked) Key() *cose.Key            { return v.key }
func (v unchecked) Verify(_, _ []byte) error  { return nil }

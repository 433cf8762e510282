package teep

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-teep/teep/cose"
)

// ErrNoSigner says that a message was to be protected without the signers that it needs.
var ErrNoSigner = errors.New("teep: signer missing")

// Protect encodes m and signs it (TEEP §4.1.1): with one signer as COSE_Sign1, which is the form
// of a selected cipher suite; with several as COSE_Sign.
//
// COSE_Sign is for the initial QueryRequest, which needs one signature for each algorithm of the
// cipher suites that it lists (TEEP §8.1): Protect refuses a set of signers that leaves one out
// or adds one. While a TAM rotates its keys, there may be several of one algorithm, each with a key of
// its own: a receiver needs one signature that it can verify. rand may be nil for signers that need no randomness.
func Protect(rand io.Reader, m Message, signers ...cose.Signer) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	switch len(signers) {
	case 0:
		return nil, ErrNoSigner
	case 1:
		return cose.Sign1(rand, payload, signers[0], cose.SignOptions{})
	}
	q, ok := m.(*QueryRequest)
	if !ok {
		return nil, fmt.Errorf("teep: a %v has one signer, of the selected cipher suite; got %d", m.Type(), len(signers))
	}
	if err := coversSuites(q.CipherSuites, signers); err != nil {
		return nil, err
	}
	return cose.SignMulti(rand, payload, signers, cose.SignOptions{})
}

// coversSuites checks that there are signers for each algorithm of the suites, none for others, and no key twice.
func coversSuites(suites []CipherSuite, signers []cose.Signer) error {
	have := make(map[cose.Algorithm]bool, len(signers))
	for i, s := range signers {
		if slices.ContainsFunc(signers[:i], func(o cose.Signer) bool { return o.Algorithm() == s.Algorithm() && o.Public().Equal(s.Public()) }) {
			return fmt.Errorf("teep: two signers with the same key for algorithm %v; give each key once", s.Algorithm())
		}
		have[s.Algorithm()] = true
	}
	wanted := make(map[cose.Algorithm]bool)
	for _, suite := range suites {
		for _, op := range suite {
			wanted[op.Algorithm] = true
			if !have[op.Algorithm] {
				return fmt.Errorf("%w: the request offers cipher suite %v and has no signer for algorithm %v",
					ErrNoSigner, suite, op.Algorithm)
			}
		}
	}
	for alg := range have {
		if !wanted[alg] {
			return fmt.Errorf("teep: a signer for algorithm %v, which no offered cipher suite uses", alg)
		}
	}
	return nil
}

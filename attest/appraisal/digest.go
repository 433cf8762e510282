package appraisal

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/go-teep/teep/cose"
)

// Digest is a measurement in digested form.
type Digest struct {
	Algorithm cose.Algorithm
	Value     []byte
}

// hashes lists the digests that measurements may use, by the names of the IANA named-information
// registry, weaker ones left out.
var hashes = []struct {
	name      string
	algorithm cose.Algorithm
	size      int
}{
	{"sha-256", cose.AlgSHA256, 32},
	{"sha-384", cose.AlgSHA384, 48},
	{"sha-512", cose.AlgSHA512, 64},
}

// ParseDigest reads "sha-256:" and the digest in hexadecimal; sha-384 and sha-512 are known too.
func ParseDigest(text string) (Digest, error) {
	name, value, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(value)
	if err != nil {
		return Digest{}, fmt.Errorf("%w: digest %q: what follows the colon is not hexadecimal", ErrCollateral, text)
	}
	for _, h := range hashes {
		if h.name == name {
			return NewDigest(h.algorithm, b)
		}
	}
	return Digest{}, fmt.Errorf("%w: digest %q: write sha-256:HEX, sha-384:HEX or sha-512:HEX", ErrCollateral, text)
}

// NewDigest checks that the value has the size that the algorithm gives.
func NewDigest(alg cose.Algorithm, value []byte) (Digest, error) {
	for _, h := range hashes {
		if h.algorithm == alg {
			if len(value) != h.size {
				return Digest{}, fmt.Errorf("%w: a %s digest has %d bytes, not %d", ErrCollateral, h.name, h.size, len(value))
			}
			return Digest{Algorithm: alg, Value: value}, nil
		}
	}
	return Digest{}, fmt.Errorf("%w: digest algorithm %v is not accepted for measurements", ErrCollateral, alg)
}

// String writes the digest as ParseDigest reads it.
func (d Digest) String() string {
	for _, h := range hashes {
		if h.algorithm == d.Algorithm {
			return h.name + ":" + hex.EncodeToString(d.Value)
		}
	}
	return fmt.Sprintf("%v:%x", d.Algorithm, d.Value)
}

package suit

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit/internal/scan"
)

// Digest is SUIT_Digest (SUIT §10). Only SHA-256, SHA-384 and SHA-512 exist; any other algorithm
// is [ErrHash].
//
//	SUIT_Digest = [
//	  suit-digest-algorithm-id : suit-cose-hash-algs,
//	  suit-digest-bytes : bstr,
//	  * $$SUIT_Digest-extensions
//	]
type Digest struct {
	Algorithm cose.Algorithm
	Bytes     []byte
}

// NewDigest is the SHA-256 digest of data.
func NewDigest(data []byte) Digest {
	h := crypto.SHA256.New()
	h.Write(data)
	return Digest{Algorithm: cose.AlgSHA256, Bytes: h.Sum(nil)}
}

// NewDigestWith is the digest of data by alg.
func NewDigestWith(alg cose.Algorithm, data []byte) (Digest, error) {
	f, err := hashFunc(alg)
	if err != nil {
		return Digest{}, err
	}
	h := f.New()
	h.Write(data)
	return Digest{Algorithm: alg, Bytes: h.Sum(nil)}, nil
}

func hashFunc(alg cose.Algorithm) (crypto.Hash, error) {
	switch alg {
	case cose.AlgSHA256:
		return crypto.SHA256, nil
	case cose.AlgSHA384:
		return crypto.SHA384, nil
	case cose.AlgSHA512:
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("%w (found %d)", ErrHash, int64(alg))
}

// Hash returns a running hash of the digest's algorithm, or [ErrHash].
func (d Digest) Hash() (hash.Hash, error) {
	f, err := hashFunc(d.Algorithm)
	if err != nil {
		return nil, err
	}
	return f.New(), nil
}

// Matches tells whether d is the digest of data. It is false for a zero digest and for an
// algorithm that is not supported.
func (d Digest) Matches(data []byte) bool {
	h, err := d.Hash()
	if err != nil {
		return false
	}
	h.Write(data)
	return d.MatchesSum(h.Sum(nil))
}

// MatchesSum compares with the sum of a [Digest.Hash], in constant time.
func (d Digest) MatchesSum(sum []byte) bool {
	return len(d.Bytes) > 0 && subtle.ConstantTimeCompare(d.Bytes, sum) == 1
}

// Equal compares algorithm and bytes.
func (d Digest) Equal(o Digest) bool {
	return d.Algorithm == o.Algorithm && bytes.Equal(d.Bytes, o.Bytes)
}

// IsZero tells whether there is no digest.
func (d Digest) IsZero() bool { return d.Algorithm == 0 && len(d.Bytes) == 0 }

// String is "sha-256:hexadecimal", unambiguous and fit for a file name after the colon.
func (d Digest) String() string {
	name := fmt.Sprintf("alg(%d)", int64(d.Algorithm))
	switch d.Algorithm {
	case cose.AlgSHA256:
		name = "sha-256"
	case cose.AlgSHA384:
		name = "sha-384"
	case cose.AlgSHA512:
		name = "sha-512"
	}
	return name + ":" + hex.EncodeToString(d.Bytes)
}

// Clone returns a copy that shares no memory.
func (d Digest) Clone() Digest {
	return Digest{Algorithm: d.Algorithm, Bytes: bytes.Clone(d.Bytes)}
}

// MarshalCBOR encodes SUIT_Digest.
func (d Digest) MarshalCBOR() ([]byte, error) { return d.appendCBOR(nil), nil }

// UnmarshalCBOR decodes SUIT_Digest into memory of its own.
func (d *Digest) UnmarshalCBOR(data []byte) error {
	parsed, err := parseDigest(bytes.Clone(data))
	if err != nil {
		return at(err, "digest")
	}
	*d = parsed
	return nil
}

func (d Digest) appendCBOR(b []byte) []byte {
	b = append(b, 0x82)
	return appendBytes(appendInt(b, int64(d.Algorithm)), d.Bytes)
}

// parseDigest reads an encoded SUIT_Digest, which may not be followed by anything.
func parseDigest(data []byte) (Digest, error) {
	r := scan.New(data)
	d, err := readDigest(&r)
	if err == nil {
		err = r.Done()
	}
	return d, err
}

var errDigestExtension = errors.New("SUIT_Digest has elements beyond algorithm and bytes: no extension is known")

func readDigest(r *scan.Reader) (Digest, error) {
	n, err := r.Array()
	if err != nil {
		return Digest{}, err
	}
	if n < 2 {
		return Digest{}, fmt.Errorf("SUIT_Digest has %d elements, needs algorithm and bytes", n)
	}
	if n > 2 {
		return Digest{}, errDigestExtension
	}
	alg, err := r.Int()
	if err != nil {
		return Digest{}, err
	}
	sum, err := r.Bytes()
	if err != nil {
		return Digest{}, err
	}
	f, err := hashFunc(cose.Algorithm(alg))
	if err != nil {
		return Digest{}, fault(ReasonAlgUnsupported, err)
	}
	if len(sum) != f.Size() {
		return Digest{}, fmt.Errorf("digest has %d bytes, its algorithm makes %d", len(sum), f.Size())
	}
	return Digest{Algorithm: cose.Algorithm(alg), Bytes: sum}, nil
}

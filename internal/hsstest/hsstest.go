// Package hsstest signs with HSS/LMS (RFC 8554), for tests of those who verify. It signs everything
// with one and the same one-time key, which gives that key away: it must never be used outside of
// tests, and that is why it lives here.
package hsstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Signer is a one-level HSS signer: a tree of height 5 over one-time keys that are derived from a
// seed. It implements [cose.Signer].
type Signer struct {
	parameters
	id     []byte
	tree   [64][]byte
	public *cose.Key
}

// parameters are those of LM-OTS (RFC 8554 §4.1).
type parameters struct {
	width, shift uint
	chains       int
	typecode     uint32
}

var widths = map[uint]parameters{1: {1, 7, 265, 1}, 2: {2, 6, 133, 2}, 4: {4, 4, 67, 3}, 8: {8, 0, 34, 4}}

// leaf is the one-time key that signs everything.
const leaf = 3

// New makes a signer of Winternitz width 1, 2, 4 or 8; another seed makes another key.
func New(t testing.TB, width uint, seed byte) *Signer {
	t.Helper()
	p, ok := widths[width]
	if !ok {
		t.Fatalf("hsstest: no parameters for width %d", width)
	}
	s := &Signer{parameters: p, id: bytes.Repeat([]byte{seed}, 16)}
	for q := range uint32(32) {
		ends := make([][]byte, p.chains)
		for i := range ends {
			ends[i] = s.chain(q, i, 1<<p.width-1)
		}
		s.tree[32+q] = s.hash(32+q, 0x8282, s.hash(q, 0x8080, ends...))
	}
	for n := uint32(31); n > 0; n-- {
		s.tree[n] = s.hash(n, 0x8383, s.tree[2*n], s.tree[2*n+1])
	}
	public := []byte{0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, byte(p.typecode)}
	public = append(append(public, s.id...), s.tree[1]...)
	encoded, err := cbor.Marshal(map[int]any{1: int(cose.KeyTypeHSSLMS), 3: int64(cose.AlgHSSLMS), -1: public})
	if err != nil {
		t.Fatal(err)
	}
	if s.public, err = cose.ParseKey(encoded); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Signer) hash(number uint32, domain uint16, parts ...[]byte) []byte {
	b := append([]byte{}, s.id...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, number), domain)
	sum := sha256.Sum256(append(b, bytes.Join(parts, nil)...))
	return sum[:]
}

// chain is the secret start of chain i of leaf q, hashed so many times.
func (s *Signer) chain(q uint32, i, times int) []byte {
	v := s.hash(q, uint16(i), []byte("seed"))
	for j := range times {
		v = s.hash(q, uint16(i), []byte{byte(j)}, v)
	}
	return v
}

// Algorithm implements [cose.Signer].
func (s *Signer) Algorithm() cose.Algorithm { return cose.AlgHSSLMS }

// KeyID implements [cose.Signer].
func (s *Signer) KeyID() []byte { return s.public.Thumbprint() }

// Public implements [cose.Signer].
func (s *Signer) Public() *cose.Key { return s.public }

// Sign implements [cose.Signer].
func (s *Signer) Sign(_ io.Reader, message []byte) ([]byte, error) {
	randomizer := bytes.Repeat([]byte{0xc0}, 32)
	digits := s.digits(s.hash(leaf, 0x8181, randomizer, message))
	signature := []byte{0, 0, 0, 0, 0, 0, 0, leaf, 0, 0, 0, byte(s.typecode)}
	signature = append(signature, randomizer...)
	for i, digit := range digits[:s.chains] {
		signature = append(signature, s.chain(leaf, i, digit)...)
	}
	signature = append(signature, 0, 0, 0, 5)
	for n := uint32(32 + leaf); n > 1; n /= 2 {
		signature = append(signature, s.tree[n^1]...)
	}
	return signature, nil
}

// digits are those of the digest and of its checksum (RFC 8554 §4.4).
func (s *Signer) digits(digest []byte) (digits []int) {
	split := func(b byte) {
		for shift := 8 - int(s.width); shift >= 0; shift -= int(s.width) {
			digits = append(digits, int(b>>shift)&(1<<s.width-1))
		}
	}
	sum := 0
	for _, b := range digest {
		split(b)
	}
	for _, d := range digits {
		sum += 1<<s.width - 1 - d
	}
	sum <<= s.shift
	split(byte(sum >> 8))
	split(byte(sum))
	return digits
}

package cose_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/go-teep/teep/cose"
)

// hssSigner is a one-level HSS signer for tests: a tree of height 5 over one-time keys that are
// derived from a seed. It signs everything with leaf 3, which nobody may do outside of a test.
type hssSigner struct {
	w, ls   uint
	p       int
	otsType uint32
	id      []byte
	tree    [64][]byte
	public  *cose.Key
}

func hssHash(id []byte, number uint32, domain uint16, parts ...[]byte) []byte {
	b := append([]byte{}, id...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, number), domain)
	sum := sha256.Sum256(append(b, bytes.Join(parts, nil)...))
	return sum[:]
}

func newHSSSigner(t *testing.T, w, ls uint, p int, otsType uint32) *hssSigner {
	t.Helper()
	s := &hssSigner{w: w, ls: ls, p: p, otsType: otsType, id: bytes.Repeat([]byte{byte(w)}, 16)}
	for q := range uint32(32) {
		ends := make([][]byte, p)
		for i := range p {
			ends[i] = s.chain(q, i, 1<<w-1)
		}
		s.tree[32+q] = hssHash(s.id, 32+q, 0x8282, hssHash(s.id, q, 0x8080, ends...))
	}
	for n := uint32(31); n > 0; n-- {
		s.tree[n] = hssHash(s.id, n, 0x8383, s.tree[2*n], s.tree[2*n+1])
	}
	pub := []byte{0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, byte(otsType)}
	pub = append(append(pub, s.id...), s.tree[1]...)
	k, err := cose.ParseKey(mustEncode(t, map[int]any{1: 5, 3: -46, -1: pub}))
	if err != nil {
		t.Fatal(err)
	}
	s.public = k
	return s
}

// chain is the secret start of chain i of leaf q, hashed so many times.
func (s *hssSigner) chain(q uint32, i, times int) []byte {
	v := hssHash(s.id, q, uint16(i), []byte("seed"))
	for j := range times {
		v = hssHash(s.id, q, uint16(i), []byte{byte(j)}, v)
	}
	return v
}

func (s *hssSigner) Algorithm() cose.Algorithm { return cose.AlgHSSLMS }
func (s *hssSigner) KeyID() []byte             { return s.public.Thumbprint() }
func (s *hssSigner) Public() *cose.Key         { return s.public }

func (s *hssSigner) Sign(_ io.Reader, message []byte) ([]byte, error) {
	const q = 3
	c := bytes.Repeat([]byte{0xc0}, 32)
	digest := hssHash(s.id, q, 0x8181, c, message)
	digits, sum := []int{}, 0
	split := func(b byte) {
		for shift := 8 - int(s.w); shift >= 0; shift -= int(s.w) {
			digits = append(digits, int(b>>shift)&(1<<s.w-1))
		}
	}
	for _, b := range digest {
		split(b)
	}
	for _, d := range digits {
		sum += 1<<s.w - 1 - d
	}
	sum <<= s.ls
	split(byte(sum >> 8))
	split(byte(sum))
	sig := []byte{0, 0, 0, 0, 0, 0, 0, q, 0, 0, 0, byte(s.otsType)}
	sig = append(sig, c...)
	for i := range s.p {
		sig = append(sig, s.chain(q, i, digits[i])...)
	}
	sig = append(sig, 0, 0, 0, 5)
	for n := uint32(32 + q); n > 1; n /= 2 {
		sig = append(sig, s.tree[n^1]...)
	}
	return sig, nil
}

func TestHSSLMSMessages(t *testing.T) {
	for _, set := range []struct {
		w, ls   uint
		p       int
		otsType uint32
	}{{1, 7, 265, 1}, {2, 6, 133, 2}, {4, 4, 67, 3}, {8, 0, 34, 4}} {
		t.Run(fmt.Sprintf("W%d", set.w), func(t *testing.T) {
			s := newHSSSigner(t, set.w, set.ls, set.p, set.otsType)
			msg, err := cose.Sign1(nil, []byte("firmware"), s, cose.SignOptions{})
			if err != nil {
				t.Fatal(err)
			}
			o := cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgHSSLMS}}
			v, err := cose.Verify(msg, newSet(t, s.public), o)
			if err != nil || v.Algorithm != cose.AlgHSSLMS || string(v.Payload) != "firmware" {
				t.Fatalf("%+v, %v", v, err)
			}
			_, err = cose.Verify(msg, newSet(t, s.public), cose.VerifyOptions{})
			wantErr(t, err, cose.ErrAlgorithm)
			_, err = cose.Verify(flip(msg, len(msg)-1, 0), newSet(t, s.public), o)
			wantErr(t, err, cose.ErrSignature)
			_, err = cose.Verify(bytes.Replace(msg, []byte("firmware"), []byte("Firmware"), 1), newSet(t, s.public), o)
			wantErr(t, err, cose.ErrSignature)
		})
	}
	k := newHSSSigner(t, 8, 0, 34, 4).public
	if back, err := cose.ParseKey(mustEncode(t, k)); err != nil || !back.Equal(k) || back.IsPrivate() || back.Alg() != cose.AlgHSSLMS {
		t.Errorf("%v, %v", back, err)
	}
	_, err := k.Signer()
	wantErr(t, err, cose.ErrKey)
	_, err = cose.ParseKey(mustEncode(t, map[int]any{1: 5, -1: make([]byte, 60)}))
	wantErr(t, err, cose.ErrKey)
}

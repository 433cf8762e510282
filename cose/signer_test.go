package cose_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"testing"

	"github.com/go-teep/teep/cose"
)

// tokenSigner is a crypto.Signer that is not one of the standard library's, like those of tokens.
type tokenSigner struct {
	key  *ecdsa.PrivateKey
	sign func(io.Reader, []byte) ([]byte, error)
}

func (s tokenSigner) Public() crypto.PublicKey { return &s.key.PublicKey }
func (s tokenSigner) Sign(rand io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.sign(rand, digest)
}

func TestForeignSigners(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	honest := tokenSigner{key, func(r io.Reader, d []byte) ([]byte, error) { return ecdsa.SignASN1(r, key, d) }}
	s, err := cose.NewSigner(cose.AlgESP256, honest)
	if err != nil {
		t.Fatal(err)
	}
	v, err := cose.NewVerifier(cose.AlgESP256, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := cose.Sign1(rand.Reader, []byte("p"), s, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cose.Verify(msg, cose.KeySet{v}, cose.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	long := make([]byte, 40)
	long[0] = 1
	for name, answer := range map[string][]byte{
		"nothing": nil, "raw": make([]byte, 64), "trailing": {0x30, 6, 2, 1, 1, 2, 1, 1, 0},
		"negative": {0x30, 6, 2, 1, 0x80, 2, 1, 1},
		"too long": mustASN1(t, new(big.Int).SetBytes(long), big.NewInt(1)),
	} {
		s, err := cose.NewSigner(cose.AlgESP256, tokenSigner{key, func(io.Reader, []byte) ([]byte, error) { return answer, nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cose.Sign1(rand.Reader, nil, s, cose.SignOptions{}); !errors.Is(err, cose.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("token removed")
	s, err = cose.NewSigner(cose.AlgESP256, tokenSigner{key, func(io.Reader, []byte) ([]byte, error) { return nil, broken }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cose.Sign1(rand.Reader, nil, s, cose.SignOptions{})
	wantErr(t, err, broken)
	_, err = cose.NewSigner(cose.AlgEd25519, honest)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewSigner(cose.AlgHMAC256, honest)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewSigner(cose.AlgESP256, nil)
	wantErr(t, err, cose.ErrKey)
}

func mustASN1(t *testing.T, r, s *big.Int) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// r and s with leading zeros survive the way through ASN.1 and back; zero and out-of-range ones
// are refused.
func TestSignatureEncodings(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 1)
	v, err := k.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	short := false
	for i := 0; i < 2000 && !short; i++ {
		message := []byte(fmt.Sprint(i))
		sig, err := newSigner(t, k).Sign(nil, message)
		if err != nil || v.Verify(message, sig) != nil {
			t.Fatalf("%v", err)
		}
		short = sig[0] == 0 || sig[32] == 0
		sig[0]++
		wantErr(t, v.Verify(message, sig), cose.ErrSignature)
	}
	if !short {
		t.Error("no signature with a leading zero came up")
	}
	n := p256Order().Bytes()
	for _, sig := range [][]byte{nil, make([]byte, 63), make([]byte, 64), make([]byte, 65), append(bytes.Clone(n), n...), bytes.Repeat([]byte{0xff}, 64)} {
		wantErr(t, v.Verify([]byte("m"), sig), cose.ErrSignature)
	}
}

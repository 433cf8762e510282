package cose_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/go-teep/teep/cose"
)

// The two verify benchmarks belong side by side: the difference is what COSE costs.

func BenchmarkVerifySign1(b *testing.B) {
	k := newKey(b, cose.AlgESP256, 1)
	set := newSet(b, k)
	msg := sign1(b, k, string(make([]byte, 400)), cose.SignOptions{ContentType: "application/teep+cbor"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cose.Verify(msg, set, cose.VerifyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyBareECDSA(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 400)
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		digest := sha256.Sum256(message)
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkSign1(b *testing.B) {
	s := newSigner(b, newKey(b, cose.AlgESP256, 1))
	payload := make([]byte, 400)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cose.Sign1(rand.Reader, payload, s, cose.SignOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignBareECDSA(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 400)
	b.ReportAllocs()
	for b.Loop() {
		digest := sha256.Sum256(message)
		if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseAndFail is everything but the signature: the message is refused for its signer.
func BenchmarkParseAndFail(b *testing.B) {
	msg := sign1(b, newKey(b, cose.AlgESP256, 1), string(make([]byte, 400)), cose.SignOptions{ContentType: "application/teep+cbor"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cose.Verify(msg, nil, cose.VerifyOptions{}); err == nil {
			b.Fatal("verified")
		}
	}
}

func BenchmarkContentReaderChaCha(b *testing.B) {
	const size = 16 << 20
	key, iv := make([]byte, 32), make([]byte, 12)
	w := &memory{}
	cw, err := cose.NewContentWriter(cose.AlgChaCha20Poly1305, key, iv, nil, w)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := cw.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := cw.Close(); err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	b.SetBytes(size)
	for b.Loop() {
		r, err := cose.NewContentReader(cose.AlgChaCha20Poly1305, key, iv, nil, w, int64(len(w.data)))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Read(buffer)
		}
	}
}

type memory struct{ data []byte }

func (m *memory) Write(p []byte) (int, error) { m.data = append(m.data, p...); return len(p), nil }

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return copy(p, m.data[at:]), nil }

package eat_test

import (
	"crypto/rand"
	"testing"
)

// BenchmarkAppraise is one appraisal with two installed components; BenchmarkBareSignatures is its
// floor, one verification and one signature with the same keys.
func BenchmarkAppraise(b *testing.B) {
	x := newBench(b)
	e := x.evidence()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.appraise(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareSignatures(b *testing.B) {
	x := newBench(b)
	message := make([]byte, 700)
	signer := newSigner(b, x.verifierKey)
	sig, err := signer.Sign(rand.Reader, message)
	if err != nil {
		b.Fatal(err)
	}
	v, err := x.verifierKey.Verifier()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Verify(message, sig); err != nil {
			b.Fatal(err)
		}
		if _, err := signer.Sign(rand.Reader, message); err != nil {
			b.Fatal(err)
		}
	}
}

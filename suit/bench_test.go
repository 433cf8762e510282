package suit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"testing"

	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
)

// BenchmarkVerifyExp0 decodes and verifies one signed manifest. The bar is 1.1 times
// BenchmarkBareECDSA of the same run.
func BenchmarkVerifyExp0(b *testing.B) {
	data := vectors.Read(b, "suit/exp0.suit")
	keys := trustAnchor(b)
	b.ReportAllocs()
	for b.Loop() {
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Verify(keys, suit.VerifyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseExp0 is the part of BenchmarkVerifyExp0 that is not cryptography or COSE.
func BenchmarkParseExp0(b *testing.B) {
	data := vectors.Read(b, "suit/exp0.suit")
	b.ReportAllocs()
	for b.Loop() {
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.UnverifiedManifest(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareECDSA is the floor: one P-256 verification of a digest.
func BenchmarkBareECDSA(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("manifest"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
			b.Fatal("signature does not verify")
		}
	}
}

// BenchmarkParseComponents shows that the cost of a manifest grows linearly with its components.
func BenchmarkParseComponents(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		m := suit.Manifest{SequenceNumber: 1}
		for i := range n {
			m.Common.Components = append(m.Common.Components, suit.NewComponentID("component", strconv.Itoa(i)))
			var p suit.Parameters
			p.SetDigest(suit.NewDigest([]byte{byte(i)}))
			p.SetSize(uint64(i))
			p.SetURI("https://example.com/" + strconv.Itoa(i))
			m.Install.Commands = append(m.Install.Commands, suit.SetComponentIndex(uint64(i)), suit.OverrideParameters(p),
				suit.Directive(suit.DirFetch, suit.ReportRecordOnFailure), suit.Condition(suit.CondImageMatch, suit.ReportAll))
		}
		data, err := m.Encode()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := suit.ParseManifest(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/component")
		})
	}
}

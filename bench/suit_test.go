package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

var (
	vendor = suit.NewVendorID("example.com")
	class  = suit.NewClassID(suit.VendorID{UUID: vendor}, []byte("bench"))
)

// BenchmarkVerifyManifest decodes and verifies the smallest example of the SUIT text beside one
// bare verification of a P-256 signature, alternating, so that both see the same machine.
func BenchmarkVerifyManifest(b *testing.B) {
	data := vectors.Read(b, "suit/exp0.suit")
	anchor, err := cose.ParsePEM(vectors.Read(b, "keys/trust_anchor_prime256v1.pem"))
	if err != nil {
		b.Fatal(err)
	}
	keys, err := cose.NewKeySet(anchor.Public())
	if err != nil {
		b.Fatal(err)
	}
	bare := bareVerification(b)
	const batch = 16
	var whole, floor time.Duration
	for b.Loop() {
		start := time.Now()
		for range batch {
			e, err := suit.ParseEnvelope(data)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Verify(keys, suit.VerifyOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		middle := time.Now()
		for range batch {
			bare()
		}
		whole, floor = whole+middle.Sub(start), floor+time.Since(middle)
	}
	b.ReportMetric(float64(whole.Nanoseconds())/float64(b.N)/batch, "ns/manifest")
	b.ReportMetric(float64(floor.Nanoseconds())/float64(b.N)/batch, "ns/verification")
	b.ReportMetric(float64(whole)/float64(floor), "×floor")
	b.ReportMetric(0, "ns/op")
}

func bareVerification(b *testing.B) func() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("manifest"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			b.Fatal("signature does not verify")
		}
	}
}

// BenchmarkComponents verifies and runs manifests of growing size on a device in memory. What a
// manifest of one component costs is mostly its signature; "µs/further" is what each further
// component adds. Its floor is that of ten: growth is linear where "×floor" stays about 1.
func BenchmarkComponents(b *testing.B) {
	var one, ten float64
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			author, p := newProcessor(b, memory.New(processor.Identity{Vendor: vendor, Class: class}))
			envelope := author.sign(b, components(n))
			for b.Loop() {
				// Rolled back in the end, so that every round does the same.
				if _, err := p.Update(b.Context(), envelope, processor.UpdateOptions{DryRun: true}); err != nil {
					b.Fatal(err)
				}
			}
			whole := float64(b.Elapsed().Microseconds()) / float64(b.N)
			if n == 1 || one == 0 {
				one = whole
				return
			}
			each := (whole - one) / float64(n-1)
			if n == 10 {
				ten = each
			}
			b.ReportMetric(each, "µs/further")
			if ten > 0 {
				b.ReportMetric(each/ten, "×floor")
			}
		})
	}
}

// components describes n components, each of which is fetched from the envelope and checked.
func components(n int) suit.Builder {
	var m suit.Manifest
	m.SequenceNumber, m.ComponentID = 1, suit.NewComponentID("bench", "manifest")
	integrated := map[string][]byte{}
	shared := []suit.Command{suit.SetAllComponents(), suit.OverrideParameters(identity()),
		suit.Condition(suit.CondVendorIdentifier, 0), suit.Condition(suit.CondClassIdentifier, 0)}
	for i := range n {
		content := fmt.Appendf(nil, "content %d", i)
		uri := fmt.Sprintf("#%d", i)
		var p suit.Parameters
		p.SetDigest(suit.NewDigest(content))
		p.SetSize(uint64(len(content)))
		p.SetURI(uri)
		m.Common.Components = append(m.Common.Components, suit.NewComponentID("bench", fmt.Sprint(i)))
		m.Install.Commands = append(m.Install.Commands, suit.SetComponentIndex(uint64(i)), suit.OverrideParameters(p),
			suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, 0))
		integrated[uri] = content
	}
	m.Common.SharedSequence.Commands = shared
	return suit.Builder{Manifest: m, Integrated: integrated}
}

func identity() (p suit.Parameters) {
	p.SetVendorID(suit.VendorID{UUID: vendor})
	p.SetClassID(class)
	return p
}

// author signs manifests that the processor trusts.
type author struct{ key *cose.Key }

func newProcessor(b *testing.B, platform processor.Platform) (author, *processor.Processor) {
	b.Helper()
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		b.Fatal(err)
	}
	trusted, err := processor.NewSigners(processor.Signer{Key: key.Public(), Rights: processor.AllComponents()})
	if err != nil {
		b.Fatal(err)
	}
	p, err := processor.New(processor.Config{Platform: platform, Authority: trusted,
		Components: []suit.ComponentID{suit.NewComponentID("bench")}})
	if err != nil {
		b.Fatal(err)
	}
	return author{key}, p
}

func (a author) sign(b *testing.B, draft suit.Builder) []byte {
	b.Helper()
	e, err := draft.Build()
	if err != nil {
		b.Fatal(err)
	}
	signer, err := a.key.Signer()
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Sign(rand.Reader, signer); err != nil {
		b.Fatal(err)
	}
	return e.Encode()
}

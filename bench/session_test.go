package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"log/slog"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
)

// BenchmarkSession is an attested session at the TAM on one core: connect, QueryResponse with an
// Attestation Result, Update, Success, against a store on disk that survives a loss of power. The
// figures are processor time and allocations of this process, collection of garbage included, for each
// message type and for the whole session; beside them the bare signatures and verifications of a
// session in the same run. Sessions of a fleet overlap, so messages are handled sessionsAtOnce at
// a time. What the agents do is not counted: their messages are made between the phases.
func BenchmarkSession(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := newFleet(b)
	var connect, response, success cost
	var floor time.Duration
	sessions := 0
	for b.Loop() {
		var messages [fleetSize][]byte
		connect.of(b, func(int) []byte { return w.must(w.tam.ProcessConnect(b.Context())) }, &messages)
		for i, q := range messages {
			messages[i] = w.agents[i].response(w.open(q).(*teep.QueryRequest))
		}
		handle := func(i int) []byte { return w.must(w.tam.ProcessTeepMessage(b.Context(), messages[i])) }
		var updates, done [fleetSize][]byte
		response.of(b, handle, &updates)
		for i, u := range updates {
			messages[i] = w.agents[i].success(w.open(u).(*teep.Update))
		}
		success.of(b, handle, &done)
		for _, reply := range done {
			if reply != nil {
				b.Fatal("a Success was answered")
			}
		}
		sessions += fleetSize
		floor += bareCryptography(b, w, fleetSize) // here, so that a busy machine harms both alike
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(sessions) }
	whole := connect.cpu + response.cpu + success.cpu
	for name, c := range map[string]cost{"connect": connect, "queryresponse": response, "success": success} {
		b.ReportMetric(each(c.cpu), "µs-cpu/"+name)
		b.ReportMetric(float64(c.mallocs)/float64(sessions), "allocs/"+name)
		b.ReportMetric(float64(c.bytes)/float64(sessions), "B/"+name)
	}
	b.ReportMetric(each(whole), "µs-cpu/session")
	b.ReportMetric(each(floor), "µs-cpu-floor/session")
	b.ReportMetric(float64(whole)/float64(floor), "×floor")
	b.ReportMetric(0, "ns/op") // an iteration is fleetSize sessions and the agents' part of them
}

const (
	fleetSize      = 256
	sessionsAtOnce = 32
)

// cost adds up what a phase takes.
type cost struct {
	cpu            time.Duration
	mallocs, bytes uint64
}

func (c *cost) of(b *testing.B, handle func(int) []byte, out *[fleetSize][]byte) {
	b.Helper()
	// What the agents left behind is not the TAM's, nor the work of giving its pages back.
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime(b)
	var workers sync.WaitGroup
	for first := range sessionsAtOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := first; i < fleetSize; i += sessionsAtOnce {
				out[i] = handle(i)
			}
		}()
	}
	workers.Wait()
	c.cpu += cpuTime(b) - start
	runtime.ReadMemStats(&after)
	c.mallocs += after.Mallocs - before.Mallocs
	c.bytes += after.TotalAlloc - before.TotalAlloc
}

// cpuTime is the processor time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareCryptography is the floor: two signatures for the QueryRequest, one for the Update, and a
// verification of each of QueryResponse, Attestation Result and Success, and nothing else.
func bareCryptography(b *testing.B, w *fleet, n int) time.Duration {
	b.Helper()
	message := make([]byte, 600)
	signature, err := w.esp256.Sign(rand.Reader, message)
	if err != nil {
		b.Fatal(err)
	}
	v, err := w.esp256.Public().Verifier()
	if err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	start := cpuTime(b)
	for range n {
		for _, s := range []cose.Signer{w.esp256, w.ed25519, w.esp256} {
			if _, err := s.Sign(rand.Reader, message); err != nil {
				b.Fatal(err)
			}
		}
		for range 3 {
			if err := v.Verify(message, signature); err != nil {
				b.Fatal(err)
			}
		}
	}
	return cpuTime(b) - start
}

// fleet is a TAM and devices whose agents sign for real.
type fleet struct {
	b               *testing.B
	tam             *tam.TAM
	esp256, ed25519 cose.Signer
	keys            cose.KeySet
	agents          [fleetSize]*fleetAgent
}

type fleetAgent struct {
	w        *fleet
	key      cose.Signer
	passport attest.Passport
	manifest suit.Digest
}

func newSigner(b *testing.B, alg cose.Algorithm) cose.Signer {
	b.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		b.Fatal(err)
	}
	s, err := k.Signer()
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func newFleet(b *testing.B) *fleet {
	b.Helper()
	w := &fleet{b: b, esp256: newSigner(b, cose.AlgESP256), ed25519: newSigner(b, cose.AlgEd25519)}
	var err error
	w.keys, err = cose.NewKeySet(w.esp256.Public())
	check(b, err)
	ofVerifier := newSigner(b, cose.AlgESP256)
	trusted, err := cose.NewKeySet(ofVerifier.Public())
	check(b, err)
	w.startTAM(tam.PassportVerifier(trusted, time.Now))
	w.makeDevices(ofVerifier, w.publish())
	return w
}

func (w *fleet) startTAM(results attest.Verifier) {
	b := w.b
	b.Helper()
	dir := b.TempDir()
	store, err := sqlite.Open(b.Context(), filepath.Join(dir, "tam.db"), sqlite.Options{})
	check(b, err)
	blobs, err := blobfs.Open(filepath.Join(dir, "blobs"))
	check(b, err)
	b.Cleanup(func() {
		store.Close() //nolint:errcheck // the folder goes with it
		blobs.Close() //nolint:errcheck // as above
	})
	w.tam, err = tam.New(b.Context(), tam.Config{
		Signers: []cose.Signer{w.esp256, w.ed25519}, Results: results, Store: store, Blobs: blobs,
		Policy: tam.Policy{Query: tam.QueryToken}, Logger: slog.New(slog.DiscardHandler),
	})
	check(b, err)
}

// publish puts a small application on offer.
func (w *fleet) publish() suit.Digest {
	b := w.b
	b.Helper()
	author := newSigner(b, cose.AlgESP256)
	_, err := w.tam.AddPublisher(b.Context(), "author", []*cose.Key{author.Public()}, []suit.ComponentID{{}})
	check(b, err)
	built, err := describe.Build([]byte(`
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: device}
components:
  - id: [hello]
    payload: {file: program, uri: "https://cdn.example/hello"}
`), describe.Options{Name: "hello.yaml", Rand: rand.Reader, ReadFile: func(string) ([]byte, error) { return []byte("program"), nil }})
	check(b, err)
	check(b, built.Envelope.Sign(rand.Reader, author))
	_, err = w.tam.Publish(b.Context(), built.Envelope.Encode(), "")
	check(b, err)
	return built.Envelope.Digest
}

func (w *fleet) makeDevices(ofVerifier cose.Signer, manifest suit.Digest) {
	b := w.b
	b.Helper()
	oemid, err := attest.ParseOEMID("ieee:89-48-23")
	check(b, err)
	measurement := sha256.Sum256([]byte("agent"))
	class := appraisal.Class{OEMID: oemid, HWModel: []byte("device")}
	known := &appraisal.Collateral{Owner: "maker", Expires: time.Now().Add(time.Hour), References: []appraisal.Reference{{
		Owner: "maker", Class: class, Name: "teep-agent", Version: "1", Algorithm: cose.AlgSHA256, Digest: measurement[:],
		Status: attest.StatusAffirming, Expires: time.Now().Add(time.Hour),
	}}}
	store, err := appraisal.NewStore()
	check(b, err)
	verifier, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: ofVerifier, Developer: "go-teep", Build: "bench", Endorsements: store, References: store, Now: time.Now, Rand: rand.Reader,
	})
	check(b, err)
	for i := range w.agents {
		attestation := newSigner(b, cose.AlgESP256)
		ueid := append([]byte{1}, fmt.Sprintf("device-%09d", i)...)
		known.Endorsements = append(known.Endorsements, appraisal.Endorsement{Owner: "maker", UEID: ueid, Key: attestation.Public(), Class: class})
		attester, err := eat.NewAttester(eat.AttesterConfig{
			Identity: eat.Identity{
				UEID: ueid, OEMID: oemid, HWModel: class.HWModel, HWVersion: "1", AgentName: "teep-agent", AgentVersion: "1",
				Measurement: measurement[:], Debug: eat.DebugDisabled,
			},
			Signer: attestation, Now: time.Now, Rand: rand.Reader,
		})
		check(b, err)
		w.agents[i] = &fleetAgent{
			w: w, key: newSigner(b, cose.AlgESP256), manifest: manifest,
			passport: attest.Passport{Attester: attester, Verifier: verifier},
		}
	}
	check(b, store.Replace(known))
}

func (w *fleet) must(reply []byte, err error) []byte {
	if err != nil {
		w.b.Error(err)
	}
	return reply
}

func (w *fleet) open(data []byte) teep.Message {
	w.b.Helper()
	opened, err := teep.Open(data, w.keys, teep.OpenOptions{})
	check(w.b, err)
	return opened.Message
}

// response asks for the application and presents an Attestation Result with the token in it.
func (a *fleetAgent) response(q *teep.QueryRequest) []byte {
	b := a.w.b
	b.Helper()
	result, err := a.passport.Attest(context.Background(), "", attest.Request{Nonce: q.Token, AgentKey: a.key.Public()})
	check(b, err)
	data, err := teep.Protect(rand.Reader, &teep.QueryResponse{
		Token: q.Token, AttestationFormat: result.MediaType, AttestationPayload: result.Payload, TrustedComponents: []cbor.RawMessage{},
		RequestedComponents: []teep.RequestedComponent{{ID: teep.ComponentID(suit.NewComponentID("hello"))}},
	}, a.key)
	check(b, err)
	return data
}

func (a *fleetAgent) success(u *teep.Update) []byte {
	b := a.w.b
	b.Helper()
	if len(u.Manifests) != 1 {
		b.Fatalf("Update with %d manifests, %v", len(u.Manifests), u.ErrorCode)
	}
	report, err := (&suit.Report{Reference: suit.Reference{Digest: a.manifest}, Nonce: u.Token}).Encode()
	check(b, err)
	data, err := teep.Protect(rand.Reader, &teep.Success{Token: u.Token, SUITReports: [][]byte{report}}, a.key)
	check(b, err)
	return data
}

package bench

import (
	"crypto/rand"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"log/slog"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
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
// session in the same run, in turns with it. Sessions of a fleet overlap, so messages are handled
// sessionsAtOnce at a time. What the agents do is not counted: they are in a process of their own, and
// so is the server of PostgreSQL.
func BenchmarkSession(b *testing.B) {
	for _, backend := range []string{"sqlite", "postgres"} {
		b.Run(backend, func(b *testing.B) { measureSessions(b, newFleet(b, opener(b, backend)())) })
	}
}

func measureSessions(b *testing.B, w *fleet) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// Garbage is collected here, when as much was made as teep-tam lets accumulate, and nowhere else: not
	// while the agents work, who are not counted, and not at the cost of the floor.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	atWork := newWorkers(b)
	var connect, response, success, garbage cost
	var floor time.Duration
	var relations []float64
	sessions := 0
	for b.Loop() {
		before := connect.cpu + response.cpu + success.cpu
		var messages round
		connect.of(b, atWork, func(int) []byte { return w.must(w.tam.ProcessConnect(b.Context())) }, &messages)
		messages = w.agents.answer(b, messages)
		handle := func(i int) []byte { return w.must(w.tam.ProcessTeepMessage(b.Context(), messages[i])) }
		var updates, done round
		response.of(b, atWork, handle, &updates)
		messages = w.agents.answer(b, updates)
		success.of(b, atWork, handle, &done)
		for _, reply := range done {
			if reply != nil {
				b.Fatal("a Success was answered")
			}
		}
		sessions += fleetSize
		bare := bareCryptography(b, w, fleetSize) // here, so that a busy machine harms both alike
		floor += bare
		relations = append(relations, float64(connect.cpu+response.cpu+success.cpu-before)/float64(bare))
		if made := connect.bytes + response.bytes + success.bytes; made-garbage.bytes >= program.HeapRoom {
			start := cpuTime(b)
			runtime.GC()
			garbage.cpu += cpuTime(b) - start
			garbage.bytes = made
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(sessions) }
	whole := connect.cpu + response.cpu + success.cpu + garbage.cpu
	for name, c := range map[string]cost{"connect": connect, "queryresponse": response, "success": success} {
		b.ReportMetric(each(c.cpu), "µs-cpu/"+name)
		b.ReportMetric(float64(c.mallocs)/float64(sessions), "allocs/"+name)
		b.ReportMetric(float64(c.bytes)/float64(sessions), "B/"+name)
	}
	b.ReportMetric(each(garbage.cpu), "µs-cpu/garbage")
	b.ReportMetric(each(whole), "µs-cpu/session")
	b.ReportMetric(each(floor), "µs-cpu-floor/session")
	// The median, because a machine that does something else meanwhile disturbs some rounds and not others.
	slices.Sort(relations)
	ofGarbage := float64(garbage.cpu) / float64(floor)
	b.ReportMetric(relations[len(relations)/2]+ofGarbage, "×floor")
	b.ReportMetric(relations[0]+ofGarbage, "×floor-best")
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

// of has the workers handle a message of each agent.
func (c *cost) of(b *testing.B, w *workers, handle func(int) []byte, out *round) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime(b)
	w.each(func(i int) { out[i] = handle(i) })
	c.cpu += cpuTime(b) - start
	runtime.ReadMemStats(&after)
	c.mallocs += after.Mallocs - before.Mallocs
	c.bytes += after.TotalAlloc - before.TotalAlloc
}

// workers are goroutines that stay, as those of a server's connections do.
type workers struct {
	work [sessionsAtOnce]chan func(int)
	done sync.WaitGroup
}

func newWorkers(b *testing.B) *workers {
	w := &workers{}
	for first := range w.work {
		w.work[first] = make(chan func(int))
		go func() {
			for f := range w.work[first] {
				for i := first; i < fleetSize; i += sessionsAtOnce {
					f(i)
				}
				w.done.Done()
			}
		}()
	}
	b.Cleanup(func() {
		for _, c := range w.work {
			close(c)
		}
	})
	return w
}

func (w *workers) each(f func(int)) {
	w.done.Add(len(w.work))
	for _, c := range w.work {
		c <- f
	}
	w.done.Wait()
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

// fleet is a TAM, and devices whose agents sign for real.
type fleet struct {
	b               *testing.B
	tam             *tam.TAM
	store           tam.Store
	esp256, ed25519 cose.Signer
	agents          *agentProcess
}

func newSigner(b *testing.B, alg cose.Algorithm) cose.Signer {
	b.Helper()
	s, err := generateSigner(alg)
	check(b, err)
	return s
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// openSQLite makes a store on disk that survives a loss of power.
func openSQLite(b *testing.B) tam.Store {
	b.Helper()
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "tam.db"), sqlite.Options{})
	check(b, err)
	b.Cleanup(func() { store.Close() }) //nolint:errcheck // the folder goes with it
	return store
}

func newFleet(b *testing.B, store tam.Store) *fleet {
	b.Helper()
	w := &fleet{b: b, store: store, esp256: newSigner(b, cose.AlgESP256), ed25519: newSigner(b, cose.AlgEd25519)}
	var ofVerifier *cose.Key
	w.agents, ofVerifier = startAgents(b)
	trusted, err := cose.NewKeySet(ofVerifier)
	check(b, err)
	blobs, err := blobfs.Open(filepath.Join(b.TempDir(), "blobs"))
	check(b, err)
	b.Cleanup(func() { blobs.Close() }) //nolint:errcheck // the folder goes with it
	w.tam, err = tam.New(b.Context(), tam.Config{
		Signers: []cose.Signer{w.esp256, w.ed25519}, Results: tam.PassportVerifier(trusted, time.Now), Store: store, Blobs: blobs,
		Policy: tam.Policy{Query: tam.QueryToken}, Logger: slog.New(slog.DiscardHandler),
	})
	check(b, err)
	w.agents.meet(b, w.publish().Bytes, w.esp256.Public(), w.ed25519.Public())
	return w
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

func (w *fleet) must(reply []byte, err error) []byte {
	if err != nil {
		w.b.Error(err)
	}
	return reply
}

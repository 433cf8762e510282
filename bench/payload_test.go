package bench

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// benchSize is the size of payloads: $BENCH_SIZE, such as 1GiB, or 64 MiB, which keeps a run short.
func benchSize(b *testing.B) int64 {
	b.Helper()
	text := os.Getenv("BENCH_SIZE")
	if text == "" {
		return 64 << 20
	}
	for unit, shift := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			if n, err := strconv.ParseInt(number, 10, 32); err == nil && n > 0 {
				return n << shift
			}
		}
	}
	b.Fatalf("BENCH_SIZE is %q: write a number and KiB, MiB or GiB, such as 1GiB", text)
	return 0
}

// BenchmarkInstall installs one large payload, plain and encrypted, into the sealed store of the
// sandbox. Each round measures its floor too: a SHA-256 of the payload, and a plain file written
// and synced. The slower of them is what "of-floor" compares with.
func BenchmarkInstall(b *testing.B) {
	for _, alg := range []cose.Algorithm{0, cose.AlgA128CTR, cose.AlgA128GCM, cose.AlgChaCha20Poly1305} {
		name := "plain"
		if alg != 0 {
			name = alg.String()
		}
		b.Run(strings.ReplaceAll(name, "/", "-"), func(b *testing.B) { install(b, alg, benchSize(b)) })
	}
}

func install(b *testing.B, alg cose.Algorithm, size int64) {
	d := newDevice(b)
	draft, source := payload(b, d, alg, size)
	d.source = source
	author, p := newProcessor(b, d)
	b.SetBytes(size)
	var installed, hashed, written time.Duration
	var growth int64
	for b.Loop() {
		hashed += timed(func() { hash(b, size) })
		written += timed(func() { writePlain(b, size) })
		draft.Manifest.SequenceNumber++
		envelope := author.sign(b, draft)
		before := settle()
		peak := watchResident()
		installed += timed(func() {
			if _, err := p.Update(b.Context(), envelope, processor.UpdateOptions{}); err != nil {
				b.Fatal(err)
			}
		})
		growth = max(growth, peak()-before)
		if _, err := p.Uninstall(b.Context(), suit.NewComponentID("bench", "manifest"), processor.Options{}); err != nil {
			b.Fatal(err)
		}
		d.forget(b)
	}
	rate := func(t time.Duration) float64 { return float64(size) * float64(b.N) / t.Seconds() / 1e6 }
	b.ReportMetric(rate(installed), "MB/s-installed")
	b.ReportMetric(rate(hashed), "MB/s-SHA256")
	b.ReportMetric(rate(written), "MB/s-written")
	b.ReportMetric(rate(installed)/min(rate(hashed), rate(written)), "of-floor")
	b.ReportMetric(float64(growth)/(1<<20), "MiB-growth")
	b.ReportMetric(0, "ns/op")
}

// payload describes one component of size bytes, and says what devices fetch for it.
func payload(b *testing.B, d *device, alg cose.Algorithm, size int64) (suit.Builder, func() io.Reader) {
	b.Helper()
	shared, from := identity(), suit.Parameters{}
	shared.SetDigest(suit.Digest{Algorithm: cose.AlgSHA256, Bytes: hash(b, size)})
	shared.SetSize(uint64(size))
	from.SetURI("https://example.com/payload")
	source := func() io.Reader { return newPattern(size) }
	if alg != 0 {
		source = encrypted(b, d, alg, size, &from)
	}
	var m suit.Manifest
	m.ComponentID = suit.NewComponentID("bench", "manifest")
	m.Common.Components = []suit.ComponentID{suit.NewComponentID("bench", "payload")}
	m.Common.SharedSequence.Commands = suit.Sequence{suit.OverrideParameters(shared),
		suit.Condition(suit.CondVendorIdentifier, 0), suit.Condition(suit.CondClassIdentifier, 0)}
	m.Install.Commands = suit.Sequence{suit.OverrideParameters(from),
		suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, 0)}
	return suit.Builder{Manifest: m}, source
}

// encrypted encrypts the payload to the device, into a file that is then fetched.
func encrypted(b *testing.B, d *device, alg cose.Algorithm, size int64, from *suit.Parameters) func() io.Reader {
	b.Helper()
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		b.Fatal(err)
	}
	d.DecryptKeys = cose.DecryptKeys{key}
	recipient, err := suit.PayloadRecipient(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "ciphertext"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	info, err := suit.EncryptPayload(rand.Reader, newPattern(size), f, alg, recipient)
	if err != nil {
		b.Fatal(err)
	}
	if err := from.SetEncryptionInfo(info); err != nil {
		b.Fatal(err)
	}
	return func() io.Reader {
		stat, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		return io.NewSectionReader(f, 0, stat.Size())
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func hash(b *testing.B, size int64) []byte {
	h := sha256.New()
	if _, err := io.Copy(h, newPattern(size)); err != nil {
		b.Fatal(err)
	}
	return h.Sum(nil)
}

func writePlain(b *testing.B, size int64) {
	name := filepath.Join(b.TempDir(), "plain")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, newPattern(size), make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		b.Fatal(err)
	}
}

// settle returns resident memory after everything that is not needed was given back.
func settle() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	return resident()
}

// resident is what the process has in memory, in bytes; 0 where that cannot be told.
func resident() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			var kib int64
			if _, err := fmt.Sscan(string(rest), &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// watchResident samples resident memory until its result is called, which returns the peak.
func watchResident() func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		highest := resident()
		for {
			select {
			case <-ticker.C:
				highest = max(highest, resident())
			case <-stop:
				peak <- max(highest, resident())
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-peak }
}

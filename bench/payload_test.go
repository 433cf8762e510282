package bench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
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

	"golang.org/x/crypto/chacha20poly1305"

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
// sandbox. Each round measures its floor too: a SHA-256 of the payload, a plain file written
// and synced, and, of what is encrypted, the bare cipher as its library has it, in memory. The slowest of them is what
// "of-floor" compares with. "×floor-cpu" is the processor time of the installation beside that of all of them together,
// which other work on the machine changes less.
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
	var installed, hashed, written, opened spent
	var growth int64
	bare := bareCipher(b, alg, size)
	for b.Loop() {
		hashed.add(func() { hash(b, size) })
		written.add(func() { writePlain(b, size) })
		opened.add(bare)
		draft.Manifest.SequenceNumber++
		envelope := author.sign(b, draft)
		before := settle()
		peak := watchResident()
		installed.add(func() {
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
	rate := func(c spent) float64 { return float64(size) * float64(b.N) / c.wall.Seconds() / 1e6 }
	b.ReportMetric(rate(installed), "MB/s-installed")
	b.ReportMetric(rate(hashed), "MB/s-SHA256")
	b.ReportMetric(rate(written), "MB/s-written")
	floor := min(rate(hashed), rate(written))
	if alg != 0 {
		b.ReportMetric(rate(opened), "MB/s-cipher")
		floor = min(floor, rate(opened))
	}
	b.ReportMetric(rate(installed)/floor, "of-floor")
	if cpu := hashed.cpu + written.cpu + opened.cpu; cpu > 0 {
		b.ReportMetric(installed.cpu.Seconds()/cpu.Seconds(), "×floor-cpu")
	}
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

// bareCipher decrypts size bytes in memory, in the form of the algorithm's library that is fastest: of an AEAD that is
// one call for a piece, which a stream cannot use.
func bareCipher(b *testing.B, alg cose.Algorithm, size int64) func() {
	b.Helper()
	if alg == 0 {
		return func() {}
	}
	key, nonce, piece := make([]byte, alg.KeySize()), make([]byte, alg.IVSize()), make([]byte, 256<<10)
	var aead cipher.AEAD
	var err error
	switch alg {
	case cose.AlgChaCha20Poly1305:
		aead, err = chacha20poly1305.New(key)
	default:
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil && alg == cose.AlgA128CTR {
			stream := cipher.NewCTR(block, nonce)
			return func() {
				for n := int64(0); n < size; n += int64(len(piece)) {
					stream.XORKeyStream(piece, piece)
				}
			}
		}
		if err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	sealed, out := aead.Seal(nil, nonce, piece, nil), make([]byte, 0, len(piece))
	return func() {
		for n := int64(0); n < size; n += int64(len(piece)) {
			if _, err := aead.Open(out, nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// spent is what something took: time on the wall, and of processors.
type spent struct{ wall, cpu time.Duration }

func (c *spent) add(f func()) {
	start, cpu := time.Now(), processorTime()
	f()
	c.wall += time.Since(start)
	c.cpu += processorTime() - cpu
}

// processorTime is what this process has used, in steps of 10 ms; 0 where that cannot be told.
func processorTime() time.Duration {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
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

package seal_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/tee/seal"
)

const benchSize = 256 << 20

// BenchmarkBlobWrite is the cost of storing a payload. Every round also measures what its parts cost
// alone, a SHA-256 of it, and a plain write and sync; of-floor is the share of the slower one's
// throughput that is reached.
func BenchmarkBlobWrite(b *testing.B) {
	chunk := pattern(1 << 20)
	write := func(w io.Writer) {
		for range benchSize / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
	}
	dir := b.TempDir()
	disk, err := seal.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	var hashed, plain, sealed time.Duration
	timed := func(total *time.Duration, f func()) {
		start := time.Now()
		f()
		*total += time.Since(start)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		timed(&hashed, func() { write(sha256.New()) })
		timed(&plain, func() { writePlain(b, filepath.Join(dir, "plain"), write) })
		timed(&sealed, func() {
			w, err := s.CreateBlob()
			if err != nil {
				b.Fatal(err)
			}
			write(w)
			if _, _, err := w.Commit(); err != nil {
				b.Fatal(err)
			}
		})
		b.StopTimer()
		// The next one does not find the disk busy with this one.
		if err := s.Sweep(func([32]byte) bool { return false }); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	rate := func(d time.Duration) float64 { return float64(benchSize) * float64(b.N) / 1e6 / d.Seconds() }
	b.ReportMetric(rate(hashed), "sha256-MB/s")
	b.ReportMetric(rate(plain), "plain-MB/s")
	b.ReportMetric(rate(sealed), "sealed-MB/s")
	b.ReportMetric(rate(sealed)/min(rate(hashed), rate(plain)), "of-floor")
}

func writePlain(b *testing.B, name string, write func(io.Writer)) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	write(f)
	if err := errors.Join(f.Sync(), f.Close(), os.Remove(name)); err != nil {
		b.Fatal(err)
	}
}

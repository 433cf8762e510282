package seal_test

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-teep/teep/tee/seal"
)

const benchSize = 256 << 20

// BenchmarkBlobWrite is the cost of storing a payload, beside what its parts cost alone: a
// SHA-256 of it, and a plain write and sync.
func BenchmarkBlobWrite(b *testing.B) {
	chunk := pattern(1 << 20)
	write := func(b *testing.B, w io.Writer) {
		for range benchSize / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("SHA256", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			write(b, sha256.New())
		}
	})
	b.Run("Plain", func(b *testing.B) {
		b.SetBytes(benchSize)
		dir := b.TempDir()
		for b.Loop() {
			f, err := os.Create(filepath.Join(dir, "plain"))
			if err != nil {
				b.Fatal(err)
			}
			write(b, f)
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Sealed", func(b *testing.B) {
		b.SetBytes(benchSize)
		disk, err := seal.OpenFolder(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		s, err := seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			w, err := s.CreateBlob()
			if err != nil {
				b.Fatal(err)
			}
			write(b, w)
			if _, _, err := w.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

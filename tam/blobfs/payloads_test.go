package blobfs_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/storetest"
)

func openPayloads(t *testing.T, dir string) *blobfs.Payloads {
	t.Helper()
	p, err := blobfs.OpenPayloads(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestPayloads(t *testing.T) {
	storetest.RunPayloads(t, func(t *testing.T) func() tam.Payloads {
		dir := filepath.Join(t.TempDir(), "payloads")
		return func() tam.Payloads { return openPayloads(t, dir) }
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestPayloadsStream: what is stored may be larger than what is allocated on the way.
func TestPayloadsStream(t *testing.T) {
	const size = 32 << 20
	p := openPayloads(t, t.TempDir())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	digest, n, err := p.Put(t.Context(), io.LimitReader(zeros{}, size))
	if err != nil || n != size {
		t.Fatal(n, err)
	}
	f, err := p.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); err != nil || n != size {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > size/8 {
		t.Errorf("%d bytes were allocated for a payload of %d", used, size)
	}
}

// TestBrokenUploadLeavesNothing: neither the file nor a part of it.
func TestBrokenUploadLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	p := openPayloads(t, dir)
	if _, _, err := p.Put(t.Context(), iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader([]byte("payload"))))); err == nil {
		t.Fatal("stored")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatalf("left over: %v (%v)", left, err)
	}
}

func TestPayloadIsMendedByUploadingItAgain(t *testing.T) {
	dir := t.TempDir()
	p := openPayloads(t, dir)
	digest, _, err := p.Put(t.Context(), bytes.NewReader([]byte("payload")))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, hex.EncodeToString(digest[:]))
	if err := os.WriteFile(file, []byte("pAy"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Put(t.Context(), bytes.NewReader([]byte("payload"))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "payload" {
		t.Fatalf("%q, %v", got, err)
	}
}

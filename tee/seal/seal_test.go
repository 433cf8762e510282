package seal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

func secret() []byte { return bytes.Repeat([]byte{7}, 32) }

func open(disk seal.Disk) (*seal.Store, error) {
	return seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader, MaxAppBytes: 1000})
}

func mustOpen(t *testing.T, disk seal.Disk) *seal.Store {
	t.Helper()
	s, err := open(disk)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func putBlob(s *seal.Store, content []byte) ([32]byte, error) {
	w, err := s.CreateBlob()
	if err != nil {
		return [32]byte{}, err
	}
	if _, err := w.Write(content); err != nil {
		return [32]byte{}, errors.Join(err, w.Abort())
	}
	d, n, err := w.Commit()
	if err == nil && n != int64(len(content)) {
		err = fmt.Errorf("committed %d bytes of %d", n, len(content))
	}
	return d, err
}

func mustBlob(t *testing.T, s *seal.Store, content []byte) [32]byte {
	t.Helper()
	d, err := putBlob(s, content)
	if err != nil {
		t.Fatal(err)
	}
	if d != sha256.Sum256(content) {
		t.Fatal("digest is not the plaintext's")
	}
	return d
}

func readBlob(s *seal.Store, d [32]byte) ([]byte, error) {
	b, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(b)
	return content, errors.Join(err, b.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestBlobSizesAroundChunks(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	for _, n := range []int{0, 1, 65535, 65536, 65537, 131072, 131073, 200000} {
		content := pattern(n)
		d := mustBlob(t, s, content)
		if size, err := s.StatBlob(d); err != nil || size != int64(n) {
			t.Fatalf("size %d: stat says %d, %v", n, size, err)
		}
		got, err := readBlob(s, d)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("size %d: read %d bytes, %v", n, len(got), err)
		}
		b, err := s.OpenBlob(d)
		must(t, err)
		at := make([]byte, 10)
		k, err := b.ReadAt(at, int64(max(0, n-5)))
		if want := min(n, 5); k != want || !errors.Is(err, io.EOF) || !bytes.Equal(at[:k], content[n-want:]) {
			t.Fatalf("size %d: ReadAt the end: %d, %v", n, k, err)
		}
		if _, err := b.ReadAt(at, -1); err == nil {
			t.Fatal("negative offset accepted")
		}
		must(t, b.Close())
		if _, err := b.ReadAt(at, 0); err == nil {
			t.Fatal("closed blob read")
		}
	}
}

func TestBlobReadAtConcurrently(t *testing.T) {
	s := mustOpen(t, crashfs.New())
	content := pattern(300000)
	b, err := s.OpenBlob(mustBlob(t, s, content))
	must(t, err)
	defer b.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			buf := make([]byte, 1000)
			for off := g * 1000; off+1000 <= len(content); off += 7919 {
				if _, err := b.ReadAt(buf, int64(off)); err != nil || !bytes.Equal(buf, content[off:off+1000]) {
					t.Errorf("offset %d: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestBlobAbortAndDoubleCommit(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	before := len(disk.Files())
	w, err := s.CreateBlob()
	must(t, err)
	_, err = w.Write(pattern(100000))
	must(t, err)
	must(t, w.Abort())
	must(t, w.Abort())
	if _, _, err := w.Commit(); err == nil {
		t.Fatal("aborted blob committed")
	}
	if got := len(disk.Files()); got != before {
		t.Fatalf("abort left %v", disk.Files())
	}
	d := mustBlob(t, s, []byte("same"))
	n := len(disk.Files())
	if mustBlob(t, s, []byte("same")) != d || len(disk.Files()) != n {
		t.Fatal("the same content took space twice")
	}
	wantErr(t, func() error { _, err := s.OpenBlob([32]byte{1}); return err }(), tee.ErrNotExist)
	wantErr(t, func() error { _, err := s.StatBlob([32]byte{1}); return err }(), tee.ErrNotExist)
}

func TestRecordGenerations(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	rec, gen, err := s.LoadRecord()
	if rec != nil || gen != 0 || err != nil {
		t.Fatalf("new store: %q, %d, %v", rec, gen, err)
	}
	must(t, s.ReplaceRecord(0, []byte("one")))
	wantErr(t, s.ReplaceRecord(0, []byte("late")), tee.ErrGeneration)
	wantErr(t, s.ReplaceRecord(2, []byte("early")), tee.ErrGeneration)
	must(t, s.ReplaceRecord(1, nil))
	must(t, s.ReplaceRecord(2, []byte("three")))
	wantErr(t, s.ReplaceRecord(3, make([]byte, seal.DefaultMaxRecordBytes+1)), tee.ErrQuota)
	s = mustOpen(t, disk.Restart(crashfs.LoseUnsynced))
	rec, gen, err = s.LoadRecord()
	if string(rec) != "three" || gen != 3 || err != nil {
		t.Fatalf("after reopen: %q, %d, %v", rec, gen, err)
	}
}

func TestReplaceRecordIsCompareAndSwap(t *testing.T) {
	s := mustOpen(t, crashfs.New())
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			if s.ReplaceRecord(0, []byte("x")) == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d of 8 replaced generation 0", won)
	}
}

func TestAppData(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	a, b := s.AppData([]byte("a")), s.AppData([]byte("b"))
	must(t, a.Apply(map[string][]byte{"k": []byte("v"), "empty": {}, "drop": []byte("x")}))
	must(t, a.Apply(map[string][]byte{"drop": nil, "absent": nil}))
	must(t, a.Apply(nil))
	got, err := a.Load()
	must(t, err)
	if len(got) != 2 || string(got["k"]) != "v" || got["empty"] == nil {
		t.Fatalf("loaded %q", got)
	}
	if other, err := b.Load(); err != nil || len(other) != 0 {
		t.Fatalf("another application sees %q, %v", other, err)
	}
	wantErr(t, a.Apply(map[string][]byte{"k": nil, "big": make([]byte, 1001)}), tee.ErrQuota)
	for _, key := range []string{"", "\xff", strings.Repeat("k", 256)} {
		if a.Apply(map[string][]byte{key: {1}}) == nil {
			t.Errorf("key %q accepted", key)
		}
	}
	many := map[string][]byte{}
	for i := range seal.MaxAppKeys + 1 {
		many[fmt.Sprint(i)] = []byte{}
	}
	wantErr(t, a.Apply(many), tee.ErrQuota)
	s = mustOpen(t, disk.Restart(crashfs.LoseUnsynced))
	a = s.AppData([]byte("a"))
	if got, err := a.Load(); err != nil || string(got["k"]) != "v" || len(got) != 2 {
		t.Fatalf("a refused change left %q, %v", got, err)
	}
	must(t, a.Remove())
	must(t, a.Remove())
	if got, err := a.Load(); err != nil || len(got) != 0 {
		t.Fatalf("after removal: %q, %v", got, err)
	}
}

func TestSweep(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	keep, drop := mustBlob(t, s, []byte("keep")), mustBlob(t, s, []byte("drop"))
	w, err := s.CreateBlob()
	must(t, err)
	disk.Tamper("blobs/left-over.tmp", []byte("half"))
	must(t, s.Sweep(func(d [32]byte) bool { return d == keep }))
	if _, err := s.OpenBlob(drop); !errors.Is(err, tee.ErrNotExist) {
		t.Fatalf("swept blob: %v", err)
	}
	if _, err := readBlob(s, keep); err != nil {
		t.Fatal(err)
	}
	if disk.Read("blobs/left-over.tmp") != nil {
		t.Fatal("left-over is still there")
	}
	if _, err := w.Write([]byte("still being written")); err != nil {
		t.Fatal(err)
	}
	d, _, err := w.Commit()
	must(t, err)
	if got, err := readBlob(s, d); err != nil || string(got) != "still being written" {
		t.Fatalf("blob in progress during a sweep: %q, %v", got, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]seal.Config{
		"short secret": {Disk: crashfs.New(), Secret: make([]byte, 31), Rand: rand.Reader},
		"no disk":      {Secret: secret(), Rand: rand.Reader},
		"no rand":      {Disk: crashfs.New(), Secret: secret()},
	} {
		if _, err := seal.Open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := seal.Open(seal.Config{Disk: crashfs.New(), Secret: secret(), Rand: bytes.NewReader(nil)}); err == nil {
		t.Error("a store without randomness was opened")
	}
}

func TestNothingReadableOnDisk(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	marker := []byte("MARKER-THAT-MUST-NOT-SHOW")
	d := mustBlob(t, s, marker)
	must(t, s.ReplaceRecord(0, marker))
	must(t, s.PutItem("keys", marker))
	must(t, s.AppData(marker).Apply(map[string][]byte{string(marker): marker}))
	for _, name := range disk.Files() {
		if bytes.Contains(disk.Read(name), marker[:8]) || strings.Contains(name, fmt.Sprintf("%x", d[:8])) {
			t.Errorf("file %s tells what it holds", name)
		}
	}
}

func TestFolderOnARealDisk(t *testing.T) {
	dir := t.TempDir()
	disk, err := seal.OpenFolder(dir)
	must(t, err)
	s := mustOpen(t, disk)
	content := pattern(70000)
	d := mustBlob(t, s, content)
	must(t, s.ReplaceRecord(0, d[:]))
	must(t, s.AppData([]byte("a")).Apply(map[string][]byte{"k": []byte("v")}))
	must(t, disk.Close())
	disk, err = seal.OpenFolder(dir)
	must(t, err)
	defer disk.Close()
	s = mustOpen(t, disk)
	if rec, gen, err := s.LoadRecord(); err != nil || gen != 1 || !bytes.Equal(rec, d[:]) {
		t.Fatalf("reopened: %x, %d, %v", rec, gen, err)
	}
	if got, err := readBlob(s, d); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("reopened blob: %v", err)
	}
	must(t, s.Sweep(func([32]byte) bool { return false }))
	wantErr(t, func() error { _, err := s.StatBlob(d); return err }(), tee.ErrNotExist)
	if _, err := disk.Open("../outside"); err == nil {
		t.Fatal("escaped from the folder")
	}
}

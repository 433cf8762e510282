package blobfs_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/storetest"
)

func open(t *testing.T, dir string) *blobfs.Store {
	t.Helper()
	s, err := blobfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestBlobs(t *testing.T) {
	storetest.RunBlobs(t, func(t *testing.T) func() tam.Blobs {
		dir := filepath.Join(t.TempDir(), "blobs")
		return func() tam.Blobs { return open(t, dir) }
	})
}

func TestDamagedFileIsNotReturned(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	digest, err := s.Put(t.Context(), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, hex.EncodeToString(digest[:]))
	if err := os.WriteFile(file, []byte("pAyload"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := s.Get(t.Context(), digest); err == nil {
		t.Fatalf("got %q", data)
	}
	if _, err := s.Put(t.Context(), []byte("payload")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), digest); err != nil {
		t.Fatalf("putting it again did not mend it: %v", err)
	}
}

func TestLeftoversOfACrashGo(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "a.part"), filepath.Join(dir, "b.part")
	for _, f := range []string{old, fresh} {
		if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Error("the old one is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("one that may be in the making is gone")
	}
}

func TestNothingPartialIsLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Put(t.Context(), []byte("payload")); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil || len(left) != 0 {
		t.Fatalf("left over: %v (%v)", left, err)
	}
}

// TestFolderThatFails: what the folder itself fails at may pass; what is wrong with a file's content stays.
func TestFolderThatFails(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	digest, err := s.Put(t.Context(), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, hex.EncodeToString(digest[:]))
	if err := errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	_, getErr := s.Get(t.Context(), digest)
	_, putErr := s.Put(t.Context(), []byte("payload"))
	for name, err := range map[string]error{"Get": getErr, "Put": putErr, "Delete": s.Delete(t.Context(), digest)} {
		if !tam.IsUnavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), []byte("payload")); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	if err := os.WriteFile(file, []byte("pAyload"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), digest); err == nil || tam.IsUnavailable(err) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := s.Get(t.Context(), [32]byte{1}); !errors.Is(err, tam.ErrNotFound) || tam.IsUnavailable(err) {
		t.Errorf("missing: %v", err)
	}
}

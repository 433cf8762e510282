package filewatch

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// later makes the next Get look at the files.
func (v *Value[T]) later() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checked = time.Time{}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "1")
	write(t, b, "1")
	var log bytes.Buffer
	errHalf := errors.New("the two do not belong together")
	v, err := New([]string{a, b}, func(c [][]byte) (string, error) {
		if !bytes.Equal(c[0], c[1]) {
			return "", errHalf
		}
		return string(c[0]), nil
	}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || v.Get() != "1" {
		t.Fatalf("%q, %v", v.Get(), err)
	}
	write(t, a, "22")
	if v.later(); v.Get() != "1" {
		t.Fatal("half a pair was taken over")
	}
	if !strings.Contains(log.String(), errHalf.Error()) {
		t.Fatalf("the log does not say why: %s", &log)
	}
	write(t, b, "22")
	if v.later(); v.Get() != "22" {
		t.Fatal("the new pair was not taken over")
	}
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	if v.later(); v.Get() != "22" {
		t.Fatal("a file that is gone took the value with it")
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	_, err := New([]string{filepath.Join(t.TempDir(), "x")}, func([][]byte) (int, error) { return 1, nil }, slog.Default())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

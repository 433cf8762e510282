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
)

// TestFollower: a file that names others; each of them, and one that was not there, is followed.
func TestFollower(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "list")
	write(t, list, "a")
	write(t, filepath.Join(dir, "a"), "1")
	var names []string
	var got string
	read := func() error {
		data, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		var text string
		fields := strings.Fields(string(data))
		for _, name := range fields {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			text += string(data)
		}
		names, got = fields, text
		return nil
	}
	files := func() []string {
		all := []string{list}
		for _, name := range names {
			all = append(all, filepath.Join(dir, name))
		}
		return all
	}
	var log bytes.Buffer
	f, err := NewFollower("list", files, read, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || got != "1" {
		t.Fatalf("%q, %v", got, err)
	}
	look := func(want string) {
		t.Helper()
		if _, _ = f.Look(); got != want {
			t.Fatalf("%q, want %q; %s", got, want, &log)
		}
	}
	look("1")
	write(t, filepath.Join(dir, "a"), "one")
	look("one")
	write(t, list, "a  b")
	look("one") // b is not there yet
	if !strings.Contains(log.String(), "stays in force") || !strings.Contains(log.String(), "no such file") {
		t.Fatalf("the log does not say why: %s", &log)
	}
	write(t, filepath.Join(dir, "b"), "2")
	write(t, list, "a b")
	look("one2")
	write(t, filepath.Join(dir, "b"), "two")
	look("onetwo")
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	look("onetwo")
	lines := strings.Count(log.String(), "\n")
	look("onetwo")
	if strings.Count(log.String(), "\n") != lines {
		t.Error("what is unchanged is read again and again")
	}
}

func TestFollowerWithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	_, err := NewFollower("x", func() []string { return []string{path} }, func() error { _, err := os.ReadFile(path); return err }, slog.Default())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	var none *Follower
	if err := none.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
}

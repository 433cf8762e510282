package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
	"github.com/go-teep/teep/tam/storetest"
)

func open(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{RelaxedDurability: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		path := filepath.Join(t.TempDir(), "a folder", "tam %20?.db") // a path is not a URL
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(sqlitetest.Database(t, t.TempDir()), path); err != nil {
			t.Fatal(err)
		}
		return storetest.Backend{Open: func(t *testing.T) tam.Store { return open(t, path) }}
	})
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	s := open(t, path)
	if err := s.AddTokenKey(t.Context(), tam.TokenKey{Generation: 1, Secret: []byte("s")}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Fatalf("no write-ahead log among %v", files)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v: others can read the token keys", filepath.Base(f), st.Mode())
		}
	}
}

func TestProcessesStartTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := sqlite.Open(context.Background(), path, sqlite.Options{RelaxedDurability: true})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no folder":      filepath.Join(dir, "absent", "tam.db"),
		"a folder":       dir,
		"not a database": garbage,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), "?") {
				t.Errorf("the error does not say what to check: %v", err)
			}
		})
	}
}

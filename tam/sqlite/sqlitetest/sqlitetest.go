// Package sqlitetest has the databases of tests begin with the newest schema: making it takes a
// database longer, under the race detector, than most tests do with it.
//
//	store, err := sqlite.Open(ctx, sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
//
// What is about the schema itself opens a file that does not exist, as a user does.
package sqlitetest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-teep/teep/tam/sqlite"
)

// empty is a database without content, as a new store leaves it behind. It is made once in a process, and
// never changes.
var empty = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "teep-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tam.db")
	store, err := sqlite.Open(context.Background(), path, sqlite.Options{RelaxedDurability: true})
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Database returns the path of tam.db in a folder, and makes the file unless it is there.
func Database(t TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "tam.db")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	data, err := empty()
	if err != nil {
		t.Fatalf("sqlitetest: %v", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatalf("sqlitetest: %v", err)
	}
	return path
}

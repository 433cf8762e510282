package archive_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/archive"
	"github.com/go-teep/teep/tam/sqlite"
)

// looking has a look when the first envelope is copied.
type looking struct {
	tam.Blobs
	look func()
}

func (l looking) Get(ctx context.Context, digest [32]byte) ([]byte, error) {
	l.look()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Blobs.Get(ctx, digest)
}

// TestInterruptedBackup: until a backup is whole there is none of its name, what a crash leaves is not restored, and
// one that is told to stop leaves nothing.
func TestInterruptedBackup(t *testing.T) {
	s, blobs, payloads, dir := source(t)
	backup := filepath.Join(dir, "backup")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := ""
	_, err := archive.Backup(ctx, s, looking{blobs, func() {
		if _, err := os.Stat(backup); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the backup is there before it is whole: %v", err)
		}
		found, err := filepath.Glob(backup + "*")
		must(t, err)
		if len(found) != 1 {
			t.Fatalf("at work in %q", found)
		}
		if st, err := os.Stat(found[0]); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("others may look into it: %v, %v", st, err)
		}
		// What a crash leaves.
		left = filepath.Join(dir, "left"+strings.TrimPrefix(found[0], backup))
		must(t, os.CopyFS(left, os.DirFS(found[0])))
		cancel()
	}}, payloads, backup)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a backup that was told to stop: %v", err)
	}
	if found, err := filepath.Glob(backup + "*"); err != nil || len(found) > 0 {
		t.Errorf("it left %q, %v", found, err)
	}
	envelopes := filepath.Join(dir, "new")
	if _, err := archive.Restore(t.Context(), left, filepath.Join(dir, "new.db"), envelopes, filepath.Join(envelopes, "payloads"), now, rand.Reader); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("half a backup was restored: %v", err)
	}
	for _, path := range []string{backup, dir} { // a file, and a folder that has something
		if path == backup {
			must(t, os.WriteFile(path, []byte("mine"), 0o600))
		}
		if _, err := archive.Backup(t.Context(), s, blobs, payloads, path); err == nil {
			t.Errorf("%s was overwritten", path)
		}
	}
}

// digests of all files of a folder.
func digests(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		fmt.Fprintf(&all, "%s %x\n", path, sha256.Sum256(data))
		return err
	}))
	return all.String()
}

// TestOlderBackup: a backup of an older release is restored with today's schema, and stays as it is, for that release.
func TestOlderBackup(t *testing.T) {
	s, blobs, payloads, dir := source(t)
	backup := filepath.Join(dir, "backup")
	_, err := archive.Backup(t.Context(), s, blobs, payloads, backup)
	must(t, err)
	db, err := sql.Open("sqlite", filepath.Join(backup, "tam.db"))
	must(t, err)
	_, err = db.Exec(`ALTER TABLE events DROP COLUMN rollout; CREATE INDEX events_at ON events (at); DELETE FROM goose_db_version WHERE version_id > 95`)
	must(t, err)
	must(t, db.Close())
	before := digests(t, backup)
	database, envelopes := filepath.Join(dir, "new.db"), filepath.Join(dir, "new")
	_, err = archive.Restore(t.Context(), backup, database, envelopes, filepath.Join(envelopes, "payloads"), now, rand.Reader)
	must(t, err)
	if after := digests(t, backup); after != before {
		t.Errorf("restoring changed the backup:\n%s\nwas\n%s", after, before)
	}
	again, err := sqlite.Open(t.Context(), database, sqlite.Options{})
	must(t, err)
	defer again.Close()
	feed, err := again.FeedEvents(t.Context(), 0, 5)
	if err != nil || len(feed) != 5 {
		t.Errorf("the feed has %d events, %v", len(feed), err)
	}
}

// TestRestoreOverSomething: whatever is in the place of a store stays.
func TestRestoreOverSomething(t *testing.T) {
	s, blobs, payloads, dir := source(t)
	backup := filepath.Join(dir, "backup")
	_, err := archive.Backup(t.Context(), s, blobs, payloads, backup)
	must(t, err)
	for _, name := range []string{"new.db", "new.db-wal", "new.db.restoring", "new/envelope", "payloads/x"} {
		t.Run(name, func(t *testing.T) {
			to := t.TempDir()
			path := filepath.Join(to, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte("mine"), 0o600))
			before := digests(t, to)
			_, err := archive.Restore(t.Context(), backup, filepath.Join(to, "new.db"), filepath.Join(to, "new"), filepath.Join(to, "payloads"), time.Now(), rand.Reader)
			if err == nil || errors.Is(err, archive.ErrDamaged) {
				t.Errorf("restored over it: %v", err)
			}
			if after := digests(t, to); after != before {
				t.Errorf("there is %s, and was %s", after, before)
			}
		})
	}
}

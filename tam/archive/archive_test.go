package archive_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/archive"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/tam/sqlite"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a store with something in every table, and its envelopes.
func source(t *testing.T) (*sqlite.Store, *blobfs.Store, string) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	s, err := sqlite.Open(ctx, filepath.Join(dir, "tam.db"), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	blobs, err := blobfs.Open(filepath.Join(dir, "envelopes"))
	must(t, err)
	t.Cleanup(func() { s.Close(); blobs.Close() })
	must(t, s.AddPublisher(ctx, tam.Publisher{Name: "acme", Keys: [][]byte{{1}}}))
	for n := range 3 {
		digest, err := blobs.Put(ctx, fmt.Appendf(nil, "envelope %d", n))
		must(t, err)
		must(t, s.AddVersion(ctx, tam.Version{Manifest: suit.NewComponentID("acme", "app"), Sequence: uint64(n), Envelope: digest, Publisher: "acme"}))
	}
	must(t, s.PutAssignment(ctx, tam.Assignment{Manifest: suit.NewComponentID("acme", "app"), Mode: tam.ModeRequired}))
	must(t, s.AddAPIToken(ctx, tam.APIToken{ID: "one", Scopes: []string{"auditor"}}))
	must(t, s.AddTokenKey(ctx, tam.TokenKey{Generation: 1, Secret: make([]byte, 32), Created: now}))
	for n := range 1200 {
		id := fmt.Sprintf("%04d", n)
		must(t, s.CommitExchange(ctx, tam.Exchange{
			Consume: &tam.Consumption{ID: [16]byte{byte(n), byte(n >> 8)}, Expires: now},
			Device:  &tam.Device{ID: id, KeyThumbprint: []byte(id), AgentKey: []byte{1}, Status: tam.DeviceAccepted, HWVersion: "\x00 \u2028"},
			Event:   &tam.Event{DeviceID: id, At: now, Kind: tam.EventAttested, Detail: "a \x00 b"},
		}))
	}
	_, err = s.ReserveRequest(ctx, tam.RequestRecord{ID: []byte{1}, Fingerprint: []byte{2}, Expires: now}, now)
	must(t, err)
	must(t, s.AddActivity(ctx, []tam.Activity{{Hour: now, Kind: tam.EventAttested, Count: 9}}))
	return s, blobs, dir
}

func TestBackupAndRestore(t *testing.T) {
	s, blobs, dir := source(t)
	ctx, cancel := context.WithCancel(t.Context())
	// Others go on writing meanwhile.
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			err := s.AddAPIToken(context.Background(), tam.APIToken{ID: fmt.Sprint("t", n), Hash: [32]byte{1, byte(n), byte(n >> 8)}})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	backup := filepath.Join(dir, "backup")
	made, err := archive.Backup(t.Context(), s, blobs, backup)
	cancel()
	wg.Wait()
	must(t, err)
	if made.Versions != 3 {
		t.Errorf("%v", made)
	}
	if _, err := archive.Backup(t.Context(), s, blobs, backup); err == nil {
		t.Error("a backup was overwritten")
	}

	database, envelopes := filepath.Join(dir, "new.db"), filepath.Join(dir, "new")
	restored, err := archive.Restore(t.Context(), backup, database, envelopes, now.Add(time.Hour), rand.Reader)
	must(t, err)
	if *restored != *made {
		t.Errorf("restored %v of %v", restored, made)
	}
	if st, err := os.Stat(database); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := archive.Restore(t.Context(), backup, database, envelopes, now, rand.Reader); err == nil {
		t.Error("a store was overwritten")
	}
	again, err := sqlite.Open(t.Context(), database, sqlite.Options{})
	must(t, err)
	defer again.Close()
	for _, read := range []func(*sqlite.Store) any{
		func(s *sqlite.Store) any { d, err := s.Device(t.Context(), "0007"); must(t, err); return d },
		func(s *sqlite.Store) any { e, err := s.Events(t.Context(), "0007", 0, 9); must(t, err); return e },
		func(s *sqlite.Store) any { a, err := s.Assignments(t.Context()); must(t, err); return a },
		func(s *sqlite.Store) any { p, err := s.ListPublishers(t.Context(), "", 9); must(t, err); return p },
	} {
		if a, b := read(s), read(again); !reflect.DeepEqual(a, b) {
			t.Errorf("restored %+v\nwant %+v", b, a)
		}
	}
	keys, err := again.TokenKeys(t.Context())
	must(t, err)
	if len(keys) != 1 || keys[0].Generation != 2 {
		t.Errorf("tokens from before are still good: %d keys", len(keys))
	}
}

func TestDamagedBackups(t *testing.T) {
	s, blobs, dir := source(t)
	for name, damage := range map[string]func(t *testing.T, backup string){
		"an envelope is missing": func(t *testing.T, backup string) { must(t, os.RemoveAll(filepath.Join(backup, "envelopes"))) },
		"no database": func(t *testing.T, backup string) {
			must(t, os.WriteFile(filepath.Join(backup, "tam.db"), []byte("gone, quite gone"), 0o600))
		},
		"the audit log was edited": func(t *testing.T, backup string) {
			db, err := sql.Open("sqlite", filepath.Join(backup, "tam.db"))
			must(t, err)
			defer db.Close()
			_, err = db.Exec(`DROP TRIGGER audit_no_update; UPDATE audit SET data = replace(data, 'acme', 'evil')`)
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			backup := filepath.Join(t.TempDir(), "backup")
			_, err := archive.Backup(t.Context(), s, blobs, backup)
			must(t, err)
			damage(t, backup)
			database := filepath.Join(dir, "new.db")
			_, err = archive.Restore(t.Context(), backup, database, filepath.Join(t.TempDir(), "new"), now, rand.Reader)
			if !errors.Is(err, archive.ErrDamaged) {
				t.Fatalf("restored: %v", err)
			}
			if _, err := os.Stat(database); err == nil {
				t.Error("a damaged backup left a database")
			}
		})
	}
}

func TestMove(t *testing.T) {
	server := pgtest.Start(t)
	s, _, _ := source(t)
	ctx := t.Context()
	to, err := postgres.Open(ctx, server.Database(t), postgres.Options{})
	must(t, err)
	defer to.Close()
	counts, err := archive.Move(ctx, s, to)
	must(t, err)
	if counts["devices"] != 1200 || counts["audit"] != 6 || counts["consumptions"] != 1200 || counts["activity"] != 1 || counts["requests"] != 1 {
		t.Errorf("moved %v", counts)
	}
	type both interface {
		tam.Store
		tam.Overview
		audit.Log
	}
	for name, read := range map[string]func(both) (any, error){
		"device":    func(s both) (any, error) { return s.Device(ctx, "0007") },
		"events":    func(s both) (any, error) { return s.Events(ctx, "0007", 0, 9) },
		"versions":  func(s both) (any, error) { return s.ListVersions(ctx, tam.VersionCursor{}, 9) },
		"policy":    func(s both) (any, error) { return s.Assignments(ctx) },
		"publisher": func(s both) (any, error) { return s.Publisher(ctx, "acme") },
		"tokens":    func(s both) (any, error) { return s.ListAPITokens(ctx, "", 9) },
		"keys":      func(s both) (any, error) { return s.TokenKeys(ctx) },
		"audit":     func(s both) (any, error) { return s.AuditEntries(ctx, 0, 99) },
		"revision":  func(s both) (any, error) { return s.CatalogueRevision(ctx) },
		"counts":    func(s both) (any, error) { return s.CountDevices(ctx) },
		"activity":  func(s both) (any, error) { return s.ActivitySince(ctx, time.Time{}) },
	} {
		a, err := read(s)
		must(t, err)
		b, err := read(to)
		must(t, err)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: moved %+v\nwant %+v", name, b, a)
		}
	}
	// A used token stays used.
	if err := to.CommitExchange(ctx, tam.Exchange{Consume: &tam.Consumption{ID: [16]byte{7}, Expires: now}}); !errors.Is(err, tam.ErrConsumed) {
		t.Errorf("a token used before the move: %v", err)
	}
	if _, err := archive.Move(ctx, s, to); !errors.Is(err, postgres.ErrNotEmpty) {
		t.Errorf("moved a second time: %v", err)
	}
}

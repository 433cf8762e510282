package archive_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
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
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a store with something in every table, and its envelopes.
func source(t *testing.T) (*sqlite.Store, *blobfs.Store, *blobfs.Payloads, string) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	s, err := sqlite.Open(ctx, sqlitetest.Database(t, dir), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	blobs, err := blobfs.Open(filepath.Join(dir, "envelopes"))
	must(t, err)
	payloads, err := blobfs.OpenPayloads(filepath.Join(dir, "envelopes", "payloads"))
	must(t, err)
	t.Cleanup(func() { s.Close(); blobs.Close(); payloads.Close() })
	for n := range 3 {
		_, _, err := payloads.Put(ctx, strings.NewReader(payload(n)))
		must(t, err)
	}
	must(t, s.AddWebhook(ctx, tam.Webhook{ID: "hook", URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventFailed}, Secret: []byte("secret"), Created: now,
		WebhookProgress: tam.WebhookProgress{Position: 7, Failures: 2, Next: now, LastError: "it was away"}}))
	must(t, s.ChangePolicy(ctx, tam.PolicyChange{Kind: tam.KindRollout, Name: "r", Data: []byte("{}"), Action: "rollout.create",
		Event: &tam.Event{Rollout: "r", At: now, Kind: tam.EventRolloutCreated, Detail: "a \x00 b"}}))
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
	return s, blobs, payloads, dir
}

// payload is the n-th one that lies beside its envelope.
func payload(n int) string { return strings.Repeat("code ", 1000*n+1) }

func TestBackupAndRestore(t *testing.T) {
	s, blobs, payloads, dir := source(t)
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
	made, err := archive.Backup(t.Context(), s, blobs, payloads, backup)
	cancel()
	wg.Wait()
	must(t, err)
	if made.Versions != 3 || made.Payloads != 3 || made.PayloadBytes != int64(len(payload(0))+len(payload(1))+len(payload(2))) {
		t.Errorf("%v", made)
	}
	if _, err := archive.Backup(t.Context(), s, blobs, payloads, backup); err == nil {
		t.Error("a backup was overwritten")
	}

	database, envelopes := filepath.Join(dir, "new.db"), filepath.Join(dir, "new")
	restored, err := archive.Restore(t.Context(), backup, database, envelopes, filepath.Join(envelopes, "payloads"), now.Add(time.Hour), rand.Reader)
	must(t, err)
	if *restored != *made {
		t.Errorf("restored %v of %v", restored, made)
	}
	if st, err := os.Stat(database); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := archive.Restore(t.Context(), backup, database, envelopes, filepath.Join(envelopes, "payloads"), now, rand.Reader); err == nil {
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
	kept, err := blobfs.OpenPayloads(filepath.Join(envelopes, "payloads"))
	must(t, err)
	defer kept.Close()
	for n := range 3 {
		p, err := kept.Open(t.Context(), sha256.Sum256([]byte(payload(n))))
		must(t, err)
		data, err := io.ReadAll(p)
		if must(t, err); string(data) != payload(n) {
			t.Errorf("payload %d came back with %d bytes", n, len(data))
		}
		must(t, p.Close())
	}
	keys, err := again.TokenKeys(t.Context())
	must(t, err)
	if len(keys) != 1 || keys[0].Generation != 2 {
		t.Errorf("tokens from before are still good: %d keys", len(keys))
	}
}

func TestDamagedBackups(t *testing.T) {
	s, blobs, payloads, dir := source(t)
	for name, damage := range map[string]func(t *testing.T, backup string){
		"an envelope is missing": func(t *testing.T, backup string) { must(t, os.RemoveAll(filepath.Join(backup, "envelopes"))) },
		"a payload was changed": func(t *testing.T, backup string) {
			must(t, os.WriteFile(filepath.Join(backup, "payloads", fmt.Sprintf("%x", sha256.Sum256([]byte(payload(1))))), []byte("evil"), 0o600))
		},
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
			_, err := archive.Backup(t.Context(), s, blobs, payloads, backup)
			must(t, err)
			damage(t, backup)
			database := filepath.Join(dir, "new.db")
			envelopes := filepath.Join(t.TempDir(), "new")
			_, err = archive.Restore(t.Context(), backup, database, envelopes, filepath.Join(envelopes, "payloads"), now, rand.Reader)
			if !errors.Is(err, archive.ErrDamaged) {
				t.Fatalf("restored: %v", err)
			}
			for _, path := range []string{database, database + ".restoring", envelopes} {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("a damaged backup left %s", path)
				}
			}
		})
	}
}

func TestMove(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("says the same", func(t *testing.T) { movedSaysTheSame(t, server.Database(t)) })
	t.Run("everything", func(t *testing.T) { moveTakesEverything(t, server.Database(t)) })
}

func movedSaysTheSame(t *testing.T, url string) {
	s, _, _, _ := source(t)
	ctx := t.Context()
	to, err := postgres.Open(ctx, url, postgres.Options{})
	must(t, err)
	defer to.Close()
	counts, err := archive.Move(ctx, s, to)
	must(t, err)
	if counts["devices"] != 1200 || counts["audit"] != 8 || counts["webhooks"] != 1 || counts["events"] != 1201 || counts["consumptions"] != 1200 || counts["activity"] != 1 || counts["requests"] != 1 {
		t.Errorf("moved %v", counts)
	}
	type both interface {
		tam.Store
		tam.Overview
		tam.Feed
		tam.Webhooks
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
		"webhooks":  func(s both) (any, error) { return s.ListWebhooks(ctx, "", 9) },
		"rollouts":  func(s both) (any, error) { return s.PolicyRecords(ctx, tam.KindRollout, "", 9) },
		"feed":      func(s both) (any, error) { list, err := s.FeedEvents(ctx, 0, 2000); return withoutIDs(list), err },
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

// withoutIDs leaves out the numbers within a device's history: only their order matters.
func withoutIDs(list []tam.FeedEvent) []tam.FeedEvent {
	for i := range list {
		list[i].ID = 0
	}
	return list
}

// TestChangedPayloadIsNotBackedUp: a backup that nobody could restore is none.
func TestChangedPayloadIsNotBackedUp(t *testing.T) {
	s, blobs, payloads, dir := source(t)
	name := fmt.Sprintf("%x", sha256.Sum256([]byte(payload(2))))
	must(t, os.WriteFile(filepath.Join(dir, "envelopes", "payloads", name), []byte("evil"), 0o600))
	backup := filepath.Join(dir, "backup")
	if _, err := archive.Backup(t.Context(), s, blobs, payloads, backup); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("backed up: %v", err)
	}
	if _, err := os.Stat(backup); err == nil {
		t.Error("half a backup was left")
	}
}

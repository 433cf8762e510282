package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/storetest"
)

// releasedSchema is the oldest that a process may have which works on while this release migrates the file.
const releasedSchema = 81

// oldProcess says what the release with [releasedSchema] said of a device's message, in statements that it prepared
// before the file was migrated.
type oldProcess struct {
	db                                          *sql.DB
	device, last, consume, insert, update, feed *sql.Stmt
	forget, enter                               *sql.Stmt
	exchanges                                   map[string]int
	progress                                    atomic.Int64
}

func newOldProcess(t *testing.T, path string) *oldProcess {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, Options{RelaxedDurability: true, BusyTimeout: time.Minute}, false))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	o := &oldProcess{db: db, exchanges: map[string]int{}}
	must(t, prepareAll(t.Context(), db, []prepared{
		{&o.device, `SELECT revision FROM devices WHERE id = $1`},
		{&o.last, `SELECT coalesce(max(id), 0) FROM events`},
		{&o.consume, `INSERT INTO consumptions (id, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`},
		{&o.insert, `INSERT INTO events (id, device_id, before, at, kind, detail)
			SELECT $1, $2, last_event, $3, $4, $5 FROM devices WHERE id = $2 AND ($6 = 0 OR revision = $6)`},
		{&o.update, `UPDATE devices SET status = $2,
			revision = revision + 1, last_seen = $4, state = $5, attestation = $6, last_event = max($7, last_event)
			WHERE id = $1 AND revision = $3`},
		{&o.feed, `SELECT id, device_id, at, kind, detail FROM events WHERE id > $1 ORDER BY id LIMIT $2`},
		{&o.forget, `DELETE FROM installed WHERE device_id = $1`},
		{&o.enter, `INSERT INTO installed (device_id, manifest, sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`},
	}))
	return o
}

// exchange is one message of a device.
func (o *oldProcess) exchange(id string, n int) error {
	ctx := context.Background()
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	var revision, last int64
	if err := tx.StmtContext(ctx, o.device).QueryRow(id).Scan(&revision); err != nil {
		return err
	}
	if err := tx.StmtContext(ctx, o.last).QueryRow().Scan(&last); err != nil {
		return err
	}
	state := `{"inventoryMark":"1","inventory":[{"manifest":["YWNtZQ==","YXBw"],"sequence":4}]}`
	for _, q := range []struct {
		stmt *sql.Stmt
		args []any
	}{
		{o.consume, []any{fmt.Appendf(nil, "%016d", n), int64(4e12)}},
		{o.insert, []any{last + 1, id, int64(n), "attested", "older", revision}},
		{o.update, []any{id, "accepted", revision, int64(n), state, "affirming", last + 1}},
		{o.forget, []any{id}},
		{o.enter, []any{id, []byte(suit.NewComponentID("acme", "app").Key()), sequenceKey(4)}},
	} {
		result, err := tx.StmtContext(ctx, q.stmt).Exec(q.args...)
		if err != nil {
			return err
		}
		if rows, err := result.RowsAffected(); err != nil || rows == 0 && q.stmt != o.forget {
			return fmt.Errorf("a statement changed no row: %w", err)
		}
	}
	rows, err := tx.StmtContext(ctx, o.feed).Query(last, 10)
	if err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return tx.Commit()
}

// TestOlderProcessWorksOnMeanwhile: a process of the release before serves devices while several of this one migrate
// the file at a time, and afterwards. Nothing of what it was told is lost.
func TestOlderProcessWorksOnMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	db, err := sql.Open("sqlite", dsn(path, Options{RelaxedDurability: true}, false))
	must(t, err)
	defer db.Close()
	p, err := migrator(db)
	must(t, err)
	_, err = p.UpTo(t.Context(), releasedSchema)
	must(t, err)
	const devices, coming = 1200, 100
	_, err = db.ExecContext(t.Context(), `WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < $1)
		INSERT INTO devices (id, key_thumbprint, agent_key, status, revision, first_seen, last_seen, state, attestation)
		SELECT printf('%04d', n), printf('%04d', n), 'key', 'accepted', 1, 1, 1,
			'{"inventory":[{"manifest":["YWNtZQ==","YXBw"],"sequence":3}]}', 'affirming' FROM n`, devices)
	must(t, err)

	old := newOldProcess(t, path)
	ctx, end := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer func() { end(); working.Wait() }()
	working.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			id := fmt.Sprintf("%04d", n%coming)
			if err := old.exchange(id, n); err != nil {
				t.Errorf("an older process is told: %v", err)
				return
			}
			old.exchanges[id]++
			old.progress.Add(1)
		}
	})
	served := func() {
		t.Helper()
		from, deadline := old.progress.Load(), time.Now().Add(time.Minute)
		for old.progress.Load() < from+20 {
			if time.Now().After(deadline) {
				t.Fatal("the older process serves nobody")
			}
			time.Sleep(time.Millisecond)
		}
	}
	served()
	var opening sync.WaitGroup
	for range 3 {
		opening.Go(func() {
			s, err := Open(t.Context(), path, Options{RelaxedDurability: true, BusyTimeout: time.Minute})
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	served()
	end()
	working.Wait()
	if t.Failed() {
		return
	}
	s, err := Open(t.Context(), path, Options{RelaxedDurability: true})
	must(t, err)
	defer s.Close()
	storetest.CheckOlderWork(t, s, old.exchanges, devices)
}

// TestOlderReleaseStartsAgain: a process of the release before may be restarted after the newer one has migrated.
func TestOlderReleaseStartsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	s, err := Open(t.Context(), path, Options{RelaxedDurability: true})
	must(t, err)
	_, err = s.writer.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (90000, true)`)
	must(t, err)
	must(t, s.Close())
	s, err = Open(t.Context(), path, Options{RelaxedDurability: true})
	must(t, err)
	must(t, s.Close())
}

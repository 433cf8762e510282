package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/storetest"
)

// releasedSchema is the oldest that a replica may have which works on while this release migrates.
const releasedSchema = 81

// oldReplica says what replicas of the release with [releasedSchema] say when devices come and somebody reads the
// feed: the statements that this release wrote down, over the same driver, which keeps them prepared.
type oldReplica struct {
	t      *testing.T
	pool   *pgxpool.Pool
	knows  map[string]bool
	number uint64
	// exchanges are those that were committed, by device.
	exchanges map[string]int
	progress  atomic.Int64
}

func newOldReplica(t *testing.T, url string, number uint64) *oldReplica {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	must(t, err)
	t.Cleanup(pool.Close)
	text, err := os.ReadFile(filepath.Join(statementsFolder, fmt.Sprintf("%05d.txt", releasedSchema)))
	must(t, err)
	o := &oldReplica{t: t, pool: pool, knows: map[string]bool{}, number: number, exchanges: map[string]int{}}
	for line := range strings.Lines(string(text)) {
		o.knows[strings.TrimSpace(line)] = true
	}
	return o
}

// said is a statement, if that release said it.
func (o *oldReplica) said(text string) string {
	if text = strings.Join(strings.Fields(text), " "); !o.knows[text] {
		o.t.Errorf("that release did not say: %s", text)
	}
	return text
}

// work has devices come until ctx ends, each third one with a new version.
func (o *oldReplica) work(ctx context.Context, devices []string) {
	for n := 0; ctx.Err() == nil; n++ {
		id := devices[n%len(devices)]
		err := retry(context.Background(), func() error { return o.exchange(id, n) })
		if err == nil && n%10 == 0 {
			err = retry(context.Background(), o.readFeed)
		}
		if err != nil {
			o.t.Errorf("an older replica is told: %v", err)
			return
		}
		o.exchanges[id]++
		o.progress.Add(1)
	}
}

// exchange is one message of a device.
func (o *oldReplica) exchange(id string, n int) error {
	ctx := context.Background()
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after Commit it does nothing
	var d tam.Device
	var state string
	if err := tx.QueryRow(ctx, o.said(`SELECT id, key_thumbprint, agent_key, status, revision, first_seen, last_seen, state FROM devices WHERE id = $1`), id).
		Scan(nil, nil, nil, nil, &d.Revision, nil, nil, &state); err != nil {
		return err
	}
	consumption := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, o.number), uint64(n))
	has := `"inventoryMark":"1","inventory":[{"manifest":["YWNtZQ==","YXBw"],"sequence":4}]`
	for _, q := range []query{
		{`INSERT INTO consumptions (id, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`, []any{consumption, int64(4e12)}},
		{`UPDATE devices SET status = $2, revision = revision + 1, last_seen = $4, state = $5, attestation = $6 WHERE id = $1 AND revision = $3`,
			[]any{id, "accepted", d.Revision, int64(n), `{` + has + `}`, "affirming"}},
		{`DELETE FROM installed WHERE device_id = $1`, []any{id}},
		{`INSERT INTO installed (device_id, manifest, sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			[]any{id, []byte(suit.NewComponentID("acme", "app").Key()), sequenceKey(4)}},
		{`INSERT INTO events (device_id, id, at, kind, detail, feed) SELECT $1::text, coalesce(max(id), 0) + 1, $2::bigint, $3::text, $4::bytea, NULL
			FROM events WHERE device_id = $1::text`, []any{id, int64(n), "attested", []byte("older")}},
		{`INSERT INTO rollout_counts (rollout, stage, progress, shard, devices) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (rollout, stage, progress, shard) DO UPDATE SET devices = rollout_counts.devices + excluded.devices`,
			[]any{"live", 0, "succeeded", int64(o.number), int64(1)}},
	} {
		tag, err := tx.Exec(ctx, o.said(q.text), q.args...)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 && !strings.HasPrefix(q.text, "DELETE") {
			return fmt.Errorf("no row: %s", q.text)
		}
	}
	return tx.Commit(ctx)
}

// readFeed gives events their place, and reads the newest.
func (o *oldReplica) readFeed() error {
	ctx := context.Background()
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after Commit it does nothing
	var head int64
	if err := tx.QueryRow(ctx, o.said(`SELECT position FROM feed_head WHERE one = 1 FOR UPDATE`)).Scan(&head); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, o.said(`UPDATE events SET feed = $1::bigint + w.n FROM (
		SELECT device_id, id, row_number() OVER (ORDER BY at, device_id, id) AS n
		FROM (SELECT device_id, id, at FROM events WHERE feed IS NULL ORDER BY at, device_id, id LIMIT $2) AS next
		) AS w WHERE events.device_id = w.device_id AND events.id = w.id`), head, feedBatch); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, o.said(`UPDATE feed_head SET position = coalesce((SELECT max(feed) FROM events WHERE feed > $1), $1) WHERE one = 1`), head); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, o.said(`SELECT feed, id, device_id, at, kind, detail FROM events WHERE feed > $1 AND feed > 0 ORDER BY feed LIMIT $2`), head, 10)
	if err != nil {
		return err
	}
	rows.Close()
	if rows.Err() != nil {
		return rows.Err()
	}
	return tx.Commit(ctx)
}

// eventually waits for something that happens by itself.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// olderReplicasWorkOn: replicas of the release before serve devices while this one migrates, also
// when a backup has the tables for so long that the migration has to wait, when the migration is cut off in the
// middle, and afterwards. Nothing of what they were told is lost.
func olderReplicasWorkOn(t *testing.T, url string) {
	old, err := connect(t.Context(), url, Options{MaxConnections: 4}, nil)
	must(t, err)
	defer old.Close()
	db := old.connectToMigrate()
	defer db.Close()
	p, err := old.migrator(db, false)
	must(t, err)
	_, err = p.UpTo(t.Context(), releasedSchema)
	must(t, err)
	// Devices that were not heard of since it is noted what devices have: the first ones come while they are entered.
	const devices, coming = 1200, 200
	_, err = db.ExecContext(t.Context(), `INSERT INTO devices (id, key_thumbprint, agent_key, status, revision, first_seen, last_seen, state, attestation)
		SELECT to_char(n, 'FM0000'), decode(to_char(n, 'FM0000'), 'hex'), 'key', 'accepted', 1, 1, 1,
			'{"inventory":[{"manifest":["YWNtZQ==","YXBw"],"sequence":3}]}', 'affirming' FROM generate_series(0, $1::int - 1) n`, devices)
	must(t, err)

	ctx, end := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer func() { end(); working.Wait() }()
	replicas := make([]*oldReplica, 2)
	for n := range replicas {
		o := newOldReplica(t, url, uint64(n))
		replicas[n] = o
		var mine []string
		for id := n; id < coming; id += len(replicas) {
			mine = append(mine, fmt.Sprintf("%04d", id))
		}
		working.Go(func() { o.work(ctx, mine) })
	}
	// served waits until each of them served further devices.
	served := func(when string) {
		t.Helper()
		for _, o := range replicas {
			from := o.progress.Load()
			eventually(t, "older replicas serve devices "+when, func() bool { return o.progress.Load() >= from+20 })
		}
	}
	served("before")

	// A backup reads the table that the migration changes.
	backup, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer backup.Close(context.WithoutCancel(t.Context()))
	dump, err := backup.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	must(t, err)
	_, err = dump.Exec(t.Context(), `SELECT count(*) FROM events`)
	must(t, err)
	waits := func() (pid int) {
		err := db.QueryRowContext(t.Context(), `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 'events'::regclass`).Scan(&pid)
		must(t, err)
		return pid
	}
	// One that is stopped in the middle, and one whose connection is.
	open := func(ctx context.Context) chan error {
		opened := make(chan error, 1)
		go func() {
			s, err := Open(ctx, url, Options{MaxConnections: 4})
			if err == nil {
				err = s.Close()
			}
			opened <- err
		}()
		eventually(t, "the migration waits for the backup", func() bool { return waits() != 0 })
		return opened
	}
	stopped, stop := context.WithCancel(t.Context())
	opened := open(stopped)
	served("while the migration waits")
	stop()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Fatalf("a migration that was stopped: %v", err)
	}
	served("after a migration was stopped")
	opened = open(t.Context())
	eventually(t, "the migration is cut off", func() bool {
		pid := waits()
		if pid != 0 {
			_, err := db.ExecContext(t.Context(), `SELECT pg_terminate_backend($1::int)`, pid)
			must(t, err)
		}
		return pid != 0
	})
	eventually(t, "the migration waits again", func() bool { return waits() != 0 })
	served("while the migration waits again")
	select {
	case err := <-opened:
		t.Fatalf("the migration did not wait: %v", err)
	default:
	}
	must(t, dump.Rollback(t.Context()))
	must(t, <-opened)
	served("on the new schema")
	end()
	working.Wait()
	if !t.Failed() {
		compareWithOlder(t, url, replicas, devices)
	}
}

// compareWithOlder finds what older replicas did.
func compareWithOlder(t *testing.T, url string, replicas []*oldReplica, devices int) {
	t.Helper()
	ctx := t.Context()
	s, err := Open(ctx, url, Options{MaxConnections: 4})
	must(t, err)
	defer s.Close()
	exchanges, total := map[string]int{}, int64(0)
	for _, o := range replicas {
		for id, n := range o.exchanges { // each device comes to one of them
			exchanges[id], total = n, total+int64(n)
		}
	}
	storetest.CheckOlderWork(t, s, exchanges, devices)
	counts, err := s.RolloutCounts(ctx, "live")
	must(t, err)
	if len(counts) != 1 || counts[0].Devices != total {
		t.Errorf("%d exchanges, and counted %+v", total, counts)
	}
}

// olderReleaseStartsAgain: a replica of the release before may be restarted after the newer one has migrated.
func olderReleaseStartsAgain(t *testing.T, url string) {
	s, err := Open(t.Context(), url, Options{MaxConnections: 2})
	must(t, err)
	db := s.connectToMigrate()
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (90000, true)`)
	must(t, err)
	must(t, s.Close())
	s, err = Open(t.Context(), url, Options{MaxConnections: 2})
	must(t, err)
	must(t, s.Close())
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

var (
	_ tam.Assigning   = (*Store)(nil)
	_ tam.Overview    = (*Store)(nil)
	_ tam.Idempotency = (*Store)(nil)
	_ audit.Log       = (*Store)(nil)
	_ audit.Recorder  = (*Store)(nil)
)

// record appends an entry to the audit log, in the transaction of the change that it describes. It is
// the last thing that a transaction locks.
func (s *Store) record(ctx context.Context, tx pgx.Tx, action audit.Action, target, detail string) error {
	head, err := scanHead(tx.QueryRow(ctx, selectHead+` FOR UPDATE`))
	if err != nil {
		return err
	}
	e := audit.New(ctx, s.clock(), action, target, detail)
	if err := e.Seal(head); err != nil {
		return err
	}
	data, err := toJSON(e)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO audit (seq, data) VALUES ($1, $2)`, e.Seq, data); err != nil {
		return wrap(err)
	}
	_, err = tx.Exec(ctx, `UPDATE audit_head SET seq = $1, hash = $2 WHERE one = 1`, e.Seq, e.Hash[:])
	return wrap(err)
}

const selectHead = `SELECT seq, hash FROM audit_head WHERE one = 1`

func scanHead(row pgx.Row) (audit.Head, error) {
	var h audit.Head
	var hash []byte
	if err := row.Scan(&h.Seq, &hash); err != nil {
		return h, wrap(err)
	}
	if copy(h.Hash[:], hash) != len(h.Hash) {
		return h, fmt.Errorf("postgres: the audit log's head has a hash of %d bytes: the database was damaged", len(hash))
	}
	return h, nil
}

// AddAuditEntry implements [audit.Recorder].
func (s *Store) AddAuditEntry(ctx context.Context, action audit.Action, target, detail string) error {
	return s.write(ctx, func(tx pgx.Tx) error { return s.record(ctx, tx, action, target, detail) })
}

// AuditEntries implements [audit.Log].
func (s *Store) AuditEntries(ctx context.Context, after int64, limit int) ([]audit.Entry, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	return collect(rows, scanJSON[audit.Entry])
}

// AuditHead implements [audit.Log].
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	return scanHead(s.pool.QueryRow(ctx, selectHead))
}

// CountDevices implements [tam.Overview].
func (s *Store) CountDevices(ctx context.Context) ([]tam.DeviceCount, error) {
	rows := s.pool.Query(ctx, `SELECT status, attestation, count(*) FROM devices
		GROUP BY status, attestation ORDER BY status, attestation`)
	return collect(rows, func(row pgx.Row) (*tam.DeviceCount, error) {
		var c tam.DeviceCount
		var status, attestation string
		if err := row.Scan(&status, &attestation, &c.Devices); err != nil {
			return nil, wrap(err)
		}
		c.Status = tam.DeviceStatus(status)
		// What no tier is called is "none".
		c.Attestation, _ = attest.ParseStatus(attestation)
		return &c, nil
	})
}

// FindDevices implements [tam.Overview].
func (s *Store) FindDevices(ctx context.Context, f tam.DeviceFilter, after string, limit int) ([]tam.Device, error) {
	text, args := `SELECT `+deviceColumns+` FROM devices WHERE id > $1`, []any{after, limit}
	if f.Status != "" {
		args = append(args, string(f.Status))
		text += ` AND status = $` + strconv.Itoa(len(args))
	}
	if f.Attestation != "" {
		args = append(args, f.Attestation)
		text += ` AND attestation = $` + strconv.Itoa(len(args))
	}
	rows := s.pool.Query(ctx, text+` ORDER BY id LIMIT $2`, args...)
	return scanDevices(rows)
}

// AddActivity implements [tam.Overview].
func (s *Store) AddActivity(ctx context.Context, counts []tam.Activity) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		for _, c := range counts {
			if _, err := tx.Exec(ctx, `INSERT INTO activity (hour, kind, count) VALUES ($1, $2, $3)
				ON CONFLICT (hour, kind) DO UPDATE SET count = activity.count + excluded.count`,
				millis(c.Hour.Truncate(time.Hour)), string(c.Kind), c.Count); err != nil {
				return wrap(err)
			}
		}
		return nil
	})
}

// ActivitySince implements [tam.Overview].
func (s *Store) ActivitySince(ctx context.Context, since time.Time) ([]tam.Activity, error) {
	rows := s.pool.Query(ctx, `SELECT hour, kind, count FROM activity WHERE hour >= $1 ORDER BY hour, kind`,
		millis(since.Truncate(time.Hour)))
	return collect(rows, func(row pgx.Row) (*tam.Activity, error) {
		var a tam.Activity
		var hour int64
		var kind string
		if err := row.Scan(&hour, &kind, &a.Count); err != nil {
			return nil, wrap(err)
		}
		a.Hour, a.Kind = fromMillis(hour), tam.EventKind(kind)
		return &a, nil
	})
}

// ReserveRequest implements [tam.Idempotency].
func (s *Store) ReserveRequest(ctx context.Context, r tam.RequestRecord, now time.Time) (found *tam.RequestRecord, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		found = nil
		if _, err := tx.Exec(ctx, `DELETE FROM requests WHERE id = $1 AND expires < $2`, r.ID, millis(now)); err != nil {
			return wrap(err)
		}
		tag, err := tx.Exec(ctx, `INSERT INTO requests (id, fingerprint, expires) VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING`, r.ID, r.Fingerprint, millis(r.Expires))
		if err := oneRow(tag, err, tam.ErrExists); !errors.Is(err, tam.ErrExists) {
			return err
		}
		found = &tam.RequestRecord{ID: r.ID}
		var expires int64
		err = tx.QueryRow(ctx, `SELECT fingerprint, expires, answer FROM requests WHERE id = $1`, r.ID).
			Scan(&found.Fingerprint, &expires, &found.Answer)
		found.Expires = fromMillis(expires)
		return wrap(err)
	})
	return found, err
}

// CompleteRequest implements [tam.Idempotency].
func (s *Store) CompleteRequest(ctx context.Context, id, answer []byte) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE requests SET answer = $2 WHERE id = $1`, id, answer)
		return oneRow(tag, err, tam.ErrNotFound)
	})
}

// ReleaseRequest implements [tam.Idempotency].
func (s *Store) ReleaseRequest(ctx context.Context, id []byte) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM requests WHERE id = $1`, id)
		return wrap(err)
	})
}

// SweepRequests implements [tam.Idempotency].
func (s *Store) SweepRequests(ctx context.Context, now time.Time, limit int) (gone int, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM requests WHERE id IN
			(SELECT id FROM requests WHERE expires < $1 LIMIT $2)`, millis(now), limit)
		gone = int(tag.RowsAffected())
		return wrap(err)
	})
	return gone, err
}

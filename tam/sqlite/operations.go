package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

var (
	_ tam.Assigning   = (*Store)(nil)
	_ tam.Overview    = (*Store)(nil)
	_ tam.Idempotency = (*Store)(nil)
)

const selectAssignment = `SELECT data FROM assignments WHERE manifest = $1`

// Assignment implements [tam.Assigning].
func (s *Store) Assignment(ctx context.Context, manifest suit.ComponentID) (*tam.Assignment, error) {
	return scanJSON[tam.Assignment](s.reader.QueryRowContext(ctx, selectAssignment, []byte(manifest.Key())))
}

// SwapAssignment implements [tam.Assigning].
func (s *Store) SwapAssignment(ctx context.Context, manifest suit.ComponentID, old, new *tam.Assignment, catalogue int64) error {
	key := []byte(manifest.Key())
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := expectCatalogue(ctx, tx, catalogue); err != nil {
			return err
		}
		stored, err := scanJSON[tam.Assignment](tx.QueryRowContext(ctx, selectAssignment, key))
		if errors.Is(err, tam.ErrNotFound) {
			stored, err = nil, nil
		}
		switch {
		case err != nil:
			return err
		case !reflect.DeepEqual(stored, old):
			return tam.ErrConflict
		case new != nil:
			return s.putAssignment(ctx, tx, *new)
		case old == nil:
			return nil
		}
		return s.deleteAssignment(ctx, tx, manifest)
	})
}

// CountDevices implements [tam.Overview].
func (s *Store) CountDevices(ctx context.Context) ([]tam.DeviceCount, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT status, attestation, count(*) FROM devices
		GROUP BY status, attestation ORDER BY status, attestation`)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.DeviceCount
	for rows.Next() {
		var c tam.DeviceCount
		var attestation string
		if err := rows.Scan(&c.Status, &attestation, &c.Devices); err != nil {
			return nil, wrap(err)
		}
		// What no tier is called is "none".
		c.Attestation, _ = attest.ParseStatus(attestation)
		list = append(list, c)
	}
	return list, wrap(rows.Err())
}

// FindDevices implements [tam.Overview].
func (s *Store) FindDevices(ctx context.Context, f tam.DeviceFilter, after string, limit int) ([]tam.Device, error) {
	query := `SELECT ` + deviceColumns + ` FROM devices WHERE id > $1`
	args := []any{after, limit}
	if f.Status != "" {
		args = append(args, string(f.Status))
		query += ` AND status = $3`
	}
	if f.Attestation != "" {
		args = append(args, f.Attestation)
		query += ` AND attestation = $` + string(rune('0'+len(args)))
	}
	rows, err := s.reader.QueryContext(ctx, query+` ORDER BY id LIMIT $2`, args...)
	return scanDevices(rows, err)
}

// AddActivity implements [tam.Overview].
func (s *Store) AddActivity(ctx context.Context, counts []tam.Activity) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, c := range counts {
			if _, err := tx.ExecContext(ctx, `INSERT INTO activity (hour, kind, count) VALUES ($1, $2, $3)
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
	rows, err := s.reader.QueryContext(ctx, `SELECT hour, kind, count FROM activity WHERE hour >= $1
		ORDER BY hour, kind`, millis(since.Truncate(time.Hour)))
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.Activity
	for rows.Next() {
		var a tam.Activity
		var hour int64
		if err := rows.Scan(&hour, &a.Kind, &a.Count); err != nil {
			return nil, wrap(err)
		}
		a.Hour = fromMillis(hour)
		list = append(list, a)
	}
	return list, wrap(rows.Err())
}

// ReserveRequest implements [tam.Idempotency].
func (s *Store) ReserveRequest(ctx context.Context, r tam.RequestRecord, now time.Time) (found *tam.RequestRecord, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		found = nil
		if _, err := tx.ExecContext(ctx, `DELETE FROM requests WHERE id = $1 AND expires < $2`, r.ID, millis(now)); err != nil {
			return wrap(err)
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO requests (id, fingerprint, expires) VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING`, r.ID, r.Fingerprint, millis(r.Expires))
		if err := oneRow(res, err, tam.ErrExists); !errors.Is(err, tam.ErrExists) {
			return err
		}
		found = &tam.RequestRecord{ID: r.ID}
		var expires int64
		err = tx.QueryRowContext(ctx, `SELECT fingerprint, expires, answer FROM requests WHERE id = $1`, r.ID).
			Scan(&found.Fingerprint, &expires, &found.Answer)
		found.Expires = fromMillis(expires)
		return wrap(err)
	})
	return found, err
}

// CompleteRequest implements [tam.Idempotency].
func (s *Store) CompleteRequest(ctx context.Context, id, answer []byte) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE requests SET answer = $2 WHERE id = $1`, id, answer)
		return oneRow(res, err, tam.ErrNotFound)
	})
}

// ReleaseRequest implements [tam.Idempotency].
func (s *Store) ReleaseRequest(ctx context.Context, id []byte) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM requests WHERE id = $1`, id)
		return wrap(err)
	})
}

// SweepRequests implements [tam.Idempotency].
func (s *Store) SweepRequests(ctx context.Context, now time.Time, limit int) (gone int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM requests WHERE id IN
			(SELECT id FROM requests WHERE expires < $1 LIMIT $2)`, millis(now), limit)
		if err != nil {
			return wrap(err)
		}
		n, err := res.RowsAffected()
		gone = int(n)
		return wrap(err)
	})
	return gone, err
}

// putAssignment and deleteAssignment are the parts of a transaction that PutAssignment and
// DeleteAssignment share with SwapAssignment.
func (s *Store) putAssignment(ctx context.Context, tx *sql.Tx, a tam.Assignment) error {
	if err := s.replace(ctx, tx, s.stmts.putAssignment, a, []byte(a.Manifest.Key())); err != nil {
		return err
	}
	if err := s.record(ctx, tx, audit.ActionPolicySet, a.Manifest.String(), a.Describe()); err != nil {
		return err
	}
	return s.bump(ctx, tx)
}

func (s *Store) deleteAssignment(ctx context.Context, tx *sql.Tx, manifest suit.ComponentID) error {
	res, err := tx.StmtContext(ctx, s.stmts.deleteAssignment).ExecContext(ctx, []byte(manifest.Key()))
	if err := oneRow(res, err, tam.ErrNotFound); err != nil {
		return err
	}
	if err := s.record(ctx, tx, audit.ActionPolicyDelete, manifest.String(), "available to all, as without a policy"); err != nil {
		return err
	}
	return s.bump(ctx, tx)
}

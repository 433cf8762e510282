package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// CatalogueRevision implements [tam.Catalogue].
func (s *Store) CatalogueRevision(ctx context.Context) (revision int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT revision FROM catalogue WHERE one = 1`).Scan(&revision)
	return revision, wrap(err)
}

// change runs f in a transaction that holds the catalogue's lock from its beginning. f returns false
// when there was nothing to change.
func (s *Store) change(ctx context.Context, f func(tx pgx.Tx) (bool, error)) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		var revision int64
		if err := tx.QueryRow(ctx, `SELECT revision FROM catalogue WHERE one = 1 FOR UPDATE`).Scan(&revision); err != nil {
			return wrap(err)
		}
		changed, err := f(tx)
		if err != nil || !changed {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE catalogue SET revision = $1 WHERE one = 1`, revision+1)
		return wrap(err)
	})
}

// sequenceKey writes a sequence number so that text order is number order.
func sequenceKey(n uint64) string { return fmt.Sprintf("%020d", n) }

// AddVersion implements [tam.Catalogue].
func (s *Store) AddVersion(ctx context.Context, v tam.Version) error {
	data, err := toJSON(v)
	if err != nil {
		return err
	}
	key, sequence := []byte(v.Manifest.Key()), sequenceKey(v.Sequence)
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		var newest string
		err := tx.QueryRow(ctx, `SELECT sequence FROM versions WHERE manifest = $1 ORDER BY sequence DESC LIMIT 1`, key).Scan(&newest)
		switch {
		case err == nil && sequence <= newest:
			return false, tam.ErrSequence
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return false, wrap(err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO versions (manifest, sequence, data) VALUES ($1, $2, $3)`, key, sequence, data); err != nil {
			return false, wrap(err)
		}
		return true, s.record(ctx, tx, audit.ActionVersionPublish, v.Manifest.String(), v.Describe())
	})
}

// cursorKey is a cursor as the columns manifest and sequence have it; its beginning is before all of them.
func cursorKey(c tam.VersionCursor) (manifest []byte, sequence string) {
	switch {
	case c.Manifest == nil:
		return []byte{}, ""
	case c.First:
		return []byte(c.Manifest.Key()), ""
	}
	return []byte(c.Manifest.Key()), sequenceKey(c.Sequence)
}

// ListVersions implements [tam.Catalogue].
func (s *Store) ListVersions(ctx context.Context, after tam.VersionCursor, limit int) ([]tam.Version, error) {
	key, sequence := cursorKey(after)
	rows := s.pool.Query(ctx, `SELECT data FROM versions WHERE (manifest, sequence) > ($1, $2)
		ORDER BY manifest, sequence LIMIT $3`, key, sequence, limit)
	return collect(rows, scanJSON[tam.Version])
}

func toJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("postgres: record: %w", err)
	}
	return string(data), nil
}

// scanJSON reads a row of one JSON column.
func scanJSON[T any](row pgx.Row) (*T, error) {
	var data string
	if err := row.Scan(&data); err != nil {
		return nil, wrap(err)
	}
	v := new(T)
	if err := json.Unmarshal([]byte(data), v); err != nil {
		return nil, fmt.Errorf("postgres: record: %w", err)
	}
	return v, nil
}

// WithdrawVersion implements [tam.Catalogue].
func (s *Store) WithdrawVersion(ctx context.Context, manifest suit.ComponentID, sequence uint64, reason string, at time.Time) error {
	key, seq := []byte(manifest.Key()), sequenceKey(sequence)
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		v, err := scanJSON[tam.Version](tx.QueryRow(ctx, `SELECT data FROM versions WHERE manifest = $1 AND sequence = $2`, key, seq))
		if err != nil || !v.Withdrawn.IsZero() {
			return false, err
		}
		v.Withdrawn, v.WithdrawnReason = at.UTC(), reason
		data, err := toJSON(v)
		if err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, `UPDATE versions SET data = $3 WHERE manifest = $1 AND sequence = $2`, key, seq, data); err != nil {
			return false, wrap(err)
		}
		detail := fmt.Sprintf("sequence number %d: %s", sequence, reason)
		return true, s.record(ctx, tx, audit.ActionVersionWithdraw, manifest.String(), detail)
	})
}

const selectAssignment = `SELECT data FROM assignments WHERE manifest = $1`

// Assignments implements [tam.Catalogue].
func (s *Store) Assignments(ctx context.Context) ([]tam.Assignment, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM assignments ORDER BY manifest`)
	return collect(rows, scanJSON[tam.Assignment])
}

// Assignment implements [tam.Assigning].
func (s *Store) Assignment(ctx context.Context, manifest suit.ComponentID) (*tam.Assignment, error) {
	return scanJSON[tam.Assignment](s.pool.QueryRow(ctx, selectAssignment, []byte(manifest.Key())))
}

// PutAssignment implements [tam.Catalogue].
func (s *Store) PutAssignment(ctx context.Context, a tam.Assignment) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) { return true, s.putAssignment(ctx, tx, a) })
}

// DeleteAssignment implements [tam.Catalogue].
func (s *Store) DeleteAssignment(ctx context.Context, manifest suit.ComponentID) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) { return true, s.deleteAssignment(ctx, tx, manifest) })
}

// SwapAssignment implements [tam.Assigning].
func (s *Store) SwapAssignment(ctx context.Context, manifest suit.ComponentID, old, new *tam.Assignment, catalogue int64) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		if err := expectCatalogue(ctx, tx, catalogue); err != nil {
			return false, err
		}
		stored, err := scanJSON[tam.Assignment](tx.QueryRow(ctx, selectAssignment, []byte(manifest.Key())))
		if errors.Is(err, tam.ErrNotFound) {
			stored, err = nil, nil
		}
		switch {
		case err != nil:
			return false, err
		case !reflect.DeepEqual(stored, old):
			return false, tam.ErrConflict
		case new != nil:
			return true, s.putAssignment(ctx, tx, *new)
		case old == nil:
			return false, nil
		}
		return true, s.deleteAssignment(ctx, tx, manifest)
	})
}

func (s *Store) putAssignment(ctx context.Context, tx pgx.Tx, a tam.Assignment) error {
	data, err := toJSON(a)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO assignments (manifest, data) VALUES ($1, $2)
		ON CONFLICT (manifest) DO UPDATE SET data = excluded.data`, []byte(a.Manifest.Key()), data); err != nil {
		return wrap(err)
	}
	return s.record(ctx, tx, audit.ActionPolicySet, a.Manifest.String(), a.Describe())
}

func (s *Store) deleteAssignment(ctx context.Context, tx pgx.Tx, manifest suit.ComponentID) error {
	tag, err := tx.Exec(ctx, `DELETE FROM assignments WHERE manifest = $1`, []byte(manifest.Key()))
	if err := oneRow(tag, err, tam.ErrNotFound); err != nil {
		return err
	}
	return s.record(ctx, tx, audit.ActionPolicyDelete, manifest.String(), "available to all, as without a policy")
}

// AddPublisher implements [tam.Publishers].
func (s *Store) AddPublisher(ctx context.Context, p tam.Publisher) error {
	data, err := toJSON(p)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		tag, err := tx.Exec(ctx, `INSERT INTO publishers (name, data) VALUES ($1, $2) ON CONFLICT DO NOTHING`, p.Name, data)
		if err := oneRow(tag, err, tam.ErrExists); err != nil {
			return false, err
		}
		if err := addKeys(ctx, tx, p.Name, append(slices.Clone(p.Keys), p.Anchors...)); err != nil {
			return false, err
		}
		return true, s.record(ctx, tx, audit.ActionPublisherAdd, p.Name, p.Describe())
	})
}

const selectPublisher = `SELECT data FROM publishers WHERE name = $1`

// Publisher implements [tam.Publishers].
func (s *Store) Publisher(ctx context.Context, name string) (*tam.Publisher, error) {
	return scanJSON[tam.Publisher](s.pool.QueryRow(ctx, selectPublisher, name))
}

// ListPublishers implements [tam.Publishers].
func (s *Store) ListPublishers(ctx context.Context, after string, limit int) ([]tam.Publisher, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM publishers WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
	return collect(rows, scanJSON[tam.Publisher])
}

// RevokePublisher implements [tam.Publishers].
func (s *Store) RevokePublisher(ctx context.Context, name string, at time.Time) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		p, err := scanJSON[tam.Publisher](tx.QueryRow(ctx, selectPublisher, name))
		if err != nil || !p.Revoked.IsZero() {
			return false, err
		}
		p.Revoked = at.UTC()
		data, err := toJSON(p)
		if err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, `UPDATE publishers SET data = $2 WHERE name = $1`, name, data); err != nil {
			return false, wrap(err)
		}
		return true, s.record(ctx, tx, audit.ActionPublisherRevoke, name, "nothing that it signed is offered any more")
	})
}

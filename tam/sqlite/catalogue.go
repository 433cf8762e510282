package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// CatalogueRevision implements [tam.Catalogue].
func (s *Store) CatalogueRevision(ctx context.Context) (int64, error) {
	var r int64
	err := s.stmts.revision.QueryRowContext(ctx).Scan(&r)
	return r, wrap(err)
}

// sequenceKey writes a sequence number so that text order is number order.
func sequenceKey(n uint64) string { return fmt.Sprintf("%020d", n) }

// AddVersion implements [tam.Catalogue].
func (s *Store) AddVersion(ctx context.Context, v tam.Version) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sqlite: version: %w", err)
	}
	key, sequence := []byte(v.Manifest.Key()), sequenceKey(v.Sequence)
	return s.write(ctx, func(tx *sql.Tx) error {
		var newest string
		err := tx.StmtContext(ctx, s.stmts.newestVersion).QueryRowContext(ctx, key).Scan(&newest)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return wrap(err)
		}
		if err == nil && sequence <= newest {
			return tam.ErrSequence
		}
		if _, err := tx.StmtContext(ctx, s.stmts.insertVersion).ExecContext(ctx, key, sequence, string(data)); err != nil {
			return wrap(err)
		}
		if err := s.record(ctx, tx, audit.ActionVersionPublish, v.Manifest.String(), v.Describe()); err != nil {
			return err
		}
		return s.bump(ctx, tx)
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
	rows, err := s.stmts.listVersions.QueryContext(ctx, key, sequence, limit)
	return collect[tam.Version](rows, err)
}

// collect reads rows of one JSON column.
func collect[T any](rows *sql.Rows, err error) ([]T, error) {
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scanJSON[T](rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *v)
	}
	return list, wrap(rows.Err())
}

func scanJSON[T any](row scanner) (*T, error) {
	var data []byte
	if err := row.Scan(&data); err != nil {
		return nil, wrap(err)
	}
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("sqlite: record: %w", err)
	}
	return v, nil
}

// WithdrawVersion implements [tam.Catalogue].
func (s *Store) WithdrawVersion(ctx context.Context, manifest suit.ComponentID, sequence uint64, reason string, at time.Time) error {
	key, seq := []byte(manifest.Key()), sequenceKey(sequence)
	return s.write(ctx, func(tx *sql.Tx) error {
		v, err := scanJSON[tam.Version](tx.StmtContext(ctx, s.stmts.versionForUpdate).QueryRowContext(ctx, key, seq))
		if err != nil || !v.Withdrawn.IsZero() {
			return err
		}
		v.Withdrawn, v.WithdrawnReason = at.UTC(), reason
		if err := s.replace(ctx, tx, s.stmts.updateVersion, v, key, seq); err != nil {
			return err
		}
		detail := fmt.Sprintf("sequence number %d: %s", sequence, reason)
		if err := s.record(ctx, tx, audit.ActionVersionWithdraw, manifest.String(), detail); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

// replace runs a statement whose last parameter is the JSON of v.
func (s *Store) replace(ctx context.Context, tx *sql.Tx, stmt *sql.Stmt, v any, keys ...any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sqlite: record: %w", err)
	}
	res, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, append(keys, string(data))...)
	return oneRow(res, err, tam.ErrNotFound)
}

// Assignments implements [tam.Catalogue].
func (s *Store) Assignments(ctx context.Context) ([]tam.Assignment, error) {
	rows, err := s.stmts.assignments.QueryContext(ctx)
	return collect[tam.Assignment](rows, err)
}

// PutAssignment implements [tam.Catalogue].
func (s *Store) PutAssignment(ctx context.Context, a tam.Assignment) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.putAssignment(ctx, tx, a) })
}

// DeleteAssignment implements [tam.Catalogue].
func (s *Store) DeleteAssignment(ctx context.Context, manifest suit.ComponentID) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.deleteAssignment(ctx, tx, manifest) })
}

// AddPublisher implements [tam.Publishers].
func (s *Store) AddPublisher(ctx context.Context, p tam.Publisher) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		data, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("sqlite: publisher: %w", err)
		}
		res, err := tx.StmtContext(ctx, s.stmts.insertPublisher).ExecContext(ctx, p.Name, string(data))
		if err := oneRow(res, err, tam.ErrExists); err != nil {
			return err
		}
		if err := s.addKeys(ctx, tx, p.Name, append(p.Keys[:len(p.Keys):len(p.Keys)], p.Anchors...)); err != nil {
			return err
		}
		if err := s.record(ctx, tx, audit.ActionPublisherAdd, p.Name, p.Describe()); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

// Publisher implements [tam.Publishers].
func (s *Store) Publisher(ctx context.Context, name string) (*tam.Publisher, error) {
	return scanJSON[tam.Publisher](s.stmts.publisher.QueryRowContext(ctx, name))
}

// ListPublishers implements [tam.Publishers].
func (s *Store) ListPublishers(ctx context.Context, after string, limit int) ([]tam.Publisher, error) {
	rows, err := s.stmts.listPublishers.QueryContext(ctx, after, limit)
	return collect[tam.Publisher](rows, err)
}

// RevokePublisher implements [tam.Publishers].
func (s *Store) RevokePublisher(ctx context.Context, name string, at time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		p, err := scanJSON[tam.Publisher](tx.QueryRowContext(ctx, `SELECT data FROM publishers WHERE name = $1`, name))
		if err != nil || !p.Revoked.IsZero() {
			return err
		}
		p.Revoked = at.UTC()
		if err := s.replace(ctx, tx, s.stmts.updatePublisher, p, name); err != nil {
			return err
		}
		if err := s.record(ctx, tx, audit.ActionPublisherRevoke, name, "nothing that it signed is offered any more"); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/go-teep/teep/tam/audit"
)

var (
	_ audit.Log      = (*Store)(nil)
	_ audit.Recorder = (*Store)(nil)
)

// transaction is a [sql.Tx], or a [sql.Conn] that is in a transaction.
type transaction interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// record appends an entry to the audit log, in the transaction of the change that it describes.
func (s *Store) record(ctx context.Context, tx transaction, action audit.Action, target, detail string) error {
	head, err := scanHead(tx.QueryRowContext(ctx, selectHead))
	if err != nil {
		return err
	}
	e := audit.New(ctx, s.clock(), action, target, detail)
	if err := e.Seal(head); err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("sqlite: audit: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO audit (seq, data) VALUES ($1, $2)`, e.Seq, string(data)); err != nil {
		return wrap(err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE audit_head SET seq = $1, hash = $2 WHERE one = 1`, e.Seq, e.Hash[:])
	return wrap(err)
}

const selectHead = `SELECT seq, hash FROM audit_head WHERE one = 1`

func scanHead(row scanner) (audit.Head, error) {
	var h audit.Head
	var hash []byte
	if err := row.Scan(&h.Seq, &hash); err != nil {
		return h, wrap(err)
	}
	if copy(h.Hash[:], hash) != len(h.Hash) {
		return h, fmt.Errorf("sqlite: the audit log's head has a hash of %d bytes: the database was damaged", len(hash))
	}
	return h, nil
}

// AddAuditEntry implements [audit.Recorder].
func (s *Store) AddAuditEntry(ctx context.Context, action audit.Action, target, detail string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.record(ctx, tx, action, target, detail) })
}

// AuditEntries implements [audit.Log].
func (s *Store) AuditEntries(ctx context.Context, after int64, limit int) ([]audit.Entry, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT data FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	return collect[audit.Entry](rows, err)
}

// AuditHead implements [audit.Log].
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	return scanHead(s.reader.QueryRowContext(ctx, selectHead))
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// PutDeposit implements [tam.Deposits].
func (s *Store) PutDeposit(ctx context.Context, d tam.Deposit) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("sqlite: deposit: %w", err)
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO deposits (id, device, data) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET data = excluded.data`, d.ID, d.Device, string(data)); err != nil {
			return wrap(err)
		}
		if err := s.record(ctx, tx, audit.ActionDepositPut, d.Manifest.String(), d.Describe()); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

// RemoveDeposit implements [tam.Deposits].
func (s *Store) RemoveDeposit(ctx context.Context, id string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		d, err := scanJSON[tam.Deposit](tx.QueryRowContext(ctx, `DELETE FROM deposits WHERE id = $1 RETURNING data`, id))
		if err != nil {
			return err
		}
		if err := s.record(ctx, tx, audit.ActionDepositRemove, d.Manifest.String(), d.Describe()); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

// DepositsFor implements [tam.Deposits].
func (s *Store) DepositsFor(ctx context.Context, device string) ([]tam.Deposit, error) {
	rows, err := s.stmts.depositsFor.QueryContext(ctx, device)
	return collect[tam.Deposit](rows, err)
}

// ListDeposits implements [tam.Deposits].
func (s *Store) ListDeposits(ctx context.Context, after string, limit int) ([]tam.Deposit, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT data FROM deposits WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	return collect[tam.Deposit](rows, err)
}

package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// PutDeposit implements [tam.Deposits].
func (s *Store) PutDeposit(ctx context.Context, d tam.Deposit) error {
	data, err := toJSON(d)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		if _, err := tx.Exec(ctx, `INSERT INTO deposits (id, device, data) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET data = excluded.data`, d.ID, d.Device, data); err != nil {
			return false, wrap(err)
		}
		return true, s.record(ctx, tx, audit.ActionDepositPut, d.Manifest.String(), d.Describe())
	})
}

// RemoveDeposit implements [tam.Deposits].
func (s *Store) RemoveDeposit(ctx context.Context, id string) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		d, err := scanJSON[tam.Deposit](tx.QueryRow(ctx, `DELETE FROM deposits WHERE id = $1 RETURNING data`, id))
		if err != nil {
			return false, err
		}
		return true, s.record(ctx, tx, audit.ActionDepositRemove, d.Manifest.String(), d.Describe())
	})
}

// DepositsFor implements [tam.Deposits].
func (s *Store) DepositsFor(ctx context.Context, device string) ([]tam.Deposit, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM deposits WHERE device = $1 ORDER BY id`, device)
	return collect(rows, scanJSON[tam.Deposit])
}

// ListDeposits implements [tam.Deposits].
func (s *Store) ListDeposits(ctx context.Context, after string, limit int) ([]tam.Deposit, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM deposits WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	return collect(rows, scanJSON[tam.Deposit])
}

package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// reading is a query that runs when its rows are read, and again when the server could not serialize it: a query by
// itself is a transaction too.
type reading struct {
	ctx  context.Context
	from *schemaPool
	sql  string
	args []any
}

// Query prepares a query, for [collect].
func (p *schemaPool) Query(ctx context.Context, sql string, args ...any) reading {
	return reading{p.context(ctx), p, sql, args}
}

// QueryRow prepares a query for one row.
func (p *schemaPool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.Query(ctx, sql, args...)
}

// Scan implements pgx.Row.
func (q reading) Scan(into ...any) error {
	return retry(q.ctx, func() error { return q.from.through.QueryRow(q.ctx, q.sql, q.args...).Scan(into...) })
}

// collect reads all rows.
func collect[T any](q reading, scan func(pgx.Row) (*T, error)) (list []T, err error) {
	err = retry(q.ctx, func() error {
		rows, err := q.from.through.Query(q.ctx, q.sql, q.args...)
		list, err = readRows(rows, err, scan)
		return err
	})
	return list, err
}

// readRows reads the rows that a query in a transaction gave.
func readRows[T any](rows pgx.Rows, err error, scan func(pgx.Row) (*T, error)) ([]T, error) {
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *v)
	}
	return list, wrap(rows.Err())
}

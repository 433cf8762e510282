package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Failures has a server that cannot serialize what it is told: every statement, every beginning and every end of a
// transaction fails at its first time, and at its sixteenth, with SQLSTATE 40001; what follows in the same
// transaction fails as it does on a server. Whoever tries again as a whole notices nothing.
type Failures struct {
	mu  sync.Mutex
	met map[string]int
}

// how a statement fails.
type how int

const (
	works how = iota
	fails
	// failsLate gives rows first, as a server does that has sent some.
	failsLate
)

const everySo = 16

func (f *Failures) meet(text string, alone bool) how {
	text = strings.Join(strings.Fields(text), " ")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.met == nil {
		f.met = map[string]int{}
	}
	f.met[text]++
	switch n := f.met[text]; {
	case n == 1, n == everySo:
		return fails
	case n == 2 && alone:
		return failsLate
	}
	return works
}

var (
	errNotSerialized = &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "restart transaction"}
	errAborted       = &pgconn.PgError{Severity: "ERROR", Code: "25P02", Message: "current transaction is aborted"}
)

// failing stands before a pool.
type failing struct {
	statements
	f *Failures
}

func (p *failing) Begin(ctx context.Context) (pgx.Tx, error) {
	if p.f.meet("BEGIN", false) == fails {
		return nil, errNotSerialized
	}
	tx, err := p.statements.Begin(ctx)
	return &failingTx{Tx: tx, f: p.f}, err
}

func (p *failing) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	how := p.f.meet(sql, true)
	if how == fails {
		return nil, errNotSerialized
	}
	rows, err := p.statements.Query(ctx, sql, args...)
	if how == failsLate && err == nil {
		return &endingRows{rows}, nil
	}
	return rows, err
}

func (p *failing) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if p.f.meet(sql, true) != works {
		return failedRow{errNotSerialized}
	}
	return p.statements.QueryRow(ctx, sql, args...)
}

// endingRows end with an error.
type endingRows struct{ pgx.Rows }

func (r *endingRows) Err() error { return errNotSerialized }

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// failingTx is a transaction of which nothing remains once a statement failed.
type failingTx struct {
	pgx.Tx
	f       *Failures
	aborted bool
}

func (t *failingTx) meet(text string) error {
	if t.aborted {
		return errAborted
	}
	if t.f.meet(text, false) == fails {
		t.aborted = true
		return errNotSerialized
	}
	return nil
}

func (t *failingTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.meet(sql); err != nil {
		return pgconn.CommandTag{}, err
	}
	return t.Tx.Exec(ctx, sql, args...)
}

func (t *failingTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.meet(sql); err != nil {
		return nil, err
	}
	return t.Tx.Query(ctx, sql, args...)
}

func (t *failingTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := t.meet(sql); err != nil {
		return failedRow{err}
	}
	return t.Tx.QueryRow(ctx, sql, args...)
}

func (t *failingTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	var errs []error
	for _, q := range b.QueuedQueries {
		errs = append(errs, t.meet(q.SQL))
	}
	return &failingResults{t.Tx.SendBatch(ctx, b), errs}
}

func (t *failingTx) Commit(ctx context.Context) error {
	if t.aborted {
		return errors.Join(pgx.ErrTxCommitRollback, t.Tx.Rollback(ctx))
	}
	if err := t.meet("COMMIT"); err != nil {
		if undone := t.Tx.Rollback(ctx); undone != nil {
			return undone
		}
		return err
	}
	return t.Tx.Commit(ctx)
}

// failingResults are those of a batch, some of whose statements failed.
type failingResults struct {
	pgx.BatchResults
	errs []error
}

func (r *failingResults) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	if len(r.errs) > 0 {
		failed := r.errs[0]
		if r.errs = r.errs[1:]; failed != nil {
			return pgconn.CommandTag{}, failed
		}
	}
	return tag, err
}

func (r *failingResults) Close() error {
	if err := r.BatchResults.Close(); err != nil {
		return err
	}
	for _, err := range r.errs {
		if err != nil {
			return err
		}
	}
	return nil
}

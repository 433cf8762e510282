package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNotEmpty says that a database holds a TAM's data already.
var ErrNotEmpty = errors.New("postgres: the database is not empty")

// loadBatch is how many rows go to the server at a time.
const loadBatch = 5000

// Load fills a fresh store, in one transaction, with the rows that dump gives to its argument: the
// tables and columns are those of this schema, the values int64, string, []byte or nil. It returns how
// many rows went into each table. After an error the store is as it was.
func (s *Store) Load(ctx context.Context, dump func(insert func(table string, columns []string, values []any) error) error) (map[string]int64, error) {
	counts := map[string]int64{}
	// Not retried: the other store would have to be read again. Nobody else uses a fresh one.
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return nil, wrap(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after Commit it does nothing
	l := loader{ctx: ctx, tx: tx}
	if err := l.prepare(); err != nil {
		return nil, err
	}
	err = dump(func(table string, columns []string, values []any) error {
		counts[table]++
		if table == "events" { // the other store's numbers are its feed
			columns, values = append(slices.Clip(columns), "feed"), append(slices.Clip(values), values[slices.Index(columns, "id")])
		}
		return l.insert(table, columns, values)
	})
	if err == nil {
		err = l.flush()
	}
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE feed_head SET position = coalesce((SELECT max(feed) FROM events), 0) WHERE one = 1`)
	}
	if err == nil {
		err = l.compare(counts)
	}
	if err != nil {
		return nil, err
	}
	return counts, wrap(tx.Commit(ctx))
}

type loader struct {
	ctx context.Context
	tx  pgx.Tx
	// table, columns and rows are what goes to the server next, in one COPY.
	table   string
	columns []string
	rows    [][]any
	// types has the columns of each table with their types.
	types map[string]map[string]string
}

// prepare makes sure that the store is fresh, and empties it of the rows that a fresh one has.
func (l *loader) prepare() error {
	for _, table := range []string{"devices", "events", "versions", "publishers", "api_tokens", "token_keys", "deposits", "audit", "policy", "identities", "installed"} {
		var any bool
		if err := l.tx.QueryRow(l.ctx, `SELECT EXISTS (SELECT 1 FROM `+table+`)`).Scan(&any); err != nil {
			return wrap(err)
		}
		if any {
			return fmt.Errorf("%w: table %s has rows; make a new database, and do not start a TAM on it before its data was moved", ErrNotEmpty, table)
		}
	}
	for _, table := range []string{"catalogue", "audit_head"} {
		if _, err := l.tx.Exec(l.ctx, `DELETE FROM `+table); err != nil {
			return wrap(err)
		}
	}
	rows, err := l.tx.Query(l.ctx, `SELECT table_name, column_name, data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name NOT IN ('goose_db_version', 'feed_head')`)
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	l.types = map[string]map[string]string{}
	for rows.Next() {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			return wrap(err)
		}
		if l.types[table] == nil {
			l.types[table] = map[string]string{}
		}
		l.types[table][column] = kind
	}
	return wrap(rows.Err())
}

func (l *loader) insert(table string, columns []string, values []any) error {
	types, ok := l.types[table]
	if !ok || len(types) != len(columns) {
		return fmt.Errorf("postgres: table %s with %d columns is not in this schema: use one release for both stores", table, len(columns))
	}
	row := make([]any, len(values))
	for i, column := range columns {
		kind, ok := types[column]
		if !ok {
			return fmt.Errorf("postgres: column %s of table %s is not in this schema: use one release for both stores", column, table)
		}
		switch v := values[i].(type) {
		case string:
			row[i] = v
			if kind == "bytea" {
				row[i] = []byte(v)
			} else if strings.ContainsRune(v, 0) {
				return fmt.Errorf("postgres: a value of %s.%s contains NUL, which this database cannot store as text", table, column)
			}
		case []byte:
			row[i] = slices.Clone(v)
			if kind != "bytea" {
				row[i] = string(v)
			}
		default:
			row[i] = v
		}
	}
	if table != l.table || !slices.Equal(columns, l.columns) {
		if err := l.flush(); err != nil {
			return err
		}
		l.table, l.columns = table, slices.Clone(columns)
	}
	if l.rows = append(l.rows, row); len(l.rows) < loadBatch {
		return nil
	}
	return l.flush()
}

func (l *loader) flush() error {
	if len(l.rows) == 0 {
		return nil
	}
	_, err := l.tx.CopyFrom(l.ctx, pgx.Identifier{l.table}, l.columns, pgx.CopyFromRows(l.rows))
	clear(l.rows) // what they hold is no longer needed
	l.rows = l.rows[:0]
	return wrap(err)
}

// compare counts what arrived.
func (l *loader) compare(sent map[string]int64) error {
	for table := range l.types {
		var n int64
		if err := l.tx.QueryRow(l.ctx, `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			return wrap(err)
		}
		if n != sent[table] {
			return fmt.Errorf("postgres: %d rows of %s were sent and %d arrived", sent[table], table, n)
		}
	}
	return nil
}

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Backup writes the store as it is at one moment to a new file, while others go on using it.
func (s *Store) Backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // it holds the token keys
	if err != nil {
		return fmt.Errorf("sqlite: backup: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("sqlite: backup: %w", err)
	}
	// VACUUM INTO reads one snapshot, and writes to an empty file.
	if _, err := s.writer.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return errors.Join(fmt.Errorf("sqlite: backup: %w", err), os.Remove(path))
	}
	return syncFile(path)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// Check reads the whole file and looks for damage.
func (s *Store) Check(ctx context.Context) error {
	rows, err := s.reader.QueryContext(ctx, `PRAGMA integrity_check(10)`)
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return wrap(err)
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("sqlite: the file is damaged: %s", strings.Join(found, "; "))
	}
	return wrap(rows.Err())
}

// Row is one row of a dump. Values are int64, string, []byte (not nil, where there are no bytes) or nil for NULL.
type Row struct {
	Table   string
	Columns []string
	Values  []any
}

// Dump gives every row of every table to visit, as they all are at one moment. The slices of a row are
// valid during the call.
func (s *Store) Dump(ctx context.Context, visit func(Row) error) error {
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return wrap(err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	tables, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := dumpTable(ctx, tx, table, visit); err != nil {
			return err
		}
	}
	return nil
}

// tables lists the tables of the schema, but for those of SQLite and of the migrations.
func tables(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT name FROM sqlite_master WHERE type = 'table'
		AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name <> 'goose_db_version' ORDER BY name`)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, wrap(err)
		}
		list = append(list, name)
	}
	return list, wrap(rows.Err())
}

// links are columns in which only this schema keeps what the others can say without: the chain of a
// device's events.
var links = []string{"devices.last_event", "events.before"}

func columnsOf(ctx context.Context, tx *sql.Tx, table string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT name FROM pragma_table_info($1) ORDER BY cid`, table)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var columns []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, wrap(err)
		}
		if !slices.Contains(links, table+"."+name) {
			columns = append(columns, name)
		}
	}
	return columns, wrap(rows.Err())
}

func dumpTable(ctx context.Context, tx *sql.Tx, table string, visit func(Row) error) error {
	columns, err := columnsOf(ctx, tx, table)
	if err != nil {
		return err
	}
	// The names are the schema's own.
	rows, err := tx.QueryContext(ctx, `SELECT "`+strings.Join(columns, `", "`)+`" FROM "`+table+`"`)
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return wrap(err)
		}
		for i, v := range values {
			// The driver gives nil bytes for a BLOB of none, such as a recorded message that was too long to be kept.
			if b, ok := v.([]byte); ok && b == nil {
				values[i] = []byte{}
			}
		}
		if err := visit(Row{table, columns, values}); err != nil {
			return err
		}
	}
	return wrap(rows.Err())
}

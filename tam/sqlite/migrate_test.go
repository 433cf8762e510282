package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-teep/teep/tam/storetest"
)

// TestMigratesFromEverySchema: whatever schema a file has, all that is in it is there after opening it.
func TestMigratesFromEverySchema(t *testing.T) {
	for _, version := range schemas(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tam.db")
			had := liveUntil(t, path, version)
			s, err := Open(t.Context(), path, Options{RelaxedDurability: true})
			must(t, err)
			defer s.Close()
			storetest.CheckOldRows(t, s, had)
		})
	}
}

// TestMigrationsOnlyExpand: a process of the release before works on while a newer one starts.
func TestMigrationsOnlyExpand(t *testing.T) { storetest.CheckExpanding(t, migrations) }

func schemas(t *testing.T) (list []int64) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(t.TempDir(), "none.db"), Options{}, false))
	must(t, err)
	defer db.Close()
	p, err := migrator(db)
	must(t, err)
	for _, s := range p.ListSources() {
		list = append(list, s.Version)
	}
	return list
}

// liveUntil makes a file that has seen every schema up to a version, with rows of each, and tells which tables
// have some.
func liveUntil(t *testing.T, path string, version int64) map[string]bool {
	t.Helper()
	ctx, had := t.Context(), map[string]bool{}
	db, err := sql.Open("sqlite", dsn(path, Options{RelaxedDurability: true}, false))
	must(t, err)
	defer db.Close()
	p, err := migrator(db)
	must(t, err)
	for _, schema := range schemas(t) {
		if schema > version {
			break
		}
		_, err := p.UpTo(ctx, schema)
		must(t, err)
		storetest.FillOld(t, db, func(table string) map[string]string { return columnTypes(t, db, table) }, had)
	}
	if list := schemas(t); version == list[len(list)-1] {
		everyTableHasRows(t, db)
	}
	return had
}

func columnTypes(t *testing.T, db *sql.DB, table string) map[string]string {
	t.Helper()
	types := map[string]string{}
	for _, name := range texts(t, db, `SELECT name FROM pragma_table_info($1)`, table) {
		types[name] = "" // columns of SQLite take every type
	}
	return types
}

func texts(t *testing.T, db *sql.DB, query string, args ...any) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		list = append(list, s)
	}
	must(t, rows.Err())
	return list
}

// everyTableHasRows: no table was forgotten.
func everyTableHasRows(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, table := range texts(t, db, `SELECT name FROM sqlite_master WHERE type = 'table'`) {
		var n int
		must(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM "`+table+`"`).Scan(&n))
		if n == 0 && !slices.Contains([]string{"sqlite_sequence"}, table) {
			t.Errorf("OldRows of package storetest has no row of %s", table)
		}
	}
}

package postgres

import (
	"database/sql"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/tam/storetest"
)

// stepwiseMakesTheSame: where servers do not undo changes of a schema, a migration that was interrupted after any of
// its statements goes on, and ends in the schema that the others make at once, with all that was in it.
func stepwiseMakesTheSame(t *testing.T, server *pgtest.Server) {
	atOnce, err := Open(t.Context(), server.Database(t), Options{MaxConnections: 2})
	must(t, err)
	defer atOnce.Close()
	want := schemaOf(t, atOnce)

	s, err := connect(t.Context(), server.Database(t), Options{MaxConnections: 4}, nil)
	must(t, err)
	defer s.Close()
	db := s.connectToMigrate()
	defer db.Close()
	p, err := s.migrator(db, true)
	must(t, err)
	had := map[string]bool{}
	for _, source := range p.ListSources() {
		for _, steps := range interrupted(t, source.Version) {
			must(t, takeSteps(t.Context(), db, steps))
		}
		_, err := p.UpTo(t.Context(), source.Version)
		must(t, err)
		storetest.FillOld(t, db, func(table string) map[string]string { return columnTypes(t, db, table) }, had)
	}
	must(t, s.migrateOver(t.Context(), db, true))
	if got := schemaOf(t, s); !slices.Equal(got, want) {
		t.Errorf("statement by statement the schema is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	storetest.CheckOldRows(t, s, had)
}

// interrupted are the beginnings of a migration, each a statement longer than the one before.
func interrupted(t *testing.T, version int64) (list [][]string) {
	t.Helper()
	if version == schemaInstalled {
		return nil
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	must(t, err)
	for _, name := range names {
		if !strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(name, "migrations/"), "0"), strconv.FormatInt(version, 10)+"_") {
			continue
		}
		text, err := fs.ReadFile(migrations, name)
		must(t, err)
		steps := upStatements(string(text))
		for n := range steps {
			list = append(list, steps[:n+1])
		}
	}
	if len(list) == 0 {
		t.Fatalf("migration %d has no statements", version)
	}
	return list
}

// schemaOf describes all tables and indexes.
func schemaOf(t *testing.T, s *Store) (list []string) {
	t.Helper()
	db := s.connectToMigrate()
	defer db.Close()
	for _, query := range []string{
		`SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1`,
		`SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1`,
		`SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 1`,
	} {
		rows, err := db.QueryContext(t.Context(), query)
		must(t, err)
		list = append(list, collected(t, rows)...)
	}
	return list
}

func collected(t *testing.T, rows *sql.Rows) (list []string) {
	t.Helper()
	defer rows.Close()
	for rows.Next() {
		var line string
		must(t, rows.Scan(&line))
		list = append(list, line)
	}
	must(t, rows.Err())
	return list
}

func TestStepwiseServers(t *testing.T) {
	for version, want := range map[string]bool{
		"PostgreSQL 17.6 (Debian 17.6-0+deb13u1) on x86_64-pc-linux-gnu, compiled by gcc":    false,
		"CockroachDB CCL v25.2.1 (x86_64-pc-linux-gnu, built 2025/05/28 14:13:19, go1.23.7)": true,
		"PostgreSQL 15.2-YB-2025.1.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang":         true,
		"": false,
	} {
		if got := changesSchemasStepwise(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// TestDoneSteps: only what says that the work is there already may be passed over.
func TestDoneSteps(t *testing.T) {
	for _, c := range []struct {
		step, code string
		want       bool
	}{
		{"CREATE TABLE a (b TEXT)", "42P07", true},
		{"CREATE INDEX a ON b (c)", "42P07", true},
		{"ALTER TABLE a ADD COLUMN b TEXT", "42701", true},
		{"INSERT INTO a VALUES (1)", "23505", true},
		{"CREATE UNIQUE INDEX a ON b (c)", "23505", false},
		{"ALTER TABLE a ADD COLUMN b TEXT", "42P01", false},
		{"CREATE TABLE a (b TEXT)", "42501", false},
		{"CREATE INDEX a ON b (c)", "0A000", false},
		{"INSERT INTO a VALUES (1)", "40001", false},
	} {
		if got := done(c.step, &pgconn.PgError{Code: c.code}); got != c.want {
			t.Errorf("%s, %s: %v", c.step, c.code, got)
		}
	}
	if done("CREATE TABLE a (b TEXT)", errors.New("the connection broke")) {
		t.Error("a broken connection did the work")
	}
}

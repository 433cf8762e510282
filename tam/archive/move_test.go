package archive_test

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam/archive"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
	"github.com/go-teep/teep/tam/storetest"
)

// moveTakesEverything: a row of every table arrives with each of its values.
func moveTakesEverything(t *testing.T, url string) {
	path := sqlitetest.Database(t, t.TempDir())
	db, err := sql.Open("sqlite", path)
	must(t, err)
	defer db.Close()
	had := map[string]bool{}
	storetest.FillOld(t, db, func(table string) map[string]string {
		rows, err := db.QueryContext(t.Context(), `SELECT name FROM pragma_table_info($1)`, table)
		must(t, err)
		defer rows.Close()
		columns := map[string]string{}
		for rows.Next() {
			var name string
			must(t, rows.Scan(&name))
			columns[name] = ""
		}
		must(t, rows.Err())
		return columns
	}, had)
	// A message that was too long to be kept, as Updates with payloads are: its size alone.
	_, err = db.ExecContext(t.Context(), `INSERT INTO recordings (device_id, id, direction, asked, size, data) VALUES ('affirming', 7, 'sent', 0, 70000, x'')`)
	must(t, err)
	from, err := sqlite.Open(t.Context(), path, sqlite.Options{RelaxedDurability: true})
	must(t, err)
	defer from.Close()
	to, err := postgres.Open(t.Context(), url, postgres.Options{MaxConnections: 2})
	must(t, err)
	defer to.Close()
	_, err = archive.Move(t.Context(), from, to)
	must(t, err)

	arrived, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer arrived.Close(t.Context())
	tables := map[string]bool{}
	must(t, from.Dump(t.Context(), func(r sqlite.Row) error {
		tables[r.Table] = true
		var wanted, query []string
		for n, column := range r.Columns {
			wanted = append(wanted, column+"="+textOf(r.Values[n]))
			query = append(query, column)
		}
		for _, row := range rowsOf(t, arrived, `SELECT `+strings.Join(query, ", ")+` FROM `+r.Table) {
			if row == strings.Join(wanted, " ") {
				return nil
			}
		}
		t.Errorf("this row of %s did not arrive: %s", r.Table, strings.Join(wanted, " "))
		return nil
	}))
	for table := range had {
		if !tables[table] {
			t.Errorf("%s is empty", table)
		}
	}
	if len(tables) < 20 {
		t.Errorf("only %q were moved", slices.Sorted(maps.Keys(tables)))
	}
}

// rowsOf writes the rows of a query as text.
func rowsOf(t *testing.T, c *pgx.Conn, query string) (list []string) {
	t.Helper()
	rows, err := c.Query(t.Context(), query)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		must(t, err)
		var row []string
		for n, v := range values {
			row = append(row, rows.FieldDescriptions()[n].Name+"="+textOf(v))
		}
		list = append(list, strings.Join(row, " "))
	}
	must(t, rows.Err())
	return list
}

// textOf writes a value as both databases have it: one of them knows text from bytes.
func textOf(v any) string {
	switch v := v.(type) {
	case []byte:
		return fmt.Sprintf("%x", v)
	case string:
		return fmt.Sprintf("%x", v)
	}
	return fmt.Sprint(v)
}

package postgres

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/pressly/goose/v3/database"

	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/tam/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMigrations runs what is about them on one server.
func TestMigrations(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("from every schema", func(t *testing.T) { migratesFromEverySchema(t, server) })
	t.Run("replicas start together", func(t *testing.T) { replicasStartTogether(t, server.Database(t)) })
	t.Run("statement by statement", func(t *testing.T) { stepwiseMakesTheSame(t, server) })
	t.Run("older replicas work on meanwhile", func(t *testing.T) { olderReplicasWorkOn(t, server.Database(t)) })
	t.Run("an older release starts again", func(t *testing.T) { olderReleaseStartsAgain(t, server.Database(t)) })
}

// migratesFromEverySchema: whatever schema a database has, all that is in it is there after opening it,
// and what the releases since the first say to it is still understood.
func migratesFromEverySchema(t *testing.T, server *pgtest.Server) {
	var versions []int64
	for n := 0; n == 0 || n < len(versions); n++ {
		url := server.Database(t)
		old, err := connect(t.Context(), url, Options{MaxConnections: 4}, nil)
		must(t, err)
		defer old.Close()
		db := old.connectToMigrate()
		defer db.Close()
		if n == 0 {
			p, err := old.migrator(db, false)
			must(t, err)
			for _, s := range p.ListSources() {
				versions = append(versions, s.Version)
			}
		}
		t.Run(fmt.Sprint(versions[n]), func(t *testing.T) {
			had := old.liveUntil(t, db, versions[:n+1])
			s, err := Open(t.Context(), url, Options{MaxConnections: 4})
			must(t, err)
			defer s.Close()
			storetest.CheckOldRows(t, s, had)
			if n == len(versions)-1 {
				everyTableHasRows(t, db)
				understandsOldStatements(t, db, versions)
			}
		})
	}
}

// replicasStartTogether: each schema is noted once, however many replicas migrate a database at a time, and what
// was noted twice by releases of before is mended.
func replicasStartTogether(t *testing.T, url string) {
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			s, err := Open(t.Context(), url, Options{MaxConnections: 2})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	all.Wait()
	s, err := connect(t.Context(), url, Options{MaxConnections: 2}, nil)
	must(t, err)
	defer s.Close()
	db := s.connectToMigrate()
	defer db.Close()
	twice := func() (n int) {
		t.Helper()
		must(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM (SELECT version_id FROM goose_db_version GROUP BY version_id HAVING count(*) > 1) x`).Scan(&n))
		return n
	}
	if n := twice(); n != 0 {
		t.Fatalf("%d schemas are noted twice", n)
	}
	// What two replicas do at the end of the migration that is no transaction.
	versions, err := newVersionTable()
	must(t, err)
	if err := versions.Insert(t.Context(), db, database.InsertRequest{Version: schemaInstalled}); err == nil {
		t.Fatal("a schema can be noted twice")
	}
	_, err = db.ExecContext(t.Context(), `DROP INDEX goose_db_version_once`)
	must(t, err)
	for range 2 {
		must(t, versions.Insert(t.Context(), db, database.InsertRequest{Version: schemaInstalled}))
	}
	if twice() != 1 {
		t.Fatal("the test is none")
	}
	must(t, s.migrate(t.Context()))
	if n := twice(); n != 0 {
		t.Errorf("%d schemas are still noted twice", n)
	}
	if err := versions.Insert(t.Context(), db, database.InsertRequest{Version: schemaInstalled}); err == nil {
		t.Error("a schema can be noted twice again")
	}
}

// TestMigrationsOnlyExpand: replicas of the release before work on while newer ones start.
func TestMigrationsOnlyExpand(t *testing.T) { storetest.CheckExpanding(t, migrations) }

// liveUntil brings a database through every one of the schemas, with rows of each, and tells which tables have some.
func (s *Store) liveUntil(t *testing.T, db *sql.DB, schemas []int64) map[string]bool {
	t.Helper()
	ctx, had := t.Context(), map[string]bool{}
	p, err := s.migrator(db, false)
	must(t, err)
	for _, schema := range schemas {
		_, err := p.UpTo(ctx, schema)
		must(t, err)
		storetest.FillOld(t, db, func(table string) map[string]string { return columnTypes(t, db, table) }, had)
	}
	return had
}

func columnTypes(t *testing.T, db *sql.DB, table string) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1`, table)
	must(t, err)
	defer rows.Close()
	types := map[string]string{}
	for rows.Next() {
		var name, kind string
		must(t, rows.Scan(&name, &kind))
		types[name] = kind
	}
	must(t, rows.Err())
	return types
}

// everyTableHasRows: no table was forgotten.
func everyTableHasRows(t *testing.T, db *sql.DB) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var table string
		must(t, rows.Scan(&table))
		var any bool
		must(t, db.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT 1 FROM `+table+`)`).Scan(&any))
		if !any {
			t.Errorf("OldRows of package storetest has no row of %s", table)
		}
	}
	must(t, rows.Err())
}

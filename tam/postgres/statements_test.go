package postgres

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What replicas of one release say to the database is written down under the schema that this release made:
// 'go test ./tam/postgres -run TestStore -update-statements', before it is tagged.
// Each of these statements has to mean something in every later schema: while a service is brought to a new
// release replica by replica, the old ones work on, on the new schema.

var updateStatements = flag.Bool("update-statements", false, "write down what today's code says to the database")

const statementsFolder = "testdata/statements"

// Statements notes what is said to a database. Tests open stores with it by [OpenNoting].
type Statements struct {
	mu   sync.Mutex
	said map[string]bool
}

// OpenNoting is Open, and notes what the store says afterwards.
func OpenNoting(ctx context.Context, url string, o Options, s *Statements) (*Store, error) {
	return s.open(ctx, url, o, nil)
}

// OpenFailing is OpenNoting, and what the store says fails now and then, as f has it.
func OpenFailing(ctx context.Context, url string, o Options, s *Statements, f *Failures) (*Store, error) {
	return s.open(ctx, url, o, f)
}

func (s *Statements) open(ctx context.Context, url string, o Options, f *Failures) (*Store, error) {
	store, err := connect(ctx, url, o, s)
	if err != nil {
		return nil, err
	}
	if err := store.migrate(ctx); err != nil {
		return nil, err
	}
	if f != nil {
		store.pool.through = &failing{store.pool.through, f}
	}
	return store, nil
}

func (s *Statements) note(text string) {
	text = strings.Join(strings.Fields(text), " ")
	word, _, _ := strings.Cut(text, " ")
	if !slices.Contains([]string{"select", "insert", "update", "delete", "with"}, strings.ToLower(word)) {
		return // begin, commit, set search_path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == nil {
		s.said = map[string]bool{}
	}
	s.said[text] = true
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *Statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.note(d.SQL)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *Statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (s *Statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		s.note(q.SQL)
	}
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (s *Statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (s *Statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// WriteDown writes what was said under today's schema, if that is asked for: each release does so.
func (s *Statements) WriteDown(t *testing.T) {
	t.Helper()
	if !*updateStatements {
		return
	}
	name := filepath.Join(statementsFolder, fmt.Sprintf("%05d.txt", newestSchema(t)))
	must(t, os.WriteFile(name, []byte(strings.Join(slices.Sorted(maps.Keys(s.said)), "\n")+"\n"), 0o644)) //nolint:gosec // it is part of the source
}

// Unfailed are the statements that never failed.
func (s *Statements) Unfailed(f *Failures) (list []string) {
	for _, text := range slices.Sorted(maps.Keys(s.said)) {
		if f.met[text] < 2 {
			list = append(list, text)
		}
	}
	return list
}

func newestSchema(t *testing.T) (newest int64) {
	t.Helper()
	entries, err := migrations.ReadDir("migrations")
	must(t, err)
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		must(t, err)
		newest = max(newest, n)
	}
	return max(newest, schemaInstalled)
}

// understandsOldStatements has the server read every statement of every release on today's schema.
func understandsOldStatements(t *testing.T, db *sql.DB, versions []int64) {
	t.Helper()
	files, err := filepath.Glob(statementsFolder + "/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("nothing is written down")
	}
	for _, file := range files {
		if n, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(file), ".txt"), 10, 64); err != nil || !slices.Contains(versions, n) {
			t.Errorf("%s is of no schema", file)
		}
		text, err := os.ReadFile(file)
		must(t, err)
		for _, statement := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			stmt, err := db.PrepareContext(t.Context(), statement)
			if err != nil {
				t.Errorf("%s: what replicas of that release say is no longer understood: %s: %v", file, statement, err)
				continue
			}
			must(t, stmt.Close())
		}
	}
}

package sqlite_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
	"github.com/go-teep/teep/tam/storetest"
)

func TestOperations(t *testing.T) {
	storetest.RunOperations(t, func(t *testing.T) storetest.Backend {
		path := sqlitetest.Database(t, t.TempDir())
		return storetest.Backend{Open: func(t *testing.T) tam.Store { return open(t, path) }}
	})
}

func TestAuditIsAppendOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	s := open(t, path)
	if err := s.AddPublisher(t.Context(), tam.Publisher{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range []string{`UPDATE audit SET data = '{}'`, `DELETE FROM audit`} {
		if _, err := db.ExecContext(t.Context(), text); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestAuditOfAnEditedDatabase: whoever can write to the file takes the triggers away first. What they do to the log then
// shows in the export, in verifying it, or against an entry that was noted before.
func TestAuditOfAnEditedDatabase(t *testing.T) {
	forge := func(n int, end bool) func(*testing.T, *editedLog) {
		return func(t *testing.T, e *editedLog) {
			if head := e.forge(t, n); end {
				e.end(t, head)
			}
		}
	}
	run := func(texts ...string) func(*testing.T, *editedLog) {
		return func(t *testing.T, e *editedLog) { e.sql(t, texts...) }
	}
	for name, edit := range map[string]struct {
		do          func(*testing.T, *editedLog)
		cut, broken bool // exporting says so, verifying says so
		noted, head bool // what was noted before, what the store has as its end: is missing
		begins      int64
	}{
		"nothing":                         {do: run(), begins: 1},
		"an entry":                        {do: run(`UPDATE audit SET data = replace(data, 'acme2', 'evil2') WHERE seq = 2`), broken: true},
		"the last entry":                  {do: run(`UPDATE audit SET data = replace(data, 'acme5', 'evil5') WHERE seq = 5`), broken: true},
		"an entry is gone":                {do: run(`DELETE FROM audit WHERE seq = 3`), broken: true},
		"two are swapped":                 {do: run(`UPDATE audit SET seq = seq + 100 WHERE seq IN (2, 3)`, `UPDATE audit SET seq = 105 - (seq - 100) - 100 WHERE seq > 100`), broken: true},
		"the first are gone":              {do: run(`DELETE FROM audit WHERE seq < 3`), begins: 3},
		"the last is gone":                {do: run(`DELETE FROM audit WHERE seq = 5`), cut: true},
		"the end is an older one":         {do: run(`DELETE FROM audit WHERE seq = 5`, `UPDATE audit_head SET seq = 4`), noted: true, head: true, begins: 1},
		"the last is forged":              {do: forge(5, false), noted: true, head: true, begins: 1},
		"the last and the end are forged": {do: forge(5, true), noted: true, begins: 1},
		"all is computed anew":            {do: forge(2, true), noted: true, begins: 1},
		"the last is gone, and the end moved": {do: func(t *testing.T, e *editedLog) {
			e.sql(t, `DELETE FROM audit WHERE seq = 5`)
			e.end(t, e.entries[3].Head())
		}, noted: true, begins: 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEditedLog(t)
			noted := e.entries[4].Head()
			edit.do(t, e)
			var export strings.Builder
			if err := audit.Export(t.Context(), e.store, 0, &export); (err != nil) != edit.cut {
				t.Fatalf("export: %v", err)
			} else if err != nil {
				return
			}
			head, err := e.store.AuditHead(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			report, err := audit.Verify(strings.NewReader(export.String()), noted, head)
			if errors.Is(err, audit.ErrBroken) != edit.broken {
				t.Fatalf("verify: %v", err)
			} else if err != nil {
				return
			}
			if slices.Contains(report.Missing, noted) != edit.noted || slices.Contains(report.Missing, head) != edit.head {
				t.Errorf("missing are %v", report.Missing)
			}
			if report.First != edit.begins {
				t.Errorf("begins with entry %d", report.First)
			}
		})
	}
}

// editedLog is an audit log of five entries, in a database that somebody edits.
type editedLog struct {
	store   *sqlite.Store
	db      *sql.DB
	entries []audit.Entry
}

func newEditedLog(t *testing.T) *editedLog {
	t.Helper()
	path := sqlitetest.Database(t, t.TempDir())
	e := &editedLog{store: open(t, path)}
	for n := range 5 {
		if err := e.store.AddPublisher(t.Context(), tam.Publisher{Name: fmt.Sprint("acme", n+1)}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if e.entries, err = e.store.AuditEntries(t.Context(), 0, 10); err != nil || len(e.entries) != 5 {
		t.Fatalf("%d entries, %v", len(e.entries), err)
	}
	if e.db, err = sql.Open("sqlite", "file:"+path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.db.Close() })
	e.sql(t, `DROP TRIGGER audit_no_update`, `DROP TRIGGER audit_no_delete`)
	return e
}

func (e *editedLog) sql(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := e.db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// forge changes the entry n and computes the chain anew from there on. It returns the new end.
func (e *editedLog) forge(t *testing.T, n int) audit.Head {
	t.Helper()
	e.entries[n-1].Actor = "somebody else"
	head := e.entries[n-2].Head()
	for i := n - 1; i < len(e.entries); i++ {
		if err := e.entries[i].Seal(head); err != nil {
			t.Fatal(err)
		}
		head = e.entries[i].Head()
		data, err := json.Marshal(e.entries[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.db.ExecContext(t.Context(), `UPDATE audit SET data = $1 WHERE seq = $2`, string(data), i+1); err != nil {
			t.Fatal(err)
		}
	}
	return head
}

// end has the database note another end of the chain.
func (e *editedLog) end(t *testing.T, head audit.Head) {
	t.Helper()
	if _, err := e.db.ExecContext(t.Context(), `UPDATE audit_head SET seq = $1, hash = $2`, head.Seq, head.Hash[:]); err != nil {
		t.Fatal(err)
	}
}

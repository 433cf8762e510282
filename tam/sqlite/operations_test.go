package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam"
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

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/tam/storetest"
)

func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	return openNoting(t, url, &postgres.Statements{})
}

func openNoting(t *testing.T, url string, said *postgres.Statements) *postgres.Store {
	t.Helper()
	return openBy(t, func() (*postgres.Store, error) {
		return postgres.OpenNoting(t.Context(), url, postgres.Options{MaxConnections: 8}, said)
	})
}

func openBy(t *testing.T, open func() (*postgres.Store, error)) *postgres.Store {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestStore runs the suites at PostgreSQL's own isolation level, and at the level at which it refuses
// what it cannot serialize, as CockroachDB does. There, each statement is refused at least once.
func TestStore(t *testing.T) {
	server := pgtest.Start(t)
	var said postgres.Statements
	var failures postgres.Failures
	// Migrating an empty database takes longer than most of the tests, and so does copying one that is migrated.
	migrated := server.Database(t)
	s, err := postgres.Open(t.Context(), migrated, postgres.Options{})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"read committed", "serializable"} {
		fresh := func(t *testing.T) storetest.Backend {
			t.Cleanup(func() { emptied(t, migrated) }) // after the stores were closed
			url := migrated + "&default_transaction_isolation=" + strings.ReplaceAll(level, " ", "%20")
			return storetest.Backend{Open: func(t *testing.T) tam.Store {
				if level == "serializable" {
					return openBy(t, func() (*postgres.Store, error) {
						return postgres.OpenFailing(t.Context(), url, postgres.Options{MaxConnections: 8}, &said, &failures)
					})
				}
				return openNoting(t, url, &said)
			}}
		}
		t.Run(level, func(t *testing.T) {
			storetest.Run(t, fresh)
			storetest.RunOperations(t, fresh)
		})
	}
	if unfailed := said.Unfailed(&failures); len(unfailed) > 0 {
		t.Errorf("nobody knows what is done when these fail: %q", unfailed)
	}
	if !t.Failed() {
		said.WriteDown(t)
	}
	t.Run("replicas start together", func(t *testing.T) { startTogether(t, server.Database(t)) })
	t.Run("texts that are none", func(t *testing.T) { oddTexts(t, server.Database(t)) })
	t.Run("schemas are apart", func(t *testing.T) { schemasAreApart(t, server.Database(t)) })
	// Last, because it stops the server.
	t.Run("server crashes", func(t *testing.T) { survivesCrash(t, server) })
}

// emptied makes a database what it was when it was new.
func emptied(t *testing.T, url string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, url)
	must(t, err)
	defer c.Close(ctx)
	rows, err := c.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()`)
	must(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	var all strings.Builder
	for _, table := range tables {
		switch table {
		case "goose_db_version":
		case "catalogue":
			all.WriteString("UPDATE catalogue SET revision = 1;")
		case "audit_head":
			all.WriteString("UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex');")
		case "feed_head":
			all.WriteString("UPDATE feed_head SET position = 0;")
		default:
			all.WriteString("DELETE FROM " + table + ";")
		}
	}
	_, err = c.Exec(ctx, all.String())
	must(t, err)
}

func startTogether(t *testing.T, url string) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(context.Background(), url, postgres.Options{MaxConnections: 2})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// oddTexts: what a TEXT column cannot hold is not found, and is no failure of the database.
func oddTexts(t *testing.T, url string) {
	s, ctx := open(t, url), t.Context()
	for _, name := range []string{"\x00", "\xff", "a\x00b"} {
		if _, err := s.Device(ctx, name); !errors.Is(err, tam.ErrNotFound) {
			t.Errorf("device %q: %v", name, err)
		}
		if _, err := s.Publisher(ctx, name); !errors.Is(err, tam.ErrNotFound) {
			t.Errorf("publisher %q: %v", name, err)
		}
	}
	detail := "said: \x00 \xff \xc3("
	if err := s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: "a", At: time.Now(), Kind: tam.EventFailed, Detail: detail}}); err != nil {
		t.Fatal(err)
	}
	list, err := s.Events(ctx, "a", 0, 1)
	if err != nil || len(list) != 1 || list[0].Detail != detail {
		t.Errorf("%+v, %v", list, err)
	}
}

// survivesCrash: while the server is gone calls fail and nothing is lost; once it is back, the same
// store works again.
func survivesCrash(t *testing.T, server *pgtest.Server) {
	s, ctx := open(t, server.Database(t)), t.Context()
	used := func(n byte) tam.Exchange {
		return tam.Exchange{Consume: &tam.Consumption{ID: [16]byte{n}, Expires: time.Now().Add(time.Hour)}}
	}
	if err := s.CommitExchange(ctx, used(1)); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	down, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.CommitExchange(down, used(2)); err == nil || errors.Is(err, tam.ErrConsumed) {
		t.Fatalf("without a server: %v", err)
	}
	server.Run(t)
	if err := s.CommitExchange(ctx, used(1)); !errors.Is(err, tam.ErrConsumed) {
		t.Errorf("what was acknowledged before the crash: %v", err)
	}
	if err := s.CommitExchange(ctx, used(2)); err != nil {
		t.Errorf("after the crash: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	const secret = "hunter2-very-secret"
	for name, test := range map[string]struct {
		url      string
		insecure bool
		want     error
	}{
		"no TLS":                  {url: "postgres://tam:" + secret + "@192.0.2.1/tam?sslmode=disable", want: postgres.ErrInsecure},
		"TLS if it happens":       {url: "postgres://tam:" + secret + "@192.0.2.1/tam", want: postgres.ErrInsecure},
		"TLS with anyone":         {url: "postgres://tam:" + secret + "@192.0.2.1/tam?sslmode=require", want: postgres.ErrInsecure},
		"the second host, no TLS": {url: "postgres://tam:" + secret + "@localhost,192.0.2.1/tam?sslmode=disable", want: postgres.ErrInsecure},
		"bad port":                {url: "postgres://tam:" + secret + "@localhost:x/tam"},
		"unescaped password":      {url: "postgres://tam:%zz" + secret + "@localhost/tam"},
		"nobody there":            {url: "postgres://tam:" + secret + "@127.0.0.1:1/tam"},
		"no socket":               {url: "postgres:///tam?host=/nonexistent&user=tam&password=" + secret},
		"allowed, but no server":  {url: "postgres://tam:" + secret + "@127.0.0.1:1/tam?sslmode=disable", insecure: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			s, err := postgres.Open(ctx, test.url, postgres.Options{InsecurePlaintext: test.insecure})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

// schemasAreApart: stores of two schemas over the same few connections, used at the same time.
func schemasAreApart(t *testing.T, url string) {
	main, err := postgres.Open(t.Context(), url, postgres.Options{MaxConnections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer main.Close()
	stores := map[string]*postgres.Store{"": main}
	for _, name := range []string{"tenant_a", "tenant_b"} {
		if stores[name], err = main.Tenant(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for name, s := range stores {
		for n := range 4 {
			wg.Go(func() {
				for i := range 25 {
					key := fmt.Sprintf("%s/%d/%d", name, n, i)
					if err := s.AddPublisher(context.Background(), tam.Publisher{Name: key, Keys: [][]byte{[]byte(key)}}); err != nil {
						t.Error(err)
					}
					list, err := s.ListPublishers(context.Background(), "", 1000)
					if err != nil {
						t.Error(err)
					}
					for _, p := range list {
						if got, _, _ := strings.Cut(p.Name, "/"); got != name {
							t.Errorf("%q sees %q", name, p.Name)
							return
						}
					}
				}
			})
		}
	}
	wg.Wait()
	for name, s := range stores {
		if list, err := s.ListPublishers(t.Context(), "", 1000); err != nil || len(list) != 100 {
			t.Errorf("%q has %d, %v", name, len(list), err)
		}
	}
	// A tenant's store by itself is the same.
	alone, err := postgres.Open(t.Context(), url, postgres.Options{Schema: "tenant_a", MaxConnections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if list, err := alone.ListPublishers(t.Context(), "", 1000); err != nil || len(list) != 100 {
		t.Errorf("%d, %v", len(list), err)
	}
	for _, name := range []string{"", "A", "a;b", `a"`, "1a", strings.Repeat("a", 64)} {
		if _, err := main.Tenant(t.Context(), name); err == nil {
			t.Errorf("a schema is called %q", name)
		}
	}
}

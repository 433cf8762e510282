package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func used(n byte) tam.Exchange {
	return tam.Exchange{Consume: &tam.Consumption{ID: [16]byte{n}, Expires: time.Now().Add(time.Hour)}}
}

// TestFullDisk: a database that cannot grow fails what is written as an outage, keeps nothing of it and
// answers readers; with room again the same store goes on.
func TestFullDisk(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "tam.db"), Options{RelaxedDurability: true})
	must(t, err)
	defer s.Close()
	ctx := t.Context()
	must(t, s.CommitExchange(ctx, used(1)))
	var pages, limit int64
	must(t, s.writer.QueryRow(`PRAGMA page_count`).Scan(&pages))
	must(t, s.writer.QueryRow(fmt.Sprintf(`PRAGMA max_page_count(%d)`, pages)).Scan(&limit))
	large := func(name string) error {
		return s.AddPublisher(ctx, tam.Publisher{Name: name + strings.Repeat("x", 100_000), Keys: [][]byte{[]byte(name)}})
	}
	for range 2 {
		if err := large("a"); !tam.IsUnavailable(err) {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	// Exchanges that arrive together share a transaction: each learns of it.
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			detail := strings.Repeat("x", 100_000)
			id := fmt.Sprint("device", n)
			err := s.CommitExchange(context.Background(), tam.Exchange{
				Device: &tam.Device{ID: id, KeyThumbprint: []byte(id), AgentKey: []byte{1}, Status: tam.DeviceAccepted},
				Event:  &tam.Event{DeviceID: id, At: time.Now(), Kind: tam.EventAttested, Detail: detail},
			})
			if !tam.IsUnavailable(err) {
				t.Errorf("exchange on a full disk: %v", err)
			}
		})
	}
	wg.Wait()
	for _, empty := range []func() (int, error){
		func() (int, error) { l, err := s.ListPublishers(ctx, "", 10); return len(l), err },
		func() (int, error) { l, err := s.ListDevices(ctx, "", 10); return len(l), err },
	} {
		if n, err := empty(); err != nil || n != 0 {
			t.Errorf("%d rows stayed, %v", n, err)
		}
	}
	must(t, s.writer.QueryRow(`PRAGMA max_page_count(1000000)`).Scan(&limit))
	must(t, large("a"))
	if err := s.CommitExchange(ctx, used(1)); !errors.Is(err, tam.ErrConsumed) {
		t.Errorf("what was acknowledged before: %v", err)
	}
	must(t, s.CommitExchange(ctx, used(2)))
}

// TestWriterThatDoesNotEnd: another process that holds the database is waited for, then it is an outage.
func TestWriterThatDoesNotEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tam.db")
	s, err := Open(t.Context(), path, Options{RelaxedDurability: true, BusyTimeout: time.Millisecond})
	must(t, err)
	defer s.Close()
	other, err := Open(t.Context(), path, Options{RelaxedDurability: true})
	must(t, err)
	defer other.Close()
	must(t, other.write(t.Context(), func(*sql.Tx) error {
		if err := s.CommitExchange(t.Context(), used(1)); !tam.IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
		return nil
	}))
	must(t, s.CommitExchange(t.Context(), used(1)))
}

// TestNotAnOutage: waiting does not mend these.
func TestNotAnOutage(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "tam.db"), Options{RelaxedDurability: true})
	must(t, err)
	defer s.Close()
	_, syntax := s.writer.Exec(`SELEKT`)
	_, constraint := s.writer.Exec(`INSERT INTO devices (id) VALUES (NULL)`)
	for name, err := range map[string]error{
		"syntax": syntax, "constraint": constraint, "no row": sql.ErrNoRows, "cancelled": context.Canceled,
	} {
		if err == nil || tam.IsUnavailable(wrap(err)) {
			t.Errorf("%s: %v is an outage", name, err)
		}
	}
	if wrap(nil) != nil || !tam.IsUnavailable(wrap(context.DeadlineExceeded)) {
		t.Error("nil or the deadline")
	}
}

// Package sqlite keeps a TAM's store in one SQLite file: the default for a TAM that is one
// process, and enough for several on one machine.
//
//	store, err := sqlite.Open(ctx, "tam.db", sqlite.Options{})
//	defer store.Close()
//
// The file is in WAL mode. What a call acknowledged survives a crash of the process and, unless
// [Options.RelaxedDurability] is set, a loss of power. Writes are serialized by SQLite; readers do
// not wait for them. The schema is created and migrated on opening.
//
// The statements are written so that the same text serves PostgreSQL: numbered parameters,
// RETURNING, ON CONFLICT, and no types that only SQLite knows.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	driver "modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/go-teep/teep/tam"
)

// Options of a store. The zero value is the safe choice.
type Options struct {
	// RelaxedDurability lets a loss of power (not a crash of the process) undo the newest
	// transactions. A token that was used up in them could then be used again.
	RelaxedDurability bool
	// BusyTimeout bounds the wait for another process's transaction; 0 means 10 seconds.
	BusyTimeout time.Duration
	// Clock dates the entries of the audit log; nil means time.Now.
	Clock func() time.Time
}

// Store implements [tam.Store].
type Store struct {
	// SQLite has one writer at a time. One connection makes the waiting fair and keeps the
	// prepared statements in one place; readers have connections of their own.
	writer, reader *sql.DB
	stmts          statements
	hot            hotConn // of the writer's connection
	commits        commits
	clock          func() time.Time
}

var _ tam.Store = (*Store)(nil)

// Open opens the store in a file, creating it (readable by its owner only) when it does not exist.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	// The driver would create the file with the process's umask; it holds the token keys.
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: opening the database: %w (does the folder exist, and may this user write to it?)", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	// What SQLite does by itself where it is built for the system: a commit forces the data and the length of
	// the file out, and not its times too. Where there is no such call, it is as it was.
	_, _ = driver.Fdatasync(true)
	s := &Store{clock: o.Clock}
	if s.clock == nil {
		s.clock = time.Now
	}
	if err := migrate(ctx, dsn(abs, o, false)); err != nil {
		return nil, err
	}
	if s.writer, err = sql.Open("sqlite", dsn(abs, o, false)); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = sql.Open("sqlite", dsn(abs, o, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", err), s.Close())
	}
	n := max(4, runtime.GOMAXPROCS(0))
	s.reader.SetMaxOpenConns(n)
	s.reader.SetMaxIdleConns(n)
	if err := s.stmts.prepare(ctx, s.writer, s.reader); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: preparing statements: %w", err), s.Close())
	}
	return s, nil
}

const (
	// writerCacheKiB is what the writer keeps of the file in memory, and readerCacheKiB each of the readers:
	// what messages need of a device is in [tam.TAM]'s cache.
	writerCacheKiB, readerCacheKiB = 16 << 10, 4 << 10
	// checkpointPages is how far the write-ahead log grows, in pages of 4 KiB, before its content is
	// written to the file. Pages that change often are then written there once for many changes.
	checkpointPages = 8000
)

func dsn(path string, o Options, readOnly bool) string {
	busy := o.BusyTimeout
	if busy == 0 {
		busy = 10 * time.Second
	}
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()))
	q.Add("_pragma", "journal_mode(wal)")
	q.Add("_pragma", "foreign_keys(1)")
	cache := writerCacheKiB
	if readOnly {
		cache = readerCacheKiB
	}
	q.Add("_pragma", fmt.Sprintf("cache_size(-%d)", cache))
	q.Add("_pragma", fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages))
	if o.RelaxedDurability {
		q.Add("_pragma", "synchronous(normal)")
	} else {
		q.Add("_pragma", "synchronous(full)")
	}
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		// A transaction that reads first and writes later would otherwise fail when
		// another process wrote in between, without waiting.
		q.Set("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// Close closes the database. Calls that are under way fail.
func (s *Store) Close() error {
	var errs []error
	if s.writer != nil {
		// After a write that is under way, unless that hangs.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if c, err := s.writer.Conn(ctx); err == nil {
			_ = c.Raw(func(now any) error { s.hot.closeOn(now); return nil }) // SQLite keeps a connection open that has statements
			errs = append(errs, c.Close())
		}
	}
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// write runs f in a transaction. f's error, or a panic, undoes all of it.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return wrap(err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, and before it the error is f's
	if err := f(tx); err != nil {
		return err
	}
	return wrap(tx.Commit())
}

// bump tells every replica that the catalogue changed.
func (s *Store) bump(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.StmtContext(ctx, s.stmts.bumpCatalogue).ExecContext(ctx)
	return wrap(err)
}

// wrap turns the driver's errors into the contract's.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return tam.ErrNotFound
	}
	err = fmt.Errorf("sqlite: %w", err)
	if outage(err) {
		return tam.Unavailable(err)
	}
	return err
}

// outage tells what may pass without anybody touching this program or its data.
func outage(err error) bool {
	var e *driver.Error
	if !errors.As(err, &e) {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch e.Code() & 0xff { // the rest says which kind of it
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return false
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

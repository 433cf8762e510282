// Package postgres keeps a TAM's store in PostgreSQL, for any number of replicas.
//
//	store, err := postgres.Open(ctx, "postgres://tam@db.example/tam?sslmode=verify-full", postgres.Options{})
//	defer store.Close()
//
// What a call acknowledged survives a crash of the server and a loss of power, as long as the server's
// synchronous_commit is left on. The schema is created and migrated on opening; several replicas may
// do so at once.
//
// # Isolation
//
// Calls behave as if executed one after the other at every isolation level from READ COMMITTED up: each
// transaction first locks, or inserts under a unique key, the row that decides about it (a token's
// consumption, a device's revision, the catalogue's revision), in an order that all share. What the
// server still cannot serialize (SQLSTATE 40001, 40P01) is retried with jitter.
//
// # Other servers
//
// Only what CockroachDB and YugabyteDB know too is used: no LISTEN, no advisory locks, no triggers, no
// extensions.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-teep/teep/tam"
)

// Options of a store. The zero value is the safe choice.
type Options struct {
	// InsecurePlaintext allows a connection over a network that is not encrypted, or whose server
	// is not authenticated: whoever sits between can read token keys and change what devices get.
	InsecurePlaintext bool
	// Schema is where the tables are, made if it does not exist; empty means what the URL and the
	// server say.
	Schema string
	// MaxConnections bounds the connections of this process; 0 means what the URL says
	// (pool_max_conns), or 4 and at least one per core.
	MaxConnections int
	// Clock dates the entries of the audit log; nil means time.Now.
	Clock func() time.Time
}

// Store implements [tam.Store].
type Store struct {
	pool    *schemaPool
	clock   func() time.Time
	commits commits
	// borrowed says that the connections are another store's.
	borrowed bool
}

var _ tam.Store = (*Store)(nil)

// ErrInsecure says that a connection would not be protected.
var ErrInsecure = errors.New("postgres: the connection would not be protected")

// Open connects to the database that url names and migrates it. url is a PostgreSQL URL
// (postgres://…); a password may also come from PGPASSWORD or a passfile. No error has it in its text.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	s, err := connect(ctx, url, o, nil)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		s.pool.pool.Close()
		return nil, err
	}
	return s, nil
}

// connect makes a store over whatever schema is there. tracer, if not nil, sees every statement.
func connect(ctx context.Context, url string, o Options, tracer pgx.QueryTracer) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The driver's own error may quote the URL.
		return nil, errors.New("postgres: the URL cannot be used: write postgres://user@host/database?sslmode=verify-full, with the password percent-encoded or in PGPASSWORD")
	}
	if !o.InsecurePlaintext {
		if err := protected(&config.ConnConfig.Config); err != nil {
			return nil, err
		}
	}
	if o.MaxConnections > 0 {
		config.MaxConns = int32(min(o.MaxConnections, 10_000))
	}
	if o.Schema != "" && !schemaName.MatchString(o.Schema) {
		return nil, fmt.Errorf("postgres: %q cannot be the name of a schema: use lower-case letters, digits and underscores", o.Schema)
	}
	config.PrepareConn = prepareConn
	config.ConnConfig.Tracer = tracer
	s := &Store{clock: o.Clock}
	if s.clock == nil {
		s.clock = time.Now
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s.pool = &schemaPool{pool, o.Schema, pool}
	return s, nil
}

// protected refuses a configuration under which any attempt to connect would cross a network in the
// clear or to a server that anyone could be.
func protected(c *pgconn.Config) error {
	attempts := []*pgconn.FallbackConfig{{Host: c.Host, TLSConfig: c.TLSConfig}}
	for _, a := range append(attempts, c.Fallbacks...) {
		if strings.HasPrefix(a.Host, "/") || a.Host == "localhost" {
			continue
		}
		if ip, err := netip.ParseAddr(a.Host); err == nil && ip.IsLoopback() {
			continue
		}
		if t := a.TLSConfig; t == nil || t.InsecureSkipVerify && t.VerifyPeerCertificate == nil {
			return fmt.Errorf("%w to %s: add sslmode=verify-full (and sslrootcert=FILE for a CA of your own) to the URL", ErrInsecure, a.Host)
		}
	}
	return nil
}

// Close closes all connections, after the calls that are under way.
func (s *Store) Close() error {
	if !s.borrowed {
		s.pool.pool.Close()
	}
	return nil
}

// attempts bounds how often a transaction is tried. With the pauses between them that is a few seconds.
const attempts = 14

// write runs f in a transaction, again when the server could not serialize it. f must not have effects
// outside of it; its error undoes all of it.
func (s *Store) write(ctx context.Context, f func(tx pgx.Tx) error) error {
	return retry(ctx, func() error {
		tx, err := s.pool.Begin(ctx)
		if err != nil {
			return wrap(err)
		}
		if err := f(tx); err != nil {
			// The connection's own clean-up must not be cut off by the caller's deadline.
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = tx.Rollback(undo) // a connection that cannot roll back is closed, which does the same
			return err
		}
		return wrap(tx.Commit(ctx))
	})
}

// retry calls f until it succeeds, fails for good, or was tried often enough.
func retry(ctx context.Context, f func() error) error {
	for attempt := 0; ; attempt++ {
		err := f()
		if err == nil || !serialization(err) {
			return err
		}
		if attempt == attempts-1 {
			return fmt.Errorf("postgres: tried %d times: %w", attempts, err)
		}
		if err := pause(ctx, 2*time.Millisecond, attempt); err != nil {
			return err
		}
	}
}

// pause waits for between half and all of base·2ⁿ, at most half a second.
func pause(ctx context.Context, base time.Duration, n int) error {
	d := min(base<<n, 500*time.Millisecond)
	d = d/2 + rand.N(d/2+1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// serialization tells whether running the same transaction again may succeed, and the one that failed
// certainly had no effect.
func serialization(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	case "23505": // unique_violation: two events of one device took the same number
		return pg.ConstraintName == "events_pkey"
	}
	return false
}

// wrap turns the driver's errors into the contract's.
func wrap(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return tam.ErrNotFound
	case errors.As(err, &pg) && pg.Code == "22021":
		// A text that no TEXT column can hold (NUL, or not UTF-8) is the name of no record.
		return fmt.Errorf("%w: the name is not text", tam.ErrNotFound)
	}
	err = fmt.Errorf("postgres: %w", err)
	if outage(err) {
		return tam.Unavailable(err)
	}
	return err
}

// outage tells what may pass without anybody touching this program or its data.
func outage(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		// The server did not say it: it was not reached, or the connection broke.
		var scan pgx.ScanArgError
		return !errors.As(err, &scan) && !errors.Is(err, context.Canceled)
	}
	if len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "08", // connection exception
		"40", // transaction rollback, also after all attempts
		"53", // insufficient resources: disk full, too many connections
		"57", // operator intervention: the server stops, or starts
		"58": // system error: input and output
		return true
	}
	switch pg.Code {
	case "25006", // read-only transaction: a standby that is about to take over
		"55P03": // lock not available
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

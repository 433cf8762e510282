package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// schemaPool is a pool whose connections see one schema and no other. Stores of several schemas share the
// connections beneath: whoever gets one has its search path set before anything else, if the one before
// was of another schema. A connection that nobody said the schema of is not given out.
//
// A search path belongs to a connection. A proxy between that gives its connections to others after each
// transaction (PgBouncer with pool_mode=transaction) would mix schemas up, and must not be used.
type schemaPool struct {
	pool   *pgxpool.Pool
	schema string // "": that of the URL
	// through is what statements go through: the pool, or a test that stands before it.
	through statements
}

// statements is what a pool does for a store.
type statements interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

type schemaKey struct{}

const (
	// customSchema is where a connection notes which schema it sees.
	customSchema = "teep schema"
	// noSchema is the search path that the URL and the server give.
	noSchema = "DEFAULT"
)

var (
	errNoSchema = errors.New("postgres: a connection was asked for without a schema")
	schemaName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
)

func (p *schemaPool) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, schemaKey{}, p.searchPath())
}

func (p *schemaPool) searchPath() string {
	if p.schema == "" {
		return noSchema
	}
	return pgx.Identifier{p.schema}.Sanitize()
}

// prepareConn is the pool's hook: it runs before a connection is given out.
func prepareConn(ctx context.Context, c *pgx.Conn) (bool, error) {
	want, ok := ctx.Value(schemaKey{}).(string)
	if !ok {
		return true, errNoSchema
	}
	custom := c.PgConn().CustomData()
	now, ok := custom[customSchema].(string)
	if !ok {
		now = noSchema
	}
	if now == want {
		return true, nil
	}
	if _, err := c.Exec(ctx, `SET search_path TO `+want); err != nil {
		return false, err // what it sees is not known: it is closed
	}
	custom[customSchema] = want
	return true, nil
}

// Begin begins a transaction.
func (p *schemaPool) Begin(ctx context.Context) (pgx.Tx, error) {
	return p.through.Begin(p.context(ctx))
}

// Tenant opens a further store in the same database: in a schema of its own, which it makes and migrates,
// over the same connections. Neither sees the other's tables. It ends with s; closing it does nothing.
func (s *Store) Tenant(ctx context.Context, schema string) (*Store, error) {
	if !schemaName.MatchString(schema) {
		return nil, fmt.Errorf("postgres: %q cannot be the name of a schema: use lower-case letters, digits and underscores", schema)
	}
	t := &Store{pool: &schemaPool{s.pool.pool, schema, s.pool.through}, clock: s.clock, borrowed: true}
	return t, t.migrate(ctx)
}

// HasSchema tells whether the database has a schema of the name.
func (s *Store) HasSchema(ctx context.Context, schema string) (found bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM information_schema.schemata WHERE schema_name = $1)`, schema).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("postgres: looking for the schema %s: %w", schema, err)
	}
	return found, nil
}

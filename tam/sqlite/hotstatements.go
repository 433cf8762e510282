package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/tam"
)

// hot names a statement that messages of devices run. They go to the driver itself: what database/sql does
// around each of them would cost as much as they do.
type hot int

const (
	beginWrite hot = iota
	commitWrite
	rollbackWrite
	deviceRevision
	insertDevice
	updateDevice
	touchDevice
	lastEvent
	insertEvent
	chainEvent
	consume
	release
	insertIdentity
	clearInstalled
	putInstalled
	addCount
	hotStatements
)

func (h hot) text() string {
	switch h {
	case beginWrite:
		// A transaction that reads first and writes later would otherwise fail when another process
		// wrote in between, without waiting.
		return `BEGIN IMMEDIATE`
	case commitWrite:
		return `COMMIT`
	case rollbackWrite:
		return `ROLLBACK`
	case deviceRevision:
		return `SELECT revision FROM devices WHERE id = $1`
	case insertDevice:
		return `INSERT INTO devices (` + deviceColumns + `, attestation, last_event)
			VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`
	case updateDevice:
		return `UPDATE devices SET status = $2,
			revision = revision + 1, last_seen = $4, state = $5, attestation = $6, last_event = max($7, last_event)
			WHERE id = $1 AND revision = $3`
	case touchDevice:
		// What is in an index is not set: SQLite would change the index too.
		return `UPDATE devices SET revision = revision + 1, last_seen = $3, state = $4,
			last_event = max($5, last_event)
			WHERE id = $1 AND revision = $2 AND status = $6 AND attestation = $7`
	case lastEvent:
		return `SELECT coalesce(max(id), 0) FROM events`
	case insertEvent:
		return `INSERT INTO events (id, device_id, before, at, kind, detail)
			SELECT $1, $2, last_event, $3, $4, $5 FROM devices WHERE id = $2 AND ($6 = 0 OR revision = $6)`
	case chainEvent:
		return `UPDATE devices SET last_event = $2 WHERE id = $1`
	case consume:
		return `INSERT INTO consumptions (id, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	case release:
		return `DELETE FROM consumptions WHERE id = $1`
	case insertIdentity:
		return `INSERT INTO identities (ueid, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	case clearInstalled:
		return `DELETE FROM installed WHERE device_id = $1`
	case putInstalled:
		return insertInstalled
	case addCount:
		return `INSERT INTO rollout_counts (rollout, stage, progress, shard, devices) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (rollout, stage, progress, shard) DO UPDATE SET devices = rollout_counts.devices + excluded.devices`
	}
	return ""
}

// hotConn is the writer's connection, with its statements. It is used by one goroutine at a time.
type hotConn struct {
	driver     any // the driver's connection that they belong to
	statements [hotStatements]driver.Stmt
	arguments  []driver.NamedValue
}

// on makes sure that the statements are those of a connection of the driver.
func (c *hotConn) on(ctx context.Context, conn any) error {
	if c.driver == conn {
		return nil
	}
	// The writer has one connection at a time: the one before was closed, and closing its statements now
	// would reach into what the driver has freed.
	c.statements, c.driver = [hotStatements]driver.Stmt{}, nil
	preparer, ok := conn.(driver.ConnPrepareContext)
	if !ok {
		return fmt.Errorf("sqlite: a connection of type %T", conn)
	}
	for h := range c.statements {
		s, err := preparer.PrepareContext(ctx, hot(h).text())
		if err != nil {
			c.close()
			return wrap(err)
		}
		c.statements[h] = s
	}
	c.driver = conn
	return nil
}

// closeOn closes the statements if they are those of a connection, which is open.
func (c *hotConn) closeOn(conn any) {
	if c.driver == conn {
		c.close()
	}
}

func (c *hotConn) close() {
	for h, s := range c.statements {
		if s != nil {
			_ = s.Close() // there is nobody to tell, and nothing to do about it
			c.statements[h] = nil
		}
	}
	c.driver = nil
}

// bind makes a list of arguments that is good until the next one.
func (c *hotConn) bind(values []driver.Value) []driver.NamedValue {
	c.arguments = c.arguments[:0]
	for i, v := range values {
		c.arguments = append(c.arguments, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.arguments
}

// exec runs a statement; values are int64, string or []byte.
func (c *hotConn) exec(ctx context.Context, h hot, values ...driver.Value) (driver.Result, error) {
	s, ok := c.statements[h].(driver.StmtExecContext)
	if !ok {
		return nil, fmt.Errorf("sqlite: a statement of type %T", c.statements[h])
	}
	return s.ExecContext(ctx, c.bind(values))
}

// number runs a statement that has one row of one number, or ErrNotFound.
func (c *hotConn) number(ctx context.Context, h hot, values ...driver.Value) (n int64, err error) {
	s, ok := c.statements[h].(driver.StmtQueryContext)
	if !ok {
		return 0, fmt.Errorf("sqlite: a statement of type %T", c.statements[h])
	}
	rows, err := s.QueryContext(ctx, c.bind(values))
	if err != nil {
		return 0, wrap(err)
	}
	var row [1]driver.Value
	err = rows.Next(row[:])
	if err := errors.Join(err, rows.Close()); errors.Is(err, io.EOF) {
		return 0, tam.ErrNotFound
	} else if err != nil {
		return 0, wrap(err)
	}
	n, ok = row[0].(int64)
	if !ok {
		return 0, fmt.Errorf("sqlite: %T where a number was expected", row[0])
	}
	return n, nil
}

// hotWrite is a transaction in which hot statements run.
type hotWrite struct {
	store *Store
	conn  *sql.Conn
}

// writeHot runs f in a transaction. f's error, or a panic, undoes all of it.
func (s *Store) writeHot(ctx context.Context, f func(*hotWrite) error) (err error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return wrap(err)
	}
	w := &hotWrite{s, conn}
	begun, done := false, false
	defer func() {
		if begun && !done {
			undo := func(c *hotConn) error {
				_, err := c.exec(context.WithoutCancel(ctx), rollbackWrite)
				return err
			}
			if w.run(ctx, undo) != nil {
				// What it is in the middle of is not known: it must not be used again.
				_ = conn.Raw(func(now any) error {
					w.store.hot.closeOn(now)
					return driver.ErrBadConn
				})
			}
		}
		conn.Close() //nolint:errcheck // it goes back to the pool
	}()
	one := func(h hot) error {
		return w.run(ctx, func(c *hotConn) error {
			_, err := c.exec(ctx, h)
			return wrap(err)
		})
	}
	if err := one(beginWrite); err != nil {
		return err
	}
	begun = true
	if err := f(w); err != nil {
		return err
	}
	if err := one(commitWrite); err != nil {
		return err
	}
	done = true
	return nil
}

// run gives f the connection. f must not use w.conn.
func (w *hotWrite) run(ctx context.Context, f func(*hotConn) error) error {
	return w.conn.Raw(func(conn any) error {
		if err := w.store.hot.on(ctx, conn); err != nil {
			return err
		}
		return f(&w.store.hot)
	})
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// commits puts exchanges that arrive together into one transaction: a commit, which waits for the
// disk, costs more than all that is in it. Each exchange succeeds or fails for itself.
type commits struct {
	mu    sync.Mutex
	queue []*pendingExchange
	// leading says that somebody is at work on the queue.
	leading bool
}

// maxBatch bounds how long an exchange may have to wait for others.
const maxBatch = 256

type pendingExchange struct {
	ctx      context.Context // says who caused it, and does not end
	exchange tam.Exchange
	state    string // of the device, encoded
	replaced string // that of the device that it takes the place of
	err      error
	done     chan struct{}
}

// CommitExchange implements [tam.Exchanges].
func (s *Store) CommitExchange(ctx context.Context, x tam.Exchange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pendingExchange{ctx: context.WithoutCancel(ctx), exchange: x, done: make(chan struct{})}
	if x.Device != nil {
		state, err := json.Marshal(x.Device)
		if err != nil {
			return fmt.Errorf("sqlite: state of device %s: %w", x.Device.ID, err)
		}
		p.state = string(state)
	}
	if x.Replaced != nil {
		state, err := json.Marshal(x.Replaced)
		if err != nil {
			return fmt.Errorf("sqlite: state of device %s: %w", x.Replaced.ID, err)
		}
		p.replaced = string(state)
	}
	c := &s.commits
	c.mu.Lock()
	c.queue = append(c.queue, p)
	lead := !c.leading
	c.leading = true
	c.mu.Unlock()
	if lead {
		// Whoever is about to bring another one gets the chance.
		runtime.Gosched()
		s.commitQueue()
	}
	// What is in the queue is going to be committed, so that the outcome has to be waited for.
	<-p.done
	if p.err == nil && x.Device != nil {
		x.Device.Revision++
	}
	if p.err == nil && x.Replaced != nil {
		x.Replaced.Revision++
	}
	return p.err
}

// commitQueue commits what is in the queue, and leaves what came meanwhile to a successor.
func (s *Store) commitQueue() {
	c := &s.commits
	c.mu.Lock()
	n := min(len(c.queue), maxBatch)
	batch := c.queue[:n:n]
	c.queue = c.queue[n:]
	c.mu.Unlock()

	s.commitBatch(batch)
	for _, p := range batch {
		close(p.done)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading = len(c.queue) > 0; c.leading {
		go s.commitQueue()
	}
}

func (s *Store) commitBatch(batch []*pendingExchange) {
	err := s.write(batch[0].ctx, func(tx *sql.Tx) error {
		var event int64
		if err := tx.StmtContext(batch[0].ctx, s.stmts.lastEvent).QueryRowContext(batch[0].ctx).Scan(&event); err != nil {
			return wrap(err)
		}
		for _, p := range batch {
			event++ // not every exchange uses its number
			if p.err = s.putExchange(tx, p, event); p.err != nil && !ofContract(p.err) {
				return p.err
			}
		}
		return nil
	})
	if err == nil {
		return
	}
	if len(batch) == 1 {
		batch[0].err = err
		return
	}
	// One of them, or the disk, is at fault. Alone, each finds out for itself.
	for i := range batch {
		s.commitBatch(batch[i : i+1])
	}
}

// ofContract tells the outcomes that leave the transaction usable.
func ofContract(err error) bool { return err == tam.ErrConsumed || err == tam.ErrConflict }

// putExchange does all of an exchange, or nothing when the error is one of the contract's. Its event, if
// it has one, gets the given number.
func (s *Store) putExchange(tx *sql.Tx, p *pendingExchange, event int64) error {
	ctx, x := p.ctx, &p.exchange
	if c := x.Consume; c != nil {
		res, err := tx.StmtContext(ctx, s.stmts.consume).ExecContext(ctx, c.ID[:], millis(c.Expires))
		if err := oneRow(res, err, tam.ErrConsumed); err != nil {
			return err
		}
	}
	if x.Replaced != nil {
		// First, because a conflict must leave nothing behind, and this one can be told in advance.
		if err := s.putReplaced(ctx, tx, p); err != nil {
			return s.release(ctx, tx, x, err)
		}
	}
	if err := s.putDeviceAndEvent(ctx, tx, p, event); err != nil {
		return s.release(ctx, tx, x, err)
	}
	if err := s.putFleet(ctx, tx, x); err != nil {
		return err
	}
	if e := x.Event; e != nil && e.Kind == tam.EventStatus { // the one kind of event that a person causes
		return s.record(ctx, tx, audit.ActionDeviceStatus, e.DeviceID, e.Detail)
	}
	return nil
}

// putDeviceAndEvent changes nothing when it returns ErrConflict. The event of a known device goes before
// the device, whose row still names the event before it; either finds out whether the revision is
// the expected one.
func (s *Store) putDeviceAndEvent(ctx context.Context, tx *sql.Tx, p *pendingExchange, number int64) error {
	d, e := p.exchange.Device, p.exchange.Event
	switch {
	case e == nil && d == nil:
		return nil
	case e == nil:
		return s.putDevice(ctx, tx, d, p.state, 0)
	case d != nil && d.ID == e.DeviceID && d.Revision > 0:
		if err := s.putEvent(ctx, tx, e, number, d.Revision, tam.ErrConflict); err != nil {
			return err
		}
		return s.putDevice(ctx, tx, d, p.state, number)
	case d != nil:
		if err := s.putDevice(ctx, tx, d, p.state, 0); err != nil {
			return err
		}
	}
	unknown := fmt.Errorf("sqlite: event of device %s, which does not exist: %w", e.DeviceID, tam.ErrNotFound)
	if err := s.putEvent(ctx, tx, e, number, 0, unknown); err != nil {
		return err
	}
	_, err := tx.StmtContext(ctx, s.stmts.chainEvent).ExecContext(ctx, e.DeviceID, number)
	return wrap(err)
}

// putEvent appends to the history of a device that has that revision, or any where it is 0.
func (s *Store) putEvent(ctx context.Context, tx *sql.Tx, e *tam.Event, number, revision int64, otherwise error) error {
	res, err := tx.StmtContext(ctx, s.stmts.insertEvent).ExecContext(ctx,
		number, e.DeviceID, millis(e.At), string(e.Kind), e.Detail, revision)
	return oneRow(res, err, otherwise)
}

// release takes a consumption back when its exchange cannot be.
func (s *Store) release(ctx context.Context, tx *sql.Tx, x *tam.Exchange, cause error) error {
	if c := x.Consume; c != nil && cause == tam.ErrConflict {
		if _, err := tx.StmtContext(ctx, s.stmts.release).ExecContext(ctx, c.ID[:]); err != nil {
			return wrap(err)
		}
	}
	return cause
}

// putReplaced writes the record that another takes the place of, once it is certain that both can be
// written.
func (s *Store) putReplaced(ctx context.Context, tx *sql.Tx, p *pendingExchange) error {
	x := &p.exchange
	var revision int64
	err := tx.QueryRowContext(ctx, `SELECT revision FROM devices WHERE id = $1`, x.Device.ID).Scan(&revision)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return wrap(err)
	}
	if revision != x.Device.Revision {
		return tam.ErrConflict
	}
	return s.putDevice(ctx, tx, x.Replaced, p.replaced, 0)
}

// Sweep implements [tam.Exchanges].
func (s *Store) Sweep(ctx context.Context, now, eventsBefore time.Time, limit int) (int, error) {
	gone := 0
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, sweep := range []struct {
			stmt   *sql.Stmt
			before time.Time
		}{{s.stmts.sweepConsumptions, now}, {s.stmts.sweepEvents, eventsBefore}} {
			res, err := tx.StmtContext(ctx, sweep.stmt).ExecContext(ctx, millis(sweep.before), limit)
			if err != nil {
				return wrap(err)
			}
			n, err := res.RowsAffected()
			if err != nil {
				return wrap(err)
			}
			gone += int(n)
		}
		return nil
	})
	return gone, err
}

package sqlite

import (
	"context"
	"database/sql"
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
		state, err := x.Device.State()
		if err != nil {
			return err
		}
		p.state = string(state)
	}
	if x.Replaced != nil {
		state, err := x.Replaced.State()
		if err != nil {
			return err
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
	// Whoever is about to bring another one gets the chance: those too whose exchanges were just committed.
	runtime.Gosched()
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
	err := s.writeHot(batch[0].ctx, func(w *hotWrite) error {
		for rest := batch; len(rest) > 0; {
			n := 0
			err := w.run(batch[0].ctx, func(c *hotConn) error {
				event, err := c.number(batch[0].ctx, lastEvent)
				if err != nil {
					return err
				}
				for _, p := range rest {
					n++
					event++ // not every exchange uses its number
					p.err = c.putExchange(p, event)
					if p.err != nil && !ofContract(p.err) {
						return p.err
					}
					if p.audited() && p.err == nil {
						break
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if p := rest[n-1]; p.audited() && p.err == nil {
				e := p.exchange.Event
				if err := s.record(p.ctx, w.conn, audit.ActionDeviceStatus, e.DeviceID, e.Detail); err != nil {
					return err
				}
			}
			rest = rest[n:]
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

// audited tells whether a person caused the exchange.
func (p *pendingExchange) audited() bool {
	return p.exchange.Event != nil && p.exchange.Event.Kind == tam.EventStatus
}

// ofContract tells the outcomes that leave the transaction usable.
func ofContract(err error) bool { return err == tam.ErrConsumed || err == tam.ErrConflict }

// putExchange does all of an exchange, or nothing when the error is one of the contract's. Its event, if
// it has one, gets the given number.
func (c *hotConn) putExchange(p *pendingExchange, event int64) error {
	ctx, x := p.ctx, &p.exchange
	if used := x.Consume; used != nil {
		res, err := c.exec(ctx, consume, used.ID[:], millis(used.Expires))
		if err := oneRow(res, err, tam.ErrConsumed); err != nil {
			return err
		}
	}
	if x.Replaced != nil {
		// First, because a conflict must leave nothing behind, and this one can be told in advance.
		if err := c.putReplaced(ctx, p); err != nil {
			return c.release(ctx, x, err)
		}
	}
	if err := c.putDeviceAndEvent(ctx, p, event); err != nil {
		return c.release(ctx, x, err)
	}
	return c.putFleet(ctx, x)
}

// putDeviceAndEvent changes nothing when it returns ErrConflict. The event of a known device goes before
// the device, whose row still names the event before it; either finds out whether the revision is
// the expected one.
func (c *hotConn) putDeviceAndEvent(ctx context.Context, p *pendingExchange, number int64) error {
	d, e := p.exchange.Device, p.exchange.Event
	switch {
	case e == nil && d == nil:
		return nil
	case e == nil:
		return c.putDevice(ctx, d, p.state, 0)
	case d != nil && d.ID == e.DeviceID && d.Revision > 0:
		if err := c.putEvent(ctx, e, number, d.Revision, tam.ErrConflict); err != nil {
			return err
		}
		return c.putDevice(ctx, d, p.state, number)
	case d != nil:
		if err := c.putDevice(ctx, d, p.state, 0); err != nil {
			return err
		}
	}
	unknown := fmt.Errorf("sqlite: event of device %s, which does not exist: %w", e.DeviceID, tam.ErrNotFound)
	if err := c.putEvent(ctx, e, number, 0, unknown); err != nil {
		return err
	}
	_, err := c.exec(ctx, chainEvent, e.DeviceID, number)
	return wrap(err)
}

// putEvent appends to the history of a device that has that revision, or any where it is 0.
func (c *hotConn) putEvent(ctx context.Context, e *tam.Event, number, revision int64, otherwise error) error {
	res, err := c.exec(ctx, insertEvent, number, e.DeviceID, millis(e.At), string(e.Kind), e.Detail, revision)
	return oneRow(res, err, otherwise)
}

// release takes a consumption back when its exchange cannot be.
func (c *hotConn) release(ctx context.Context, x *tam.Exchange, cause error) error {
	if used := x.Consume; used != nil && cause == tam.ErrConflict {
		if _, err := c.exec(ctx, release, used.ID[:]); err != nil {
			return wrap(err)
		}
	}
	return cause
}

// putReplaced writes the record that another takes the place of, once it is certain that both can be
// written.
func (c *hotConn) putReplaced(ctx context.Context, p *pendingExchange) error {
	x := &p.exchange
	revision, err := c.number(ctx, deviceRevision, x.Device.ID)
	if err != nil && !errors.Is(err, tam.ErrNotFound) {
		return err
	}
	if revision != x.Device.Revision {
		return tam.ErrConflict
	}
	return c.putDevice(ctx, x.Replaced, p.replaced, 0)
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

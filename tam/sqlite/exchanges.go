package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
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
		for _, p := range batch {
			if p.err = s.putExchange(tx, p); p.err != nil && !ofContract(p.err) {
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

// putExchange does all of an exchange, or nothing when the error is one of the contract's.
func (s *Store) putExchange(tx *sql.Tx, p *pendingExchange) error {
	ctx, x := p.ctx, &p.exchange
	if c := x.Consume; c != nil {
		res, err := tx.StmtContext(ctx, s.stmts.consume).ExecContext(ctx, c.ID[:], millis(c.Expires))
		if err := oneRow(res, err, tam.ErrConsumed); err != nil {
			return err
		}
	}
	if x.Device != nil {
		if err := s.putDevice(ctx, tx, x.Device, p.state); err != nil {
			if c := x.Consume; c != nil && err == tam.ErrConflict {
				if _, err := tx.StmtContext(ctx, s.stmts.release).ExecContext(ctx, c.ID[:]); err != nil {
					return wrap(err)
				}
			}
			return err
		}
	}
	if e := x.Event; e != nil {
		_, err := tx.StmtContext(ctx, s.stmts.insertEvent).ExecContext(ctx,
			e.DeviceID, millis(e.At), string(e.Kind), e.Detail)
		if err != nil {
			return wrap(err)
		}
		if e.Kind == tam.EventStatus { // the one kind of event that a person causes
			return s.record(ctx, tx, audit.ActionDeviceStatus, e.DeviceID, e.Detail)
		}
	}
	return nil
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

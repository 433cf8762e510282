package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

const (
	insertConsumption = `INSERT INTO consumptions (id, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	insertEvent       = `INSERT INTO events (device_id, id, at, kind, detail, feed)
		SELECT $1::text, coalesce(max(id), 0) + 1, $2::bigint, $3::text, $4::bytea, NULL FROM events WHERE device_id = $1::text`
)

// commits puts exchanges that arrive together into one transaction: a commit, and each way to the server and
// back, costs more than all that is in it. Each exchange succeeds or fails for itself.
type commits struct {
	mu    sync.Mutex
	queue []*pendingExchange
	// leaders are at work on the queue.
	leaders int
}

const (
	// maxBatch bounds how long an exchange may have to wait for others.
	maxBatch = 64
	// maxLeaders bounds the transactions at a time: while one waits for the server's disk, another may fill.
	maxLeaders = 2
)

type pendingExchange struct {
	ctx        context.Context
	device     string      // its ID, for the order
	statements []statement // all but the counts
	counts     []tam.RolloutCount
	shard      int64
	err        error
	done       chan struct{}
}

// statement is a query, and the error that it means when it changes no row, if any.
type statement struct {
	query
	otherwise error
}

// CommitExchange implements [tam.Exchanges].
func (s *Store) CommitExchange(ctx context.Context, x tam.Exchange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := prepareExchange(ctx, &x)
	if err != nil {
		return err
	}
	if e := x.Event; x.Device == nil || x.Replaced != nil || e != nil && e.Kind == tam.EventStatus {
		err = s.commitAlone(p, x.Event)
	} else {
		err = s.commitTogether(p)
	}
	for _, d := range []*tam.Device{x.Device, x.Replaced} {
		if err == nil && d != nil {
			d.Revision++
		}
	}
	return err
}

func prepareExchange(ctx context.Context, x *tam.Exchange) (*pendingExchange, error) {
	p := &pendingExchange{ctx: ctx, counts: x.Counts, shard: shard(x), done: make(chan struct{})}
	if c := x.Consume; c != nil {
		p.statements = append(p.statements, statement{query{insertConsumption, []any{c.ID[:], millis(c.Expires)}}, tam.ErrConsumed})
	}
	for _, d := range []*tam.Device{x.Device, x.Replaced} {
		if d == nil {
			continue
		}
		put, err := putDevice(d)
		if err != nil {
			return nil, err
		}
		p.statements = append(p.statements, statement{put, tam.ErrConflict})
	}
	for _, q := range fleetQueries(x) {
		p.statements = append(p.statements, statement{q, nil})
	}
	if e := x.Event; e != nil {
		p.statements = append(p.statements, statement{query{insertEvent, []any{e.DeviceID, millis(e.At), string(e.Kind), []byte(e.Detail)}}, nil})
	}
	if x.Device != nil {
		p.device = x.Device.ID
	}
	return p, nil
}

// commitAlone gives an exchange a transaction of its own. All statements go to the server together: three
// round trips in all, whatever the exchange has.
func (s *Store) commitAlone(p *pendingExchange, e *tam.Event) error {
	return s.write(p.ctx, func(tx pgx.Tx) error {
		if err := sendStatements(p.ctx, tx, append(slices.Clip(p.statements), countQueries([]*pendingExchange{p})...)); err != nil {
			return err
		}
		if e != nil && e.Kind == tam.EventStatus { // the one kind of event that a person causes
			return s.record(p.ctx, tx, audit.ActionDeviceStatus, e.DeviceID, e.Detail)
		}
		return nil
	})
}

// commitTogether waits until the exchange was committed or refused, or its caller gives up: then it may be
// committed all the same, as when a server is cut off just when it commits.
func (s *Store) commitTogether(p *pendingExchange) error {
	c := &s.commits
	c.mu.Lock()
	c.queue = append(c.queue, p)
	lead := c.leaders < maxLeaders
	if lead {
		c.leaders++
	}
	c.mu.Unlock()
	if lead {
		go s.commitQueue() // not here: the others would have to wait if this caller gave up
	}
	select {
	case <-p.done:
		return p.err
	case <-p.ctx.Done():
		return wrap(p.ctx.Err())
	}
}

// commitQueue commits until the queue is empty.
func (s *Store) commitQueue() {
	c := &s.commits
	for {
		c.mu.Lock()
		n := min(len(c.queue), maxBatch)
		if n == 0 {
			c.leaders--
			c.mu.Unlock()
			return
		}
		batch := slices.Clone(c.queue[:n])
		c.queue = slices.Delete(c.queue, 0, n)
		c.mu.Unlock()
		s.commitBatch(batch)
	}
}

func (s *Store) commitBatch(batch []*pendingExchange) {
	defer func() {
		for _, p := range batch {
			close(p.done)
		}
	}()
	ctx, cancel := untilAllGaveUp(batch)
	defer cancel()
	// In one order for all replicas, so that no two of them wait for each other.
	slices.SortStableFunc(batch, func(a, b *pendingExchange) int { return cmp.Compare(a.device, b.device) })
	var all []statement
	for _, p := range batch {
		all = append(all, p.statements...)
	}
	all = append(all, countQueries(batch)...)
	err := s.write(ctx, func(tx pgx.Tx) error { return sendStatements(ctx, tx, all) })
	if err == nil || len(batch) == 1 || tam.IsUnavailable(err) {
		for _, p := range batch {
			p.err = err
		}
		return
	}
	// One of them is at fault. Alone, each finds out for itself.
	var group sync.WaitGroup
	for _, p := range batch {
		group.Go(func() { p.err = s.commitAlone(p, nil) })
	}
	group.Wait()
}

// untilAllGaveUp is a context that ends when those of all exchanges did.
func untilAllGaveUp(batch []*pendingExchange) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(batch[0].ctx))
	var left atomic.Int64
	left.Store(int64(len(batch)))
	stops := make([]func() bool, 0, len(batch))
	for _, p := range batch {
		stops = append(stops, context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// sendStatements executes statements in one round trip.
func sendStatements(ctx context.Context, tx pgx.Tx, statements []statement) error {
	batch, otherwise := &pgx.Batch{}, make([]error, 0, len(statements))
	for _, q := range statements {
		batch.Queue(q.text, q.args...)
		otherwise = append(otherwise, q.otherwise)
	}
	return send(ctx, tx, batch, otherwise)
}

// send executes a batch. A statement that changes no row is the error in otherwise, if that is one.
func send(ctx context.Context, tx pgx.Tx, batch *pgx.Batch, otherwise []error) (err error) {
	results := tx.SendBatch(ctx, batch)
	defer func() { err = errors.Join(err, wrap(results.Close())) }()
	for _, none := range otherwise {
		tag, err := results.Exec()
		if err := oneRow(tag, err, none); err != nil {
			return err
		}
	}
	return nil
}

package agent

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/go-teep/teep/link"
)

// exchange is where the goroutine of an Update and the calls from outside meet. At any time
// either the goroutine works, or one ask is open and the goroutine waits for its answer, or the
// last ask is there and the goroutine is gone.
//
// Asks in here have no session: who hands them out fills it in, since it can change.
//
// An ask that a call should have returned and did not, because the call was given up, stays open;
// so does one whose answer never comes. reissue hands it out again.
type exchange struct {
	mu sync.Mutex
	// turn is closed and replaced at every change.
	turn   chan struct{}
	ask    *link.Ask
	handed time.Time // when ask was given to a call; zero if it was not
	// lost says that the call that has ask came over a connection that is gone.
	lost   bool
	answer *link.Chunk
	last   bool // ask is the last one
	over   bool // the last ask was given to a call, or there is none
}

func newExchange() *exchange { return &exchange{turn: make(chan struct{})} }

func (x *exchange) changed() {
	close(x.turn)
	x.turn = make(chan struct{})
}

// fetch is called by the goroutine: it asks and waits for the chunk.
func (x *exchange) fetch(ctx context.Context, ask link.Ask) (link.Chunk, error) {
	x.mu.Lock()
	x.ask, x.handed, x.answer = &ask, time.Time{}, nil
	x.changed()
	for x.answer == nil {
		turn := x.turn
		x.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			x.mu.Lock()
			x.ask = nil
			x.changed()
			x.mu.Unlock()
			return link.Chunk{}, context.Cause(ctx)
		}
		x.mu.Lock()
	}
	chunk := *x.answer
	x.answer = nil
	x.mu.Unlock()
	return chunk, nil
}

// finish is called by the goroutine when it ends; nil if there is nothing more to ask.
func (x *exchange) finish(last *link.Ask) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ask, x.handed, x.last, x.over = last, time.Time{}, true, last == nil
	x.changed()
}

// next waits until the goroutine asks or ends, and returns the ask. The zero Ask says that it
// ended without one.
func (x *exchange) next(ctx context.Context, now func() time.Time) (link.Ask, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.ask == nil && !x.over {
		turn := x.turn
		x.mu.Unlock()
		select {
		case <-turn:
			x.mu.Lock()
		case <-ctx.Done():
			x.mu.Lock()
			return link.Ask{}, ctx.Err()
		}
	}
	if x.ask == nil {
		return link.Ask{}, nil
	}
	return x.hand(now()), nil
}

func (x *exchange) hand(now time.Time) link.Ask {
	ask := *x.ask
	x.handed, x.lost = now, false
	if x.last {
		x.ask, x.over = nil, true
	}
	return ask
}

// reissue returns the open ask if no call has it, or the call that has it kept silent for longer
// than stall.
func (x *exchange) reissue(now time.Time, stall time.Duration) (link.Ask, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ask == nil || !x.lost && !x.handed.IsZero() && now.Sub(x.handed) < stall {
		return link.Ask{}, false
	}
	return x.hand(now), true
}

// stalled tells for how long the open ask has been with the world outside; 0 if there is none.
func (x *exchange) stalled(now time.Time) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ask == nil || x.handed.IsZero():
		return 0
	case x.lost:
		return math.MaxInt64
	}
	return now.Sub(x.handed)
}

// disconnect says that nobody will answer what was asked.
func (x *exchange) disconnect() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lost = true
}

// deliver answers the open ask, if the chunk is what was asked for. The broker is not trusted:
// it may bring the wrong piece, or more than was wanted. Then the ask stays open.
func (x *exchange) deliver(c link.Chunk) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ask == nil || x.ask.Fetch == nil || x.answer != nil {
		return fmt.Errorf("%w: no fetch is open", ErrFetch)
	}
	f := x.ask.Fetch
	switch {
	case c.FetchID != f.ID:
		return fmt.Errorf("%w: fetch %d is open, not %d", ErrFetch, f.ID, c.FetchID)
	case c.Err == "" && c.Offset != f.Offset:
		return fmt.Errorf("%w: bytes from offset %d were wanted, not from %d", ErrFetch, f.Offset, c.Offset)
	case int64(len(c.Data)) > f.Length:
		return fmt.Errorf("%w: at most %d bytes were wanted, %d came", ErrFetch, f.Length, len(c.Data))
	case c.Err == "" && len(c.Data) == 0 && !c.Last:
		return fmt.Errorf("%w: an empty chunk that is neither the last one nor an error", ErrFetch)
	}
	x.answer, x.ask = &c, nil
	x.changed()
	return nil
}

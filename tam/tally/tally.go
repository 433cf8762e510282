// Package tally keeps numbers that take a store long to count in a large fleet, such as how many devices have each
// status. A number that is counted within a second is counted anew for whoever asks. One that takes longer is
// counted for all who ask together, on nobody's time, and is at most twenty times as old as counting it takes:
//
//	devices := tally.New(store.CountDevices, time.Now, ending)
//	counts, at, err := devices.Read(ctx)
package tally

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-teep/teep/tam"
)

const (
	// slow is from what duration on counting is not done for each who asks.
	slow = time.Second
	// rest is for how many times as long as it took a slow count is good.
	rest = 20
	// patience is how long who asks waits for a newer number, if there is an older one.
	patience = time.Second
	// limit ends a count that goes on for too long, so that the next one can begin.
	limit = 15 * time.Minute
	// grace is how long a count may go on when the service ends: requests that are under way are answered.
	grace = 2 * time.Second
)

// Tally is one number, or several that are counted together. It is safe for concurrent use.
type Tally[T any] struct {
	count  func(context.Context) (T, error)
	clock  func() time.Time
	ending <-chan struct{}

	mu      sync.Mutex
	value   T
	at      time.Time     // when counting value began; zero: there is none
	took    time.Duration // what that took
	err     error         // of the newest count
	running chan struct{} // closed when the count that is under way ends; nil: there is none
}

// New makes a tally of what count counts. Nothing is counted before somebody asks, and nothing any longer once ending
// is closed; nil: never. What Read returns is shared by all who ask: it is not to be changed.
func New[T any](count func(context.Context) (T, error), clock func() time.Time, ending <-chan struct{}) *Tally[T] {
	return &Tally[T]{count: count, clock: clock, ending: ending}
}

// Read returns the number, and as of when it is. A count that fails is an error, whatever was known before;
// when ctx ends first, that is an outage that may pass ([tam.Unavailable]).
func (t *Tally[T]) Read(ctx context.Context) (value T, at time.Time, err error) {
	asked := t.clock()
	for {
		t.mu.Lock()
		if t.fresh(asked) {
			defer t.mu.Unlock()
			return t.value, t.at, nil
		}
		var enough <-chan time.Time // never, without an older number
		if !t.at.IsZero() && t.err == nil && t.took >= slow {
			enough = time.After(patience)
		}
		running, mine := t.running, t.running == nil
		if mine {
			running = make(chan struct{})
			t.running = running
			go t.recount(context.WithoutCancel(ctx))
		}
		t.mu.Unlock()
		select {
		case <-running:
		case <-enough:
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.value, t.at, nil
		case <-ctx.Done():
			return value, at, tam.Unavailable(fmt.Errorf("tally: it is still being counted: %w", ctx.Err()))
		}
		if err := t.failed(); mine && err != nil {
			return value, at, err
		}
	}
}

// fresh tells whether what is known will do for who asked at a time.
func (t *Tally[T]) fresh(asked time.Time) bool {
	if t.at.IsZero() || t.err != nil {
		return false
	}
	age := asked.Sub(t.at)
	return age <= 0 || t.took >= slow && age <= rest*t.took
}

func (t *Tally[T]) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// recount goes on when who asked is gone: the next one is waiting, or will ask.
func (t *Tally[T]) recount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go func() {
		select {
		case <-t.ending:
			defer time.AfterFunc(grace, cancel).Stop()
			<-ctx.Done()
		case <-ctx.Done():
		}
	}()
	begin := t.clock()
	value, err := t.count(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err = err; err == nil {
		t.value, t.at, t.took = value, begin, t.clock().Sub(begin)
	}
	close(t.running)
	t.running = nil
}

package tally_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/tally"
)

// counter takes a time for each count, and counts how often it was asked to.
type counter struct {
	takes time.Duration
	n     atomic.Int64
	err   error
}

func (c *counter) count(ctx context.Context) (int64, error) {
	n := c.n.Add(1)
	select {
	case <-time.After(c.takes):
		return n, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func read(t *testing.T, counts *tally.Tally[int64], want int64) {
	t.Helper()
	if got, at, err := counts.Read(t.Context()); got != want || err != nil || at.After(time.Now()) {
		t.Errorf("counted %d at %v (%v), want count %d", got, at, err, want)
	}
}

// TestQuick: what is counted quickly is counted after it was asked for, each time.
func TestQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 100 * time.Millisecond}
		counts := tally.New(c.count, time.Now, nil)
		for want := range int64(3) {
			read(t, counts, want+1)
		}
		// A count that somebody else began a moment ago may lack what was done since.
		var other sync.WaitGroup
		other.Go(func() { read(t, counts, 4) })
		time.Sleep(50 * time.Millisecond)
		read(t, counts, 5)
		other.Wait()
	})
}

// TestSlow: what takes long is counted once for many, and again when it is old, for which nobody waits long.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 10 * time.Second}
		counts := tally.New(c.count, time.Now, nil)
		var many sync.WaitGroup
		for range 20 {
			many.Go(func() { read(t, counts, 1) })
		}
		many.Wait()
		time.Sleep(3 * time.Minute)
		read(t, counts, 1)
		time.Sleep(time.Minute) // older than 200 seconds
		begin := time.Now()
		read(t, counts, 1)
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("waited %v for a newer number", waited)
		}
		time.Sleep(10 * time.Second)
		read(t, counts, 2)
	})
}

// TestImpatient: who asks goes away, and the count goes on for the next one.
func TestImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 30 * time.Second}
		counts := tally.New(c.count, time.Now, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if _, _, err := counts.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || !tam.IsUnavailable(err) {
			t.Errorf("no number within the time: %v", err)
		}
		time.Sleep(time.Minute)
		read(t, counts, 1)
	})
}

// TestFailure: a store that fails is not hidden behind what was counted before, and is asked again.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 2 * time.Second}
		counts := tally.New(c.count, time.Now, nil)
		read(t, counts, 1)
		time.Sleep(time.Hour)
		c.err, c.takes = errors.New("away"), 0
		for range 2 {
			if _, _, err := counts.Read(t.Context()); !errors.Is(err, c.err) {
				t.Errorf("the store is away, and: %v", err)
			}
		}
		c.err = nil
		read(t, counts, 4)
	})
}

// TestEnding: a count does not keep a service from ending.
func TestEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 10 * time.Minute}
		ending := make(chan struct{})
		counts := tally.New(c.count, time.Now, ending)
		time.AfterFunc(time.Second, func() { close(ending) })
		begin := time.Now()
		if _, _, err := counts.Read(t.Context()); !errors.Is(err, context.Canceled) || time.Since(begin) > 3*time.Second {
			t.Errorf("%v, after %v", err, time.Since(begin))
		}
		c.takes = time.Millisecond
		read(t, counts, 2)
	})
}

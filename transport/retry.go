package transport

import (
	"context"
	"errors"
	"time"
)

// RetryPolicy says how often a request is repeated after a fault of the transport: no response, or a
// status that a later request may not get (408, 429, 502, 503, 504). The zero policy repeats
// nothing.
type RetryPolicy struct {
	// Attempts is the number of requests in all.
	Attempts int
	// Base is the longest delay before the second request; it doubles with each further one.
	Base time.Duration
	// Max is the longest delay. A server's Retry-After that exceeds it is not waited for: the
	// error is returned instead, and says when to come again.
	Max time.Duration
}

// DefaultRetry is for devices: four requests within about ten seconds.
func DefaultRetry() RetryPolicy {
	return RetryPolicy{Attempts: 4, Base: time.Second, Max: 15 * time.Second}
}

// delay is the pause before request number attempt+1, attempt counting from 1: half of it fixed,
// half of it random, so that devices that lost the same server do not return as one.
func (p RetryPolicy) delay(attempt int, random float64) time.Duration {
	d := p.Base
	for i := 1; i < attempt && d < p.Max; i++ {
		d *= 2
	}
	if p.Max > 0 {
		d = min(d, p.Max)
	}
	return d/2 + time.Duration(random*float64(d/2))
}

// do runs request until it succeeds, fails for good, or the policy is exhausted.
func (p RetryPolicy) do(ctx context.Context, random func() float64, sleep Sleeper, request func() error) error {
	for attempt := 1; ; attempt++ {
		err := request()
		if err == nil || attempt >= p.Attempts || !repeatable(err) || ctx.Err() != nil {
			return err
		}
		d := p.delay(attempt, random())
		var status *StatusError
		if errors.As(err, &status) && status.RetryAfter > d {
			if status.RetryAfter > p.Max {
				return err
			}
			d = status.RetryAfter
		}
		if sleep(ctx, d) != nil {
			return err // the fault says more than the end of the context
		}
	}
}

// repeatable tells faults of the transport from answers.
func repeatable(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Temporary()
	}
	return errors.Is(err, ErrUnreachable)
}

// Sleeper waits for d or until ctx ends, and returns ctx's error then.
type Sleeper func(ctx context.Context, d time.Duration) error

func sleepTimer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Package recorder keeps the newest messages of every device in the TAM's store, so that an operator can
// look at a session message by message. Sessions do not wait for it.
//
//	r := recorder.New(recorder.Config{Store: store, Keep: 32})
//	t, err := tam.New(ctx, tam.Config{Recorder: r, …})
//	go r.Run(ctx)
//
// What it costs is bounded three times: by messages per device, by messages per second, and by the bytes
// that wait to be written. What is over a bound is not recorded, and counted ([Recorder.Dropped]): under
// load the recordings are a sample, and whole again when the load is over.
package recorder

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-teep/teep/tam"
)

// Config is what a Recorder is made of. Store is required; what is 0 or nil takes its default.
type Config struct {
	Store tam.Recordings
	// Keep is how many messages are kept of each device. Default 32.
	Keep int
	// PerSecond is how many messages are recorded per second, in the long run. Default 100.
	PerSecond int
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

// Recorder implements [tam.Recorder]. All methods are safe for concurrent use.
type Recorder struct {
	Config
	limit   *rate.Limiter
	dropped atomic.Int64

	mu      sync.Mutex
	waiting []tam.Recorded
	bytes   int
	lastID  int64
}

const (
	// flushInterval is how long a message may wait before it can be looked at.
	flushInterval = time.Second
	// maxWaiting bounds the bytes that wait to be written, when the store is slow or gone.
	maxWaiting = 8 << 20
)

// New makes a Recorder, which records nothing before [Recorder.Run] runs.
func New(c Config) (*Recorder, error) {
	if c.Store == nil {
		return nil, errors.New("recorder: Config.Store is required")
	}
	if c.Keep < 0 || c.PerSecond < 0 {
		return nil, errors.New("recorder: a bound is negative")
	}
	if c.Keep == 0 {
		c.Keep = 32
	}
	if c.PerSecond == 0 {
		c.PerSecond = 100
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Recorder{Config: c, limit: rate.NewLimiter(rate.Limit(c.PerSecond), 10*c.PerSecond)}, nil
}

// Record implements [tam.Recorder]: the messages of one exchange are taken or dropped together.
func (r *Recorder) Record(messages ...tam.Recorded) {
	if !r.limit.AllowN(r.Clock(), len(messages)) {
		r.dropped.Add(int64(len(messages)))
		return
	}
	size := 0
	for i := range messages {
		if messages[i].Size > tam.MaxRecorded {
			messages[i].Data = nil
		}
		size += len(messages[i].Data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+size > maxWaiting {
		r.dropped.Add(int64(len(messages)))
		return
	}
	r.bytes += size
	for _, m := range messages {
		m.Data = bytes.Clone(m.Data)
		r.lastID = max(r.lastID+1, m.At.UnixMicro())
		m.ID = r.lastID
		r.waiting = append(r.waiting, m)
	}
}

// Dropped is how many messages were not recorded because a bound was reached or the store failed.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Run writes what was recorded every second, until ctx ends and once more then.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			r.Flush(last)
			return nil
		case <-tick.C:
			r.Flush(ctx)
		}
	}
}

// Flush writes what waits. What the store does not take is dropped: recordings must not pile up because
// of a fault of the store, of which there is a louder sign.
func (r *Recorder) Flush(ctx context.Context) {
	r.mu.Lock()
	messages := r.waiting
	r.waiting, r.bytes = nil, 0
	r.mu.Unlock()
	if len(messages) == 0 {
		return
	}
	if err := r.Store.AddRecorded(ctx, messages, r.Keep); err != nil {
		r.dropped.Add(int64(len(messages)))
		r.Logger.WarnContext(ctx, "messages were not recorded", "messages", len(messages), "err", err)
	}
}

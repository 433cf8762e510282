package tam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrQuota says that a payload would take more space than there may be.
var ErrQuota = errors.New("tam: no space left for payloads")

// PayloadQuota is [Payloads] that together take no more than a number of bytes. What is stored is counted again
// every minute, and uploads of this process are added meanwhile: several processes that share a store may
// exceed the limit by what they take in within that minute.
type PayloadQuota struct {
	Payloads
	limit int64
	clock func() time.Time

	mu      sync.Mutex
	used    int64
	counted time.Time
}

// quotaCounted is how long a count of what is stored is good for.
const quotaCounted = time.Minute

// NewPayloadQuota limits a store. limit is in bytes; clock nil means time.Now.
func NewPayloadQuota(p Payloads, limit int64, clock func() time.Time) *PayloadQuota {
	if clock == nil {
		clock = time.Now
	}
	return &PayloadQuota{Payloads: p, limit: limit, clock: clock}
}

// Used is how many bytes are stored and being stored, and how many may be.
func (q *PayloadQuota) Used(ctx context.Context) (used, limit int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := q.clock(); now.Sub(q.counted) >= quotaCounted {
		var sum int64
		if err := q.Each(ctx, func(p StoredPayload) error { sum += p.Size; return nil }); err != nil {
			return 0, 0, err
		}
		q.used, q.counted = sum, now
	}
	return q.used, q.limit, nil
}

// Put implements [Payloads]. What is stored already needs space until it is known.
func (q *PayloadQuota) Put(ctx context.Context, r io.Reader) (digest [32]byte, size int64, err error) {
	used, limit, err := q.Used(ctx)
	if err != nil {
		return digest, 0, err
	}
	if used >= limit {
		return digest, 0, q.full(used)
	}
	taken := &quotaReader{quota: q, r: r}
	digest, size, err = q.Payloads.Put(ctx, taken)
	if taken.full != nil {
		err = taken.full // whatever the store made of it
	}
	if err != nil {
		q.take(-taken.n)
	}
	return digest, size, err
}

// take adds to what is used, if the limit allows it.
func (q *PayloadQuota) take(n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n > 0 && q.used+n > q.limit {
		return q.full(q.used)
	}
	q.used = max(q.used+n, 0)
	return nil
}

func (q *PayloadQuota) full(used int64) error {
	return fmt.Errorf("%w: %d of %d bytes are used; withdraw versions that no device needs, whose payloads are then removed, or raise payloads.max-total-bytes", ErrQuota, used, q.limit)
}

// quotaReader takes space for what it reads.
type quotaReader struct {
	quota *PayloadQuota
	r     io.Reader
	n     int64
	full  error
}

func (r *quotaReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if full := r.quota.take(int64(n)); full != nil {
		r.full = full
		return 0, full
	}
	r.n += int64(n)
	return n, err
}

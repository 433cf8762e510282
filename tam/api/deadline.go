package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/go-teep/teep/tam/audit"
)

// defaultTimeout is how long the work on a request may take.
const defaultTimeout = 15 * time.Second

// errTooLong is why the work on a request was given up.
var errTooLong = errors.New("api: the work on the request took too long")

// bounded gives the work on a request an end, so that a store which hangs holds up nobody: connections,
// memory and people would pile up behind it. The time in which the body arrives does not count.
func (h *handler) bounded(r *http.Request) (*http.Request, func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(h.Timeout, func() { cancel(errTooLong) })
	r = r.WithContext(ctx)
	r.Body = &waitedFor{r.Body, timer, h.Timeout}
	return r, func() { timer.Stop(); cancel(nil) }
}

// waitedFor is a body whose sender may take its time.
type waitedFor struct {
	io.ReadCloser
	timer   *time.Timer
	timeout time.Duration
}

func (b *waitedFor) Read(p []byte) (int, error) {
	if b.timer.Stop() {
		defer b.timer.Reset(b.timeout)
	}
	return b.ReadCloser.Read(p)
}

// step bounds one step of what as a whole may take as long as it likes.
func (h *handler) step(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, h.Timeout, errTooLong)
}

// afterwards is for what has to be recorded about a request, whoever gave it up.
func (h *handler) afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return h.step(context.WithoutCancel(ctx))
}

// tookTooLong tells whether the work on a request was given up.
func tookTooLong(ctx context.Context, err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(context.Cause(ctx), errTooLong)
}

// steppedLog is an audit log each page of which has a time to be read in.
type steppedLog struct{ *handler }

// AuditEntries implements [audit.Log].
func (l steppedLog) AuditEntries(ctx context.Context, after int64, limit int) ([]audit.Entry, error) {
	ctx, cancel := l.step(ctx)
	defer cancel()
	return l.Store.AuditEntries(ctx, after, limit)
}

// AuditHead implements [audit.Log].
func (l steppedLog) AuditHead(ctx context.Context) (audit.Head, error) {
	ctx, cancel := l.step(ctx)
	defer cancel()
	return l.Store.AuditHead(ctx)
}

package tracing

import (
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// queue is a span processor that never waits: it hands spans to the SDK's batches as long as there is room, and drops
// and counts them otherwise. (The SDK drops them too, and tells nobody.)
type queue struct {
	batches sdk.SpanProcessor
	room    int64
	// waiting are in the batches: the collector has not answered for them.
	waiting                   atomic.Int64
	exported, failed, dropped atomic.Uint64
	log                       *slog.Logger

	mu   sync.Mutex
	said time.Time
}

// sayEvery is how often it is said that the collector takes no spans.
const sayEvery = time.Minute

func newQueue(exporter sdk.SpanExporter, room int, pause time.Duration, log *slog.Logger) *queue {
	q := &queue{room: int64(room), log: log}
	o := []sdk.BatchSpanProcessorOption{sdk.WithMaxQueueSize(room), sdk.WithMaxExportBatchSize(min(room, sdk.DefaultMaxExportBatchSize))}
	if pause > 0 {
		o = append(o, sdk.WithBatchTimeout(pause))
	}
	q.batches = sdk.NewBatchSpanProcessor(&counted{exporter, q}, o...)
	return q
}

// OnStart implements sdk.SpanProcessor.
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > q.room {
		q.waiting.Add(-1)
		q.dropped.Add(1)
		q.say("spans are dropped: the collector is too slow, or does not answer", nil)
		return
	}
	q.batches.OnEnd(s)
}

// Shutdown implements sdk.SpanProcessor.
func (q *queue) Shutdown(ctx context.Context) error {
	err := q.batches.Shutdown(ctx)
	q.dropped.Add(uint64(max(q.waiting.Swap(0), 0)))
	return err
}

// ForceFlush implements sdk.SpanProcessor.
func (q *queue) ForceFlush(ctx context.Context) error { return q.batches.ForceFlush(ctx) }

// say says at most once a minute what is wrong.
func (q *queue) say(what string, err error) {
	now := time.Now()
	q.mu.Lock()
	again := now.Sub(q.said) < sayEvery
	if !again {
		q.said = now
	}
	q.mu.Unlock()
	if !again {
		q.log.Warn(what, "failed", q.failed.Load(), "dropped", q.dropped.Load(), "err", err)
	}
}

// counted counts what the collector took. Its errors go no further: the SDK would print them.
type counted struct {
	sdk.SpanExporter
	q *queue
}

// ExportSpans implements sdk.SpanExporter.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.q.waiting.Add(-int64(len(spans)))
	rejected, partly := partialSuccess(err, len(spans))
	switch {
	case err == nil:
	case !partly:
		rejected = len(spans)
		c.q.say("the collector took no spans", err)
	case rejected == 0:
		c.q.say("the collector took all spans, and has something to say", err)
	default:
		c.q.say("the collector rejected spans", err)
	}
	c.q.failed.Add(uint64(rejected))
	c.q.exported.Add(uint64(len(spans) - rejected))
	return nil
}

// partial is how the exporter says that a collector took all but some of what it was sent, or took all and warns (OTLP,
// partial success). The type of that error is its own, so its text has to do.
var partial = regexp.MustCompile(`OTLP partial success: (?s:.*) \(([0-9]+) spans rejected\)`)

func partialSuccess(err error, sent int) (rejected int, partly bool) {
	if err == nil {
		return 0, false
	}
	m := partial.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return min(n, sent), err == nil
}

package processor_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// bottomless serves zeros and forgets what is stored.
type bottomless struct {
	processor.Platform
	size int64
}

type forgetTx struct {
	processor.Tx
	stored *int64
}

type forgetWriter struct{ n *int64 }

func (w forgetWriter) Write(b []byte) (int, error) { *w.n += int64(len(b)); return len(b), nil }
func (forgetWriter) Commit() error                 { return nil }
func (forgetWriter) Abort() error                  { return nil }

func (t forgetTx) Create(suit.ComponentID) (processor.Writer, error) {
	return forgetWriter{t.stored}, nil
}

func (b *bottomless) Begin(ctx context.Context) (processor.Tx, error) {
	tx, err := b.Platform.Begin(ctx)
	return forgetTx{tx, new(int64)}, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (b *bottomless) Fetch(_ context.Context, _ string, _ []byte, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, b.size-offset)), nil
}

func TestPayloadsStreamInConstantMemory(t *testing.T) {
	const size = 64 << 20
	h := sha256.New()
	if _, err := io.CopyN(h, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(l *lab) { l.cfg.Platform = &bottomless{l.device, size} })
	d := one(1, idA, appA, "", "u")
	d.Validate = suit.Section{}
	d.Common.SharedSequence.Commands[0] = override(func(p *suit.Parameters) {
		identity(p)
		p.SetDigest(suit.Digest{Algorithm: cose.AlgSHA256, Bytes: h.Sum(nil)})
		p.SetSize(size)
	})
	envelope := l.sign(d)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l.mustUpdate(envelope)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for a payload of %d", used, size)
	}
}

// BenchmarkComponents shows that the cost of a manifest grows linearly with its components.
func BenchmarkComponents(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLab(b)
			ids := make([]suit.ComponentID, n)
			for i := range ids {
				ids[i] = suit.NewComponentID("app", fmt.Sprint(i))
			}
			d := many(1, idA, ids...)
			d.Install = section(suit.SetAllComponents(), content("x"), suit.TryEach(seq{cond(suit.CondAbort)}, seq{dir(suit.DirWrite)}))
			envelope := l.sign(d)
			o := processor.UpdateOptions{DryRun: true}
			for b.Loop() {
				if _, err := l.p.Update(b.Context(), envelope, o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/component")
		})
	}
}

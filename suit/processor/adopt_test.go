package processor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// rottenStore is a device that believes to have any content, under the name of its digest, and has
// something else there.
type rottenStore struct {
	processor.Platform
	holds   string
	adopted int
}

func (p *rottenStore) Begin(ctx context.Context) (processor.Tx, error) {
	tx, err := p.Platform.Begin(ctx)
	return rottenTx{tx, p}, err
}

type rottenTx struct {
	processor.Tx
	p *rottenStore
}

func (t rottenTx) Adopt(id suit.ComponentID, _ suit.Digest) error {
	t.p.adopted++
	w, err := t.Create(id)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(t.p.holds)); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Commit()
}

func rotten(t *testing.T, holds string) (*lab, *rottenStore) {
	t.Helper()
	p := &rottenStore{holds: holds}
	l := newLab(t, func(l *lab) { p.Platform, l.cfg.Platform = l.device, p })
	return l, p
}

// unchecked is a manifest that says a digest and never compares it.
func unchecked(install ...suit.Command) draft {
	d := one(1, idA, appA, "good", "")
	d.Install, d.Validate = section(install...), suit.Section{}
	return d
}

// TestAdoptedContentIsRead: content that the device has already stands in for a fetch (SUIT
// §8.4.10.4) only after its digest was computed. Its name vouches for nothing.
func TestAdoptedContentIsRead(t *testing.T) {
	fetch := seq{uri("u"), dir(suit.DirFetch)}
	for _, holds := range []string{"evil", "", "goo", "goods"} {
		t.Run("holds "+holds, func(t *testing.T) {
			t.Run("and there is no source", func(t *testing.T) {
				l, p := rotten(t, holds)
				l.refuse(l.sign(unchecked(fetch...)), suit.ReasonOperationFailed)
				l.wants(appA, "")
				if p.adopted == 0 {
					t.Error("the device was not asked")
				}
			})
			t.Run("and there is no source, which is not minded", func(t *testing.T) {
				l, _ := rotten(t, holds)
				f := l.refuse(l.sign(unchecked(suit.TryEach(fetch, nil))), suit.ReasonOperationFailed)
				if !errors.Is(f, processor.ErrUnverified) {
					t.Error(f)
				}
				l.wants(appA, "")
			})
			t.Run("and nothing vouches for the source", func(t *testing.T) {
				l, _ := rotten(t, holds)
				l.device.Serve("u", []byte("evil"))
				f := l.refuse(l.sign(unchecked(fetch...)), suit.ReasonOperationFailed)
				if !errors.Is(f, processor.ErrUnverified) {
					t.Error(f)
				}
			})
			t.Run("and the source has it", func(t *testing.T) {
				l, p := rotten(t, holds)
				l.device.Serve("u", []byte("good"))
				l.mustUpdate(l.sign(one(1, idA, appA, "good", "u")))
				l.wants(appA, "good")
				if p.adopted != 1 || len(l.device.Fetches()) != 1 {
					t.Errorf("adopted %d times, fetched %d times", p.adopted, len(l.device.Fetches()))
				}
			})
		})
	}
	t.Run("what it says, which is enough", func(t *testing.T) {
		l, _ := rotten(t, "good")
		l.mustUpdate(l.sign(unchecked(fetch...)))
		l.wants(appA, "good")
		if n := len(l.device.Fetches()); n != 0 {
			t.Errorf("fetched %d times", n)
		}
	})
	t.Run("what it says, of another size than the manifest says", func(t *testing.T) {
		for _, size := range []uint64{0, 3, 5, 1<<64 - 1} {
			l, _ := rotten(t, "good")
			d := unchecked(append(seq{override(func(p *suit.Parameters) { p.SetSize(size) })}, fetch...)...)
			l.refuse(l.sign(d), suit.ReasonOperationFailed)
			l.wants(appA, "")
		}
	})
}

package processor_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// waiter is a device with a clock whose runs take a minute at most, and which waits for anything.
func waiter(t *testing.T, now int64) (l *lab, asked *[]suit.WaitEvent) {
	t.Helper()
	l = newLab(t, func(l *lab) { l.cfg.Limits.Time = time.Minute })
	l.device.Clock = func() time.Time { return time.Unix(now, 0) }
	asked = new([]suit.WaitEvent)
	l.device.OnWait = func(_ context.Context, e suit.WaitEvent) error {
		*asked = append(*asked, e)
		return nil
	}
	return l, asked
}

func (l *lab) waiting(e suit.WaitEvent) []byte {
	l.t.Helper()
	d := conditionDraft(suit.CondAbort, nil)
	d.Install = section(override(func(p *suit.Parameters) { p.SetWaitInfo(e) }), dir(suit.DirWait))
	return l.sign(d)
}

// TestWaitEndsWithinTheRun: a platform is not asked to wait for a time that the run cannot live to see
// (update management §suit-directive-wait), or a manifest could keep a device from all other work.
func TestWaitEndsWithinTheRun(t *testing.T) {
	one := int64(1)
	for _, c := range []struct {
		name  string
		now   int64
		event suit.WaitEvent
	}{
		{"a second too late", 1000, suit.WaitEvent{Time: new(uint64(1061))}},
		{"never", 1000, suit.WaitEvent{Time: new(uint64(math.MaxUint64))}},
		{"what would be negative", 1000, suit.WaitEvent{Time: new(uint64(math.MaxInt64 + 1))}},
		{"with an event that comes at once", 1000, suit.WaitEvent{Authorization: &one, Time: new(uint64(2000))}},
		{"on a device whose clock is before 1970", -3600, suit.WaitEvent{Time: new(uint64(0))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, asked := waiter(t, c.now)
			f := l.refuse(l.waiting(c.event), suit.ReasonOperationFailed)
			if !errors.Is(f, processor.ErrLimit) || f.Command != suit.DirWait {
				t.Error(f)
			}
			if len(*asked) != 0 {
				t.Errorf("the platform was asked to wait for %+v", *asked)
			}
		})
	}
	for name, second := range map[string]uint64{"the last second": 1060, "now": 1000, "the past": 0} {
		t.Run(name, func(t *testing.T) {
			l, asked := waiter(t, 1000)
			l.mustUpdate(l.waiting(suit.WaitEvent{Time: &second}))
			if len(*asked) != 1 {
				t.Errorf("asked %d times", len(*asked))
			}
		})
	}
}

// TestWaitForWhatThePlatformDoesNotKnow: an event of another kind has no time that could be compared.
// It reaches the platform as it is, and one that the platform cannot wait for fails the manifest.
func TestWaitForWhatThePlatformDoesNotKnow(t *testing.T) {
	unknown := errors.New("no such event")
	one, day := int64(1), uint64(3)
	for name, event := range map[string]suit.WaitEvent{
		"power": {Power: &one}, "network": {Network: &one}, "time of day": {TimeOfDay: &day}, "day of week": {DayOfWeekUTC: &day},
	} {
		t.Run(name, func(t *testing.T) {
			l, asked := waiter(t, 1000)
			l.device.OnWait = func(_ context.Context, e suit.WaitEvent) error {
				*asked = append(*asked, e)
				if e.Time != nil || (e.Power == nil) != (event.Power == nil) || (e.Network == nil) != (event.Network == nil) ||
					(e.TimeOfDay == nil) != (event.TimeOfDay == nil) || (e.DayOfWeekUTC == nil) != (event.DayOfWeekUTC == nil) {
					t.Errorf("asked for %+v, want %+v", e, event)
				}
				return unknown
			}
			if f := l.refuse(l.waiting(event), suit.ReasonOperationFailed); !errors.Is(f, unknown) {
				t.Error(f)
			}
			if len(*asked) != 1 {
				t.Errorf("asked %d times", len(*asked))
			}
		})
	}
}

package recorder

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

// shelf is a store that remembers what it was given, or refuses.
type shelf struct {
	tam.Recordings
	taken []tam.Recorded
	keep  int
	err   error
}

func (s *shelf) AddRecorded(_ context.Context, messages []tam.Recorded, keep int) error {
	if s.err == nil {
		s.taken, s.keep = append(s.taken, messages...), keep
	}
	return s.err
}

func newRecorder(t *testing.T, s *shelf, perSecond int) *Recorder {
	t.Helper()
	r, err := New(Config{
		Store: s, PerSecond: perSecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: func() time.Time { return time.UnixMilli(1000) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func message(data []byte) tam.Recorded {
	return tam.Recorded{DeviceID: "d", At: time.UnixMilli(1000), Direction: tam.DirectionReceived, Size: len(data), Data: data}
}

func TestRecord(t *testing.T) {
	s := &shelf{}
	r := newRecorder(t, s, 10)
	data := []byte("one")
	r.Record(message(data), message([]byte("two")))
	data[0] = 'X' // the caller's again
	r.Flush(t.Context())
	if len(s.taken) != 2 || string(s.taken[0].Data) != "one" || s.keep != 32 {
		t.Fatalf("the store was given %+v, keep %d", s.taken, s.keep)
	}
	if s.taken[0].ID != 1_000_000 || s.taken[1].ID != 1_000_001 {
		t.Errorf("IDs are %d and %d: the second must follow the first although both are of one microsecond", s.taken[0].ID, s.taken[1].ID)
	}
	r.Flush(t.Context())
	if len(s.taken) != 2 {
		t.Error("messages were written twice")
	}
}

func TestLargeMessageLeavesItsSize(t *testing.T) {
	s := &shelf{}
	r := newRecorder(t, s, 10)
	r.Record(message(bytes.Repeat([]byte{1}, tam.MaxRecorded+1)), message(bytes.Repeat([]byte{1}, tam.MaxRecorded)))
	r.Flush(t.Context())
	if s.taken[0].Data != nil || s.taken[0].Size != tam.MaxRecorded+1 {
		t.Errorf("of a message over the bound %d bytes were kept, its size as %d", len(s.taken[0].Data), s.taken[0].Size)
	}
	if len(s.taken[1].Data) != tam.MaxRecorded {
		t.Error("a message at the bound was not kept")
	}
}

func TestBounds(t *testing.T) {
	t.Run("per second", func(t *testing.T) {
		s := &shelf{}
		r := newRecorder(t, s, 1) // a burst of 10
		for range 6 {
			r.Record(message([]byte("a")), message([]byte("b")))
		}
		r.Flush(t.Context())
		if len(s.taken) != 10 || r.Dropped() != 2 {
			t.Errorf("%d messages recorded and %d dropped, want 10 and 2", len(s.taken), r.Dropped())
		}
	})
	t.Run("bytes", func(t *testing.T) {
		s := &shelf{}
		r := newRecorder(t, s, 1000)
		big := bytes.Repeat([]byte{1}, tam.MaxRecorded)
		for range maxWaiting/len(big) + 3 {
			r.Record(message(big))
		}
		r.Flush(t.Context())
		if len(s.taken) != maxWaiting/len(big) || r.Dropped() != 3 {
			t.Errorf("%d messages waited and %d were dropped, want %d and 3", len(s.taken), r.Dropped(), maxWaiting/len(big))
		}
		r.Record(message(big))
		r.Flush(t.Context())
		if len(s.taken) != maxWaiting/len(big)+1 {
			t.Error("after the queue was written, nothing is recorded any more")
		}
	})
	t.Run("store", func(t *testing.T) {
		s := &shelf{err: errors.New("disk full")}
		r := newRecorder(t, s, 10)
		r.Record(message([]byte("a")))
		r.Flush(t.Context())
		if r.Dropped() != 1 {
			t.Errorf("%d dropped, want 1", r.Dropped())
		}
		s.err = nil
		r.Record(message([]byte("b")))
		r.Flush(t.Context())
		if len(s.taken) != 1 || string(s.taken[0].Data) != "b" {
			t.Errorf("after the store recovered it was given %+v", s.taken)
		}
	})
}

func TestRunWritesWhatIsLeft(t *testing.T) {
	s := &shelf{}
	r := newRecorder(t, s, 10)
	r.Record(message([]byte("a")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(s.taken) != 1 {
		t.Error("what was recorded before the end was not written")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{}, {Store: &shelf{}, Keep: -1}, {Store: &shelf{}, PerSecond: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) succeeded", c)
		}
	}
}

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

func testRecordings(t *testing.T, open func() Operations) {
	s := open()
	ctx := t.Context()
	message := func(device string, at time.Time, data string) tam.Recorded {
		return tam.Recorded{
			DeviceID: device, ID: at.UnixMicro(), At: at.UTC(), Direction: tam.DirectionReceived,
			Asked: at.Add(-time.Second).Truncate(time.Millisecond).UTC(), Size: len(data), Data: []byte(data),
		}
	}
	at := start.Truncate(time.Microsecond)
	var all []tam.Recorded
	for n := range 5 {
		all = append(all, message("one", at.Add(time.Duration(n)*time.Microsecond), "message"))
	}
	large := message("two", at, "")
	large.Size, large.Data, large.Direction, large.Asked = 1<<20, nil, tam.DirectionSent, time.Time{}
	must(t, s.AddRecorded(ctx, append(all[:3:3], large), 3))
	must(t, open().AddRecorded(ctx, all[3:], 3))

	// The newest three of each device are left, newest first.
	list, err := s.RecordedMessages(ctx, "one", 0, 10)
	must(t, err)
	if len(list) != 3 {
		t.Fatalf("%d messages of the device are left, want 3", len(list))
	}
	for i, m := range list {
		want := all[4-i]
		want.Data = nil
		equal(t, m, want)
	}
	list, err = s.RecordedMessages(ctx, "one", all[4].ID, 1)
	must(t, err)
	if len(list) != 1 || list[0].ID != all[3].ID {
		t.Errorf("the page before %d has %+v", all[4].ID, list)
	}
	found, err := s.RecordedMessage(ctx, "one", all[4].ID)
	must(t, err)
	equal(t, *found, all[4])
	found, err = s.RecordedMessage(ctx, "two", large.ID)
	must(t, err)
	if found.Size != 1<<20 || len(found.Data) != 0 || !found.Asked.IsZero() || found.Direction != tam.DirectionSent {
		t.Errorf("a message without its bytes came back as %+v", found)
	}
	for _, missing := range []struct {
		device string
		id     int64
	}{{"one", all[0].ID}, {"two", all[4].ID}, {"nobody", all[4].ID}, {"x\x00", 1}} {
		if _, err := s.RecordedMessage(ctx, missing.device, missing.id); !errors.Is(err, tam.ErrNotFound) {
			t.Errorf("message %d of %q: %v, want ErrNotFound", missing.id, missing.device, err)
		}
	}
	// The same moment twice: the first one stays.
	must(t, s.AddRecorded(ctx, []tam.Recorded{message("one", all[4].At, "other")}, 3))
	found, err = s.RecordedMessage(ctx, "one", all[4].ID)
	must(t, err)
	equal(t, *found, all[4])

	gone, err := s.SweepRecorded(ctx, all[4].At, 10)
	must(t, err)
	if gone != 3 { // two of one device, one of the other
		t.Errorf("the sweep removed %d messages, want 3", gone)
	}
	if list, err = s.RecordedMessages(ctx, "one", 0, 10); err != nil || len(list) != 1 {
		t.Errorf("after the sweep there are %d messages (%v), want the newest", len(list), err)
	}
}

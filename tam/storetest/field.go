package storetest

import (
	"math"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

func testField(t *testing.T, open func() Operations) {
	s := open()
	ctx := t.Context()
	hour := start.UTC().Truncate(time.Hour)
	count := func(name string, sequence uint64, devices int64) tam.InstalledCount {
		return tam.InstalledCount{Manifest: manifest(name), Sequence: sequence, Devices: devices}
	}
	must(t, s.AddField(ctx, hour.Add(-tam.FieldKept-time.Hour), []tam.InstalledCount{count("a", 1, 1)}))
	must(t, s.AddField(ctx, hour.Add(-time.Hour), []tam.InstalledCount{count("a", 1, 5)}))
	must(t, s.AddField(ctx, hour.Add(20*time.Minute), []tam.InstalledCount{count("a", math.MaxUint64, 2), count("a", 2, 3)}))
	// Another replica counts the same hour: what is there stays.
	must(t, open().AddField(ctx, hour.Add(21*time.Minute), []tam.InstalledCount{count("a", 2, 4), count("b", 1, 1)}))
	list, err := s.FieldSince(ctx, hour.Add(-tam.FieldKept-2*time.Hour))
	must(t, err)
	equal(t, list, []tam.FieldCount{
		{Hour: hour.Add(-time.Hour), InstalledCount: count("a", 1, 5)},
		{Hour: hour, InstalledCount: count("a", 2, 3)},
		{Hour: hour, InstalledCount: count("a", math.MaxUint64, 2)},
	})
	list, err = s.FieldSince(ctx, hour.Add(10*time.Minute))
	must(t, err)
	if len(list) != 2 {
		t.Errorf("from this hour on there are %d counts, want 2", len(list))
	}
}

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
	counts := []tam.FieldCount{
		{Hour: hour.Add(-time.Hour), InstalledCount: count("a", 1, 5)},
		{Hour: hour, InstalledCount: count("a", 2, 3)},
		{Hour: hour, InstalledCount: count("a", math.MaxUint64, 2)},
	}
	list, err := s.FieldSince(ctx, hour.Add(-tam.FieldKept-2*time.Hour), tam.VersionCursor{}, 9)
	must(t, err)
	equal(t, list, counts)
	list, err = s.FieldSince(ctx, hour.Add(10*time.Minute), tam.VersionCursor{}, 9)
	must(t, err)
	equal(t, list, counts[1:])
	since, cursor := hour.Add(-time.Hour), tam.VersionCursor{}
	for _, want := range counts {
		one, err := s.FieldSince(ctx, since, cursor, 1)
		must(t, err)
		equal(t, one, []tam.FieldCount{want})
		since, cursor = one[0].Hour, tam.VersionCursor{Manifest: one[0].Manifest, Sequence: one[0].Sequence}
	}
	list, err = s.FieldSince(ctx, since, cursor, 1)
	must(t, err)
	equal(t, len(list), 0)
}

package storetest

import (
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// CheckOlderWork finds what replicas of an older release did while a newer one migrated: how often each device came,
// of all of them. Whoever came has version 4 of ['acme', 'app'] since, and the others version 3.
func CheckOlderWork(t *testing.T, s Operations, exchanges map[string]int, devices int) {
	t.Helper()
	ctx, total := t.Context(), 0
	for id, n := range exchanges {
		events, err := s.Events(ctx, id, 0, 100_000)
		must(t, err)
		d, err := s.Device(ctx, id)
		must(t, err)
		if len(events) != n || d.Revision != int64(n)+1 {
			t.Errorf("device %s came %d times, and has %d events and revision %d", id, n, len(events), d.Revision)
		}
		total += n
	}
	head, err := s.FeedHead(ctx)
	must(t, err)
	equal(t, head, int64(total))
	app, came := suit.NewComponentID("acme", "app"), len(exchanges)
	installed, err := s.CountInstalled(ctx, tam.VersionCursor{}, 99)
	must(t, err)
	equal(t, installed, []tam.InstalledCount{
		{Manifest: app, Sequence: 3, Devices: int64(devices - came)}, {Manifest: app, Sequence: 4, Devices: int64(came)},
	})
}

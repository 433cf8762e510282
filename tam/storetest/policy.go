package storetest

import (
	"context"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

func policyChange(name string, revision int64, data string) tam.PolicyChange {
	c := tam.PolicyChange{Kind: tam.KindGroup, Name: name, Revision: revision, Action: "group.set", Detail: "test"}
	if data != "" {
		c.Data = []byte(data)
	}
	return c
}

// revisionOf is the revision of a group.
func revisionOf(t *testing.T, s tam.Store, name string) int64 {
	t.Helper()
	r, err := s.PolicyRecord(t.Context(), tam.KindGroup, name)
	must(t, err)
	return r.Revision
}

func testPolicyRecords(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	_, err := s.PolicyRecord(ctx, tam.KindGroup, "a")
	want(t, err, tam.ErrNotFound)
	want(t, s.ChangePolicy(ctx, policyChange("a", 1, `{}`)), tam.ErrConflict) // there is none to replace
	want(t, s.ChangePolicy(ctx, policyChange("a", 1, "")), tam.ErrConflict)
	must(t, s.ChangePolicy(ctx, policyChange("a", 0, `{"name":"a"}`)))
	want(t, s.ChangePolicy(ctx, policyChange("a", 0, `{"name":"thief"}`)), tam.ErrConflict)
	must(t, s.ChangePolicy(ctx, policyChange("b", 0, `{"name":"b"}`)))
	other := policyChange("a", 0, `{"name":"a rule"}`)
	other.Kind = tam.KindAdmission // names are of a kind
	must(t, s.ChangePolicy(ctx, other))

	first := revisionOf(t, s, "a")
	must(t, s.ChangePolicy(ctx, policyChange("a", first, `{"name":"a","text":"“ü\u0000”"}`)))
	want(t, s.ChangePolicy(ctx, policyChange("a", first, `{"name":"stale"}`)), tam.ErrConflict)
	got, err := s.PolicyRecord(ctx, tam.KindGroup, "a")
	must(t, err)
	equal(t, *got, tam.PolicyRecord{Kind: tam.KindGroup, Name: "a", Revision: first + 1, Data: []byte(`{"name":"a","text":"“ü\u0000”"}`)})
	list, err := s.PolicyRecords(ctx, tam.KindGroup, "", 10)
	must(t, err)
	if len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Fatalf("listed %+v", list)
	}
	list, err = s.PolicyRecords(ctx, tam.KindGroup, "a", 1)
	must(t, err)
	equal(t, list, []tam.PolicyRecord{{Kind: tam.KindGroup, Name: "b", Revision: revisionOf(t, s, "b"), Data: []byte(`{"name":"b"}`)}})

	last := revisionOf(t, s, "b")
	want(t, s.ChangePolicy(ctx, policyChange("b", last+1, "")), tam.ErrConflict)
	must(t, s.ChangePolicy(ctx, policyChange("b", last, "")))
	_, err = s.PolicyRecord(ctx, tam.KindGroup, "b")
	want(t, err, tam.ErrNotFound)
	// Another record of that name is not taken for the one before it, however often either was changed.
	for _, gone := range []string{"a", "b"} {
		if gone == "a" {
			last = revisionOf(t, s, gone)
			must(t, s.ChangePolicy(ctx, policyChange(gone, last, "")))
		}
		catalogue, err := s.CatalogueRevision(ctx)
		must(t, err)
		must(t, s.ChangePolicy(ctx, policyChange(gone, 0, `{"name":"another"}`)))
		if is := revisionOf(t, s, gone); is <= last || is != catalogue+1 {
			t.Errorf("a new record has revision %d, the one before had %d, the catalogue %d", is, last, catalogue)
		}
		want(t, s.ChangePolicy(ctx, policyChange(gone, last, `{"name":"mixed up"}`)), tam.ErrConflict)
	}
}

// testPolicyConditions: a change that was checked against a catalogue fails when that moved on, and
// leaves nothing.
func testPolicyConditions(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	revision, err := s.CatalogueRevision(ctx)
	must(t, err)
	c := policyChange("a", 0, `{}`)
	c.Catalogue = revision
	must(t, s.ChangePolicy(ctx, c))
	now, err := s.CatalogueRevision(ctx)
	must(t, err)
	if now <= revision {
		t.Fatalf("the catalogue's revision is %d after %d", now, revision)
	}
	c = policyChange("b", 0, `{}`)
	c.Catalogue = revision
	want(t, s.ChangePolicy(ctx, c), tam.ErrConflict)
	again, err := s.CatalogueRevision(ctx)
	must(t, err)
	equal(t, again, now)
	_, err = s.PolicyRecord(ctx, tam.KindGroup, "b")
	want(t, err, tam.ErrNotFound)
}

func testPolicyReplacedOnce(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	must(t, replicas[0].ChangePolicy(t.Context(), policyChange("a", 0, `{}`)))
	revision := revisionOf(t, replicas[0], "a")
	won := concurrently(12, func(n int) error {
		return replicas[n%2].ChangePolicy(context.Background(), policyChange("a", revision, `{"n":1}`))
	})
	if won.ok != 1 || won.failed(tam.ErrConflict) != 11 {
		t.Fatalf("%d replaced one revision, errors %v", won.ok, won.errs)
	}
}

func counted(rollout string, stage int, p policy.Progress, n int64) tam.RolloutCount {
	return tam.RolloutCount{Rollout: rollout, Stage: stage, Progress: p, Devices: n}
}

func testRolloutCounts(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	for n := range 40 { // over all shards
		d := device(n)
		must(t, s.CommitExchange(ctx, tam.Exchange{Device: d, Counts: []tam.RolloutCount{counted("r", n%2, policy.ProgressOffered, 1)}}))
		if n < 10 {
			must(t, s.CommitExchange(ctx, tam.Exchange{Device: d, Counts: []tam.RolloutCount{
				counted("r", n%2, policy.ProgressSucceeded, 1), counted("r", n%2, policy.ProgressOffered, -1)}}))
		}
	}
	// A refused exchange counts nothing.
	stale := device(1)
	want(t, s.CommitExchange(ctx, tam.Exchange{Device: stale, Counts: []tam.RolloutCount{counted("r", 0, policy.ProgressFailed, 1)}}), tam.ErrConflict)
	got, err := s.RolloutCounts(ctx, "r")
	must(t, err)
	equal(t, got, []tam.RolloutCount{
		counted("r", 0, policy.ProgressOffered, 15), counted("r", 0, policy.ProgressSucceeded, 5),
		counted("r", 1, policy.ProgressOffered, 15), counted("r", 1, policy.ProgressSucceeded, 5),
	})
	none, err := s.RolloutCounts(ctx, "other")
	must(t, err)
	equal(t, len(none), 0)
}

// testCountsAddUp: concurrent devices on two replicas, each counted once.
func testCountsAddUp(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	o := concurrently(32, func(n int) error {
		return replicas[n%2].CommitExchange(context.Background(), tam.Exchange{Device: device(n), Counts: []tam.RolloutCount{
			counted("b", 0, policy.ProgressOffered, 1), counted("a", 1, policy.ProgressFailed, 1), counted("a", 0, policy.ProgressSucceeded, 1)}})
	})
	if o.ok != 32 {
		t.Fatal(o.errs)
	}
	got, err := replicas[0].RolloutCounts(t.Context(), "a")
	must(t, err)
	equal(t, got, []tam.RolloutCount{counted("a", 0, policy.ProgressSucceeded, 32), counted("a", 1, policy.ProgressFailed, 32)})
}

func testIdentities(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	one, two, three := device(1), device(2), device(3)
	two.UEID = one.UEID
	for _, d := range []*tam.Device{one, two, three} {
		create(t, s, d)
	}
	got, err := s.DevicesByUEID(ctx, one.UEID)
	must(t, err)
	if len(got) != 2 || got[0].ID >= got[1].ID || got[0].ID != one.ID && got[0].ID != two.ID {
		t.Fatalf("%d devices share a UEID, want 2 by ID", len(got))
	}
	none, err := s.DevicesByUEID(ctx, []byte{9, 9, 9})
	must(t, err)
	equal(t, len(none), 0)
	anonymous := device(4)
	anonymous.UEID = nil
	create(t, s, anonymous)
	none, err = s.DevicesByUEID(ctx, nil)
	must(t, err)
	equal(t, len(none), 0) // those without one are not one device
}

func testInstalled(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	put := func(d *tam.Device, sequence uint64) {
		d.Inventory = []tam.Installed{{Manifest: manifest("a"), Sequence: sequence}, {Manifest: manifest("b"), Sequence: 1<<64 - 1}}
		must(t, s.CommitExchange(ctx, tam.Exchange{Device: d, Reindex: true}))
	}
	var devices []*tam.Device
	for n := range 5 {
		devices = append(devices, device(n))
		put(devices[n], 1)
	}
	put(devices[0], 2)
	ids := func(sequence uint64) (list []string) {
		for after := ""; ; {
			page, err := s.DevicesWith(ctx, manifest("a"), sequence, after, 3)
			must(t, err)
			for i := range page {
				list = append(list, page[i].ID)
				after = page[i].ID
			}
			if len(page) < 3 {
				return list
			}
		}
	}
	if one, two := ids(1), ids(2); len(one) != 4 || len(two) != 1 || two[0] != devices[0].ID {
		t.Fatalf("version 1 is on %v, and 2 on %v", one, two)
	}
	equal(t, len(ids(3)), 0)
	counts := []tam.InstalledCount{
		{Manifest: manifest("a"), Sequence: 1, Devices: 4}, {Manifest: manifest("a"), Sequence: 2, Devices: 1},
		{Manifest: manifest("b"), Sequence: 1<<64 - 1, Devices: 5},
	}
	cursor := tam.VersionCursor{}
	for i := range len(counts) + 1 {
		all, err := s.CountInstalled(ctx, cursor, 9)
		must(t, err)
		equal(t, append([]tam.InstalledCount{}, all...), counts[i:])
		if i == len(counts) {
			break
		}
		one, err := s.CountInstalled(ctx, cursor, 1)
		must(t, err)
		equal(t, one, counts[i:i+1])
		cursor = tam.VersionCursor{Manifest: one[0].Manifest, Sequence: one[0].Sequence}
	}
	devices[1].Status = tam.DeviceRetired
	must(t, s.CommitExchange(ctx, tam.Exchange{Device: devices[1], Reindex: true}))
	equal(t, len(ids(1)), 3) // who left the fleet has nothing
}

func testReplacedDevice(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	old, new := device(1), device(2)
	must(t, s.CommitExchange(ctx, tam.Exchange{Device: old, Reindex: true}))
	stale := *old
	must(t, s.UpdateDevice(ctx, old))

	new.Replaces, stale.ReplacedBy, stale.Status = old.ID, new.ID, tam.DeviceRetired
	x := tam.Exchange{Device: new, Replaced: &stale, Reindex: true, Consume: &tam.Consumption{ID: [16]byte{5}, Expires: start},
		Event: &tam.Event{DeviceID: new.ID, At: start, Kind: tam.EventAttested}}
	want(t, s.CommitExchange(ctx, x), tam.ErrConflict)
	_, err := s.Device(ctx, new.ID)
	want(t, err, tam.ErrNotFound)
	if new.Revision != 0 || stale.Revision != old.Revision-1 {
		t.Fatalf("a refused exchange gave revisions %d and %d", new.Revision, stale.Revision)
	}

	old.ReplacedBy, old.Status = new.ID, tam.DeviceRetired
	x.Replaced = old
	must(t, s.CommitExchange(ctx, x)) // its consumption was undone before
	for _, d := range []*tam.Device{old, new} {
		got, err := s.Device(ctx, d.ID)
		must(t, err)
		equal(t, got, d)
	}
	with, err := s.DevicesWith(ctx, manifest("a"), 1<<64-1, "", 10)
	must(t, err)
	if len(with) != 1 || with[0].ID != new.ID {
		t.Fatalf("%d devices have it, want the new record only", len(with))
	}

	// The new record exists already, in another revision: the old one stays in service.
	third, fourth := device(3), device(4)
	create(t, s, third)
	create(t, s, fourth)
	third.Status = tam.DeviceRetired
	racing := device(4)
	want(t, s.CommitExchange(ctx, tam.Exchange{Device: racing, Replaced: third}), tam.ErrConflict)
	got, err := s.Device(ctx, third.ID)
	must(t, err)
	equal(t, got.Status, tam.DeviceAccepted)
}

func testChangePublisher(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	p := tam.Publisher{Name: "acme", Keys: [][]byte{{1}}, Anchors: [][]byte{{9}}, Prefixes: []suit.ComponentID{manifest("a")}, Created: start}
	must(t, s.AddPublisher(ctx, p))
	must(t, s.AddPublisher(ctx, tam.Publisher{Name: "other", Keys: [][]byte{{2}}}))
	want(t, s.AddPublisher(ctx, tam.Publisher{Name: "thief", Anchors: [][]byte{{9}}}), tam.ErrExists)
	want(t, s.ChangePublisher(ctx, "nobody", tam.PublisherChange{AddKeys: [][]byte{{3}}}), tam.ErrNotFound)
	want(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{AddKeys: [][]byte{{3}, {2}}}), tam.ErrExists)
	before, err := s.CatalogueRevision(ctx)
	must(t, err)
	must(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{AddKeys: [][]byte{{3}}})) // {3} was not taken
	w := tam.WithdrawnKey{Thumbprint: []byte("thumbprint"), At: start, Reason: "stolen", Remove: true}
	stays := w
	stays.Remove = false
	must(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &stays}))
	want(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &stays}), tam.ErrExists)
	must(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &w})) // what it signed goes now
	want(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &stays}), tam.ErrExists)
	want(t, s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &w}), tam.ErrExists)
	want(t, s.ChangePublisher(ctx, "other", tam.PublisherChange{Withdraw: &w}), tam.ErrNotFound)
	after, err := s.CatalogueRevision(ctx)
	must(t, err)
	equal(t, after, before+3)
	got, err := s.Publisher(ctx, "acme")
	must(t, err)
	p.Keys, p.Withdrawn = [][]byte{{1}, {3}}, []tam.WithdrawnKey{w}
	equal(t, *got, p)
}

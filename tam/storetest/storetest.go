// Package storetest is the suite that every [tam.Store] and [tam.Blobs] passes. A backend's test
// is one call:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Backend { … })
//	}
//
// The suite holds the guarantees in the comments of package tam: atomicity, isolation under
// concurrency and between two handles on the same data, monotonic sequence numbers and
// generations, single use of tokens, and that what was acknowledged is there after reopening.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// Backend is one fresh, empty data set.
type Backend struct {
	// Open opens the data set once more: a further process, or the same after a restart.
	// The suite closes nothing; Open registers its own clean-up.
	Open func(t *testing.T) tam.Store
}

// Run runs the suite. fresh is called once per subtest.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b Backend)
	}{
		{"Devices", testDevices},
		{"DeviceRevisions", testDeviceRevisions},
		{"DevicePages", testDevicePages},
		{"Exchange", testExchange},
		{"ExchangeIsAtomic", testExchangeIsAtomic},
		{"ExchangesAtOnceSucceedOrFailForThemselves", testExchangesAtOnce},
		{"ConsumedOnceByConcurrentReplicas", testConsumedOnce},
		{"DeviceReplacedOnceByConcurrentReplicas", testReplacedOnce},
		{"Sweep", testSweep},
		{"Events", testEvents},
		{"Versions", testVersions},
		{"SequenceRisesUnderConcurrency", testSequenceConcurrent},
		{"Withdraw", testWithdraw},
		{"Assignments", testAssignments},
		{"Publishers", testPublishers},
		{"CatalogueRevision", testCatalogueRevision},
		{"Deposits", testDeposits},
		{"APITokens", testAPITokens},
		{"TokenKeys", testTokenKeys},
		{"TokenKeyRace", testTokenKeyRace},
		{"PolicyRecords", testPolicyRecords},
		{"PolicyConditions", testPolicyConditions},
		{"PolicyReplacedOnceByConcurrentReplicas", testPolicyReplacedOnce},
		{"RolloutCounts", testRolloutCounts},
		{"CountsOfConcurrentReplicasAddUp", testCountsAddUp},
		{"Identities", testIdentities},
		{"Installed", testInstalled},
		{"ReplacedDevice", testReplacedDevice},
		{"ChangePublisher", testChangePublisher},
		{"SurvivesReopening", testReopening},
		{"CancelledContext", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

// start is a time that every backend can represent exactly: milliseconds, UTC.
var start = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func device(n int) *tam.Device {
	thumb := sha256.Sum256(fmt.Appendf(nil, "key %d", n))
	return &tam.Device{
		ID:            tam.DeviceID(thumb[:]),
		KeyThumbprint: thumb[:],
		AgentKey:      fmt.Appendf(nil, "cose key %d", n),
		Status:        tam.DeviceAccepted,
		FirstSeen:     start,
		LastSeen:      start.Add(time.Hour),
		UEID:          []byte{1, 2, byte(n)},
		HWVersion:     "1.0 \x00 \u2028 <b>", // texts of devices come back as they are
		Attestation: tam.Attestation{
			Status:  attest.StatusAffirming,
			Reasons: []attest.Reason{{Claim: "measurement", Status: attest.StatusAffirming, Text: "known"}},
			At:      start,
		},
		Inventory: []tam.Installed{{Manifest: manifest("a"), Sequence: 1<<64 - 1, Digest: []byte{9}}},
		Pending: []tam.PendingUpdate{{
			Token: [16]byte{7}, Expires: start.Add(time.Hour),
			Offered:  []tam.Installed{{Manifest: manifest("b"), Sequence: 2}},
			Unlinked: []suit.ComponentID{manifest("c")},
		}},
		Failures: []tam.Failure{{Manifest: manifest("d"), Sequence: 3, Count: 2, Until: start, Reason: "why"}},
	}
}

// manifest is an identifier with a part that is not text.
func manifest(name string) suit.ComponentID {
	return suit.ComponentID{[]byte(name), {0, 0xff}, []byte("suit")}
}

func create(t *testing.T, s tam.Store, d *tam.Device) {
	t.Helper()
	must(t, s.CommitExchange(t.Context(), tam.Exchange{Device: d}))
}

func testDevices(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	d := device(1)
	_, err := s.DeviceByKey(ctx, d.KeyThumbprint)
	want(t, err, tam.ErrNotFound)
	_, err = s.Device(ctx, d.ID)
	want(t, err, tam.ErrNotFound)
	want(t, s.UpdateDevice(ctx, &tam.Device{ID: "nobody", Revision: 1}), tam.ErrNotFound)

	create(t, s, d)
	if d.Revision == 0 {
		t.Fatal("a stored device has revision 0")
	}
	byKey, err := s.DeviceByKey(ctx, d.KeyThumbprint)
	must(t, err)
	equal(t, byKey, d)
	byID, err := s.Device(ctx, d.ID)
	must(t, err)
	equal(t, byID, d)

	byID.Status, byID.Inventory = tam.DeviceBlocked, nil
	must(t, s.UpdateDevice(ctx, byID))
	again, err := s.Device(ctx, d.ID)
	must(t, err)
	equal(t, again, byID)
}

func testDeviceRevisions(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	d := device(1)
	create(t, s, d)
	stale := *d
	must(t, s.UpdateDevice(ctx, d))
	want(t, s.UpdateDevice(ctx, &stale), tam.ErrConflict)
	want(t, s.CommitExchange(ctx, tam.Exchange{Device: &stale}), tam.ErrConflict)
	want(t, s.CommitExchange(ctx, tam.Exchange{Device: device(1)}), tam.ErrConflict) // exists already
	other := device(2)
	other.KeyThumbprint = d.KeyThumbprint // one key, one device
	want(t, s.CommitExchange(ctx, tam.Exchange{Device: other}), tam.ErrConflict)
	if stale.Revision == d.Revision {
		t.Fatal("a refused update changed the caller's revision")
	}
}

func testDevicePages(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	for n := range 7 {
		create(t, s, device(n))
	}
	var seen []string
	after := ""
	for {
		page, err := s.ListDevices(ctx, after, 3)
		must(t, err)
		if len(page) > 3 {
			t.Fatalf("page of %d, limit 3", len(page))
		}
		for _, d := range page {
			if d.ID <= after {
				t.Fatalf("%q follows %q", d.ID, after)
			}
			after = d.ID
			seen = append(seen, d.ID)
		}
		if len(page) < 3 {
			break
		}
	}
	if len(seen) != 7 {
		t.Fatalf("saw %d devices, want 7", len(seen))
	}
}

func exchange(n int, d *tam.Device) tam.Exchange {
	return tam.Exchange{
		Consume: &tam.Consumption{ID: [16]byte{byte(n)}, Expires: start.Add(time.Hour)},
		Device:  d,
		Event:   &tam.Event{DeviceID: d.ID, At: start, Kind: tam.EventAttested, Detail: "first"},
	}
}

func testExchange(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	d := device(1)
	must(t, s.CommitExchange(ctx, exchange(1, d)))
	first := d.Revision
	must(t, s.CommitExchange(ctx, exchange(2, d)))
	if d.Revision <= first {
		t.Fatalf("revision %d after %d", d.Revision, first)
	}
	want(t, s.CommitExchange(ctx, exchange(1, d)), tam.ErrConsumed)
	must(t, s.CommitExchange(ctx, tam.Exchange{})) // nothing is nothing
}

func testExchangeIsAtomic(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	d := device(1)
	must(t, s.CommitExchange(ctx, exchange(1, d)))

	replay := exchange(1, device(2))
	want(t, s.CommitExchange(ctx, replay), tam.ErrConsumed)
	_, err := s.DeviceByKey(ctx, replay.Device.KeyThumbprint)
	want(t, err, tam.ErrNotFound)
	events, err := s.Events(ctx, replay.Device.ID, 0, 10)
	must(t, err)
	if len(events) != 0 {
		t.Fatal("a refused exchange left an event")
	}

	stale := exchange(2, device(1)) // revision 0, but it exists
	want(t, s.CommitExchange(ctx, stale), tam.ErrConflict)
	// Its consumption was undone with it: the same token works in the retry.
	must(t, s.CommitExchange(ctx, exchange(2, d)))
}

// testExchangesAtOnce has many exchanges arrive together, some of which cannot be: a store that puts them
// into one transaction must neither lose the good ones nor keep anything of the others.
func testExchangesAtOnce(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	s, ctx := replicas[0], t.Context()
	const each = 24
	known := make([]*tam.Device, 3*each)
	for n := range known {
		known[n] = device(n)
		must(t, s.CommitExchange(ctx, exchange(n, known[n])))
	}
	o := concurrently(len(known), func(n int) error {
		d := *known[n]
		x := exchange(100+n, &d)
		x.Event.Detail = "second"
		x.Counts = []tam.RolloutCount{counted("r", 0, policy.ProgressOffered, 1)}
		switch n % 3 {
		case 1:
			x.Consume.ID = [16]byte{byte(n)} // used up above
		case 2:
			d.Revision-- // not the one that is stored
		}
		err := replicas[n/3%2].CommitExchange(context.Background(), x)
		if err == nil && d.Revision != known[n].Revision+1 {
			err = fmt.Errorf("revision %d after %d", d.Revision, known[n].Revision)
		}
		return err
	})
	if o.ok != each || o.failed(tam.ErrConsumed) != each || o.failed(tam.ErrConflict) != each {
		t.Fatalf("%d of %d succeeded, errors %v", o.ok, each, o.errs)
	}
	got, err := replicas[1].RolloutCounts(ctx, "r")
	must(t, err)
	equal(t, got, []tam.RolloutCount{counted("r", 0, policy.ProgressOffered, each)})
	for n, d := range known {
		stored, err := replicas[1].Device(ctx, d.ID)
		must(t, err)
		events, err := replicas[1].Events(ctx, d.ID, 0, 10)
		must(t, err)
		want := 1 // of what was exchanged before
		if n%3 == 0 {
			want = 2
		}
		if len(events) != want || stored.Revision != d.Revision+int64(want-1) {
			t.Errorf("device %d, case %d: %d events, revision %d after %d", n, n%3, len(events), stored.Revision, d.Revision)
		}
		if n%3 == 2 { // its token was not used up
			must(t, s.CommitExchange(ctx, exchange(100+n, d)))
		}
	}
}

func testConsumedOnce(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	const tries = 16
	won := concurrently(tries, func(n int) error {
		return replicas[n%2].CommitExchange(context.Background(), tam.Exchange{
			Consume: &tam.Consumption{ID: [16]byte{42}, Expires: start},
		})
	})
	if won.ok != 1 || won.failed(tam.ErrConsumed) != tries-1 {
		t.Fatalf("%d of %d used the token, errors %v", won.ok, tries, won.errs)
	}
}

func testReplacedOnce(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	d := device(1)
	create(t, replicas[0], d)
	const tries = 16
	won := concurrently(tries, func(n int) error {
		mine := *d
		return replicas[n%2].CommitExchange(context.Background(), tam.Exchange{Device: &mine})
	})
	if won.ok != 1 || won.failed(tam.ErrConflict) != tries-1 {
		t.Fatalf("%d of %d replaced the same revision, errors %v", won.ok, tries, won.errs)
	}
}

type outcome struct {
	ok   int
	errs []error
}

func (o outcome) failed(target error) (n int) {
	for _, err := range o.errs {
		if errors.Is(err, target) {
			n++
		}
	}
	return n
}

// concurrently calls f n times at once and counts what came of it.
func concurrently(n int, f func(n int) error) outcome {
	var o outcome
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := f(i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				o.ok++
			} else {
				o.errs = append(o.errs, err)
			}
		})
	}
	wg.Wait()
	return o
}

func testSweep(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	d := device(1)
	for n := range 4 {
		x := exchange(n, d)
		x.Consume.Expires = start.Add(time.Duration(n) * time.Minute)
		x.Event.At = x.Consume.Expires
		must(t, s.CommitExchange(ctx, x))
	}
	gone, err := s.Sweep(ctx, start.Add(2*time.Minute), start.Add(2*time.Minute), 1)
	must(t, err)
	equal(t, gone, 2) // one of each: the limit holds
	gone, err = s.Sweep(ctx, start.Add(2*time.Minute), start.Add(2*time.Minute), 100)
	must(t, err)
	equal(t, gone, 2)
	want(t, s.CommitExchange(ctx, exchange(3, d)), tam.ErrConsumed) // not expired: still known
	events, err := s.Events(ctx, d.ID, 0, 10)
	must(t, err)
	equal(t, len(events), 2)
}

func testEvents(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	for n, id := range []string{"a", "b"} {
		d := device(n)
		d.ID = id
		create(t, s, d)
	}
	for n := range 5 {
		must(t, s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{
			DeviceID: "a", At: start.Add(time.Duration(n) * time.Second), Kind: tam.EventUpdateSent,
			Detail: fmt.Sprintf("event %d; 'quoted' \"<script>\"", n),
		}}))
	}
	must(t, s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: "b", At: start, Kind: tam.EventFailed}}))
	first, err := s.Events(ctx, "a", 0, 3)
	must(t, err)
	rest, err := s.Events(ctx, "a", first[2].ID, 3)
	must(t, err)
	all := append(first, rest...)
	if len(all) != 5 {
		t.Fatalf("%d events, want 5", len(all))
	}
	for i, e := range all {
		n := 4 - i
		if e.DeviceID != "a" || !e.At.Equal(start.Add(time.Duration(n)*time.Second)) || e.Kind != tam.EventUpdateSent ||
			e.Detail != fmt.Sprintf("event %d; 'quoted' \"<script>\"", n) {
			t.Fatalf("event %d is %+v", i, e)
		}
		if i > 0 && e.ID >= all[i-1].ID {
			t.Fatal("event IDs do not fall")
		}
	}
}

package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// Operations is what the operator's side of a TAM needs of a store.
type Operations interface {
	tam.Store
	tam.Assigning
	tam.Overview
	tam.Idempotency
	tam.Recordings
	tam.Feed
	tam.Webhooks
	audit.Log
	audit.Recorder
}

// RunOperations runs the suite for [Operations]. fresh is called once per subtest, and the stores that
// it opens have them.
func RunOperations(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open func() Operations)
	}{
		{"AuditOfEveryChange", testAuditOfEveryChange},
		{"AuditIsAtomic", testAuditIsAtomic},
		{"AuditByConcurrentReplicas", testAuditConcurrent},
		{"SwapAssignment", testSwapAssignment},
		{"SwapByConcurrentReplicas", testSwapConcurrent},
		{"CountDevices", testCountDevices},
		{"FindDevices", testFindDevices},
		{"Activity", testActivity},
		{"Requests", testRequests},
		{"RequestReservedOnce", testRequestOnce},
		{"Recordings", testRecordings},
		{"Feed", testFeed},
		{"FeedMissesNothing", testFeedMissesNothing},
		{"RolloutEvents", testRolloutEvents},
		{"Webhooks", testWebhooks},
		{"Field", testField},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := fresh(t)
			test.run(t, func() Operations {
				s, ok := b.Open(t).(Operations)
				if !ok {
					t.Fatal("the store lacks a part of Operations")
				}
				return s
			})
		})
	}
}

func testAuditOfEveryChange(t *testing.T, open func() Operations) {
	s := open()
	ctx := audit.WithActor(t.Context(), audit.Actor{Via: "api", ID: "0123", Name: "ops \x00 <b>"})
	d := device(1)
	create(t, s, d)
	a := tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeRequired}
	deposit := tam.Deposit{ID: "1", Kind: tam.DepositData, Manifest: manifest("a"), EncryptionInfo: []byte{1}}
	anchor := sha256.Sum256([]byte{1})
	lab := func() int64 {
		r, err := s.PolicyRecord(ctx, tam.KindGroup, "lab")
		must(t, err)
		return r.Revision
	}
	token := tam.APIToken{ID: "one", Name: "ci", Scopes: []string{"auditor"}, Expires: start}
	for _, change := range []struct {
		action audit.Action
		target string
		do     func() error
	}{
		{audit.ActionPublisherAdd, "acme", func() error { return s.AddPublisher(ctx, tam.Publisher{Name: "acme"}) }},
		{audit.ActionVersionPublish, manifest("a").String(), func() error { return s.AddVersion(ctx, version("a", 1)) }},
		{audit.ActionVersionWithdraw, manifest("a").String(), func() error { return s.WithdrawVersion(ctx, manifest("a"), 1, "faulty", start) }},
		{audit.ActionPolicySet, manifest("a").String(), func() error { return s.PutAssignment(ctx, a) }},
		{audit.ActionPolicyDelete, manifest("a").String(), func() error { return s.DeleteAssignment(ctx, manifest("a")) }},
		{audit.ActionPolicySet, manifest("a").String(), func() error { return s.SwapAssignment(ctx, manifest("a"), nil, &a, 0) }},
		{audit.ActionPolicyDelete, manifest("a").String(), func() error { return s.SwapAssignment(ctx, manifest("a"), &a, nil, 0) }},
		{audit.ActionPublisherKeys, "acme", func() error { return s.ChangePublisher(ctx, "acme", tam.PublisherChange{AddAnchors: [][]byte{{1}}}) }},
		{audit.ActionKeyWithdraw, "acme", func() error {
			return s.ChangePublisher(ctx, "acme", tam.PublisherChange{Withdraw: &tam.WithdrawnKey{Thumbprint: anchor[:], At: start, Reason: "lost"}})
		}},
		{audit.ActionDepositPut, manifest("a").String(), func() error { return s.PutDeposit(ctx, deposit) }},
		{audit.ActionDepositPut, manifest("a").String(), func() error { return s.PutDeposit(ctx, deposit) }},
		{audit.ActionDepositRemove, manifest("a").String(), func() error { return s.RemoveDeposit(ctx, deposit.ID) }},
		{audit.ActionWebhookCreate, "hook", func() error {
			return s.AddWebhook(ctx, tam.Webhook{ID: "hook", URL: "https://example.com", Secret: []byte("whsec_secret"), Created: start})
		}},
		{audit.ActionWebhookDelete, "hook", func() error { return s.DeleteWebhook(ctx, "hook") }},
		{"group.set", "lab", func() error { return s.ChangePolicy(ctx, policyChange("lab", 0, `{"name":"lab"}`)) }},
		{"group.set", "lab", func() error { return s.ChangePolicy(ctx, policyChange("lab", lab(), `{"name":"lab","match":"true"}`)) }},
		{"group.delete", "lab", func() error {
			c := policyChange("lab", lab(), "")
			c.Action = "group.delete"
			return s.ChangePolicy(ctx, c)
		}},
		{audit.ActionPublisherRevoke, "acme", func() error { return s.RevokePublisher(ctx, "acme", start) }},
		{audit.ActionTokenCreate, "one", func() error { return s.AddAPIToken(ctx, token) }},
		{audit.ActionTokenRevoke, "one", func() error { return s.RevokeAPIToken(ctx, "one", start) }},
		{audit.ActionKeysRotate, "keys/new.pem", func() error { return s.AddAuditEntry(ctx, audit.ActionKeysRotate, "keys/new.pem", "detail") }},
		{audit.ActionDeviceUpdate, d.ID, func() error { return s.UpdateDevice(ctx, d) }},
		{audit.ActionDeviceStatus, d.ID, func() error {
			return s.CommitExchange(ctx, tam.Exchange{Device: d, Event: &tam.Event{DeviceID: d.ID, At: start, Kind: tam.EventStatus, Detail: "pending → accepted"}})
		}},
	} {
		before, err := s.AuditHead(ctx)
		must(t, err)
		must(t, change.do())
		list, err := s.AuditEntries(ctx, before.Seq, 10)
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%s left %d entries", change.action, len(list))
		}
		e := list[0]
		if e.Action != change.action || e.Target != change.target || e.Via != "api" || e.ActorID != "0123" || e.At.IsZero() {
			t.Errorf("%s was recorded as %+v", change.action, e)
		}
		after, err := s.AuditHead(ctx)
		must(t, err)
		equal(t, after, e.Head())
	}
	// What devices do is their history, not the log of what people did.
	before, err := s.AuditHead(ctx)
	must(t, err)
	must(t, s.CommitExchange(ctx, exchange(1, d)))
	after, err := s.AuditHead(ctx)
	must(t, err)
	equal(t, after, before)
	text := verifyChain(t, s, 23)
	if strings.Contains(text, "whsec") {
		t.Error("the secret of a webhook is in the audit log")
	}
}

// verifyChain verifies an export, and returns it.
func verifyChain(t *testing.T, s audit.Log, entries int) string {
	t.Helper()
	var b strings.Builder
	must(t, audit.Export(t.Context(), s, 0, &b))
	r, err := audit.Verify(strings.NewReader(b.String()))
	must(t, err)
	if !r.Complete() || r.Entries != entries {
		t.Fatalf("the log has %d entries from %d on, want %d from 1 on", r.Entries, r.First, entries)
	}
	return b.String()
}

func testAuditIsAtomic(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	must(t, s.AddPublisher(ctx, tam.Publisher{Name: "acme", Keys: [][]byte{{1}}}))
	must(t, s.AddVersion(ctx, version("a", 5)))
	want(t, s.AddVersion(ctx, version("a", 5)), tam.ErrSequence)
	want(t, s.AddPublisher(ctx, tam.Publisher{Name: "thief", Keys: [][]byte{{2}, {1}}}), tam.ErrExists)
	want(t, s.WithdrawVersion(ctx, manifest("b"), 1, "", start), tam.ErrNotFound)
	want(t, s.DeleteAssignment(ctx, manifest("b")), tam.ErrNotFound)
	want(t, s.RevokeAPIToken(ctx, "none", start), tam.ErrNotFound)
	want(t, s.UpdateDevice(ctx, &tam.Device{ID: "none", Revision: 1}), tam.ErrNotFound)
	want(t, s.CommitExchange(ctx, tam.Exchange{
		Device: &tam.Device{ID: "x", Revision: 4},
		Event:  &tam.Event{DeviceID: "x", Kind: tam.EventStatus},
	}), tam.ErrConflict)
	must(t, s.WithdrawVersion(ctx, manifest("a"), 5, "faulty", start))
	must(t, s.WithdrawVersion(ctx, manifest("a"), 5, "again", start)) // no change, no entry
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.PutAssignment(cancelled, tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeRequired}); err == nil {
		t.Fatal("changed under a context that had ended")
	}
	verifyChain(t, s, 3)
}

func testAuditConcurrent(t *testing.T, open func() Operations) {
	replicas := []Operations{open(), open()}
	const n = 16
	won := concurrently(n, func(i int) error {
		return replicas[i%2].AddAPIToken(context.Background(), tam.APIToken{ID: fmt.Sprint(i), Hash: [32]byte{byte(i)}})
	})
	if won.ok != n {
		t.Fatal(won.errs)
	}
	verifyChain(t, replicas[0], n)
}

func testSwapAssignment(t *testing.T, open func() Operations) {
	s, ctx, id := open(), t.Context(), manifest("a")
	required := tam.Assignment{Manifest: id, Mode: tam.ModeRequired, Devices: []string{"x"}}
	forbidden := tam.Assignment{Manifest: id, Mode: tam.ModeForbidden}
	_, err := s.Assignment(ctx, id)
	want(t, err, tam.ErrNotFound)
	want(t, s.SwapAssignment(ctx, id, &required, &forbidden, 0), tam.ErrConflict)
	must(t, s.SwapAssignment(ctx, id, nil, &required, 0))
	want(t, s.SwapAssignment(ctx, id, nil, &forbidden, 0), tam.ErrConflict)
	want(t, s.SwapAssignment(ctx, id, &forbidden, nil, 0), tam.ErrConflict)
	got, err := s.Assignment(ctx, id)
	must(t, err)
	equal(t, *got, required)
	before, err := s.CatalogueRevision(ctx)
	must(t, err)
	want(t, s.SwapAssignment(ctx, id, got, &forbidden, before-1), tam.ErrConflict)
	want(t, s.SwapAssignment(ctx, id, got, nil, before+1), tam.ErrConflict)
	must(t, s.SwapAssignment(ctx, id, got, &forbidden, before))
	after, err := s.CatalogueRevision(ctx)
	must(t, err)
	if after <= before {
		t.Fatal("the catalogue's revision did not rise")
	}
	must(t, s.SwapAssignment(ctx, id, &forbidden, nil, 0))
	_, err = s.Assignment(ctx, id)
	want(t, err, tam.ErrNotFound)
}

func testSwapConcurrent(t *testing.T, open func() Operations) {
	replicas := []Operations{open(), open()}
	won := concurrently(8, func(n int) error {
		a := tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeRequired, Devices: []string{fmt.Sprint(n)}}
		return replicas[n%2].SwapAssignment(context.Background(), a.Manifest, nil, &a, 0)
	})
	if won.ok != 1 || won.failed(tam.ErrConflict) != 7 {
		t.Fatalf("%d made the same assignment, errors %v", won.ok, won.errs)
	}
}

// fleet makes devices 0 to 5: two each that are accepted and affirming, accepted and contraindicated,
// pending and never attested.
func fleet(t *testing.T, s tam.Store) {
	for n := range 6 {
		d := device(n)
		switch n / 2 {
		case 1:
			d.Attestation.Status = attest.StatusContraindicated
		case 2:
			d.Status, d.Attestation.Status = tam.DevicePending, attest.StatusNone
		}
		create(t, s, d)
	}
}

func testCountDevices(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	list, err := s.CountDevices(ctx)
	must(t, err)
	equal(t, len(list), 0)
	fleet(t, s)
	d, err := s.DeviceByKey(ctx, device(0).KeyThumbprint)
	must(t, err)
	d.Attestation.Status = attest.StatusWarning // a change of a stored device counts too
	must(t, s.UpdateDevice(ctx, d))
	list, err = s.CountDevices(ctx)
	must(t, err)
	equal(t, list, []tam.DeviceCount{
		{Status: tam.DeviceAccepted, Attestation: attest.StatusAffirming, Devices: 1},
		{Status: tam.DeviceAccepted, Attestation: attest.StatusContraindicated, Devices: 2},
		{Status: tam.DeviceAccepted, Attestation: attest.StatusWarning, Devices: 1},
		{Status: tam.DevicePending, Attestation: attest.StatusNone, Devices: 2},
	})
}

func testFindDevices(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	fleet(t, s)
	for _, test := range []struct {
		f    tam.DeviceFilter
		want int
	}{
		{tam.DeviceFilter{}, 6},
		{tam.DeviceFilter{Status: tam.DeviceAccepted}, 4},
		{tam.DeviceFilter{Attestation: "none"}, 2},
		{tam.DeviceFilter{Status: tam.DeviceAccepted, Attestation: "contraindicated"}, 2},
		{tam.DeviceFilter{Status: tam.DevicePending, Attestation: "affirming"}, 0},
		{tam.DeviceFilter{Status: "' OR 1=1 --"}, 0},
	} {
		seen, after := 0, ""
		for {
			page, err := s.FindDevices(ctx, test.f, after, 2)
			must(t, err)
			for _, d := range page {
				if d.ID <= after {
					t.Fatalf("%q follows %q", d.ID, after)
				}
				if test.f.Status != "" && d.Status != test.f.Status {
					t.Fatalf("%+v found a device that is %s", test.f, d.Status)
				}
				after = d.ID
				seen++
			}
			if len(page) < 2 {
				break
			}
		}
		if seen != test.want {
			t.Errorf("%+v found %d devices, want %d", test.f, seen, test.want)
		}
	}
}

func testActivity(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	hour := start.Truncate(time.Hour)
	must(t, s.AddActivity(ctx, []tam.Activity{
		{Hour: start, Kind: tam.EventAttested, Count: 3}, {Hour: start, Kind: tam.EventFailed, Count: 1},
		{Hour: start.Add(-2 * time.Hour), Kind: tam.EventFailed, Count: 9},
	}))
	must(t, s.AddActivity(ctx, []tam.Activity{{Hour: hour, Kind: tam.EventAttested, Count: 4}}))
	must(t, s.AddActivity(ctx, nil))
	list, err := s.ActivitySince(ctx, start)
	must(t, err)
	equal(t, list, []tam.Activity{
		{Hour: hour, Kind: tam.EventAttested, Count: 7}, {Hour: hour, Kind: tam.EventFailed, Count: 1},
	})
}

func testRequests(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	r := tam.RequestRecord{ID: []byte{1}, Fingerprint: []byte{2}, Expires: start.Add(time.Hour)}
	want(t, s.CompleteRequest(ctx, r.ID, []byte{3}), tam.ErrNotFound)
	found, err := s.ReserveRequest(ctx, r, start)
	must(t, err)
	if found != nil {
		t.Fatal("there was a request already")
	}
	found, err = s.ReserveRequest(ctx, tam.RequestRecord{ID: r.ID, Fingerprint: []byte{9}, Expires: start}, start)
	must(t, err)
	equal(t, *found, r) // not complete, and the first one
	must(t, s.CompleteRequest(ctx, r.ID, []byte{3}))
	r.Answer = []byte{3}
	found, err = s.ReserveRequest(ctx, r, start)
	must(t, err)
	equal(t, *found, r)

	found, err = s.ReserveRequest(ctx, r, start.Add(2*time.Hour)) // expired: as if there were none
	must(t, err)
	if found != nil {
		t.Fatal("an expired request was found")
	}
	must(t, s.ReleaseRequest(ctx, r.ID))
	must(t, s.ReleaseRequest(ctx, r.ID))
	for n := range 3 {
		_, err = s.ReserveRequest(ctx, tam.RequestRecord{ID: []byte{byte(n)}, Fingerprint: []byte{1}, Expires: start}, start)
		must(t, err)
	}
	gone, err := s.SweepRequests(ctx, start.Add(time.Second), 2)
	must(t, err)
	equal(t, gone, 2)
	gone, err = s.SweepRequests(ctx, start.Add(time.Second), 2)
	must(t, err)
	equal(t, gone, 1)
}

func testRequestOnce(t *testing.T, open func() Operations) {
	replicas := []Operations{open(), open()}
	taken := errors.New("taken")
	won := concurrently(8, func(n int) error {
		found, err := replicas[n%2].ReserveRequest(context.Background(), tam.RequestRecord{ID: []byte{1}, Fingerprint: []byte{2}, Expires: start}, start)
		if err == nil && found != nil {
			return taken
		}
		return err
	})
	if won.ok != 1 || won.failed(taken) != 7 {
		t.Fatalf("%d reserved the same request, errors %v", won.ok, won.errs)
	}
}

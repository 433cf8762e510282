package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// happened appends an event of a device.
func happened(ctx context.Context, s tam.Exchanges, d *tam.Device, detail string) error {
	return s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: d.ID, At: start, Kind: tam.EventAttested, Detail: detail}})
}

func testFeed(t *testing.T, open func() Operations) {
	s := open()
	ctx := t.Context()
	n, err := s.FeedHead(ctx)
	must(t, err)
	equal(t, n, int64(0))
	one, two := device(1), device(2)
	create(t, s, one)
	create(t, s, two)
	from, err := s.FeedHead(ctx)
	must(t, err)
	for i := range 5 {
		d := one
		if i%2 == 1 {
			d = two
		}
		must(t, happened(ctx, s, d, fmt.Sprint("event ", i, " \x00 <b>")))
		if i%2 == 0 { // positions are given in between, too
			_, err := open().FeedHead(ctx)
			must(t, err)
		}
	}
	head, err := s.FeedHead(ctx)
	must(t, err)
	all, err := s.FeedEvents(ctx, from, 100)
	must(t, err)
	if len(all) != 5 || all[4].Position != head || head <= from {
		t.Fatalf("%d events up to %d after %d", len(all), head, from)
	}
	seen := map[string]bool{}
	for i, e := range all {
		if i > 0 && e.Position <= all[i-1].Position || !e.At.Equal(start) || e.Kind != tam.EventAttested || e.DeviceID != one.ID && e.DeviceID != two.ID {
			t.Errorf("%+v", e)
		}
		seen[e.Detail] = true
	}
	equal(t, len(seen), 5)
	page, err := open().FeedEvents(ctx, all[1].Position, 2)
	must(t, err)
	equal(t, page, all[2:4])
	newest, err := open().FeedBefore(ctx, 0, 2)
	must(t, err)
	equal(t, newest, []tam.FeedEvent{all[4], all[3]})
	earlier, err := s.FeedBefore(ctx, all[3].Position, 2)
	must(t, err)
	equal(t, earlier, []tam.FeedEvent{all[2], all[1]})
	first, err := s.FeedBefore(ctx, 1, 2)
	must(t, err)
	equal(t, len(first), 0)
	none, err := s.FeedEvents(ctx, head, 10)
	must(t, err)
	equal(t, len(none), 0)
	// The feed goes on where it was when its events are swept.
	_, err = s.Sweep(ctx, start, start.Add(time.Hour), 1000)
	must(t, err)
	must(t, happened(ctx, s, one, "later"))
	rest, err := s.FeedEvents(ctx, head, 10)
	must(t, err)
	if len(rest) != 1 || rest[0].Detail != "later" || rest[0].Position <= head {
		t.Fatalf("after sweeping: %+v", rest)
	}
}

// testFeedMissesNothing has several write while one follows.
func testFeedMissesNothing(t *testing.T, open func() Operations) {
	const writers, each = 4, 30
	s := open()
	var wg sync.WaitGroup
	for n := range writers {
		d := device(n)
		create(t, s, d)
		w := open()
		wg.Go(func() {
			for i := range each {
				if err := happened(context.Background(), w, d, fmt.Sprint(n, "/", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen, after := map[string]int{}, int64(0)
	for last := false; ; {
		page, err := s.FeedEvents(t.Context(), after, 7)
		must(t, err)
		for _, e := range page {
			if e.Position <= after {
				t.Fatalf("position %d after %d", e.Position, after)
			}
			after = e.Position
			seen[e.Detail]++
		}
		if len(page) > 0 {
			continue
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	for n := range writers {
		for i := range each {
			if got := seen[fmt.Sprint(n, "/", i)]; got != 1 {
				t.Errorf("event %d/%d was seen %d times", n, i, got)
			}
		}
	}
}

func testWebhooks(t *testing.T, open func() Operations) {
	s := open()
	ctx := t.Context()
	w := tam.Webhook{ID: "one", URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventFailed}, Secret: []byte{1, 2}, Created: start,
		WebhookProgress: tam.WebhookProgress{Position: 7}}
	must(t, s.AddWebhook(ctx, w))
	want(t, s.AddWebhook(ctx, w), tam.ErrExists)
	list, err := open().ListWebhooks(ctx, "", 10)
	must(t, err)
	equal(t, list, []tam.Webhook{w})
	list, err = s.ListWebhooks(ctx, "one", 10)
	must(t, err)
	equal(t, len(list), 0)

	until := start.Add(time.Minute)
	got, err := s.ClaimWebhook(ctx, "one", start, until)
	must(t, err)
	equal(t, *got, w)
	_, err = open().ClaimWebhook(ctx, "one", start, until.Add(time.Second))
	want(t, err, tam.ErrConflict)
	p := tam.WebhookProgress{Position: 9, Failures: 2, Next: start.Add(time.Hour), LastError: "500"}
	want(t, s.SettleWebhook(ctx, "one", until.Add(time.Second), p), tam.ErrConflict)
	must(t, s.SettleWebhook(ctx, "one", until, p))
	want(t, s.SettleWebhook(ctx, "one", until, p), tam.ErrConflict)
	_, err = s.ClaimWebhook(ctx, "one", start.Add(time.Minute), until)
	want(t, err, tam.ErrConflict) // not due
	got, err = s.ClaimWebhook(ctx, "one", p.Next, p.Next.Add(time.Second))
	must(t, err)
	equal(t, got.WebhookProgress, p)
	// Whoever claimed it and died gives way.
	_, err = open().ClaimWebhook(ctx, "one", p.Next.Add(time.Second), p.Next.Add(time.Minute))
	must(t, err)
	want(t, s.SettleWebhook(ctx, "one", p.Next.Add(time.Second), p), tam.ErrConflict)

	must(t, s.DeleteWebhook(ctx, "one"))
	want(t, s.DeleteWebhook(ctx, "one"), tam.ErrNotFound)
	_, err = s.ClaimWebhook(ctx, "one", start, until)
	want(t, err, tam.ErrNotFound)
	want(t, s.SettleWebhook(ctx, "one", until, p), tam.ErrNotFound)
	entries, err := s.AuditEntries(ctx, 0, 100)
	must(t, err)
	equal(t, []audit.Action{entries[0].Action, entries[1].Action}, []audit.Action{audit.ActionWebhookCreate, audit.ActionWebhookDelete})
}

// testRolloutEvents: what happens with a rollout is in the feed, in the same step, and between the events of devices
// where it happened.
func testRolloutEvents(t *testing.T, open func() Operations) {
	s, ctx := open(), t.Context()
	d := device(1)
	create(t, s, d)
	must(t, happened(ctx, s, d, "before"))
	_, err := s.FeedEvents(ctx, 0, 9) // it has its place
	must(t, err)
	change := policyChange("r", 0, "{}")
	change.Kind = tam.KindRollout
	change.Event = &tam.Event{Rollout: "r", At: start, Kind: tam.EventRolloutCreated, Detail: "a \x00 <b>"}
	must(t, s.ChangePolicy(ctx, change))
	_, err = s.FeedEvents(ctx, 0, 9)
	must(t, err)
	want(t, s.ChangePolicy(ctx, change), tam.ErrConflict)
	change.Revision, change.Catalogue = 1, 1<<40
	want(t, s.ChangePolicy(ctx, change), tam.ErrConflict)
	must(t, happened(ctx, s, d, "after"))
	list, err := open().FeedEvents(ctx, 0, 9)
	must(t, err)
	var said []string
	for _, e := range list {
		said = append(said, e.DeviceID+"/"+e.Rollout+"/"+string(e.Kind)+"/"+e.Detail)
	}
	about := d.ID + "//" + string(list[0].Kind) + "/"
	equal(t, said, []string{about + "before", "/r/rollout-created/a \x00 <b>", about + "after"})
	events, err := s.Events(ctx, d.ID, 0, 9)
	must(t, err)
	equal(t, len(events), 2)
}

package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/transport"
)

// supplied is an agent that takes what others signed.
type supplied struct {
	fakeAgent
	err error
}

func (a *supplied) ReplaceTrustAnchors(_ context.Context, signed []byte) error {
	a.note("trust %s", signed)
	return a.err
}

func (a *supplied) RenewRevocationLists(_ context.Context, files [][]byte) error {
	a.note("lists %s", bytes.Join(files, []byte("+")))
	return a.err
}

func (a *supplied) heard() string {
	told := a.told()
	a.mu.Lock()
	a.log = nil
	a.mu.Unlock()
	return told
}

type webFunc func(uri string, before transport.Download, limit int64) (*transport.Download, error)

func (f webFunc) Changed(_ context.Context, uri string, before transport.Download, limit int64) (*transport.Download, error) {
	return f(uri, before, limit)
}

func TestSupply(t *testing.T) {
	dir := t.TempDir()
	anchors, list := filepath.Join(dir, "anchors"), filepath.Join(dir, "list")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	web, asked := "web 1", 0
	var failure error
	var events []Event
	a := &supplied{}
	b := newBroker(t, a, func(o *Options) {
		o.Now, o.Random = func() time.Time { return now }, func() float64 { return 0.5 }
		o.Events = func(e Event) { events = append(events, e) }
		o.Supplies = Supplies{TrustAnchors: anchors, RevocationLists: []string{list, "https://ca.example/list"}, Interval: time.Minute,
			Web: webFunc(func(uri string, before transport.Download, limit int64) (*transport.Download, error) {
				asked++
				switch {
				case uri != "https://ca.example/list" || limit != link.MaxRevocationFile:
					t.Errorf("%s, %d", uri, limit)
				case failure != nil:
					return nil, failure
				case before.ETag == web:
					return nil, nil
				}
				return &transport.Download{Data: []byte(web), ETag: web}, nil
			})}
	})
	step := func(want string, ok bool) {
		t.Helper()
		if err := b.Supply(t.Context()); (err == nil) != ok {
			t.Error(err)
		}
		if got := a.heard(); got != want {
			t.Errorf("the agent was brought %q, want %q", got, want)
		}
	}
	step("lists web 1", true) // files that are not there yet are none
	write(anchors, "set 1")
	write(list, "list 1")
	step("trust set 1; lists list 1", true)
	step("", true)
	write(list, "list 22")
	step("lists list 22", true)
	web = "web 2"
	step("", true) // not due
	now = now.Add(time.Minute)
	step("lists web 2", true)
	now = now.Add(time.Minute)
	step("", true)
	if asked != 3 {
		t.Errorf("asked the web %d times", asked)
	}
	// What cannot be had is told once, and what was had stays.
	failure, events = errors.New("the server is away"), nil
	for range 3 {
		now = now.Add(time.Minute)
		step("", false)
	}
	if len(events) != 1 || events[0].Err == nil || events[0].Kind != EventSupply {
		t.Errorf("%+v", events)
	}
	failure = nil
	// What the agent refuses is not brought again, what it could not take is.
	a.err = fmt.Errorf("older: %w", link.ErrRefused)
	write(anchors, "set 0 x")
	step("trust set 0 x", false)
	step("", true)
	a.err = link.ErrClosed
	write(anchors, "set 3 xx")
	step("trust set 3 xx", false)
	a.err = nil
	step("trust set 3 xx", true)
	// An agent that was away gets everything again.
	b.bringAgain(b.tees[0])
	step("trust set 3 xx; lists list 22; lists web 2", true)
	// A file that is too large is not read.
	write(list, string(make([]byte, link.MaxRevocationFile+1)))
	step("", false)
}

func TestBroughtByHand(t *testing.T) {
	a := &supplied{}
	a.policy = none
	b := newBroker(t, a, nil)
	if err := b.ReplaceTrustAnchors(t.Context(), []byte("set"), Requirements{}); err != nil {
		t.Error(err)
	}
	if got := a.heard(); got != "trust set; policy" { // what was interrupted goes on
		t.Error(got)
	}
	if err := b.RenewRevocationLists(t.Context(), []byte("list"), Requirements{TEE: "one"}); err != nil || a.heard() != "lists list" {
		t.Error(err)
	}
	if err := b.ReplaceTrustAnchors(t.Context(), []byte("set"), Requirements{TEE: "two"}); !errors.Is(err, ErrNoTEE) {
		t.Error(err)
	}
	a.err = link.ErrRefused
	if err := b.ReplaceTrustAnchors(t.Context(), []byte("set"), Requirements{}); !errors.Is(err, link.ErrRefused) || !errors.Is(err, ErrAgent) || a.heard() != "trust set" {
		t.Error(err)
	}
}

func TestSuppliesAreChecked(t *testing.T) {
	for name, s := range map[string]Supplies{
		"URI without a client": {TrustAnchors: "https://x"}, "list without a client": {RevocationLists: []string{"http://x"}}, "negative": {Interval: -1},
	} {
		_, err := New(Options{TEEs: []TEE{{Name: "one", Agent: &fakeAgent{}}}, Poster: postFunc(noPost), Fetcher: openFunc(noFetch), Supplies: s})
		if err == nil {
			t.Error(name)
		}
	}
}

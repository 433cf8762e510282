package agent_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/link"
)

func TestBrokerLiesInDeliver(t *testing.T) {
	const content = "app that is long enough for several chunks"
	tests := map[string]struct {
		lie  func(c *link.Chunk)
		want error // nil: the Update fails instead
	}{
		"unknown session":  {func(c *link.Chunk) { c.Session++ }, agent.ErrSession},
		"unknown fetch":    {func(c *link.Chunk) { c.FetchID++ }, agent.ErrFetch},
		"wrong offset":     {func(c *link.Chunk) { c.Offset += 3 }, agent.ErrFetch},
		"negative offset":  {func(c *link.Chunk) { c.Offset = -1 }, agent.ErrFetch},
		"too much":         {func(c *link.Chunk) { c.Data, c.Last = append(bytes.Clone(c.Data), make([]byte, 8)...), false }, agent.ErrFetch},
		"nothing":          {func(c *link.Chunk) { c.Data, c.Last = nil, false }, agent.ErrFetch},
		"wrong data":       {func(c *link.Chunk) { c.Data = bytes.Repeat([]byte{'x'}, len(c.Data)) }, nil},
		"too early an end": {func(c *link.Chunk) { c.Last = true }, nil},
		"no end":           {func(c *link.Chunk) { c.Last = false }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Limits.Chunk = 8
			w.start()
			ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, content))))
			for err == nil && ask.Fetch != nil {
				c := w.chunk(ask)
				if c.Err != "" || len(c.Data) == 0 {
					c.Data, c.Err = []byte("y"), "" // beyond the end, where "no end" leads
				}
				tt.lie(&c)
				next, lied := w.agent.Deliver(t.Context(), c)
				if !errors.Is(lied, tt.want) || tt.want == nil && lied != nil {
					t.Fatalf("got %v, want %v", lied, tt.want)
				}
				if tt.want != nil {
					// The ask stands: the truth is still taken.
					next, err = w.agent.Deliver(t.Context(), w.chunk(ask))
				}
				ask = next
			}
			if err != nil {
				t.Fatal(err)
			}
			m := w.decode(ask)
			if _, ok := m.(*teep.Success); ok != (tt.want != nil) {
				t.Fatalf("got %#v", m)
			}
			if tt.want == nil {
				if _, err := w.run("code", nil, "hello"); err == nil {
					t.Error("installed")
				}
			}
		})
	}
}

func TestDeliverWithoutUpdate(t *testing.T) {
	w := newWorld(t)
	w.start()
	if _, err := w.agent.Deliver(t.Context(), link.Chunk{Session: w.connect(w.one).Session}); !errors.Is(err, agent.ErrFetch) {
		t.Error(err)
	}
}

func TestCallGivenUp(t *testing.T) {
	w := newWorld(t)
	w.start()
	session := w.connect(w.one).Session
	fetch, err := w.agent.ProcessTeepMessage(t.Context(), session, w.protect(w.one, install(t, w.fetchedHello(1, "app"))))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.agent.ProcessTeepMessage(gone, session, []byte{1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// The broker forgot the ask. It gets it again, but not at once.
	for range 3 {
		if ask, err := w.agent.RequestPolicyCheck(t.Context()); err != nil || ask.Fetch != nil {
			t.Fatalf("%+v, %v", ask, err)
		}
	}
	w.device.now = w.device.now.Add(time.Minute)
	again, err := w.agent.RequestPolicyCheck(t.Context())
	if err != nil || again.Fetch == nil || *again.Fetch != *fetch.Fetch {
		t.Fatalf("%+v, %v", again, err)
	}
	if again, err = w.serve(again); err != nil {
		t.Fatal(err)
	}
	if s, ok := w.decode(again).(*teep.Success); !ok {
		t.Fatalf("got %#v", s)
	}
}

func TestSessionsAreBoundedAndExpire(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Sessions = 3
	w.start()
	var sessions []uint64
	for range 5 {
		ask, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello")})
		if err != nil || ask.Session == 0 || slices.Contains(sessions, ask.Session) {
			t.Fatalf("%+v, %v", ask, err)
		}
		w.device.now = w.device.now.Add(time.Second)
		sessions = append(sessions, ask.Session)
	}
	raw := w.protect(w.one, query(t, teep.DataTrustedComponents))
	if _, err := w.agent.ProcessTeepMessage(t.Context(), sessions[0], raw); !errors.Is(err, agent.ErrSession) {
		t.Errorf("the oldest session lives on: %v", err)
	}
	w.device.now = w.device.now.Add(time.Hour)
	if _, err := w.agent.ProcessTeepMessage(t.Context(), sessions[4], raw); !errors.Is(err, agent.ErrSession) {
		t.Errorf("an idle session lives on: %v", err)
	}
	if err := w.agent.ProcessError(t.Context(), sessions[4], "x", "y"); !errors.Is(err, agent.ErrSession) {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	w := newWorld(t)
	w.start()
	session := w.connect(w.one).Session
	fetch, err := w.agent.ProcessTeepMessage(t.Context(), session, w.protect(w.one, install(t, w.fetchedHello(1, "app"))))
	if err != nil {
		t.Fatal(err)
	}
	a := w.agent
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err = a.Deliver(ctx, w.chunk(fetch))
	errs := map[string]error{"Deliver": err}
	_, errs["RequestTA"] = a.RequestTA(ctx, link.Request{Component: id("hello")})
	_, errs["UnrequestTA"] = a.UnrequestTA(ctx, id("hello"))
	_, errs["RequestPolicyCheck"] = a.RequestPolicyCheck(ctx)
	_, errs["ProcessTeepMessage"] = a.ProcessTeepMessage(ctx, session, []byte{1})
	errs["ProcessError"] = a.ProcessError(ctx, session, "", "")
	for name, err := range errs {
		if !errors.Is(err, agent.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.OpenSession(ctx, id("hello")); err == nil {
		t.Error("OpenSession")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestRequestTA(t *testing.T) {
	w := newWorld(t)
	w.two.components = "'two'"
	w.start()
	request := func(r link.Request) link.Ask {
		t.Helper()
		ask, err := w.agent.RequestTA(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return ask
	}
	if ask := request(link.Request{Component: id("hello"), TAMURI: "https://evil.example/"}); ask.TAMURI != w.one.uri {
		t.Errorf("a hint to a TAM that is not trusted: %+v", ask)
	}
	if ask := request(link.Request{Component: id("hello"), TAMURI: w.two.uri}); ask.TAMURI != w.one.uri {
		t.Errorf("a hint to a TAM that may not manage it: %+v", ask)
	}
	if ask := request(link.Request{Component: id("two"), TAMURI: w.two.uri}); ask.TAMURI != w.two.uri {
		t.Errorf("a good hint: %+v", ask)
	}
	w.mustInstall(w.one, w.hello(3, "app"))
	if ask := request(link.Request{Component: id("hello"), MinSequence: 3}); ask.Session != 0 || ask.TAMURI != "" {
		t.Errorf("asked for what is installed: %+v", ask)
	}
	if ask := request(link.Request{Component: id("hello"), MinSequence: 4}); ask.TAMURI != w.one.uri {
		t.Errorf("a newer one: %+v", ask)
	}
	for _, bad := range []link.ComponentID{nil, {}, make(link.ComponentID, 100), {make([]byte, 5000)}} {
		if _, err := w.agent.RequestTA(t.Context(), link.Request{Component: bad}); !errors.Is(err, agent.ErrLimit) {
			t.Errorf("identifier of %d parts: %v", len(bad), err)
		}
		if _, err := w.agent.UnrequestTA(t.Context(), bad); !errors.Is(err, agent.ErrLimit) {
			t.Error(err)
		}
	}
	// What an app does not need any longer is not asked for, and not run.
	if _, err := w.agent.UnrequestTA(t.Context(), id("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotInstalled) {
		t.Error(err)
	}
	w.start()
	if ask := request(link.Request{Component: id("hello")}); ask.TAMURI != "" {
		t.Errorf("needed again and still there: %+v", ask)
	}
	w.wantRun("app")
}

func TestRequestsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Requests = 3
	w.start()
	var err error
	for i := range 5 {
		_, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("hello", string(rune('a'+i)))})
	}
	if !errors.Is(err, agent.ErrLimit) {
		t.Error(err)
	}
	if _, err := w.agent.UnrequestTA(t.Context(), id("hello", "a")); err != nil {
		t.Error(err)
	}
	if _, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello", "z")}); err != nil {
		t.Error(err)
	}
}

func TestRequestNobodyMayServe(t *testing.T) {
	w := newWorld(t)
	w.one.components, w.two.components = "'one'", "'two'"
	w.start()
	if _, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello")}); !errors.Is(err, agent.ErrNoTAM) {
		t.Error(err)
	}
}

// TestBrokerGoneInAFetch: when the broker that was to bring a payload is gone, the next one is asked at
// once; as long as another is connected, it is not.
func TestBrokerGoneInAFetch(t *testing.T) {
	w := newWorld(t)
	w.start()
	first, second := w.agent.Connected(), w.agent.Connected()
	ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, "app"))))
	if err != nil || ask.Fetch == nil {
		t.Fatalf("%+v, %v", ask, err)
	}
	check := func() link.Ask {
		t.Helper()
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ask
	}
	first()
	if again := check(); again.Fetch != nil {
		t.Fatal("asked again while a broker is there")
	}
	second()
	again := check()
	if again.Fetch == nil || again.Fetch.URI != ask.Fetch.URI {
		t.Fatalf("not asked again: %+v", again)
	}
	if again, err = w.serve(again); err != nil {
		t.Fatal(err)
	}
	if s, ok := w.decode(again).(*teep.Success); !ok {
		t.Fatalf("got %#v", s)
	}
}

// TestPolicyRoundEnds: however short the interval, a round of policy checks names each TAM once.
func TestPolicyRoundEnds(t *testing.T) {
	w := newWorld(t)
	w.cfg.Policy.Interval = time.Nanosecond
	w.start()
	check := func() string {
		t.Helper()
		w.device.now = w.device.now.Add(time.Second)
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ask.TAMURI
	}
	for range 3 {
		if got := []string{check(), check(), check()}; !slices.Equal(got, []string{w.one.uri, w.two.uri, ""}) {
			t.Fatalf("a round of %q", got)
		}
	}
	// A round that the broker gave up does not keep a TAM waiting for long.
	if check() != w.one.uri {
		t.Fatal("no new round")
	}
	w.device.now = w.device.now.Add(time.Minute)
	if check() != w.one.uri {
		t.Error("the round that was given up goes on for ever")
	}
}

func TestPolicyCheckOneTAMAfterAnother(t *testing.T) {
	w := newWorld(t)
	w.cfg.Policy.Interval = 24 * time.Hour
	w.start()
	round := func() (uris []string) {
		t.Helper()
		for {
			ask, err := w.agent.RequestPolicyCheck(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ask.TAMURI == "" {
				return uris
			}
			uris = append(uris, ask.TAMURI)
		}
	}
	if got := round(); !slices.Equal(got, []string{w.one.uri, w.two.uri}) {
		t.Errorf("first round: %v", got)
	}
	w.start()
	if got := round(); got != nil {
		t.Errorf("at once again, after a restart: %v", got)
	}
	w.device.now = w.device.now.Add(24 * time.Hour)
	if got := round(); len(got) != 2 {
		t.Errorf("a day later: %v", got)
	}
	// A TAM that fails is tried less and less often, at its next URI, and others come first.
	var waits []time.Duration
	for range 4 {
		start := w.device.now
		ask := link.Ask{}
		for ask.TAMURI == "" || !strings.HasPrefix(ask.TAMURI, w.one.uri) {
			w.device.now = w.device.now.Add(time.Minute)
			var err error
			if ask, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), TAMURI: w.one.uri}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.agent.ProcessError(t.Context(), ask.Session, ask.TAMURI, "down"); err != nil {
			t.Fatal(err)
		}
		for !slices.ContainsFunc(round(), func(u string) bool { return strings.HasPrefix(u, w.one.uri) }) {
			w.device.now = w.device.now.Add(30 * time.Second)
		}
		waits = append(waits, w.device.now.Sub(start))
	}
	if !slices.IsSorted(waits) || waits[0] == waits[3] {
		t.Errorf("waits %v", waits)
	}
	if ask, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("shared")}); err != nil || ask.TAMURI != w.two.uri {
		t.Errorf("%+v, %v", ask, err)
	}
}

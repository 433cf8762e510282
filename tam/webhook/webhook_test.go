package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// receiver is a service that takes webhooks.
type receiver struct {
	server *httptest.Server
	secret []byte

	mu     sync.Mutex
	status int
	got    []Event
	bad    []error
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{secret: bytes.Repeat([]byte{7}, 32), status: http.StatusOK}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		body, err := io.ReadAll(req.Body)
		if err != nil {
			r.bad = append(r.bad, err)
		}
		if r.status != http.StatusOK {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(r.status)
			return
		}
		events, err := Verify(FormatSecret(r.secret), req.Header, body, time.Now())
		if err != nil {
			r.bad = append(r.bad, err)
		}
		r.got = append(r.got, events...)
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// taken lists the details of what arrived.
func (r *receiver) taken(t *testing.T) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.bad {
		t.Error(err)
	}
	var list []string
	for _, e := range r.got {
		list = append(list, e.Detail)
	}
	return strings.Join(list, " ")
}

// setting is a store with a webhook, and a sender whose clock can be set forward.
type setting struct {
	store  *sqlite.Store
	sender *Sender
	ahead  time.Duration
	n      int
}

func newSetting(t *testing.T, private bool) *setting {
	t.Helper()
	s := &setting{}
	var err error
	s.store, err = sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	t.Cleanup(func() { s.store.Close() })
	must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Device: &tam.Device{ID: "d", KeyThumbprint: []byte{1}, AgentKey: []byte{1}, Status: tam.DeviceAccepted}}))
	s.restart(private)
	return s
}

// restart is a new process over the same store.
func (s *setting) restart(private bool) {
	s.sender = NewSender(Config{Store: s.store, InsecurePrivateAddresses: private, Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { return time.Now().Add(s.ahead) }})
}

func (s *setting) hook(t *testing.T, url string, secret []byte, kinds ...tam.EventKind) {
	t.Helper()
	must(t, s.store.AddWebhook(t.Context(), tam.Webhook{ID: fmt.Sprint("hook", s.n), URL: url, Secret: secret, Kinds: kinds}))
}

func (s *setting) happens(t *testing.T, kind tam.EventKind, detail string) {
	t.Helper()
	must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Event: &tam.Event{DeviceID: "d", At: time.Now(), Kind: kind, Detail: detail}}))
}

func (s *setting) progress(t *testing.T) tam.WebhookProgress {
	t.Helper()
	list, err := s.store.ListWebhooks(t.Context(), "", 10)
	must(t, err)
	return list[0].WebhookProgress
}

func TestDelivery(t *testing.T) {
	s, r := newSetting(t, true), newReceiver(t)
	s.hook(t, r.server.URL, r.secret, tam.EventFailed, tam.EventSucceeded)
	s.happens(t, tam.EventFailed, "a")
	s.happens(t, tam.EventAttested, "not wanted")
	s.happens(t, tam.EventSucceeded, "b")
	must(t, s.sender.Deliver(t.Context()))
	must(t, s.sender.Deliver(t.Context()))
	if got := r.taken(t); got != "a b" {
		t.Fatalf("taken %q", got)
	}
	s.happens(t, tam.EventAttested, "not wanted")
	must(t, s.sender.Deliver(t.Context()))
	if head, err := s.store.FeedHead(t.Context()); err != nil || s.progress(t).Position != head {
		t.Errorf("what it does not want holds it up: %+v, head %d, %v", s.progress(t), head, err)
	}
}

// TestRetriesSurviveARestart: what is refused, redirected or not reachable is sent again, after growing
// pauses, by another process, in order, and nothing is lost.
func TestRetriesSurviveARestart(t *testing.T) {
	s, r := newSetting(t, true), newReceiver(t)
	s.hook(t, r.server.URL, r.secret)
	s.happens(t, tam.EventFailed, "a")
	longest := time.Duration(0)
	for n, status := range []int{http.StatusInternalServerError, http.StatusFound, http.StatusTemporaryRedirect, http.StatusUnauthorized, http.StatusGone} {
		r.answer(status)
		must(t, s.sender.Deliver(t.Context()))
		p := s.progress(t)
		left := time.Until(p.Next) - s.ahead
		if p.Failures != n+1 || p.LastError == "" || left < longest {
			t.Fatalf("after %d: %+v, next in %v, before %v", status, p, left, longest)
		}
		longest = left
		must(t, s.sender.Deliver(t.Context())) // not due
		if again := s.progress(t); again.Failures != p.Failures {
			t.Fatal("it did not wait")
		}
		s.happens(t, tam.EventFailed, fmt.Sprint(n))
		s.ahead += 2 * left
		s.restart(true)
	}
	s.ahead = 0
	r.answer(http.StatusOK)
	must(t, s.store.DeleteWebhook(t.Context(), "hook0"))
	s.hook(t, r.server.URL, r.secret) // from the beginning, due now
	must(t, s.sender.Deliver(t.Context()))
	if got := r.taken(t); got != "a 0 1 2 3 4" {
		t.Fatalf("taken %q", got)
	}
}

// TestSeveralSenders: replicas do not tell twice what was taken.
func TestSeveralSenders(t *testing.T) {
	s, r := newSetting(t, true), newReceiver(t)
	s.hook(t, r.server.URL, r.secret)
	var want []string
	for n := range 250 {
		s.happens(t, tam.EventFailed, fmt.Sprint(n))
		want = append(want, fmt.Sprint(n))
	}
	var wg sync.WaitGroup
	for range 4 {
		other := NewSender(s.sender.config)
		wg.Go(func() {
			for range 4 {
				if err := other.Deliver(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, s.sender.Deliver(t.Context()))
	must(t, s.sender.Deliver(t.Context()))
	must(t, s.sender.Deliver(t.Context()))
	if got := r.taken(t); got != strings.Join(want, " ") {
		t.Fatalf("taken %q", got)
	}
}

// TestSlowReceiver: one that does not answer keeps nobody else waiting, and who has much to be told is told it in one go.
func TestSlowReceiver(t *testing.T) {
	s, r := newSetting(t, true), newReceiver(t)
	hangs := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer slow.Close()
	defer close(hangs)
	s.hook(t, slow.URL, r.secret)
	s.n++
	s.hook(t, r.server.URL, r.secret)
	var want []string
	for n := range 4*batch + 1 {
		s.happens(t, tam.EventFailed, fmt.Sprint(n))
		want = append(want, fmt.Sprint(n))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { must(t, s.sender.Run(ctx)) })
	for deadline := time.Now().Add(20 * time.Second); r.taken(t) != strings.Join(want, " ") && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	running.Wait()
	if got := r.taken(t); got != strings.Join(want, " ") {
		t.Errorf("taken %q", got)
	}
}

// TestOnlyToTheInternet: neither a URL nor what a name leads to reaches into the operator's network.
func TestOnlyToTheInternet(t *testing.T) {
	s, r := newSetting(t, false), newReceiver(t)
	s.hook(t, strings.Replace(r.server.URL, "http://", "https://", 1), r.secret)
	s.happens(t, tam.EventFailed, "a")
	must(t, s.sender.Deliver(t.Context()))
	if p := s.progress(t); p.Failures != 1 || !strings.Contains(p.LastError, "not an address of the Internet") {
		t.Fatalf("%+v", p)
	}
	res, err := newClient(false).Get(strings.Replace(r.server.URL, "127.0.0.1", "localhost", 1))
	if err == nil {
		must(t, res.Body.Close())
		t.Fatal("a name led to this machine")
	}
	if !errors.Is(err, ErrAddress) {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "198.18.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fd00::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001:db8::1": false, "ff02::1": false, "fec0::1": false,
	} {
		if public(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: public is not %v", text, want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]bool{
		"https://example.com/x?y=1": true, "http://example.com": false, "ftp://example.com": false, "//example.com": false, "example.com": false,
		"https://": false, "https://u:p@example.com": false, "https://example.com/#x": false, "file:///etc/passwd": false, "": false, "https://ex ample": false,
		"https://example.com/" + strings.Repeat("x", 2048): false,
	} {
		if err := CheckURL(text, false); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := CheckURL("http://127.0.0.1", true); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	secret, now := bytes.Repeat([]byte{1}, 32), time.Now()
	body, err := json.Marshal(message{[]Event{{Position: 1, Kind: tam.EventFailed}}})
	must(t, err)
	stamp := fmt.Sprint(now.Unix())
	good := func() http.Header {
		h := http.Header{}
		h.Set(headerID, "id")
		h.Set(headerTimestamp, stamp)
		h.Set(headerSignature, "v1,AAAA "+sign(secret, "id", stamp, body))
		return h
	}
	if events, err := Verify(FormatSecret(secret), good(), body, now); err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
	for name, change := range map[string]func(h http.Header) (string, []byte, time.Time){
		"other secret": func(http.Header) (string, []byte, time.Time) { return FormatSecret(secret[1:]), body, now },
		"no secret":    func(http.Header) (string, []byte, time.Time) { return "", body, now },
		"empty secret": func(http.Header) (string, []byte, time.Time) { return secretPrefix, body, now },
		"other body":   func(http.Header) (string, []byte, time.Time) { return FormatSecret(secret), append(body, ' '), now },
		"old": func(http.Header) (string, []byte, time.Time) {
			return FormatSecret(secret), body, now.Add(6 * time.Minute)
		},
		"from the future": func(http.Header) (string, []byte, time.Time) {
			return FormatSecret(secret), body, now.Add(-6 * time.Minute)
		},
		"other ID": func(h http.Header) (string, []byte, time.Time) {
			h.Set(headerID, "other")
			return FormatSecret(secret), body, now
		},
		"other time": func(h http.Header) (string, []byte, time.Time) {
			h.Set(headerTimestamp, fmt.Sprint(now.Unix()+1))
			return FormatSecret(secret), body, now
		},
		"no signature": func(h http.Header) (string, []byte, time.Time) {
			h.Del(headerSignature)
			return FormatSecret(secret), body, now
		},
		"no time": func(h http.Header) (string, []byte, time.Time) {
			h.Del(headerTimestamp)
			return FormatSecret(secret), body, now
		},
	} {
		h := good()
		secret, body, now := change(h)
		if _, err := Verify(secret, h, body, now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestEventsOfRollouts: an event is about a device or about a rollout, and says which.
func TestEventsOfRollouts(t *testing.T) {
	for _, c := range []struct {
		event tam.Event
		want  string
	}{
		{tam.Event{DeviceID: "0123", Kind: tam.EventFailed, Detail: "why"}, `"device":"0123"`},
		{tam.Event{Rollout: "spring", Kind: tam.EventRolloutStopped, Detail: "why"}, `"rollout":"spring"`},
	} {
		data, err := json.Marshal(NewEvent(tam.FeedEvent{Position: 1, Event: c.event}))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(data); !strings.Contains(text, c.want) || strings.Contains(text, `"device"`) == strings.Contains(text, `"rollout"`) {
			t.Errorf("%s lacks %s", text, c.want)
		}
	}
}

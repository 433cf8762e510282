package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

// happens appends an event of the device of [service.device].
func (s *service) happens(detail string) {
	s.t.Helper()
	must(s.t, s.config.Store.CommitExchange(s.t.Context(), tam.Exchange{
		Event: &tam.Event{DeviceID: "0123", At: s.now, Kind: tam.EventFailed, Detail: detail}}))
}

// TestStreamResumes: who was cut off goes on after the last event that it saw.
func TestStreamResumes(t *testing.T) {
	s := newService(t).goesOn()
	s.device(t.Context())
	c := s.client(ScopeAuditor)
	all, err := c.FeedEvents(t.Context(), "")
	must(t, err)
	if len(all.Items) != 1 {
		t.Fatalf("%+v", all)
	}
	last, enough := all.Items[0].Position, errors.New("enough")
	for round := range 3 {
		hostile := fmt.Sprintf("%d\ndata: forged\n\n<b>", round)
		s.happens(hostile)
		s.happens("second")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var seen []FeedEvent
		err := c.Follow(ctx, last, func(e FeedEvent) error {
			seen = append(seen, e)
			if len(seen) == 2 {
				return enough
			}
			return nil
		})
		cancel()
		if !errors.Is(err, enough) || seen[0].Detail != hostile || seen[1].Detail != "second" || seen[0].Device != "0123" {
			t.Fatalf("%v, %+v", err, seen)
		}
		last = seen[1].Position
	}
}

// TestStreamFromNow: without a position, a stream has what happens after it began.
func TestStreamFromNow(t *testing.T) {
	s := newService(t).goesOn()
	s.device(t.Context())
	s.happens("before")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL+"/v1/events/stream", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+s.token(ScopeOperator))
	res, err := s.server.Client().Do(req)
	must(t, err)
	defer res.Body.Close()
	if res.Header.Get("Content-Type") != streamMediaType || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v", res.Header)
	}
	s.happens("after")
	var text strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(text.String(), "\n\nid: ") {
		n, err := res.Body.Read(buffer)
		must(t, err)
		text.Write(buffer[:n])
	}
	if !strings.Contains(text.String(), `"after"`) || strings.Contains(text.String(), `"before"`) {
		t.Fatalf("%q", text.String())
	}
}

// TestStreamsEnd: with the service, with the token, and when there are too many.
func TestStreamsEnd(t *testing.T) {
	s := newService(t)
	if err := s.client(ScopeAuditor).Follow(t.Context(), 0, func(FeedEvent) error { return nil }); err != nil {
		t.Errorf("the service ends: %v", err)
	}

	inside := &handler{Config: s.config}
	secret, token, err := IssueToken(t.Context(), s.config.Store, TokenRequest{Name: "x", Scopes: []Scope{ScopeAuditor}, Lifetime: time.Hour}, s.now, strings.NewReader(strings.Repeat("r", 40)))
	must(t, err)
	r := httptest.NewRequest("GET", "/v1/events/stream", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	r = r.WithContext(WithCaller(r.Context(), tokenCaller(token)))
	must(t, inside.mayStill(r))
	must(t, s.config.Store.RevokeAPIToken(t.Context(), token.ID, s.now))
	if err := inside.mayStill(r); err == nil {
		t.Error("a revoked token reads on")
	}

	now := time.Now()
	if look, speak := (&stream{spoken: now, looked: now.Add(-streamAlive)}).due(now); !look || speak {
		t.Error("nobody looks at who reads a stream that has much to say")
	}

	full := &handler{Config: s.config, streams: make(chan struct{})}
	err = full.streamFeed(httptest.NewRecorder(), r)
	wantProblem(t, err, http.StatusServiceUnavailable, "too-many-streams")
	for _, after := range []string{"x", "-1"} {
		if status, p := s.request("GET", "/v1/events/stream?after="+after, "Bearer "+s.token(ScopeAuditor), nil, ""); status != http.StatusBadRequest || p.Code != "after" {
			t.Errorf("after %s: %d", after, status)
		}
	}
}

func TestWebhooks(t *testing.T) {
	s := newService(t)
	s.device(t.Context())
	admin := s.client(ScopeAdministrator)
	made, err := admin.AddWebhook(t.Context(), NewWebhook{URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventFailed}})
	must(t, err)
	if !strings.HasPrefix(made.Secret, "whsec_") || made.Position == 0 {
		t.Fatalf("%+v", made)
	}
	list, err := s.client(ScopeAuditor).Webhooks(t.Context(), "")
	must(t, err)
	if len(list.Items) != 1 || list.Items[0].Secret != "" || list.Items[0].ID != made.ID {
		t.Fatalf("%+v", list)
	}
	for name, w := range map[string]NewWebhook{
		"http": {URL: "http://example.com"}, "nothing": {}, "file": {URL: "file:///etc/passwd"}, "kind": {URL: "https://example.com", Kinds: []tam.EventKind{"x"}},
	} {
		_, err := admin.AddWebhook(t.Context(), w)
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(s.log.String(), made.Secret) {
		t.Error("the secret is in the log")
	}
	must(t, admin.DeleteWebhook(t.Context(), made.ID))
	wantProblem(t, admin.DeleteWebhook(t.Context(), made.ID), http.StatusNotFound, "not-found")
	for n := range maxWebhooks {
		must(t, s.config.Store.AddWebhook(t.Context(), tam.Webhook{ID: fmt.Sprint(n)}))
	}
	_, err = admin.AddWebhook(t.Context(), NewWebhook{URL: "https://example.com/hook"})
	wantProblem(t, err, http.StatusConflict, "too-many")
}

// TestNewestEvents: the same events, from the other end.
func TestNewestEvents(t *testing.T) {
	s := newService(t).goesOn()
	s.device(t.Context())
	for n := range 4 {
		s.happens(fmt.Sprint(n))
	}
	c := s.client(ScopeAuditor)
	var seen []string
	for after := ""; ; {
		page, err := c.NewestEvents(t.Context(), after, 2)
		must(t, err)
		for _, e := range page.Items {
			seen = append(seen, e.Detail)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(seen) != 5 || strings.Join(seen[:4], "") != "3210" {
		t.Errorf("%q", seen)
	}
	var p *Problem
	if _, err := c.Raw(t.Context(), "GET", "/v1/events?order=sideways", nil); !errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Code != "order" {
		t.Errorf("%v", err)
	}
}

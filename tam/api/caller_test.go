package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// badge recognizes callers by a header, for tests.
type badge struct {
	expires time.Time
	broken  bool
}

func (b *badge) Authenticate(r *http.Request) (*Caller, error) {
	switch name := r.Header.Get("Badge"); {
	case b.broken:
		return nil, errors.New("the provider is down")
	case name == "":
		return nil, nil
	default:
		return &Caller{ID: "badge:" + name, Name: name, Scopes: []Scope{Scope(r.Header.Get("Role"))}, Expires: b.expires}, nil
	}
}

// TestOtherAuthenticators: the same routes, scopes, audit log and idempotency for those without a token.
func TestOtherAuthenticators(t *testing.T) {
	s := newService(t)
	known := &badge{expires: s.now.Add(time.Hour)}
	s.config.Authenticators = []Authenticator{known}
	h, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = h
	as := func(name string, role Scope, more ...string) http.Header {
		header := http.Header{"Badge": {name}, "Role": {string(role)}, "Content-Type": {"application/json"}}
		for i := 0; i < len(more); i += 2 {
			header.Set(more[i], more[i+1])
		}
		return header
	}
	s.device(t.Context())
	for role, want := range map[Scope]int{
		ScopeAdministrator: 200, ScopeOperator: 200, ScopePublisher: 403, ScopeAuditor: 403, "": 403, "root": 403,
	} {
		if status, _ := s.request("PATCH", "/v1/devices/0123", "", as("ada", role), `{"status":"blocked"}`); status != want {
			t.Errorf("role %q: %d, want %d", role, status, want)
		}
	}
	entries, err := s.config.Store.AuditEntries(t.Context(), 0, 10)
	must(t, err)
	if e := entries[len(entries)-1]; e.ActorID != "badge:ada" || e.Via != "api" {
		t.Errorf("audit log: %+v", e)
	}
	make1 := func(name string) (int, string, bool) {
		req := httptest.NewRequest("POST", "/v1/tokens", strings.NewReader(`{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`))
		req.Header = as(name, ScopeAdministrator, idempotencyHeader, "k")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		body, err := io.ReadAll(w.Result().Body)
		must(t, err)
		return w.Code, string(body), w.Header().Get(replayedHeader) != ""
	}
	_, first, _ := make1("ada")
	if status, again, replayed := make1("ada"); status != http.StatusCreated || !replayed || again != first {
		t.Errorf("repeated: %d, replayed %v", status, replayed)
	}
	if _, other, replayed := make1("bob"); replayed || other == first {
		t.Error("the answer to one was given to another")
	}
	// A header with a token counts, whatever else comes with it.
	if status, _ := s.request("GET", "/v1/tokens", "Bearer teep_x", as("ada", ScopeAdministrator), ""); status != http.StatusUnauthorized {
		t.Errorf("a worthless token with a good badge: %d", status)
	}
	known.broken = true
	if status, p := s.request("GET", "/v1/devices", "", as("ada", ScopeAdministrator), ""); status != http.StatusServiceUnavailable {
		t.Errorf("provider down: %d %+v", status, p)
	}
	if _, err := s.client(ScopeAuditor).Devices(t.Context(), ""); err != nil {
		t.Errorf("tokens need no provider: %v", err)
	}
}

// TestCallerOfTheProcessExpires: what the console vouches for ends.
func TestCallerOfTheProcessExpires(t *testing.T) {
	s := newService(t)
	h, err := NewHandler(s.config)
	must(t, err)
	for left, want := range map[time.Duration]int{time.Second: http.StatusOK, 0: http.StatusUnauthorized} {
		r := httptest.NewRequest("GET", "/v1/devices", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), &Caller{ID: "x", Scopes: []Scope{ScopeAuditor}, Expires: s.now.Add(left)})))
		if w.Code != want {
			t.Errorf("%v left: %d", left, w.Code)
		}
	}
}

// TestOtherSitesChangeNothing: a browser sends the client certificate of who looks at a page with whatever that page has
// it send. No route that changes anything takes that, with or without a body, and reading stays possible.
func TestOtherSitesChangeNothing(t *testing.T) {
	s := newService(t)
	s.config.Authenticators = []Authenticator{&badge{expires: s.now.Add(time.Hour)}}
	h, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = h
	s.addAuthor("acme", s.author)
	s.device(t.Context())
	head, err := s.config.Store.AuditHead(t.Context())
	must(t, err)
	for _, r := range s.config.routes() {
		method, path := concrete(r.pattern)
		for name, header := range map[string]http.Header{
			"another site":     {"Sec-Fetch-Site": {"cross-site"}},
			"a neighbour":      {"Sec-Fetch-Site": {"same-site"}},
			"an older browser": {"Origin": {"https://evil.example"}},
			"no origin at all": {"Origin": {"null"}},
		} {
			header.Set("Badge", "ada")
			header.Set("Role", string(ScopeAdministrator))
			status, p := s.request(method, path, "", header, "")
			if refused := status == http.StatusForbidden && p.Code == "cross-origin"; refused == (method == http.MethodGet) {
				t.Errorf("%s from %s: %d %+v", r.pattern, name, status, p)
			}
		}
	}
	if now, err := s.config.Store.AuditHead(t.Context()); err != nil || now != head {
		t.Errorf("something was changed: %+v after %+v, %v", now, head, err)
	}
	for name, header := range map[string]http.Header{
		"a program": {}, "a page of the TAM": {"Sec-Fetch-Site": {"same-origin"}}, "its older browser": {"Origin": {s.server.URL}},
	} {
		header.Set("Badge", "ada")
		header.Set("Role", string(ScopeAdministrator))
		if status, p := s.request("POST", "/v1/publishers/nobody/revoke", "", header, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d %+v", name, status, p)
		}
	}
}

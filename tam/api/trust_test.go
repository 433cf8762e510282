package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/sqlite"
)

func TestBodiesAreStrict(t *testing.T) {
	s := newService(t)
	auth := "Bearer " + s.token(ScopeAdministrator)
	kind := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for name, body := range map[string]string{
		"empty":          "",
		"not JSON":       "mode=required",
		"unknown member": `{"mode":"required","color":"red"}`,
		"two objects":    `{"mode":"required"}{}`,
		"wrong type":     `{"mode":1}`,
		"truncated":      `{"mode":"requ`,
	} {
		if status, p := s.request("PUT", "/v1/policy/x", auth, kind, body); status != http.StatusBadRequest || p.Code != "json" {
			t.Errorf("%s: %d", name, status)
		}
	}
	large := `{"mode":"` + strings.Repeat("x", maxJSON) + `"}`
	if status, _ := s.request("PUT", "/v1/policy/x", auth, kind, large); status != http.StatusRequestEntityTooLarge {
		t.Errorf("large: %d", status)
	}
	if status, _ := s.request("PUT", "/v1/policy/x", auth, http.Header{"Content-Type": {"text/plain"}}, "{}"); status != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", status)
	}
	if status, p := s.request("GET", "/v1/nothing", auth, nil, ""); status != http.StatusNotFound || p.Code != "path" {
		t.Errorf("unknown path: %d", status)
	}
	if status, p := s.request("DELETE", "/v1/devices", auth, nil, ""); status != http.StatusMethodNotAllowed || !strings.Contains(p.Next, "GET") {
		t.Errorf("unknown method: %d %+v", status, p)
	}
}

// TestClientKeepsItsToken: a redirect must not carry the token away.
func TestClientKeepsItsToken(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c := &Client{BaseURL: server.URL, Token: "teep_secret"}
	if err := c.Health(t.Context()); err == nil || reached {
		t.Fatalf("followed: %v, error %v", reached, err)
	}
	if err := (&Client{BaseURL: "http://127.0.0.1:1"}).Health(t.Context()); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("unreachable: %v", err)
	}
}

func TestStoreFailure(t *testing.T) {
	s := newService(t)
	c := s.client(ScopeAdministrator)
	must(t, s.config.Store.(*sqlite.Store).Close())
	for _, err := range []error{c.Health(t.Context()), func() error { _, err := c.Devices(t.Context(), ""); return err }()} {
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || strings.Contains(p.Detail, "sql") {
			t.Errorf("got %v", err)
		}
	}
}

func TestPublishersAndTokens(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	admin := s.client(ScopeAdministrator)
	s.addAuthor("acme", s.author)
	private, err := s.author.MarshalPEM()
	must(t, err)
	for _, test := range []struct {
		p      NewPublisher
		status int
		code   string
	}{
		{NewPublisher{Name: "x", Keys: []string{"no PEM"}, Prefixes: []string{"x"}}, http.StatusBadRequest, "key"},
		{NewPublisher{Name: "x", Keys: []string{string(private)}, Prefixes: []string{"x"}}, http.StatusBadRequest, "private-key"},
		{NewPublisher{Name: "x", Prefixes: []string{"x"}}, http.StatusUnprocessableEntity, "publisher"},
		{NewPublisher{Name: "x", Prefixes: []string{"//"}}, http.StatusBadRequest, "component-identifier"},
	} {
		_, err := admin.AddPublisher(ctx, test.p)
		wantProblem(t, err, test.status, test.code)
		if strings.Contains(err.Error(), string(private[40:60])) {
			t.Error("the answer repeats the key")
		}
	}
	wantProblem(t, admin.RevokePublisher(ctx, "nobody"), http.StatusNotFound, "not-found")

	made, err := admin.AddToken(ctx, NewToken{Name: "ci", Scopes: []Scope{ScopePublisher}, Lifetime: Duration(time.Hour)})
	must(t, err)
	if !strings.HasPrefix(made.Secret, tokenPrefix) {
		t.Fatalf("secret %q", made.Secret)
	}
	ci := &Client{BaseURL: s.server.URL, Token: made.Secret}
	_, err = ci.Versions(ctx, "")
	must(t, err)
	list, err := admin.Tokens(ctx, "")
	must(t, err)
	for _, tok := range list.Items {
		if tok.Secret != "" {
			t.Error("the list shows secrets")
		}
	}
	for _, bad := range []NewToken{
		{Scopes: []Scope{ScopePublisher}, Lifetime: Duration(time.Hour)},
		{Name: "x", Lifetime: Duration(time.Hour)},
		{Name: "x", Scopes: []Scope{"root"}, Lifetime: Duration(time.Hour)},
		{Name: "x", Scopes: []Scope{ScopePublisher}},
		{Name: "x", Scopes: []Scope{ScopePublisher}, Lifetime: Duration(367 * 24 * time.Hour)},
		{Name: "x", Scopes: []Scope{ScopePublisher}, Lifetime: Duration(-time.Hour)},
	} {
		_, err := admin.AddToken(ctx, bad)
		wantProblem(t, err, http.StatusUnprocessableEntity, "token-request")
	}
	must(t, admin.RevokeToken(ctx, made.ID))
	_, err = ci.Versions(ctx, "")
	wantProblem(t, err, http.StatusUnauthorized, "token-expired")
	if strings.Contains(s.log.String(), made.Secret) {
		t.Error("the secret is in the log")
	}
}

package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/api/apitest"
)

// TestEveryTextOfTheAPIIsText shows every page with a hostile text in each field of each answer of the API that may
// have a text: whatever somebody finds a way to put there, it does nothing but to be read. It does not depend on what
// the real API lets in.
func TestEveryTextOfTheAPIIsText(t *testing.T) {
	real := newService(t)
	w := httptest.NewRecorder()
	h, err := api.NewHandler(api.Config{TAM: real.tam, Store: real.store})
	must(t, err)
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	a, nth := apitest.New(t, w.Body.Bytes()), 0
	a.Text = func() string { // another one each time, so that names differ
		nth++
		return hostile + strings.Repeat("+", nth%7)
	}
	s := newService(t, func(c *Config) { c.API = a.Handler(t) })
	secret, _ := s.token(api.ScopeAdministrator)
	c := s.browser()
	if r := s.post(c, "login", url.Values{"token": {secret}}); r.status != http.StatusSeeOther {
		t.Fatalf("login: %d", r.status)
	}
	shown, hostilePages := 0, 0
	for a.Variant = range 8 {
		for _, r := range routes() {
			method, path, _ := strings.Cut(r.pattern, " ")
			if method != "GET" {
				continue
			}
			r := s.get(c, concretePath(path, "x"))
			inspect(t, path, r.body)
			shown++
			if r.status == http.StatusOK && strings.Contains(html.UnescapeString(r.body), "<script>alert(1)</script>") {
				hostilePages++
			}
			if strings.Contains(r.body, "<script>alert") || strings.Contains(r.body, "<img src=x") {
				t.Errorf("%s has the text as it is", path)
			}
		}
	}
	// Forms for something new, and pages that cannot show what is no number, show none.
	if hostilePages < shown/2 {
		t.Errorf("only %d of %d pages show a hostile text: the test proves little", hostilePages, shown)
	}
	for _, route := range []string{"/v1/devices", "/v1/devices/{id}", "/v1/devices/{id}/events", "/v1/devices/{id}/messages/{message}", "/v1/components", "/v1/publishers",
		"/v1/policy", "/v1/groups", "/v1/groups/{name}", "/v1/rollouts", "/v1/rollouts/{name}", "/v1/removals", "/v1/audit", "/v1/overview"} {
		if a.Asked("GET "+route) == 0 {
			t.Errorf("no page shows anything of %s", route)
		}
	}
}

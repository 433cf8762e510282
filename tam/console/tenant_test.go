package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam/api"
)

// TestTenant: the console of a tenant names it, and leads nowhere else.
func TestTenant(t *testing.T) {
	s := newService(t, func(c *Config) { c.Base = "/t/acme" })
	s.fill(t.Context())
	server := httptest.NewServer(http.StripPrefix("/t/acme", s.server.Config.Handler))
	defer server.Close()
	secret, _ := s.token(api.ScopeAdministrator)
	c := s.browser()
	res, err := c.PostForm(server.URL+"/t/acme"+Prefix+"login", url.Values{"token": {secret}})
	must(t, err)
	must(t, res.Body.Close())
	if to := res.Header.Get("Location"); to != "/t/acme"+Prefix {
		t.Fatalf("after the login: %d, %q", res.StatusCode, to)
	}
	for _, p := range paths() {
		if p[0] != "GET" {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/t/acme"+Prefix+p[1], nil)
		must(t, err)
		r := s.do(c, req)
		if r.status != http.StatusOK || !strings.Contains(r.body, `<span class="tenant">acme</span>`) {
			t.Errorf("%s: %d, or it does not name the tenant", p[1], r.status)
		}
		for _, attribute := range []string{`href="/`, `action="/`, `src="/`} {
			for _, to := range strings.Split(r.body, attribute)[1:] {
				if !strings.HasPrefix(to, "t/acme/console/") {
					t.Errorf("%s leads to /%.40s", p[1], to)
				}
			}
		}
	}
}

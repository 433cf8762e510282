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
	s := newFilled(t, hostile, func(c *Config) { c.Base = "/t/acme" })
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

// TestSwitchTenant: one goes from any console of a service to any other, and is told of tenants only where one
// administers the service.
func TestSwitchTenant(t *testing.T) {
	all := func() ([]string, error) { return []string{"acme", "other"}, nil }
	for _, where := range []struct {
		base  string
		there *Tenants
		scope api.Scope
		told  bool
	}{
		{"", &Tenants{Path: "/t/", Names: all}, api.ScopeAdministrator, true},
		{"", &Tenants{Path: "/t/", Names: all}, api.ScopeAuditor, false},
		{"/t/acme", &Tenants{Path: "/t/"}, api.ScopeAdministrator, false},
		{"", nil, api.ScopeAdministrator, false},
	} {
		s := newService(t, func(c *Config) { c.Base, c.Tenants = where.base, where.there })
		c, csrf := s.login(where.scope)
		page := s.get(c, "tenants")
		if where.base == "" {
			inspect(t, "tenants", page.body)
		}
		if told := strings.Contains(page.body, `value="other"`); page.status != http.StatusOK || told != where.told {
			t.Errorf("%q as %s: %d, told of tenants: %v", where.base, where.scope, page.status, told)
		}
		if shown := strings.Contains(s.get(c, "").body, "Switch tenant"); shown != (where.there != nil) {
			t.Errorf("%q: a way to tenants is shown: %v", where.base, shown)
		}
		if where.there == nil {
			continue
		}
		for name, to := range map[string]string{"other": "/t/other" + Prefix, "": "", "../x": "", "a/b": "", "//evil.example": "", "a\r\nb": ""} {
			r := s.post(c, "tenants", url.Values{"csrf": {csrf}, "name": {name}})
			if to == "" && (r.status != http.StatusUnprocessableEntity || r.header.Get("Location") != "") || to != "" && r.header.Get("Location") != to {
				t.Errorf("%q to %q: %d, %q", where.base, name, r.status, r.header.Get("Location"))
			}
		}
		if r := s.post(c, "tenants", url.Values{"csrf": {csrf}, "service": {"yes"}}); r.header.Get("Location") != Prefix {
			t.Errorf("%q to the service itself: %d, %q", where.base, r.status, r.header.Get("Location"))
		}
		if r := s.post(c, "tenants", url.Values{"csrf": {"x"}, "name": {"other"}}); r.status != http.StatusForbidden {
			t.Errorf("without the session's token: %d", r.status)
		}
	}
}

// TestCookiesOfTenants: no two tenants have a cookie in common, whatever the one is called.
func TestCookiesOfTenants(t *testing.T) {
	seen := map[string]string{}
	for _, base := range []string{"", "/t/a", "/t/a-login", "/t/login", "/t/t-a", "/t/a-t-a"} {
		c := &console{Config: Config{Base: base}}
		r := httptest.NewRequest("GET", Prefix, nil)
		r.RemoteAddr = "127.0.0.1:1"
		name, _, err := c.cookieName(r)
		must(t, err)
		for _, cookie := range []string{name, name + loginSuffix} {
			if other, ok := seen[cookie]; ok {
				t.Errorf("%q and %q both have the cookie %s", base, other, cookie)
			}
			seen[cookie] = base
		}
	}
}

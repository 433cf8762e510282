package console

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/identity"
	"github.com/go-teep/teep/tam/identity/oidctest"
)

// newServiceWithProvider is the console with an identity provider that knows an auditor.
func newServiceWithProvider(t *testing.T) (*service, *oidctest.Provider) {
	t.Helper()
	issuer := oidctest.New(t)
	issuer.Claims = map[string]any{"sub": "ada", "email": "ada@example", "groups": "auditors"}
	s := newFilled(t, hostile, func(c *Config) {
		issuer.Now = c.Clock
		var err error
		c.Provider, err = identity.NewProvider(identity.ProviderConfig{
			Issuer: issuer.Issuer, InsecureHTTP: true, ClientID: issuer.ClientID, ClientSecret: issuer.ClientSecret,
			RedirectURL: "http://console.example" + CallbackPath, Claim: "groups", Clock: c.Clock, Logger: slog.New(slog.DiscardHandler),
			Grants: []identity.Grant{{Match: "auditors", Scopes: []api.Scope{api.ScopeAuditor}}},
		})
		must(t, err)
	})
	return s, issuer
}

// atProvider begins a login and returns the path that the provider sends the browser back to.
func (s *service) atProvider(c *http.Client) string {
	s.t.Helper()
	begun := s.get(c, "login/oidc")
	if begun.status != http.StatusSeeOther {
		s.t.Fatalf("login: %d %s", begun.status, begun.body)
	}
	res, err := c.Get(begun.header.Get("Location"))
	must(s.t, err)
	must(s.t, res.Body.Close())
	back, err := res.Location()
	must(s.t, err)
	return strings.TrimPrefix(back.Path, Prefix) + "?" + back.RawQuery
}

func TestLoginWithProvider(t *testing.T) {
	s, _ := newServiceWithProvider(t)
	c := s.browser()
	if page := s.get(c, "login"); !strings.Contains(page.body, Prefix+"login/oidc") {
		t.Fatal("the login page does not offer the provider")
	}
	back := s.atProvider(c)
	welcome := s.get(c, back)
	if welcome.status != http.StatusOK || !strings.HasPrefix(welcome.header.Get("Refresh"), "0; url="+Prefix) {
		t.Fatalf("%d %s", welcome.status, welcome.body)
	}
	fleet := s.get(c, "")
	if fleet.status != http.StatusOK || !strings.Contains(fleet.body, "ada@example") {
		t.Fatalf("%d %s", fleet.status, fleet.body)
	}
	if again := s.get(c, back); again.status != http.StatusBadRequest {
		t.Errorf("the same answer again: %d", again.status)
	}
	// An auditor changes nothing, whoever vouches for them.
	_, csrf, _ := strings.Cut(fleet.body, `name="csrf" value="`)
	csrf, _, _ = strings.Cut(csrf, `"`)
	if r := s.post(c, "devices/0123", url.Values{"csrf": {csrf}, "status": {"blocked"}, "revision": {"1"}}); r.status != http.StatusForbidden {
		t.Errorf("an auditor blocked a device: %d", r.status)
	}
	s.now = s.now.Add(providerSession + time.Second)
	if r := s.get(c, ""); r.status != http.StatusSeeOther {
		t.Errorf("after the session: %d", r.status)
	}
}

func TestLoginWithProviderRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		lie    func(*service, *oidctest.Provider)
		answer func(s *service, c *http.Client, back string) reply
		status int
	}{
		"another browser": {answer: func(s *service, _ *http.Client, back string) reply { return s.get(s.browser(), back) }, status: 400},
		"other state": {answer: func(s *service, c *http.Client, back string) reply {
			return s.get(c, strings.Replace(back, "state=", "state=x", 1))
		}, status: 400},
		"too late": {answer: func(s *service, c *http.Client, back string) reply {
			s.now = s.now.Add(loginLifetime)
			return s.get(c, back)
		}, status: 400},
		"other nonce": {lie: func(_ *service, p *oidctest.Provider) {
			p.Change = func(claims map[string]any) { claims["nonce"] = "another" }
		}, status: 401},
		"foreign key":   {lie: func(_ *service, p *oidctest.Provider) { p.ForeignKey = true }, status: 401},
		"no role":       {lie: func(_ *service, p *oidctest.Provider) { p.Claims["groups"] = "visitors" }, status: 403},
		"provider down": {answer: func(s *service, c *http.Client, back string) reply { return s.get(c, back) }, lie: nil, status: 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, issuer := newServiceWithProvider(t)
			if test.lie != nil {
				test.lie(s, issuer)
			}
			c := s.browser()
			back := s.atProvider(c)
			want := test.status
			if want == 0 {
				issuer.Down, want = true, http.StatusServiceUnavailable
			}
			answer := func(s *service, c *http.Client, back string) reply { return s.get(c, back) }
			if test.answer != nil {
				answer = test.answer
			}
			if r := answer(s, c, back); r.status != want {
				t.Errorf("%d, want %d: %s", r.status, want, r.body)
			}
			if r := s.get(c, ""); r.status != http.StatusSeeOther {
				t.Errorf("there is a session: %d", r.status)
			}
		})
	}
}

package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/identity/oidctest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// setting is a provider and the TAM's view of it.
type setting struct {
	issuer   *oidctest.Provider
	provider *Provider
	log      bytes.Buffer
	now      time.Time
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	s := &setting{issuer: oidctest.New(t), now: time.Now()}
	s.issuer.Now = func() time.Time { return s.now }
	s.issuer.Claims = map[string]any{"sub": "alice", "preferred_username": "alice@example", "groups": []string{"staff", "ops"}}
	var err error
	s.provider, err = NewProvider(ProviderConfig{
		Issuer: s.issuer.Issuer, InsecureHTTP: true, ClientID: s.issuer.ClientID, ClientSecret: s.issuer.ClientSecret,
		RedirectURL: "http://tam/console/login/callback", Claim: "groups",
		Grants: []Grant{
			{Match: "ops", Scopes: []api.Scope{api.ScopeOperator}},
			{Match: "auditors", Scopes: []api.Scope{api.ScopeAuditor}},
			{Match: "acme", Scopes: []api.Scope{api.ScopePublisher}, Publisher: "acme"},
			{Match: "other", Scopes: []api.Scope{api.ScopePublisher}, Publisher: "other"},
		},
		Clock: func() time.Time { return s.now }, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
	})
	must(t, err)
	return s
}

func (s *setting) bearer(raw string) (*api.Caller, error) {
	r := httptest.NewRequest("GET", "/v1/devices", nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	return s.provider.Authenticate(r)
}

func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || p.Next == "" {
		t.Fatalf("got %v, want a problem with status %d", err, status)
	}
}

func TestBearerTokens(t *testing.T) {
	s := newSetting(t)
	c, err := s.bearer(s.issuer.Sign(t, s.issuer.Token("teep-tam")))
	must(t, err)
	if c.ID != "oidc:"+s.issuer.Issuer+"#alice" || c.Subjects[len(c.Subjects)-1] != s.issuer.Issuer+"#alice" || c.Name != "alice@example" || !slices.Equal(c.Scopes, []api.Scope{api.ScopeOperator}) {
		t.Fatalf("caller %+v", c)
	}
	if c, err := s.provider.Authenticate(httptest.NewRequest("GET", "/", nil)); c != nil || err != nil {
		t.Fatalf("a request without a token: %v, %v", c, err)
	}
}

// TestLyingTokens: every way in which a token can be another's, too old, or nobody's.
func TestLyingTokens(t *testing.T) {
	s := newSetting(t)
	with := func(change func(map[string]any)) string {
		claims := s.issuer.Token("teep-tam")
		change(claims)
		return s.issuer.Sign(t, claims)
	}
	good := with(func(map[string]any) {})
	s.issuer.ForeignKey = true
	foreign := with(func(map[string]any) {})
	s.issuer.ForeignKey = false
	dot := strings.LastIndexByte(good, '.')
	for name, raw := range map[string]string{
		"empty":            "",
		"garbage":          "x.y.z",
		"other audience":   with(func(c map[string]any) { c["aud"] = "another-program" }),
		"no audience":      with(func(c map[string]any) { delete(c, "aud") }),
		"other issuer":     with(func(c map[string]any) { c["iss"] = "https://evil.example" }),
		"no issuer":        with(func(c map[string]any) { delete(c, "iss") }),
		"expired":          with(func(c map[string]any) { c["exp"] = s.now.Add(-time.Minute).Unix() }),
		"no expiry":        with(func(c map[string]any) { delete(c, "exp") }),
		"not yet":          with(func(c map[string]any) { c["nbf"] = s.now.Add(time.Hour).Unix() }),
		"no subject":       with(func(c map[string]any) { delete(c, "sub") }),
		"another's key":    foreign,
		"alg none":         oidctest.Unsigned(s.issuer.Token("teep-tam")),
		"HMAC":             s.issuer.HMACWithPublicKey(t, s.issuer.Token("teep-tam")),
		"no signature":     good[:dot+1],
		"other signature":  good[:dot+1] + foreign[strings.LastIndexByte(foreign, '.')+1:],
		"changed":          good[:dot-4] + "AAAA" + good[dot:],
		"of another realm": "teep" + good,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := s.bearer(raw)
			if c != nil {
				t.Fatalf("accepted as %+v", c)
			}
			wantStatus(t, err, http.StatusUnauthorized)
		})
	}
	if strings.Contains(s.log.String(), good) {
		t.Error("a token is in the log")
	}
}

func TestGrantsDecide(t *testing.T) {
	s := newSetting(t)
	groups := func(v any) (*api.Caller, error) {
		claims := s.issuer.Token("teep-tam")
		claims["groups"] = v
		return s.bearer(s.issuer.Sign(t, claims))
	}
	for name, v := range map[string]any{
		"none": nil, "unknown": []string{"visitors"}, "a number": 7, "an object": map[string]any{"ops": true},
		"list of numbers": []int{1}, "other case": []string{"OPS"}, "part of a name": []string{"op", "opsx"}, "a list in a text": "staff ops",
		"two publishers": []string{"acme", "other"},
	} {
		c, err := groups(v)
		if c != nil {
			t.Errorf("%s: accepted as %+v", name, c)
			continue
		}
		wantStatus(t, err, http.StatusForbidden)
	}
	c, err := groups([]string{"ops", "auditors", "acme"})
	must(t, err)
	if len(c.Scopes) != 3 || c.Publisher != "acme" {
		t.Errorf("caller %+v", c)
	}
	if c, err = groups("auditors"); err != nil || !slices.Equal(c.Scopes, []api.Scope{api.ScopeAuditor}) {
		t.Errorf("a single text: %+v, %v", c, err)
	}
}

func TestClaimValues(t *testing.T) {
	claims := map[string]any{
		"realm_access":             map[string]any{"roles": []any{"a", 1, "b"}},
		"https://example.com/role": "c",
	}
	for path, want := range map[string]string{
		"realm_access.roles": "a b", "https://example.com/role": "c", "realm_access": "", "realm_access.roles.x": "", "nothing": "",
	} {
		if got := strings.Join(claimValues(claims, path), " "); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// TestProviderIsDown: what cannot be asked is no refusal, and works again by itself.
func TestProviderIsDown(t *testing.T) {
	s := newSetting(t)
	raw := s.issuer.Sign(t, s.issuer.Token("teep-tam"))
	s.issuer.Down = true
	_, err := s.bearer(raw)
	if p := (*api.Problem)(nil); err == nil || errors.As(err, &p) {
		t.Fatalf("got %v", err)
	}
	s.issuer.Down = false
	s.now = s.now.Add(retryDiscovery)
	_, err = s.bearer(raw)
	must(t, err)
}

// TestWorthlessTokensDoNotFloodTheProvider: each names a key that has to be looked for.
func TestWorthlessTokensDoNotFloodTheProvider(t *testing.T) {
	s := newSetting(t)
	s.issuer.ForeignKey = true
	for range 200 {
		c, err := s.bearer(s.issuer.Sign(t, s.issuer.Token("teep-tam")))
		if c != nil {
			t.Fatalf("accepted as %+v", c)
		}
		wantStatus(t, err, http.StatusUnauthorized) // and not for a failure of the TAM
	}
	if n := s.issuer.KeyFetches(); n > 100 {
		t.Errorf("200 worthless tokens made %d requests to the provider", n)
	}
	s.issuer.ForeignKey = false
	if _, err := s.bearer(s.issuer.Sign(t, s.issuer.Token("teep-tam"))); err != nil {
		t.Errorf("a good token meanwhile: %v", err)
	}
	// While the provider is away, nobody knows.
	s = newSetting(t)
	_, err := s.bearer(s.issuer.Sign(t, s.issuer.Token("teep-tam")))
	must(t, err)
	s.issuer.ForeignKey, s.issuer.Down = true, true
	refused := func() bool {
		_, err := s.bearer(s.issuer.Sign(t, s.issuer.Token("teep-tam")))
		p := (*api.Problem)(nil)
		return err == nil || errors.As(err, &p)
	}
	for tries := 0; refused(); tries++ { // the library lets who asks at once share the fetch that ended before
		if tries == 100 {
			t.Fatal("the provider is down, and tokens by unknown keys are refused")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 50 {
		if refused() {
			t.Fatal("the provider is down, and a token by an unknown key is refused")
		}
	}
}

// browse plays the browser: it follows the provider's redirect.
func (s *setting) browse(t *testing.T, l Login) url.Values {
	t.Helper()
	to, err := s.provider.BeginLogin(l)
	must(t, err)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(to)
	must(t, err)
	defer res.Body.Close()
	back, err := res.Location()
	must(t, err)
	return back.Query()
}

func TestLogin(t *testing.T) {
	s := newSetting(t)
	l := Login{State: "the-state", Nonce: "the-nonce", Verifier: strings.Repeat("v", 43)}
	answer := s.browse(t, l)
	c, err := s.provider.FinishLogin(context.Background(), l, answer)
	must(t, err)
	if c.Name != "alice@example" {
		t.Fatalf("caller %+v", c)
	}
	_, err = s.provider.FinishLogin(context.Background(), l, answer)
	wantStatus(t, err, http.StatusUnauthorized) // a code counts once
}

func TestLyingLogins(t *testing.T) {
	l := Login{State: "the-state", Nonce: "the-nonce", Verifier: strings.Repeat("v", 43)}
	for name, test := range map[string]struct {
		login  func(*Login)
		answer func(url.Values)
		claims func(map[string]any)
		status int
	}{
		"other state":       {login: func(l *Login) { l.State = "x" }, status: 400},
		"no state":          {answer: func(v url.Values) { v.Del("state") }, status: 400},
		"no login":          {login: func(l *Login) { *l = Login{} }, answer: func(v url.Values) { v.Del("state") }, status: 400},
		"other issuer says": {answer: func(v url.Values) { v.Set("iss", "https://evil.example") }, status: 400},
		"refused there":     {answer: func(v url.Values) { v.Set("error", "access_denied") }, status: 403},
		"no code":           {answer: func(v url.Values) { v.Del("code") }, status: 401},
		"other code":        {answer: func(v url.Values) { v.Set("code", "guess") }, status: 401},
		"other verifier":    {login: func(l *Login) { l.Verifier = strings.Repeat("w", 43) }, status: 401},
		"other nonce":       {claims: func(c map[string]any) { c["nonce"] = "of-another-login" }, status: 401},
		"no nonce":          {claims: func(c map[string]any) { delete(c, "nonce") }, status: 401},
		"other audience":    {claims: func(c map[string]any) { c["aud"] = "another-program" }, status: 401},
		"expired":           {claims: func(c map[string]any) { c["exp"] = 1 }, status: 401},
		"no role":           {claims: func(c map[string]any) { c["groups"] = "visitors" }, status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			s.issuer.Change = test.claims
			answer, back := s.browse(t, l), l
			if test.login != nil {
				test.login(&back)
			}
			if test.answer != nil {
				test.answer(answer)
			}
			c, err := s.provider.FinishLogin(context.Background(), back, answer)
			if c != nil {
				t.Fatalf("logged in as %+v", c)
			}
			wantStatus(t, err, test.status)
		})
	}
}

func TestProviderConfig(t *testing.T) {
	good := ProviderConfig{Issuer: "https://login.example", ClientID: "x", Claim: "groups"}
	if _, err := NewProvider(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ProviderConfig){
		"no issuer":      func(c *ProviderConfig) { c.Issuer = "" },
		"no URL":         func(c *ProviderConfig) { c.Issuer = "login.example" },
		"plain HTTP":     func(c *ProviderConfig) { c.Issuer = "http://login.example" },
		"for anybody":    func(c *ProviderConfig) { c.ClientID = "" },
		"no claim":       func(c *ProviderConfig) { c.Claim = "" },
		"no client":      func(c *ProviderConfig) { c.ClientID, c.Audience, c.RedirectURL = "", "x", "https://tam/cb" },
		"no such scope":  func(c *ProviderConfig) { c.Grants = []Grant{{Match: "a", Scopes: []api.Scope{"root"}}} },
		"no scope":       func(c *ProviderConfig) { c.Grants = []Grant{{Match: "a"}} },
		"matches nobody": func(c *ProviderConfig) { c.Grants = []Grant{{Scopes: []api.Scope{api.ScopeAuditor}}} },
	} {
		c := good
		change(&c)
		if _, err := NewProvider(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSubjects: the e-mail address, which also names owners of tokens, counts where the provider verified it.
func TestSubjects(t *testing.T) {
	for name, c := range map[string]struct {
		claims map[string]any
		want   []string
	}{
		"verified":      {map[string]any{"email": "ann@example.com", "email_verified": true}, []string{"ann@example.com", "i#1"}},
		"not verified":  {map[string]any{"email": "ann@example.com", "email_verified": false}, []string{"i#1"}},
		"says nothing":  {map[string]any{"email": "ann@example.com"}, []string{"i#1"}},
		"verified text": {map[string]any{"email": "ann@example.com", "email_verified": "true"}, []string{"i#1"}},
		"too long":      {map[string]any{"email": strings.Repeat("a", 257), "email_verified": true}, []string{"i#1"}},
		"no address":    {map[string]any{"email_verified": true}, []string{"i#1"}},
	} {
		if got := subjects(c.claims, "i#1"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

package console

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

// hostile is what devices and publishers say of themselves here.
const hostile = `</td><script>alert(1)</script><img src=x onerror=alert(2)>" onmouseover="alert(3)" '{{.}} javascript:alert(4) ` + "\u202e\x00\u2028"

// service is the console over a real API and store.
type service struct {
	t      *testing.T
	store  *sqlite.Store
	tam    *tam.TAM
	server *httptest.Server
	now    time.Time
	log    bytes.Buffer
}

// nobody appraises nothing: no device comes here.
type nobody struct{ attest.Verifier }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newService(t *testing.T, change ...func(*Config)) *service {
	t.Helper()
	return serviceOn(t, sqlitetest.Database(t, t.TempDir()), change...)
}

// serviceOn is the service over a database.
func serviceOn(t *testing.T, database string, change ...func(*Config)) *service {
	t.Helper()
	s := &service{t: t, now: time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)}
	clock := func() time.Time { return s.now }
	var err error
	s.store, err = sqlite.Open(t.Context(), database, sqlite.Options{RelaxedDurability: true, Clock: clock})
	must(t, err)
	keys, err := s.store.TokenKeys(t.Context())
	must(t, err)
	if len(keys) == 0 {
		must(t, s.store.AddTokenKey(t.Context(), tam.TokenKey{Generation: 1, Secret: bytes.Repeat([]byte{7}, 32), Created: s.now}))
	}
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	s.tam = newTAM(t, s.store, clock, logger)
	payloads, err := blobfs.OpenPayloads(t.TempDir())
	must(t, err)
	_, _, err = payloads.Put(t.Context(), strings.NewReader("a payload"))
	must(t, err)
	operators, err := api.NewHandler(api.Config{TAM: s.tam, Store: s.store, Clock: clock, Logger: logger,
		Payloads: tam.NewPayloadQuota(payloads, 1_000_000, clock), PayloadURI: "https://tam.example/payloads"})
	must(t, err)
	c := Config{API: operators, Store: s.store, Clock: clock, Logger: logger}
	for _, f := range change {
		f(&c)
	}
	h, err := NewHandler(c)
	must(t, err)
	s.server = httptest.NewServer(h)
	t.Cleanup(func() { s.server.Close(); s.store.Close() })
	return s
}

func newTAM(t *testing.T, store *sqlite.Store, clock func() time.Time, logger *slog.Logger) *tam.TAM {
	t.Helper()
	blobs, err := blobfs.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { blobs.Close() })
	var signers []cose.Signer
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		key, err := cose.GenerateKey(rand.Reader, alg)
		must(t, err)
		signer, err := key.Signer()
		must(t, err)
		signers = append(signers, signer)
	}
	core, err := tam.New(t.Context(), tam.Config{
		Signers: signers, Verifier: nobody{}, Store: store, Blobs: blobs, Clock: clock, Logger: logger,
	})
	must(t, err)
	return core
}

func (s *service) token(scopes ...api.Scope) (secret, id string) {
	s.t.Helper()
	secret, t, err := api.IssueToken(s.t.Context(), s.store, api.TokenRequest{Name: "Ada <b>", Scopes: scopes, Lifetime: 48 * time.Hour}, s.now, rand.Reader)
	must(s.t, err)
	return secret, t.ID
}

// browser is a client that keeps cookies and does not follow redirects.
func (s *service) browser() *http.Client {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (s *service) do(c *http.Client, req *http.Request) reply {
	s.t.Helper()
	res, err := c.Do(req)
	must(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(s.t, err)
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "script-src 'self';") {
		s.t.Errorf("%s %s has the policy %q", req.Method, req.URL.Path, csp)
	}
	return reply{res.StatusCode, res.Header, string(body)}
}

func (s *service) get(c *http.Client, path string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.server.URL+Prefix+path, nil)
	must(s.t, err)
	return s.do(c, req)
}

func (s *service) post(c *http.Client, path string, form url.Values, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.server.URL+Prefix+path, strings.NewReader(form.Encode()))
	must(s.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.do(c, req)
}

func (s *service) login(scopes ...api.Scope) (c *http.Client, csrf string) {
	s.t.Helper()
	secret, _ := s.token(scopes...)
	c = s.browser()
	if r := s.post(c, "login", url.Values{"token": {secret}}); r.status != http.StatusSeeOther || !strings.HasSuffix(r.header.Get("Location"), Prefix) {
		s.t.Fatalf("login: %+v", r)
	}
	r := s.get(c, "policies")
	found := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(r.body)
	if found == nil {
		s.t.Fatalf("no CSRF token on the page: %d %s", r.status, r.body)
	}
	return c, found[1]
}

// paths are concrete paths of all routes.
func paths() (list [][2]string) {
	for _, r := range routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		list = append(list, [2]string{method, concretePath(path, hostile)})
	}
	return list
}

// concretePath is one page of a pattern, below the prefix, in a store that fillWith filled with a text.
func concretePath(pattern, text string) string {
	path := strings.TrimPrefix(strings.TrimSuffix(pattern, "{$}"), Prefix)
	return strings.NewReplacer("{id}", "0123", "{manifest}", url.PathEscape(suit.NewComponentID("acme", text).String()),
		"{sequence}", "2", "{message}", recordedMessage, "{name}", nameIn(pattern),
		"{publisher}", url.PathEscape(text), "{key}", hex.EncodeToString(thumbprint(anchor))).Replace(path)
}

// nameIn is a name that fillWith gave to what a pattern is about.
func nameIn(pattern string) string {
	if strings.Contains(pattern, "rollouts") {
		return "spring"
	}
	return "edge"
}

func TestEveryPageNeedsASession(t *testing.T) {
	s := newFilled(t, hostile)
	other := newService(t)
	must(t, other.store.AddTokenKey(t.Context(), tam.TokenKey{Generation: 2, Secret: bytes.Repeat([]byte{8}, 32)}))
	foreign, _ := other.login(api.ScopeAdministrator)
	expired, _ := s.login(api.ScopeAdministrator)
	valid := cookieOf(t, expired, s.server.URL)
	withCookie := func(value string) *http.Client {
		c := s.browser()
		u, err := url.Parse(s.server.URL)
		must(t, err)
		c.Jar.SetCookies(u, []*http.Cookie{{Name: localCookie, Value: value, Path: "/"}})
		return c
	}
	if r := s.get(withCookie(valid), ""); r.status != http.StatusOK {
		t.Fatalf("a valid cookie: %d", r.status)
	}
	secret, id := s.token(api.ScopeAdministrator)
	revoked := s.browser()
	s.post(revoked, "login", url.Values{"token": {secret}})
	must(t, s.store.RevokeAPIToken(t.Context(), id, s.now))
	for name, c := range map[string]*http.Client{
		"nobody": s.browser(), "garbage": withCookie("x"), "empty": withCookie(""), "cut": withCookie(valid[:len(valid)-4]),
		"changed": withCookie(valid[:len(valid)/2] + "AAAA" + valid[len(valid)/2+4:]), "the bare token": withCookie(secret),
		"foreign": withCookie(cookieOf(t, foreign, other.server.URL)), "revoked": revoked,
	} {
		s.wantLogin(name, c)
	}
	s.now = s.now.Add(sessionLifetime)
	s.wantLogin("expired", expired)
}

func cookieOf(t *testing.T, c *http.Client, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	must(t, err)
	return c.Jar.Cookies(u)[0].Value
}

// wantLogin: every page and action sends the client to the login, and shows nothing.
func (s *service) wantLogin(name string, c *http.Client) {
	s.t.Helper()
	for _, p := range paths() {
		var r reply
		if p[0] == "GET" {
			r = s.get(c, p[1])
		} else {
			r = s.post(c, p[1], url.Values{"csrf": {""}, "status": {"blocked"}, "revision": {"1"}})
		}
		if r.status != http.StatusSeeOther || r.header.Get("Location") != Prefix+"login" || strings.Contains(r.body, "acme") {
			s.t.Errorf("%s: %s %s answers %d", name, p[0], p[1], r.status)
		}
	}
}

func TestLogin(t *testing.T) {
	s := newService(t)
	for name, token := range map[string]string{
		"empty": "", "garbage": hostile, "unknown": "teep_" + strings.Repeat("A", 43),
	} {
		r := s.post(s.browser(), "login", url.Values{"token": {token}})
		if r.status != http.StatusUnauthorized || r.header.Get("Set-Cookie") != "" || !strings.Contains(r.body, `role="alert"`) {
			t.Errorf("%s: %d %v", name, r.status, r.header)
		}
	}
	secret, _ := s.token(api.ScopeAuditor)
	r := s.post(s.browser(), "login", url.Values{"token": {secret}})
	cookie := r.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/", localCookie + "="} {
		if !strings.Contains(cookie, want) {
			t.Errorf("no %s in %s", want, cookie)
		}
	}
	if strings.Contains(cookie, secret) || strings.Contains(s.log.String(), secret) {
		t.Error("the token is in the cookie or in the log")
	}
	c, csrf := s.login(api.ScopeAuditor)
	if r := s.post(c, "logout", url.Values{"csrf": {csrf}}); r.status != http.StatusSeeOther {
		t.Errorf("logout: %d", r.status)
	}
	if r := s.get(c, ""); r.status != http.StatusSeeOther {
		t.Errorf("after logging out: %d", r.status)
	}
}

// TestPlainHTTPFromElsewhere: a token never crosses a network in the clear.
func TestPlainHTTPFromElsewhere(t *testing.T) {
	var handler http.Handler
	s := newService(t)
	operators, err := api.NewHandler(api.Config{TAM: s.tam, Store: s.store})
	must(t, err)
	secret, _ := s.token(api.ScopeAdministrator)
	try := func(front bool) *httptest.ResponseRecorder {
		handler, err = NewHandler(Config{API: operators, Store: s.store, TLSInFront: front, Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return s.now }})
		must(t, err)
		r := httptest.NewRequest("POST", Prefix+"login", strings.NewReader(url.Values{"token": {secret}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "192.0.2.1:1234"
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	if w := try(false); w.Code != http.StatusForbidden || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("plain: %d", w.Code)
	}
	if w := try(true); w.Code != http.StatusSeeOther || !strings.Contains(w.Header().Get("Set-Cookie"), secureCookie+"=") || !strings.Contains(w.Header().Get("Set-Cookie"), "Secure") {
		t.Errorf("behind TLS: %d %v", w.Code, w.Header())
	}
}

func TestFormsNeedTheSessionsToken(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeAdministrator)
	_, other := s.login(api.ScopeAdministrator)
	before, err := s.store.AuditHead(t.Context())
	must(t, err)
	form := func(token string) url.Values {
		return url.Values{"csrf": {token}, "status": {"blocked"}, "revision": {"1"}, "reason": {"x"}, "manifest": {"'a'"}, "mode": {"forbidden"}, "name": {"edge"}, "action": {"pause"}}
	}
	for _, p := range paths() {
		if p[0] != "POST" {
			continue
		}
		for name, token := range map[string]string{"none": "", "another session's": other, "longer": csrf + "x"} {
			if r := s.post(c, p[1], form(token)); r.status != http.StatusForbidden {
				t.Errorf("%s with the token %s: %d", p[1], name, r.status)
			}
		}
		for name, header := range map[string][]string{
			"fetch metadata": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site"}, "origin": {"Origin", "https://evil.example"},
		} {
			if r := s.post(c, p[1], form(csrf), header...); r.status != http.StatusForbidden {
				t.Errorf("%s from elsewhere by %s: %d", p[1], name, r.status)
			}
		}
	}
	after, err := s.store.AuditHead(t.Context())
	must(t, err)
	if after != before {
		t.Error("something was changed")
	}
}

func TestScopes(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeAuditor)
	form := url.Values{"csrf": {csrf}, "status": {"blocked"}, "revision": {"1"}, "reason": {"x"}, "manifest": {"'a'"}, "mode": {"forbidden"}, "name": {"edge"}, "action": {"pause"}}
	for _, p := range paths() {
		if p[0] == "POST" && p[1] != "logout" && p[1] != tenantsPath { // neither changes anything
			if r := s.post(c, p[1], form); r.status != http.StatusForbidden || !strings.Contains(r.body, "scopes") {
				t.Errorf("an auditor may %s: %d", p[1], r.status)
			}
		}
	}
	if r := s.get(c, "devices/0123"); strings.Contains(r.body, "Block") {
		t.Error("an auditor is offered to block")
	}
	publisher, _ := s.login(api.ScopePublisher)
	if r := s.get(publisher, ""); r.status != http.StatusSeeOther || r.header.Get("Location") != Prefix+"components" {
		t.Errorf("a publisher begins at %q: %d", r.header.Get("Location"), r.status)
	}
	for _, path := range []string{"devices", "devices/0123", "audit", "events", "tokens", "webhooks", "groups", "new-publisher"} {
		if r := s.get(publisher, path); r.status != http.StatusForbidden || strings.Contains(r.body, "4567") {
			t.Errorf("a publisher sees %q: %d", path, r.status)
		}
	}
}

func TestActions(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	if r := s.post(c, "devices/0123", url.Values{"csrf": {csrf}, "status": {"blocked"}, "revision": {"1"}}); r.status != http.StatusSeeOther {
		t.Fatalf("block: %d %s", r.status, r.body)
	}
	if r := s.post(c, "devices/0123", url.Values{"csrf": {csrf}, "status": {"accepted"}, "revision": {"1"}}); r.status != http.StatusPreconditionFailed {
		t.Errorf("a form about an old record: %d", r.status)
	}
	if d, err := s.store.Device(t.Context(), "0123"); err != nil || d.Status != tam.DeviceBlocked {
		t.Errorf("%+v, %v", d, err)
	}
	if r := s.post(c, "policies", url.Values{"csrf": {csrf}, "manifest": {"'acme'/'b'"}, "mode": {"forbidden"}, "devices": {"0123, 4567"}}); r.status != http.StatusSeeOther {
		t.Errorf("policy: %d", r.status)
	}
	if a, err := s.store.Assignment(t.Context(), suit.NewComponentID("acme", "b")); err != nil || a.Mode != tam.ModeForbidden || len(a.Devices) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if r := s.post(c, "policies", url.Values{"csrf": {csrf}, "manifest": {"'acme'/'b'"}, "tag": {s.tagIn(c, "policies/"+url.PathEscape("'acme'/'b'"))}, "delete": {"yes"}}); r.status != http.StatusSeeOther {
		t.Errorf("no policy: %d", r.status)
	}
	manifest := suit.NewComponentID("acme", hostile).String()
	if r := s.post(c, "components/"+url.PathEscape(manifest)+"/2/withdraw", url.Values{"csrf": {csrf}, "reason": {"faulty"}}); r.status != http.StatusSeeOther {
		t.Errorf("withdraw: %d %s", r.status, r.body)
	}
	list, err := s.store.AuditEntries(t.Context(), 0, 100)
	must(t, err)
	if last := list[len(list)-1]; last.Via != "console" || last.Action != "version.withdraw" {
		t.Errorf("%+v", last)
	}
}

// TestTextsOfOthersAreTexts parses every page as a browser does: whatever devices and publishers call
// themselves, it is text, and visible.
func TestTextsOfOthersAreTexts(t *testing.T) {
	s := newFilled(t, hostile)
	c, _ := s.login(api.ScopeAdministrator)
	list := []string{"devices/" + url.PathEscape(hostile), "components/nothing", "devices/0123/messages/1772368200000001", "devices?status=" + url.QueryEscape(hostile), "login"}
	for _, p := range paths() {
		if p[0] == "GET" {
			list = append(list, p[1])
		}
	}
	for _, path := range list {
		r := s.get(c, path)
		if r.status >= 500 {
			t.Errorf("%s: %d", path, r.status)
		}
		inspect(t, path, r.body)
		if strings.Contains(r.body, ">0xc0") {
			t.Errorf("%s shows an address", path)
		}
	}
	r := s.get(c, "devices/0123")
	shown := html.UnescapeString(r.body)
	for _, want := range []string{"⟨U+202E⟩", "⟨U+0000⟩", "<script>"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not shown", want)
		}
	}
}

var allowedElements = strings.Fields(`html head meta title link script body a header p nav ul li form input span button main h1 h2 h3 footer section div table
	caption thead tbody tr th td svg line rect nav details summary time label select option dl dt dd code pre textarea progress ol strong small br article fieldset legend`)

func inspect(t *testing.T, path, body string) {
	t.Helper()
	ids := map[string]bool{}
	headings := 0
	for z := html.NewTokenizer(strings.NewReader(body)); z.Next() != html.ErrorToken; {
		token := z.Token()
		if token.Type != html.StartTagToken && token.Type != html.SelfClosingTagToken {
			continue
		}
		if !slices.Contains(allowedElements, token.Data) {
			t.Errorf("%s has a <%s>", path, token.Data)
		}
		if token.Data == "script" {
			// The one of the console itself, and nothing between its tags.
			if text := z.Next(); len(token.Attr) != 2 || token.Attr[0].Val != "/console/static/console.js" || text != html.EndTagToken {
				t.Errorf("%s has a script: %v", path, token)
			}
		}
		if token.Data == "h1" {
			headings++
		}
		for _, a := range token.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" {
				t.Errorf("%s: <%s %s=%q>", path, token.Data, a.Key, a.Val)
			}
			if a.Key == "href" || a.Key == "action" || a.Key == "src" {
				if u, err := url.Parse(a.Val); err != nil || u.Scheme != "" || u.Host != "" {
					t.Errorf("%s leads to %q", path, a.Val)
				}
			}
			if a.Key == "id" {
				if ids[a.Val] {
					t.Errorf("%s has the id %q twice", path, a.Val)
				}
				ids[a.Val] = true
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d first headings", path, headings)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/transport"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serviceWithTenants is a service with the tenants a and b, over the store that its configuration names.
type serviceWithTenants struct {
	t      *testing.T
	server *httptest.Server
	agents *httptest.Server
	all    map[string]*instance
}

func newServiceWithTenants(t *testing.T, store string) *serviceWithTenants {
	t.Helper()
	dir := t.TempDir()
	c := defaults()
	if store != "" {
		c.Store = store
	}
	must(t, initialize(dir, &c))
	path := filepath.Join(dir, "tam.yaml")
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(text, "tenants: tenants\n"...), 0o600))
	main, err := load(path)
	must(t, err)
	for _, name := range []string{"a", "b"} {
		_, err := main.createTenant(t.Context(), name)
		must(t, err)
	}
	opened, err := openStore(t.Context(), main)
	must(t, err)
	instances, err := openInstances(t.Context(), main, opened, slog.New(slog.DiscardHandler))
	must(t, err)
	s := &serviceWithTenants{t: t, all: map[string]*instance{}}
	agents, operators := http.NewServeMux(), http.NewServeMux()
	for _, i := range instances {
		i.route(agents, operators)
		s.all[i.config.tenant] = i
	}
	s.server, s.agents = httptest.NewServer(operators), httptest.NewServer(agents)
	t.Cleanup(func() { s.server.Close(); s.agents.Close(); closeInstances(instances); opened.Close() })
	return s
}

// openInstances opens the service's own TAM, which comes first, and those of its tenants, of which all have to be right.
func openInstances(ctx context.Context, c *configuration, main store, log *slog.Logger) ([]*instance, error) {
	own, err := openInstance(ctx, c, main, metrics.New(main, log, time.Now), log)
	if err != nil {
		return nil, err
	}
	all := []*instance{own}
	tenants, err := c.loadTenants()
	for _, t := range tenants {
		i, err := openTenantInstance(ctx, main, t, log)
		if err != nil {
			closeInstances(all)
			return nil, err
		}
		all = append(all, i)
	}
	return all, err
}

// administrator makes a token of a tenant that may do everything there.
func (s *serviceWithTenants) administrator(tenant string) string {
	s.t.Helper()
	secret, _, err := api.IssueToken(s.t.Context(), s.all[tenant].measured.Store(),
		api.TokenRequest{Name: "admin of " + tenant, Scopes: api.Scopes(), Lifetime: time.Hour}, time.Now(), rand.Reader)
	must(s.t, err)
	return secret
}

func (s *serviceWithTenants) ask(method, path, token string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, nil)
	must(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.server.Client().Do(req)
	must(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	must(s.t, err)
	return res.StatusCode, string(body)
}

// routes are all that the API documents, with something in place of the parameters; those of a stream
// that does not end are left out.
func (s *serviceWithTenants) routes() (all [][2]string) {
	s.t.Helper()
	for _, r := range s.patterns() {
		all = append(all, [2]string{r[0], regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(r[1], "1")})
	}
	return all
}

// patterns are the same with their parameters.
func (s *serviceWithTenants) patterns() (all [][2]string) {
	s.t.Helper()
	_, body := s.ask("GET", "/v1/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]struct {
			Security []any `json:"security"`
		} `json:"paths"`
	}
	must(s.t, json.Unmarshal([]byte(body), &doc))
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if len(op.Security) > 0 && !strings.HasSuffix(path, "/stream") {
				all = append(all, [2]string{strings.ToUpper(method), path})
			}
		}
	}
	if len(all) < 20 {
		s.t.Fatalf("only %d routes", len(all))
	}
	return all
}

func TestTenantsAreApart(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { tenantsAreApart(t, newServiceWithTenants(t, "")) })
	t.Run("postgres", func(t *testing.T) {
		tenantsAreApart(t, newServiceWithTenants(t, pgtest.Start(t).Database(t)))
	})
}

func tenantsAreApart(t *testing.T, s *serviceWithTenants) {
	names := []string{"", "a", "b"}
	tokens := map[string]string{}
	for _, name := range names {
		tokens[name] = s.administrator(name)
		ctx := t.Context()
		i := s.all[name]
		key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		must(t, err)
		mark := "of-" + name
		_, err = i.tam.AddPublisher(ctx, mark, []*cose.Key{key.Public()}, []suit.ComponentID{suit.NewComponentID(mark)})
		must(t, err)
		must(t, i.measured.Store().CommitExchange(ctx, tam.Exchange{Device: &tam.Device{
			ID: mark, KeyThumbprint: []byte(mark), AgentKey: []byte{1}, Status: tam.DeviceAccepted, FirstSeen: time.Now(), LastSeen: time.Now(),
		}}))
	}
	prefix := func(name string) string { return s.all[name].config.prefix() }
	for _, mine := range names {
		for _, theirs := range names {
			for _, r := range s.routes() {
				status, body := s.ask(r[0], prefix(theirs)+r[1], tokens[mine])
				if (mine == theirs) == (status == http.StatusUnauthorized) {
					t.Errorf("token of %q at %q: %s %s: %d %s", mine, theirs, r[0], r[1], status, body)
				}
			}
			if mine == theirs {
				continue
			}
			s.nothingOf(theirs, prefix(mine), tokens[mine])
			for _, path := range []string{"/v1/devices", "/v1/publishers", "/v1/tokens", "/v1/audit"} {
				status, body := s.ask("GET", prefix(mine)+path, tokens[mine])
				if status != http.StatusOK || !strings.Contains(body, "of-"+mine) && !strings.Contains(body, "admin of "+mine) {
					t.Errorf("%q does not see its own %s: %d %s", mine, path, status, body)
				}
				if strings.Contains(body, `of-`+theirs+`"`) || strings.Contains(body, `admin of `+theirs+`"`) {
					t.Errorf("%q sees what is of %q: %s", mine, theirs, body)
				}
			}
			if status, _ := s.ask("GET", prefix(mine)+"/v1/devices/of-"+theirs, tokens[mine]); status != http.StatusNotFound {
				t.Errorf("%q sees the device of %q: %d", mine, theirs, status)
			}
		}
	}
	s.consolesAreApart(tokens)
	s.keysAreApart()
	if status, _ := s.ask("GET", "/t/nobody/v1/devices", tokens[""]); status != http.StatusNotFound {
		t.Errorf("a tenant that does not exist: %d", status)
	}
}

// nothingOf: whatever of another tenant is named in the path of any route, it is not there, and nothing happens to it.
func (s *serviceWithTenants) nothingOf(theirs, prefix, token string) {
	s.t.Helper()
	store := s.all[theirs].measured.Store()
	before, err := store.Device(s.t.Context(), "of-"+theirs)
	must(s.t, err)
	for _, r := range s.patterns() {
		if !strings.Contains(r[1], "{") {
			continue
		}
		path := regexp.MustCompile(`\{(sequence|message)\}`).ReplaceAllString(r[1], "1")
		path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "of-"+theirs)
		// Some take a body, which none is sent of: that is found out first, or the name is.
		status, body := s.ask(r[0], prefix+path, token)
		empty := r[0] == "GET" && status == http.StatusOK && strings.Contains(body, `"items":[]`)
		if !empty && (status < 400 || status >= 500) || strings.Contains(body, `"`+"of-"+theirs+`"`) {
			s.t.Errorf("%s %s with a name of %q: %d %s", r[0], path, theirs, status, body)
		}
	}
	after, err := store.Device(s.t.Context(), "of-"+theirs)
	must(s.t, err)
	if after.Revision != before.Revision || after.Status != before.Status {
		s.t.Errorf("the device of %q was changed: %+v", theirs, after)
	}
	if p, err := store.Publisher(s.t.Context(), "of-"+theirs); err != nil || !p.Revoked.IsZero() {
		s.t.Errorf("the publisher of %q was changed: %+v, %v", theirs, p, err)
	}
}

// consolesAreApart: a session of one is none of another, and links stay within the tenant.
func (s *serviceWithTenants) consolesAreApart(tokens map[string]string) {
	s.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.PostForm(s.server.URL+"/t/a/console/login", url.Values{"token": {tokens["a"]}})
	must(s.t, err)
	must(s.t, res.Body.Close())
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/t/a/console/" || len(res.Cookies()) != 1 {
		s.t.Fatalf("login: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	cookie := res.Cookies()[0]
	for path, want := range map[string]int{"/t/a/console/": http.StatusOK, "/t/b/console/": http.StatusSeeOther, "/console/": http.StatusSeeOther} {
		for _, name := range []string{cookie.Name, strings.ReplaceAll(cookie.Name, "-t-a", "-t-b"), strings.ReplaceAll(cookie.Name, "-t-a", "")} {
			if path == "/t/a/console/" && name != cookie.Name {
				continue
			}
			req, err := http.NewRequest("GET", s.server.URL+path, nil)
			must(s.t, err)
			req.AddCookie(&http.Cookie{Name: name, Value: cookie.Value})
			res, err := client.Do(req)
			must(s.t, err)
			body, err := io.ReadAll(res.Body)
			must(s.t, err)
			must(s.t, res.Body.Close())
			if res.StatusCode != want {
				s.t.Errorf("a session of a at %s: %d", path, res.StatusCode)
			}
			if want == http.StatusOK && (strings.Contains(string(body), `"/console/`) || !strings.Contains(string(body), `"/t/a/console/devices"`)) {
				s.t.Errorf("links of %s leave the tenant", path)
			}
		}
	}
}

// keysAreApart: what one tenant signs, no other signed.
func (s *serviceWithTenants) keysAreApart() {
	s.t.Helper()
	seen := map[string]string{}
	for name, i := range s.all {
		keys, err := i.config.publicKeys(i.config.SignKeys)
		must(s.t, err)
		for _, k := range keys {
			if other, ok := seen[string(k.Thumbprint())]; ok {
				s.t.Errorf("%q and %q have the same key", name, other)
			}
			seen[string(k.Thumbprint())] = name
		}
		set, err := cose.NewKeySet(keys[0].Public(), keys[1].Public())
		must(s.t, err)
		for other, o := range s.all {
			req, err := http.NewRequest("POST", s.agents.URL+o.config.TEEP.Path, nil)
			must(s.t, err)
			req.Header.Set("Accept", transport.MediaType)
			res, err := http.DefaultClient.Do(req)
			must(s.t, err)
			request, err := io.ReadAll(res.Body)
			must(s.t, err)
			must(s.t, res.Body.Close())
			_, err = cose.Verify(request, set, cose.VerifyOptions{})
			if (err == nil) != (name == other) {
				s.t.Errorf("what %q sends with the keys of %q: %v", other, name, err)
			}
		}
	}
}

// TestTenantConfigurations: what would not be apart is refused.
func TestTenantConfigurations(t *testing.T) {
	dir := t.TempDir()
	c := defaults()
	must(t, initialize(dir, &c))
	path := filepath.Join(dir, "tam.yaml")
	main, err := load(path)
	must(t, err)
	if _, err := main.createTenant(t.Context(), "a"); err == nil {
		t.Error("a service without tenants got one")
	}
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(text, "tenants: tenants\n"...), 0o600))
	main, err = load(path)
	must(t, err)
	for _, name := range []string{"", "A", "../x", "a/b", "a_b", "1", strings.Repeat("a", 41), ".", "-"} {
		if _, err := main.createTenant(t.Context(), name); err == nil {
			t.Errorf("a tenant is called %q", name)
		}
	}
	folder, err := main.createTenant(t.Context(), "a")
	must(t, err)
	if _, err := main.createTenant(t.Context(), "a"); err == nil {
		t.Error("a tenant was made over")
	}
	store, err := openStore(t.Context(), main)
	must(t, err)
	defer store.Close()
	if head, err := store.AuditHead(t.Context()); err != nil || head.Seq != 1 {
		t.Errorf("%d entries in the audit log for one tenant, %v", head.Seq, err)
	}
	file := filepath.Join(folder, tenantFile)
	good, err := os.ReadFile(file)
	must(t, err)
	for name, line := range map[string]string{
		"listens": "teep: {listen: \"127.0.0.1:1\"}\n", "has a path": "teep: {path: /x}\n", "serves an API": "api: {listen: \"127.0.0.1:1\"}\n",
		"has metrics": "metrics: {listen: \"127.0.0.1:1\"}\n", "has tenants": "tenants: x\n", "unknown key": "tenent: x\n", "has payloads": "payloads: {path: /x}\n",
		"bounds connections": "teep: {limits: {connections: 7}}\n", "trusts proxies": "teep: {limits: {trusted-proxies: [0.0.0.0/0]}}\n",
		"has a limit that is none": "teep: {limits: {rate: -1}}\n",
	} {
		must(t, os.WriteFile(file, append(append([]byte{}, good...), line...), 0o600))
		if _, err := load(file); err == nil {
			t.Errorf("a tenant %s", name)
		}
	}
	for name, change := range map[string][2]string{
		"the service's store": {"store: tam.db", "store: ../../tam.db"}, "the service's key": {"keys/esp256.pem", "../../keys/esp256.pem"},
		"the service's envelopes": {"blobs: envelopes", "blobs: ../../envelopes"},
	} {
		must(t, os.WriteFile(file, []byte(strings.Replace(string(good), change[0], change[1], 1)), 0o600))
		if _, err := main.loadTenants(); err == nil {
			t.Errorf("a tenant has %s", name)
		}
	}
	for name, blobs := range map[string][2]string{
		"the same by another name": {"envelopes", filepath.Join(dir, "tenants", "..", "envelopes") + "/"},
		"a link":                   {"envelopes", "linked"},
		"where payloads are":       {"envelopes", "../../envelopes/payloads"},
		"a bucket":                 {"s3://bucket/x", "s3://bucket/x"},
		"a bucket's prefix":        {"s3://bucket/x", "s3://bucket/x/"},
		"a bucket's region":        {"s3://bucket/x", "s3://bucket/x?region=eu-west-1"},
		"a bucket's endpoint":      {"s3://bucket/x?endpoint=https://s3.example", "s3://bucket/x?endpoint=S3.example/"},
	} {
		theirs, mine := *main, *main
		theirs.Blobs = config.Relative(path, blobs[0])
		if isS3(blobs[0]) {
			theirs.Blobs = blobs[0]
		}
		must(t, os.MkdirAll(filepath.Join(dir, "envelopes", payloadFolder), 0o700))
		if err := os.Symlink(filepath.Join(dir, "envelopes"), filepath.Join(folder, "linked")); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		mine.SignKeys, mine.DecryptKey, mine.Distribution.Key, mine.Verifier.Key, mine.SelfAttestation.Key = nil, nil, "", "", ""
		mine.Store, mine.Blobs = "other", blobs[1]
		if !isS3(blobs[1]) {
			mine.Blobs = config.Relative(file, blobs[1])
		}
		if err := theirs.apart(&mine, nil); err == nil || !strings.Contains(err.Error(), "blobs") {
			t.Errorf("a tenant has envelopes in %s: %v", name, err)
		}
	}
	must(t, os.WriteFile(file, append(append([]byte{}, good...), "payloads: {max-total-bytes: 7}\n"...), 0o600))
	if all, err := main.loadTenants(); err != nil || all[0].Payloads.MaxTotalBytes != 7 {
		t.Errorf("a tenant with less space: %v", err)
	}
	must(t, os.WriteFile(file, good, 0o600))
	if all, err := main.loadTenants(); err != nil || len(all) != 1 || all[0].uri() != "http://127.0.0.1:8080/t/a/tam" {
		t.Errorf("%v, %v", all, err)
	}
}

// TestLimitsOfTenants: a tenant has the service's limits, or its own in their place; what belongs to the listener stays the service's.
func TestLimitsOfTenants(t *testing.T) {
	dir := t.TempDir()
	c := defaults()
	must(t, initialize(dir, &c))
	path := filepath.Join(dir, "tam.yaml")
	text, err := os.ReadFile(path)
	must(t, err)
	limited := strings.Replace(string(text), "teep:\n", "teep:\n  limits: {concurrent: 5, rate: 9, connections: 11, trusted-proxies: [192.0.2.0/24]}\n", 1)
	limited = strings.Replace(limited, "api:\n", "api:\n  timeout: 3s\n", 1)
	must(t, os.WriteFile(path, []byte(limited+"tenants: tenants\n"), 0o600))
	main, err := load(path)
	must(t, err)
	folder, err := main.createTenant(t.Context(), "a")
	must(t, err)
	file := filepath.Join(folder, tenantFile)
	good, err := os.ReadFile(file)
	must(t, err)
	for lines, want := range map[string]httpLimits{
		"": {Concurrent: 5, Rate: 9, Connections: 11, TrustedProxies: []string{"192.0.2.0/24"}},
		"teep: {limits: {rate: 2}}\napi: {timeout: 7s}\n": {Rate: 2, Connections: 11, TrustedProxies: []string{"192.0.2.0/24"}},
	} {
		must(t, os.WriteFile(file, append(bytes.Clone(good), lines...), 0o600))
		a, err := load(file)
		must(t, err)
		timeout := 3 * time.Second
		if lines != "" {
			timeout = 7 * time.Second
		}
		if !reflect.DeepEqual(a.TEEP.Limits, want) || a.API.Timeout != timeout {
			t.Errorf("with %q a tenant has %+v and %v", lines, a.TEEP.Limits, a.API.Timeout)
		}
	}
}

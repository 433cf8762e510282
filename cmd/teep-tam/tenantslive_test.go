package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/tam/api"
)

// liveService is a service with tenants that runs.
type liveService struct {
	*service
	t         *testing.T
	dir       string
	ctx       context.Context
	said      *textBuffer
	agentsURL string
	url       string
}

func newLiveService(t *testing.T) *liveService {
	t.Helper()
	dir := t.TempDir()
	c := defaults()
	must(t, initialize(dir, &c))
	path := filepath.Join(dir, "tam.yaml")
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(text, "tenants: tenants\n"...), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "tenants"), 0o700))
	main, err := load(path)
	must(t, err)
	store, err := openStore(t.Context(), main)
	must(t, err)
	s := &liveService{t: t, dir: dir, said: &textBuffer{}}
	s.service = newService(main, store, slog.New(slog.NewTextHandler(s.said, nil)))
	all, err := openInstances(t.Context(), main, store, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s.run, s.ctx = errgroup.WithContext(ctx)
	for _, i := range all {
		s.add(s.ctx, i)
	}
	agents, operators := httptest.NewServer(s.agents), httptest.NewServer(s.operators)
	s.agentsURL, s.url = agents.URL, operators.URL
	t.Cleanup(func() {
		cancel()
		agents.Close()
		operators.Close()
		if err := s.run.Wait(); err != nil {
			t.Error(err)
		}
		closeInstances(s.instances())
		store.Close()
	})
	return s
}

func (s *liveService) ask(path, token string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	must(s.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	must(s.t, err)
	return res
}

func (s *liveService) status(path, token string) int {
	s.t.Helper()
	res := s.ask(path, token)
	must(s.t, res.Body.Close())
	return res.StatusCode
}

// TestNewTenantsAreServedLive: a tenant that is created beside a running service is served by it, one with a
// mistake is not, says so once, and keeps nobody else from being served.
func TestNewTenantsAreServedLive(t *testing.T) {
	s := newLiveService(t)
	dir, main, status, ctx, log := s.dir, s.config, s.status, s.ctx, s.said
	if got := status("/t/acme/v1/readyz", ""); got != http.StatusNotFound {
		t.Fatalf("a tenant that is not there answers %d", got)
	}
	// One whose configuration is wrong, and one whose is not written yet.
	broken := filepath.Join(dir, "tenants", "broken")
	must(t, os.MkdirAll(broken, 0o700))
	must(t, os.WriteFile(filepath.Join(broken, tenantFile), []byte("tenant-of: ../../tam.yaml\nnonsense: 1\n"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "tenants", "coming"), 0o700))
	_, err := main.createTenant(t.Context(), "acme")
	must(t, err)
	for range 3 {
		s.lookForTenants(ctx)
	}
	if n := strings.Count(log.String(), "tenant is not served"); n != 1 || !strings.Contains(log.String(), "nonsense") {
		t.Errorf("what is wrong is said %d times: %s", n, log)
	}
	if n := strings.Count(log.String(), "tenant is served"); n != 1 || len(s.instances()) != 2 || len(s.tenantMetrics()) != 1 {
		t.Fatalf("%d instances; %s", len(s.instances()), log)
	}
	if got := status("/t/acme/v1/readyz", ""); got != http.StatusOK {
		t.Errorf("the new tenant answers %d", got)
	}
	tenant := s.instances()[1]
	secret, _, err := api.IssueToken(t.Context(), tenant.measured.Store(), api.TokenRequest{Name: "x", Scopes: api.Scopes(), Lifetime: time.Hour}, time.Now(), rand.Reader)
	must(t, err)
	if own, others := status("/t/acme/v1/devices", secret), status("/v1/devices", secret); own != http.StatusOK || others != http.StatusUnauthorized {
		t.Errorf("its token: %d there, %d at the service", own, others)
	}
	res, err := http.Post(s.agentsURL+"/t/acme/tam", "application/teep+cbor", nil)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode == http.StatusNotFound {
		t.Error("agents do not find the new tenant")
	}
	// The mistake is mended.
	must(t, os.RemoveAll(broken))
	_, err = main.createTenant(t.Context(), "broken")
	must(t, err)
	s.lookForTenants(ctx)
	if got := status("/t/broken/v1/readyz", ""); got != http.StatusOK {
		t.Errorf("a tenant that was mended answers %d", got)
	}
}

// change writes a tenant's configuration anew.
func (s *liveService) change(name, from, to string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "tenants", name, tenantFile)
	text, err := os.ReadFile(path)
	must(s.t, err)
	if !strings.Contains(string(text), from) {
		s.t.Fatalf("no %q in %s", from, text)
	}
	must(s.t, os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600))
}

// TestTenantsChangeLive: a tenant's configuration is taken over while it is served, without a request that fails; a wrong one is not;
// and a tenant that is removed is served no longer, and ends.
func TestTenantsChangeLive(t *testing.T) {
	s := newLiveService(t)
	_, err := s.config.createTenant(t.Context(), "acme")
	must(t, err)
	s.lookForTenants(s.ctx)
	first := s.instances()[1]
	token, _, err := api.IssueToken(t.Context(), first.measured.Store(), api.TokenRequest{Name: "x", Scopes: api.Scopes(), Lifetime: time.Hour}, time.Now(), rand.Reader)
	must(t, err)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := s.status("/t/acme/v1/devices", token); got != http.StatusOK && got != http.StatusServiceUnavailable {
					t.Errorf("while it changes, the tenant answers %d", got)
					return
				}
			}
		})
	}
	stream := s.ask("/t/acme/v1/events/stream", token)
	defer stream.Body.Close()
	s.change("acme", "admission: attested", "admission: manual")
	s.lookForTenants(s.ctx)
	close(stop)
	clients.Wait()
	second := s.instances()[1]
	if second == first || second.config.Policy.Admission != "manual" || len(s.instances()) != 2 || len(s.tenantMetrics()) != 1 {
		t.Fatalf("the change is not taken over: %s", s.said)
	}
	if _, err := io.Copy(io.Discard, stream.Body); err != nil { // it ends with its instance
		t.Logf("the stream: %v", err)
	}
	if !strings.Contains(s.said.String(), "anew=true") {
		t.Errorf("the log says nothing: %s", s.said)
	}
	if got := s.status("/t/acme/v1/devices", token); got != http.StatusOK {
		t.Errorf("after the change: %d", got)
	}
	// A mistake, and keys that are somebody else's: what was read before stays in force.
	for from, to := range map[string]string{"admission: manual": "admission: maybe", "keys/verifier.pem": "../../keys/verifier.pem"} {
		s.change("acme", from, to)
		for range 2 {
			s.lookForTenants(s.ctx)
		}
		if s.instances()[1] != second || s.status("/t/acme/v1/devices", token) != http.StatusOK {
			t.Fatalf("%s was taken over", to)
		}
		s.change("acme", to, from)
	}
	if n := strings.Count(s.said.String(), "stays in force"); n != 2 {
		t.Errorf("mistakes were said %d times: %s", n, s.said)
	}
	s.lookForTenants(s.ctx)
	// A file that is gone for a moment is none that was removed.
	folder := filepath.Join(s.dir, "tenants", "acme")
	third := s.instances()[1]
	must(t, os.Rename(folder, folder+".away"))
	s.lookForTenants(s.ctx)
	must(t, os.Rename(folder+".away", folder))
	s.lookForTenants(s.ctx)
	if s.instances()[1] != third {
		t.Fatal("a tenant whose folder came back was taken out of service")
	}
	must(t, os.RemoveAll(folder))
	for range 2 {
		s.lookForTenants(s.ctx)
	}
	if len(s.instances()) != 1 || len(s.tenantMetrics()) != 0 {
		t.Fatalf("a removed tenant is still there: %s", s.said)
	}
	if got := s.status("/t/acme/v1/readyz", ""); got != http.StatusNotFound {
		t.Errorf("a removed tenant answers %d", got)
	}
	if got := s.status("/v1/readyz", ""); got != http.StatusOK {
		t.Errorf("the service itself answers %d", got)
	}
	for end := time.Now().Add(30 * time.Second); third.busy.TryRLock(); time.Sleep(5 * time.Millisecond) { // its end locks it for good
		third.busy.RUnlock()
		if time.Now().After(end) {
			t.Fatal("what was removed does not end")
		}
	}
	_, err = s.config.createTenant(t.Context(), "acme")
	must(t, err)
	s.lookForTenants(s.ctx)
	if got := s.status("/t/acme/v1/devices", token); got != http.StatusUnauthorized {
		t.Errorf("a new tenant of the same name answers the token of the old one with %d", got)
	}
	entries, err := s.store.AuditEntries(t.Context(), 0, 99)
	must(t, err)
	var said []string
	for _, e := range entries {
		said = append(said, string(e.Action)+" "+e.Target+" by "+e.Via)
	}
	if got := strings.Join(said, ", "); got != "tenant.create acme by command-line, tenant.remove acme by tam, tenant.create acme by command-line" {
		t.Errorf("audit log: %s", got)
	}
}

// TestTenantsFolderIsAway: nobody is taken out of service because a folder cannot be read.
func TestTenantsFolderIsAway(t *testing.T) {
	s := newLiveService(t)
	_, err := s.config.createTenant(t.Context(), "acme")
	must(t, err)
	s.lookForTenants(s.ctx)
	home := filepath.Join(s.dir, "tenants")
	must(t, os.Rename(home, home+".away"))
	for range 3 {
		s.lookForTenants(s.ctx)
	}
	if got := s.status("/t/acme/v1/readyz", ""); got != http.StatusOK || len(s.instances()) != 2 {
		t.Errorf("%d; %s", got, s.said)
	}
}

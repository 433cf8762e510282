package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/tam/api"
)

// TestNewTenantsAreServedLive: a tenant that is created beside a running service is served by it, one with a
// mistake is not, says so once, and keeps nobody else from being served.
func TestNewTenantsAreServedLive(t *testing.T) {
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
	var log bytes.Buffer
	s := &service{config: main, store: store, log: slog.New(slog.NewTextHandler(&log, nil)), agents: http.NewServeMux(), operators: http.NewServeMux()}
	all, err := openInstances(t.Context(), main, store, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s.run, ctx = errgroup.WithContext(ctx)
	for _, i := range all {
		s.add(ctx, i)
	}
	agents, operators := httptest.NewServer(s.agents), httptest.NewServer(s.operators)
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
	status := func(path, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, operators.URL+path, nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		must(t, err)
		must(t, res.Body.Close())
		return res.StatusCode
	}
	if got := status("/t/acme/v1/readyz", ""); got != http.StatusNotFound {
		t.Fatalf("a tenant that is not there answers %d", got)
	}
	// One whose configuration is wrong, and one whose is not written yet.
	broken := filepath.Join(dir, "tenants", "broken")
	must(t, os.MkdirAll(broken, 0o700))
	must(t, os.WriteFile(filepath.Join(broken, tenantFile), []byte("tenant-of: ../../tam.yaml\nnonsense: 1\n"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "tenants", "coming"), 0o700))
	_, err = main.createTenant("acme")
	must(t, err)
	for range 3 {
		s.lookForTenants(ctx)
	}
	if n := strings.Count(log.String(), "tenant is not served"); n != 1 || !strings.Contains(log.String(), "nonsense") {
		t.Errorf("what is wrong is said %d times: %s", n, &log)
	}
	if n := strings.Count(log.String(), "tenant is served"); n != 1 || len(s.instances()) != 2 || len(s.tenantMetrics()) != 1 {
		t.Fatalf("%d instances; %s", len(s.instances()), &log)
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
	res, err := http.Post(agents.URL+"/t/acme/tam", "application/teep+cbor", nil)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode == http.StatusNotFound {
		t.Error("agents do not find the new tenant")
	}
	// The mistake is mended.
	must(t, os.RemoveAll(broken))
	_, err = main.createTenant("broken")
	must(t, err)
	s.lookForTenants(ctx)
	if got := status("/t/broken/v1/readyz", ""); got != http.StatusOK {
		t.Errorf("a tenant that was mended answers %d", got)
	}
}

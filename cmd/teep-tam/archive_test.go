package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// command runs the program as a person does.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestBackupRestoreAndMove(t *testing.T) {
	path := made(t, "name:", "name:")
	dir := filepath.Dir(path)
	if out, err := command(t, "token", "create", "--config", path, "--name", "ops", "--scope", "administrator"); err != nil {
		t.Fatal(out, err)
	}
	backup := filepath.Join(dir, "backup")
	out, err := command(t, "backup", "--config", path, backup)
	if err != nil || !strings.Contains(out, "audit log of 1 entries") {
		t.Fatal(out, err)
	}
	if out, err := command(t, "restore", "--config", path, backup); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Fatal(out, err)
	}
	for _, name := range []string{"tam.db", "tam.db-wal", "tam.db-shm", "envelopes"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := command(t, "restore", "--config", path, backup); err != nil || !strings.Contains(out, "restored") {
		t.Fatal(out, err)
	}

	url := pgtest.Start(t).Database(t)
	if out, err := command(t, "migrate-store", "--config", path, "--to", url); err != nil || !strings.Contains(out, "1 api_tokens") {
		t.Fatal(out, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "postgres.yaml")
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "store:") {
			lines[i] = "store: " + url
		}
	}
	if err := os.WriteFile(moved, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, "token", "create", "--config", moved, "--name", "ops", "--scope", "auditor"); err != nil || !strings.HasPrefix(out, "teep_") {
		t.Fatal(out, err)
	}
	for _, args := range [][]string{
		{"backup", "--config", moved, filepath.Join(dir, "b2")}, {"restore", "--config", moved, backup},
		{"migrate-store", "--config", moved, "--to", url}, {"migrate-store", "--config", path, "--to", url},
	} {
		if out, err := command(t, args...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
}

// TestMoveTenants: a service moves with all of its tenants, each into a schema of its own, and one that was left
// behind is told of.
func TestMoveTenants(t *testing.T) {
	path := made(t, "name:", "tenants: tenants\nname:")
	dir := filepath.Dir(path)
	for _, args := range [][]string{{"tenant", "create", "--config", path, "a"}, {"tenant", "create", "--config", path, "b"}} {
		if out, err := command(t, args...); err != nil {
			t.Fatal(out, err)
		}
	}
	configs := map[string]string{"": path, "a": filepath.Join(dir, "tenants/a/tam.yaml"), "b": filepath.Join(dir, "tenants/b/tam.yaml")}
	for name, of := range configs {
		if out, err := command(t, "token", "create", "--config", of, "--name", "of-"+name, "--scope", "auditor"); err != nil {
			t.Fatal(out, err)
		}
	}
	server := pgtest.Start(t)
	url := server.Database(t)
	out, err := command(t, "migrate-store", "--config", path, "--to", url)
	if err != nil || strings.Count(out, "1 api_tokens") != 3 {
		t.Fatal(out, err)
	}
	if out, err := command(t, "migrate-store", "--config", path, "--to", url); err == nil || !strings.Contains(err.Error(), "tenants/a") || !strings.Contains(err.Error(), "make it anew") {
		t.Error(out, err)
	}
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(text, []byte("store: tam.db"), []byte("store: "+url), 1), 0o600))
	var logged bytes.Buffer
	for name, of := range configs {
		c, err := load(of)
		must(t, err)
		s, err := openStore(t.Context(), c)
		must(t, err)
		tokens, err := s.ListAPITokens(t.Context(), "", 9)
		must(t, errors.Join(err, s.Close()))
		if len(tokens) != 1 || tokens[0].Name != "of-"+name {
			t.Errorf("tenant %q has the tokens %+v", name, tokens)
		}
	}
	must(t, os.Remove(filepath.Join(dir, "tenants/b/tam.db")))
	main, err := load(path)
	must(t, err)
	opened, err := openStore(t.Context(), main)
	must(t, err)
	defer opened.Close()
	instances, err := openInstances(t.Context(), main, opened, slog.New(slog.NewTextHandler(&logged, nil)))
	must(t, err)
	closeInstances(instances)
	if got := logged.String(); strings.Count(got, "SQLite file is not served") != 1 || !strings.Contains(got, "tenants/a/tam.db") {
		t.Errorf("of files that do not count the log says:\n%s", got)
	}

	apart := server.Database(t)
	if out, err := command(t, "migrate-store", "--config", configs["a"], "--to", apart); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(out, err)
	}
	must(t, os.WriteFile(path, text, 0o600))
	if out, err := command(t, "migrate-store", "--config", configs["a"], "--to", apart); err != nil || !strings.Contains(out, "before the service is started") {
		t.Error(out, err)
	}
}

// TestOperatorSide: the API and the console share an address, and neither answers for the other.
func TestOperatorSide(t *testing.T) {
	c, err := load(made(t, "name:", "name:"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := openStore(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	log := slog.New(slog.DiscardHandler)
	known, err := openCollateral(&verifierConfig{}, log)
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New(store, log, time.Now)
	blobs, err := openBlobs(c)
	must(t, err)
	core, err := newTAM(t.Context(), c, m.Store(), blobs, known, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	h, err := operatorHandler(t.Context(), c, core, blobs, m, recognized{}, &liveKeys{}, log)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/": http.StatusSeeOther, "/console/": http.StatusSeeOther, "/console/login": http.StatusOK, "/console/static/console.css": http.StatusOK,
		"/console/nothing": http.StatusNotFound, "/v1/readyz": http.StatusOK, "/v1/devices": http.StatusUnauthorized, "/metrics": http.StatusNotFound, "/x": http.StatusNotFound,
	} {
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

package main

import (
	"bytes"
	"context"
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

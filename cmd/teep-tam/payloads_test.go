package main

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/metrics"
)

func TestPayloadsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"path: payloads":                               "no plain path",
		"path: /payloads/":                             "no plain path",
		"path: '/{x'":                                  "no plain path",
		"path: /":                                      "no plain path",
		"path: /tam":                                   "is at payloads.path",
		"max-bytes: 5":                                 "payloads.path is missing",
		"max-total-bytes: 5":                           "payloads.path is missing",
		"max-total-bytes: -5":                          "negative",
		"path: /p, keep-unneeded: -1h":                 "less than a second",
		"path: /p, keep-unneeded: 1ms":                 "less than a second",
		"path: /p, max-bytes: -1":                      "negative",
		"path: /p, concurrent: -1":                     "negative",
		"path: /p, uri: cdn.example":                   "no place for payloads",
		"path: /p, uri: 'ftp://cdn.example/p'":         "no place for payloads",
		"path: /p, uri: 'https://me:pw@cdn.example/p'": "no place for payloads",
		"path: /p, uri: 'https://cdn.example/p?x'":     "no place for payloads",
		"path: /p, dir: x":                             "unknown key",
	} {
		if _, err := load(made(t, "policy:", "payloads: {"+text+"}\npolicy:")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
}

func TestPayloadURI(t *testing.T) {
	for text, want := range map[string]string{
		"path: /payloads": "http://127.0.0.1:8080/payloads",
		"path: /payloads, uri: 'https://cdn.example/teep'": "https://cdn.example/teep",
	} {
		c, err := load(made(t, "policy:", "payloads: {"+text+"}\npolicy:"))
		must(t, err)
		if got := c.payloadURI(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestPayloadsAreServedBesideTheProtocol: with a path the listener for agents has payloads, without one it has
// none.
func TestPayloadsAreServedBesideTheProtocol(t *testing.T) {
	for text, status := range map[string]int{"policy:": http.StatusNotFound, "payloads: {path: /payloads}\npolicy:": http.StatusOK} {
		c, err := load(made(t, "policy:", text))
		must(t, err)
		store, err := openStore(t.Context(), c)
		must(t, err)
		log := slog.New(slog.DiscardHandler)
		i, err := openInstance(t.Context(), c, store, metrics.New(store, log, time.Now), log)
		must(t, err)
		blobs, err := openBlobs(c)
		must(t, err)
		name := strings.Repeat("0", 64)
		if blobs.payloads != nil {
			stored, _, err := blobs.payloads.Put(t.Context(), strings.NewReader("code"))
			must(t, err)
			name = hex.EncodeToString(stored[:])
		}
		agents, operators := http.NewServeMux(), http.NewServeMux()
		i.route(agents, operators)
		w := httptest.NewRecorder()
		agents.ServeHTTP(w, httptest.NewRequest("GET", "/payloads/"+name, nil))
		if body, _ := io.ReadAll(w.Body); w.Code != status || status == http.StatusOK && string(body) != "code" {
			t.Errorf("%s: %d %q", text, w.Code, body)
		}
		closeInstances([]*instance{i})
		blobs.close()
		must(t, store.Close())
	}
}

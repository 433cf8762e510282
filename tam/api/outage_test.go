package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/go-teep/teep/tam"
)

// dyingStore dies in the middle of a request: it takes the reservation, and nothing after it.
type dyingStore struct{ Store }

var errDied = tam.Unavailable(errors.New("connection to 10.0.0.1 was lost"))

func (dyingStore) AddAPIToken(context.Context, tam.APIToken) error       { return errDied }
func (dyingStore) ReleaseRequest(context.Context, []byte) error          { return errDied }
func (dyingStore) CompleteRequest(context.Context, []byte, []byte) error { return errDied }

// TestStoreDiesDuringARequest: the answer is one problem, which says when to come again and tells nothing of
// what is behind the TAM.
func TestStoreDiesDuringARequest(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeAdministrator)
	s.config.Store = dyingStore{s.config.Store}
	h, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = h
	const body = `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`
	for name, header := range map[string]map[string]string{"plain": nil, "once": {idempotencyHeader: "key 1"}} {
		r := s.do("POST", "/v1/tokens", token, header, body)
		var p Problem
		if err := json.Unmarshal([]byte(r.body), &p); err != nil {
			t.Fatalf("%s: %v in %q", name, err, r.body)
		}
		if r.status != http.StatusServiceUnavailable || p.Code != "unavailable" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %+v %v", name, r.status, p, r.header)
		}
	}
}

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
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

// hangingStore takes requests and never answers them.
type hangingStore struct {
	Store
	released chan struct{}
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (hangingStore) APITokenByHash(ctx context.Context, _ [32]byte) (*tam.APIToken, error) {
	return nil, hang(ctx)
}
func (hangingStore) AddAPIToken(ctx context.Context, _ tam.APIToken) error { return hang(ctx) }
func (hangingStore) CatalogueRevision(ctx context.Context) (int64, error)  { return 0, hang(ctx) }
func (hangingStore) AuditHead(ctx context.Context) (audit.Head, error) {
	return audit.Head{}, hang(ctx)
}
func (hangingStore) FeedHead(ctx context.Context) (int64, error) { return 0, hang(ctx) }
func (hangingStore) CountDevices(ctx context.Context) ([]tam.DeviceCount, error) {
	return nil, hang(ctx)
}
func (s hangingStore) ReleaseRequest(ctx context.Context, id []byte) error {
	if ctx.Err() == nil {
		close(s.released)
	}
	return nil
}

// everybody is recognized, without the store.
type everybody struct{}

func (everybody) Authenticate(*http.Request) (*Caller, error) {
	return &Caller{ID: "1", Name: "ann", Scopes: []Scope{ScopeAdministrator}, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

// TestStoreHangs: a store that does not answer holds up no request for ever, whatever the request is.
func TestStoreHangs(t *testing.T) {
	s := newService(t)
	hanging := hangingStore{s.config.Store, make(chan struct{})}
	s.config.Store, s.config.Timeout, s.config.Authenticators = hanging, 50*time.Millisecond, []Authenticator{everybody{}}
	h, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = h
	const body = `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`
	for name, c := range map[string]struct {
		method, path, token, body string
		once                      bool
	}{
		"a token is looked up": {method: "GET", path: "/v1/devices", token: "teep_x"},
		"health":               {method: "GET", path: "/v1/readyz"},
		"reading":              {method: "GET", path: "/v1/overview"},
		"changing":             {method: "POST", path: "/v1/tokens", body: body},
		"changing once":        {method: "POST", path: "/v1/tokens", body: body, once: true},
		"a stream begins":      {method: "GET", path: "/v1/events/stream"},
		"an export begins":     {method: "GET", path: "/v1/audit/export"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, s.server.URL+c.path, strings.NewReader(c.body))
			must(t, err)
			if c.token != "" {
				req.Header.Set("Authorization", "Bearer "+c.token)
			}
			if c.once {
				req.Header.Set(idempotencyHeader, "key 1")
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := s.server.Client().Do(req)
			must(t, err)
			defer res.Body.Close()
			var p Problem
			must(t, json.NewDecoder(res.Body).Decode(&p))
			if res.StatusCode != http.StatusServiceUnavailable || p.Code != "unavailable" && p.Code != "store" || res.Header.Get("Retry-After") == "" ||
				res.Header.Get("Content-Type") != problemMediaType {
				t.Errorf("%d %+v %v", res.StatusCode, p, res.Header)
			}
		})
	}
	select {
	case <-hanging.released:
	default:
		t.Error("the idempotency key stays taken by a request that had no effect")
	}
}

// TestSlowBodiesAreNotTheStoresFault: the time of the work does not run while a body arrives.
func TestSlowBodiesAreNotTheStoresFault(t *testing.T) {
	h := &handler{Config: Config{Timeout: 40 * time.Millisecond}}
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://tam/", in)
	must(t, err)
	r, end := h.bounded(req)
	defer end()
	go func() {
		for range 4 {
			time.Sleep(30 * time.Millisecond)
			_, _ = out.Write([]byte("x")) // the reader is there until the end
		}
		out.Close()
	}()
	data, err := io.ReadAll(r.Body)
	if err != nil || string(data) != "xxxx" || r.Context().Err() != nil {
		t.Fatalf("%q, %v, %v", data, err, r.Context().Err())
	}
	<-r.Context().Done()
	if !tookTooLong(r.Context(), r.Context().Err()) {
		t.Errorf("the work has no end after the body: %v", context.Cause(r.Context()))
	}
}

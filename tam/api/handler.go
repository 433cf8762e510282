package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// Publishing is the part of a [tam.TAM] that this API needs.
type Publishing interface {
	Publish(ctx context.Context, envelope []byte, publisher string) (*tam.Version, error)
	AddPublisher(ctx context.Context, name string, keys []*cose.Key, prefixes []suit.ComponentID) (*tam.Publisher, error)
}

// Config is what the API works on. TAM and Store are required.
type Config struct {
	TAM   Publishing
	Store tam.Store
	// MaxEnvelope bounds an upload in bytes; 0 means 64 MiB.
	MaxEnvelope int64
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

// Scope is what a token allows.
type Scope string

// The scopes.
const (
	ScopeAdministrator Scope = "administrator"
	ScopeOperator      Scope = "operator"
	ScopePublisher     Scope = "publisher"
	ScopeAuditor       Scope = "auditor"
)

// Scopes lists all scopes.
func Scopes() []Scope {
	return []Scope{ScopeAdministrator, ScopeOperator, ScopePublisher, ScopeAuditor}
}

const (
	maxJSON        = 1 << 20
	defaultMaxBody = 64 << 20
)

// route is one operation of the API.
type route struct {
	pattern string // of http.ServeMux
	// scopes may use it, beside administrator. public routes need no token.
	scopes []Scope
	public bool
	// maxBody bounds the request; 0 means that there is none.
	maxBody int64
	handle  func(*handler, http.ResponseWriter, *http.Request) error
}

// routes is the whole API. The tests go through it, so that none can be forgotten.
func (c Config) routes() []route {
	operators := []Scope{ScopeOperator}
	readers := []Scope{ScopeOperator, ScopeAuditor}
	everyone := []Scope{ScopeOperator, ScopeAuditor, ScopePublisher}
	return []route{
		{pattern: "GET /v1/healthz", public: true, handle: (*handler).health},
		{pattern: "POST /v1/components", scopes: []Scope{ScopePublisher}, maxBody: c.MaxEnvelope, handle: (*handler).publish},
		{pattern: "GET /v1/components", scopes: everyone, handle: (*handler).listVersions},
		{pattern: "POST /v1/components/{manifest}/{sequence}/withdraw", scopes: operators, maxBody: maxJSON, handle: (*handler).withdraw},
		{pattern: "GET /v1/devices", scopes: readers, handle: (*handler).listDevices},
		{pattern: "GET /v1/devices/{id}", scopes: readers, handle: (*handler).device},
		{pattern: "PATCH /v1/devices/{id}", scopes: operators, maxBody: maxJSON, handle: (*handler).changeDevice},
		{pattern: "GET /v1/devices/{id}/events", scopes: readers, handle: (*handler).events},
		{pattern: "GET /v1/policy", scopes: everyone, handle: (*handler).listPolicy},
		{pattern: "PUT /v1/policy/{manifest}", scopes: operators, maxBody: maxJSON, handle: (*handler).putPolicy},
		{pattern: "DELETE /v1/policy/{manifest}", scopes: operators, handle: (*handler).deletePolicy},
		{pattern: "POST /v1/publishers", maxBody: maxJSON, handle: (*handler).addPublisher},
		{pattern: "GET /v1/publishers", scopes: everyone, handle: (*handler).listPublishers},
		{pattern: "POST /v1/publishers/{name}/revoke", handle: (*handler).revokePublisher},
		{pattern: "POST /v1/tokens", maxBody: maxJSON, handle: (*handler).addToken},
		{pattern: "GET /v1/tokens", scopes: []Scope{ScopeAuditor}, handle: (*handler).listTokens},
		{pattern: "POST /v1/tokens/{id}/revoke", handle: (*handler).revokeToken},
	}
}

// handler serves the routes.
type handler struct {
	Config
}

// NewHandler makes the API's handler, for paths below /v1/.
func NewHandler(c Config) (http.Handler, error) {
	if c.TAM == nil || c.Store == nil {
		return nil, errors.New("api: Config.TAM and Config.Store are required")
	}
	if c.MaxEnvelope == 0 {
		c.MaxEnvelope = defaultMaxBody
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &handler{c}
	mux := http.NewServeMux()
	for _, r := range c.routes() {
		mux.Handle(r.pattern, h.serve(r))
	}
	return withHeaders(unrouted(mux)), nil
}

// withHeaders keeps browsers and caches from making anything of the answers.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// unrouted gives the multiplexer's own refusals the form of all others.
func unrouted(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := discard{header: make(http.Header)}
		mux.ServeHTTP(&probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			(&Problem{Status: probe.status, Code: "method", Detail: "This path does not support " + r.Method + ".",
				Next: "Use one of: " + probe.header.Get("Allow") + "."}).write(w)
			return
		}
		(&Problem{Status: http.StatusNotFound, Code: "path", Detail: "There is nothing at this path.",
			Next: "Check the URL; the API is below /v1/."}).write(w)
	})
}

// discard learns a status without an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// callerKey is the context key of the token that a request came with.
type callerKey struct{}

func caller(ctx context.Context) *tam.APIToken {
	t, _ := ctx.Value(callerKey{}).(*tam.APIToken)
	return t
}

// serve wraps a route with authorization, body limit and error answers.
func (h *handler) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := h.authorized(w, req, r); err != nil {
			h.fail(w, req, err)
		}
	})
}

func (h *handler) authorized(w http.ResponseWriter, req *http.Request, r route) error {
	if !r.public {
		t, err := h.authenticate(req)
		if err != nil {
			return err
		}
		if !allowed(t, r) {
			return &Problem{Status: http.StatusForbidden, Code: "scope",
				Detail: "The token's scopes do not allow this.", Next: "Use a token with one of the scopes: " + r.needs() + "."}
		}
		req = req.WithContext(context.WithValue(req.Context(), callerKey{}, t))
	}
	req.Body = http.MaxBytesReader(w, req.Body, r.maxBody)
	return r.handle(h, w, req)
}

func allowed(t *tam.APIToken, r route) bool {
	return slices.ContainsFunc(t.Scopes, func(s string) bool {
		return Scope(s) == ScopeAdministrator || slices.Contains(r.scopes, Scope(s))
	})
}

func (r route) needs() string {
	list := string(ScopeAdministrator)
	for _, s := range r.scopes {
		list += ", " + string(s)
	}
	return list
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.Store.CatalogueRevision(r.Context()); err != nil {
		h.Logger.ErrorContext(r.Context(), "store is not available", "err", err)
		return &Problem{Status: http.StatusServiceUnavailable, Code: "store", Detail: "The store cannot be read.",
			Next: "See the TAM's log."}
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

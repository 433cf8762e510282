package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/tally"
)

// Config is what the API works on. TAM and Store are required.
type Config struct {
	TAM   Managing
	Store Store
	// Keys returns those that now open what devices encrypted to the TAM, and those that check what the TAM
	// signed, where somebody looks at recorded messages. nil: that stays closed, and unchecked.
	Keys func() (decryption, verification []*cose.Key)
	// Authenticators recognize callers who have no token of this TAM, in this order. Empty: tokens only.
	Authenticators []Authenticator
	// RolloutApproval has a second person approve each rollout before it begins.
	RolloutApproval bool
	// InsecureWebhooks lets webhooks go to private addresses and over plain HTTP, if the sender does too.
	InsecureWebhooks bool
	// Ending is closed when the service is about to stop: streams, which do not end by themselves, end
	// then. nil: never.
	Ending <-chan struct{}
	// MaxEnvelope bounds an upload in bytes; 0 means 64 MiB.
	MaxEnvelope int64
	// Payloads takes uploads of payloads, each of at most MaxPayload bytes (0 means 1 GiB), which devices
	// then fetch below PayloadURI. nil: there are none.
	Payloads   tam.Payloads
	PayloadURI string
	MaxPayload int64
	// Timeout bounds the work on a request, or on each step of one that goes on for long (streams, the
	// export of the audit log, uploads of payloads): a store that hangs is answered with 503. 0 means 15 seconds.
	Timeout time.Duration
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

// handler serves the routes.
type handler struct {
	Config
	document []byte // OpenAPI
	streams  chan struct{}
	devices  *tally.Tally[[]tam.DeviceCount]
	versions *tally.Tally[[]tam.InstalledCount] // in the order of the store
}

// NewHandler makes the API's handler, for paths below /v1/.
func NewHandler(c Config) (http.Handler, error) {
	if c.TAM == nil || c.Store == nil {
		return nil, errors.New("api: Config.TAM and Config.Store are required")
	}
	if c.MaxEnvelope == 0 {
		c.MaxEnvelope = defaultMaxBody
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = defaultMaxPayload
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	document, err := c.document()
	if err != nil {
		return nil, err
	}
	h := &handler{Config: c, document: document, streams: make(chan struct{}, maxStreams)}
	h.devices = tally.New(c.Store.CountDevices, c.Clock, c.Ending)
	h.versions = tally.New(func(ctx context.Context) ([]tam.InstalledCount, error) {
		return tam.CountAllInstalled(ctx, c.Store)
	}, c.Clock, c.Ending)
	mux := http.NewServeMux()
	for _, r := range c.routes() {
		mux.Handle(r.pattern, h.serve(r))
	}
	return withHeaders(sameOrigin(unrouted(mux))), nil
}

// sameOrigin refuses what the page of another site has a browser send, which would go with the client
// certificate of whoever looks at that page. Programs say nothing of origins, and are not concerned.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		(&Problem{Status: http.StatusForbidden, Code: "cross-origin", Detail: "Another site's page sent this request.",
			Next: "Changes are made by programs, or in the console."}).write(w)
	}))
	return protection.Handler(next)
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

// viaConsole is the way in of requests that the console makes, in this process, on behalf of who is
// logged in there.
const viaConsole = "console"

// serve wraps a route with authorization, body limit and error answers.
func (h *handler) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.long {
			bounded, end := h.bounded(req)
			defer end()
			req = bounded
		}
		if err := h.authorized(w, req, r); err != nil {
			h.fail(w, req, err)
		}
	})
}

func (h *handler) authorized(w http.ResponseWriter, req *http.Request, r route) error {
	if !r.public {
		c, err := h.authenticateSoon(req)
		if err != nil {
			return err
		}
		if !allowed(c, r) {
			return &Problem{Status: http.StatusForbidden, Code: "scope",
				Detail: "The token's scopes do not allow this.", Next: "Use a token with one of the scopes: " + r.needs() + "."}
		}
		req = req.WithContext(WithCaller(audit.WithActor(req.Context(), c.actor(req.Context())), c))
	}
	if !r.public {
		if err := knownQuery(req, r); err != nil {
			return err
		}
	}
	if !r.conditional {
		if err := unconditional(req); err != nil {
			return err
		}
	}
	req.Body = http.MaxBytesReader(w, req.Body, r.maxBody)
	if req.Method == http.MethodPost && !r.streamed && req.Header.Get(idempotencyHeader) != "" {
		return h.once(w, req, func(w http.ResponseWriter, req *http.Request) error { return r.handle(h, w, req) })
	}
	return r.handle(h, w, req)
}

// knownQuery refuses parameters that a route does not have, that are there twice, or that cannot be read: who
// misspells a filter would take the answer for a filtered one.
func knownQuery(req *http.Request, r route) error {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return badRequest("query", "The query of the URL cannot be read.", "Write NAME=VALUE, joined by &, and percent-encode what is neither a letter nor a digit.")
	}
	for name, values := range query {
		switch known := slices.Contains(r.query, name); {
		case known && len(values) > 1:
			return badRequest("query", fmt.Sprintf("The query parameter %q is there twice.", name), "Give it once.")
		case known:
			continue
		}
		next := "It has none; leave it out."
		if len(r.query) > 0 {
			next = "It has: " + strings.Join(r.query, ", ") + "."
		}
		return badRequest("query", fmt.Sprintf("This route has no query parameter %.40q.", name), next)
	}
	return nil
}

func allowed(c *Caller, r route) bool {
	return c.Has(ScopeAdministrator) || slices.ContainsFunc(r.scopes, c.Has)
}

func (r route) needs() string {
	list := string(ScopeAdministrator)
	for _, s := range r.scopes {
		list += ", " + string(s)
	}
	return list
}

// Package console is the web console of a TAM: the fleet at a glance, devices with their attestation explained,
// and everything else that the operator API has, for those who may do it.
//
//	h, err := console.NewHandler(console.Config{API: apiHandler, Store: store})
//	http.Handle("/console/", h)
//
// The console has no rights of its own. It calls the operator API, in the same process, with the API
// token that somebody logged in with; what the token does not allow is refused there.
//
// It is plain HTML, and works without scripts. One small script of its own keeps progress up to date and
// shows previews while somebody types. There is no request to anywhere else: its Content-Security-Policy
// allows its own script, style sheet and pages, and nothing more.
package console

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/identity"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var static embed.FS

// Prefix is the path that the console lives below.
const Prefix = "/console/"

// Store is what the console itself needs of a store.
type Store interface {
	tam.APITokens
	tam.TokenKeys
}

// Config is what the console works on. API and Store are required.
type Config struct {
	// API is the handler of the operator API.
	API   http.Handler
	Store Store
	// Base is what the server takes off the paths (http.StripPrefix): that of a tenant, such as /t/acme.
	// Sessions of one tenant are
	// none of another's, because each has its own store, and with it its own keys.
	Base string
	// Tenants says where else one can go; nil: nowhere.
	Tenants *Tenants
	// TLSInFront says that a proxy in front speaks TLS with browsers. Without it, and without TLS
	// here, nobody can log in but from this machine.
	TLSInFront bool
	// Provider lets people log in with their organization's identity provider; nil: with tokens only.
	Provider *identity.Provider
	// Timeout bounds the work on a page, that of the API included; 0 means 20 seconds.
	Timeout time.Duration
	// PreviewDevices is how many devices a preview looks at before somebody asks for more; 0 means 20000.
	PreviewDevices int64
	// Clock defaults to time.Now, Rand to crypto/rand, Logger to slog.Default().
	Clock  func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
}

// Tenants are the consoles of one service.
type Tenants struct {
	// Path is before the name of a tenant in the path of its console, such as /t/.
	Path string
	// Names lists the tenants, for administrators of the service itself; nil in the console of a tenant, which
	// tells nobody who the others are.
	Names func() ([]string, error)
}

// console serves the pages.
type console struct {
	Config
	pages map[string]*template.Template
}

const (
	// maxForm bounds a form in bytes.
	maxForm = 64 << 10
	// defaultTimeout is longer than that of the API, whose answer says more.
	defaultTimeout = 20 * time.Second
	// retryAfter is after how many seconds a page is worth another try that cannot be made now.
	retryAfter = "5"
)

// NewHandler makes the console's handler, for paths below [Prefix].
func NewHandler(c Config) (http.Handler, error) {
	if c.API == nil || c.Store == nil {
		return nil, errors.New("console: Config.API and Config.Store are required")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.PreviewDevices == 0 {
		c.PreviewDevices = defaultPreviewDevices
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	pages, err := parsePages(c.Base, c.Clock)
	if err != nil {
		return nil, err
	}
	s := &console{c, pages}
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+Prefix+"static/", http.StripPrefix(Prefix+"static/", http.FileServerFS(files)))
	mux.HandleFunc("GET "+Prefix+"login", s.loginForm)
	mux.HandleFunc("POST "+Prefix+"login", s.login)
	if c.Provider.CanLogin() {
		mux.HandleFunc("GET "+Prefix+"login/oidc", s.beginLogin)
		mux.HandleFunc("GET "+CallbackPath, s.finishLogin)
	}
	for _, r := range routes() {
		mux.Handle(r.pattern, s.serve(r))
	}
	// A request from another site never has a person's intention behind it.
	return headers(http.NewCrossOriginProtection().Handler(below(c.Base, s.bounded(mux)))), nil
}

// bounded gives the work on each page an end, whatever hangs behind it.
func (s *console) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// headers limits what a browser does with any answer.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// visit is one request of somebody who is logged in.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	session *session
	caller  *api.Caller
	api     *api.Client
	// previewDevices is how many devices a preview looks at first.
	previewDevices int64
}

func (s *console) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = http.MaxBytesReader(w, req.Body, maxForm)
		v, err := s.visit(w, req)
		if err != nil {
			s.sendToLogin(w, req, err)
			return
		}
		if req.Method != http.MethodGet && !v.session.csrfHolds(v.r) {
			s.fail(v, &api.Problem{Status: http.StatusForbidden, Code: "csrf", Detail: "The form is not from this session.",
				Next: "Go back, reload the page, and send the form again."})
			return
		}
		err = v.need(r.scopes...)
		if err == nil {
			err = r.handle(s, v)
		}
		if err != nil {
			s.fail(v, err)
		}
	})
}

// fail shows what the API refused, and why.
func (s *console) fail(v *visit, err error) {
	var p *api.Problem
	if !errors.As(err, &p) {
		s.Logger.ErrorContext(v.r.Context(), "console failed", "path", v.r.URL.Path, "err", err)
		p = &api.Problem{Status: http.StatusServiceUnavailable, Detail: "The TAM could not do this.", Next: "Try again; if it stays so, see the TAM's log."}
		if tam.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) {
			p.Detail, p.Next = "The TAM's store does not answer.", "Try again; nobody has to restart the TAM. If it stays so, see its log."
		}
	}
	if p.Status == http.StatusServiceUnavailable {
		v.w.Header().Set("Retry-After", retryAfter)
	}
	s.render(v, p.Status, "problem", refusal(p.Status), p)
}

// back answers a form that was carried out.
func (v *visit) back(path string) error {
	http.Redirect(v.w, v.r, Prefix+path, http.StatusSeeOther)
	return nil
}

package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// Caller is who a request is from, and what they may do.
type Caller struct {
	// ID identifies them for good, in the audit log too: the ID of an API token, or what another
	// [Authenticator] is sure of.
	ID string
	// Name is for people.
	Name string
	// Subjects name the person behind the credentials ([policy.Person]); empty: nobody knows.
	Subjects []string
	Scopes   []Scope
	// Publisher limits uploads to those that this publisher signed; "" for no limit.
	Publisher string
	// Expires is when what they proved it with ends.
	Expires time.Time
}

// Has tells whether the caller has the scope itself, or is an administrator.
func (c *Caller) Has(scope Scope) bool {
	return slices.Contains(c.Scopes, scope) || slices.Contains(c.Scopes, ScopeAdministrator)
}

// Authenticator recognizes callers by something else than this TAM's own tokens. It is safe for
// concurrent use.
type Authenticator interface {
	// Authenticate finds out who a request is from. Without credentials of its kind it returns nil and
	// no error. A [*Problem] refuses those that do not hold; any other error says that it cannot be
	// found out now.
	Authenticate(r *http.Request) (*Caller, error)
}

type callerKey struct{}

func caller(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// WithCaller says who a request is from that comes from within the process: the console's, on behalf of
// who is logged in there.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func tokenCaller(t *tam.APIToken) *Caller {
	c := &Caller{ID: t.ID, Name: t.Name, Publisher: t.Publisher, Expires: t.Expires}
	if t.Owner != "" {
		c.Subjects = []string{t.Owner}
	}
	for _, s := range t.Scopes {
		c.Scopes = append(c.Scopes, Scope(s))
	}
	return c
}

// noToken is what a request without credentials, and one with worthless ones, are told alike.
func noToken() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "token", Detail: "The request carries no valid token.",
		Next: "Send the header “Authorization: Bearer teep_…” with a token that the TAM's administrator gave you."}
}

// authenticate finds out who a request is from. What is in the header counts before a certificate, so that
// whoever has several credentials chooses one.
func (h *handler) authenticate(r *http.Request) (*Caller, error) {
	if c := caller(r.Context()); c != nil {
		if !h.Clock().Before(c.Expires) {
			return nil, noToken()
		}
		return c, nil
	}
	secret, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch n := len(r.Header.Values("Authorization")); {
	case n > 1, n == 1 && !bearer:
		return nil, noToken()
	case strings.HasPrefix(secret, tokenPrefix):
		return AuthenticateToken(r.Context(), h.Store, secret, h.Clock())
	}
	for _, a := range h.Authenticators {
		if c, err := a.Authenticate(r); c != nil || err != nil {
			return c, err
		}
	}
	return nil, noToken()
}

// authenticateSoon is authenticate with an end.
func (h *handler) authenticateSoon(r *http.Request) (*Caller, error) {
	ctx, cancel := h.step(r.Context())
	defer cancel()
	return h.authenticate(r.WithContext(ctx))
}

// actor is the caller in the audit log.
func (c *Caller) actor(ctx context.Context) audit.Actor {
	via := "api"
	if audit.ActorOf(ctx).Via == viaConsole {
		via = viaConsole
	}
	return audit.Actor{Via: via, ID: c.ID, Name: c.Name}
}

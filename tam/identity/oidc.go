package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"github.com/go-teep/teep/tam/api"
)

// ProviderConfig says which OpenID Connect provider vouches for operators.
type ProviderConfig struct {
	// Issuer is its URL, exactly as in its tokens.
	Issuer string
	// InsecureHTTP allows an issuer without TLS, whose keys anybody on the way can replace.
	InsecureHTTP bool
	// Audience is what bearer tokens have to be meant for; empty means ClientID.
	Audience string
	// ClientID is that of the console, and ClientSecret its secret, if the provider gave one.
	// RedirectURL is that of the console's callback, as it is registered there. Empty: nobody logs in
	// to the console with this provider.
	ClientID, ClientSecret, RedirectURL string
	// ExtraScopes are asked for beside openid at the login, such as groups.
	ExtraScopes []string
	// Claim has the values that Grants match: a text or a list of texts. Dots lead into objects, as in
	// realm_access.roles.
	Claim  string
	Grants []Grant
	// HTTP reaches the provider; nil means a client with a timeout of ten seconds.
	HTTP *http.Client
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

// Provider recognizes callers by tokens of an OpenID Connect provider: JWTs that it signed, in a header
// (Authorization: Bearer) for programs, and through the authorization-code flow for people. It implements
// [api.Authenticator]. The provider is asked for its keys when they are first needed, so that a TAM starts
// without it.
type Provider struct {
	polite *politeTransport
	config ProviderConfig

	mu       sync.Mutex
	found    *oidc.Provider
	failed   error
	failedAt time.Time
}

// politeTransport bounds what is read from the provider. Codes of logins, which are posted, always pass.
type politeTransport struct {
	next  http.RoundTripper
	limit *rate.Limiter
	// answers tells whether the provider answered when it was last asked.
	answers atomic.Bool
}

var errPolite = errors.New("identity: the provider's keys were fetched too often: wait a second")

// RoundTrip implements http.RoundTripper.
func (t *politeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && !t.limit.Allow() {
		return nil, errPolite
	}
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	t.answers.Store(err == nil && res.StatusCode < 300)
	return res, err
}

// retryDiscovery is how long a provider that could not be reached is left alone.
const retryDiscovery = 5 * time.Second

// NewProvider checks the configuration.
func NewProvider(c ProviderConfig) (*Provider, error) {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("identity: issuer %q is no URL: write it as the provider does, such as https://login.example.com", c.Issuer)
	case u.Scheme == "http" && !c.InsecureHTTP:
		return nil, fmt.Errorf("identity: issuer %q has no TLS: whoever sits between could sign tokens", c.Issuer)
	case c.ClientID == "" && c.Audience == "":
		return nil, errors.New("identity: neither a client ID nor an audience is set: tokens for any other program would be accepted")
	case c.RedirectURL != "" && c.ClientID == "":
		return nil, errors.New("identity: the console's login needs a client ID")
	case c.Claim == "":
		return nil, errors.New("identity: the claim that grants match is missing: name one, such as groups")
	}
	if err := CheckGrants(c.Grants); err != nil {
		return nil, err
	}
	if c.Audience == "" {
		c.Audience = c.ClientID
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	// A key that is not known makes the library fetch the provider's keys: worthless tokens must not
	// make a flood of that.
	limited := *c.HTTP
	polite := &politeTransport{next: c.HTTP.Transport, limit: rate.NewLimiter(rate.Every(time.Second), 10)}
	limited.Transport = polite
	c.HTTP = &limited
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Provider{config: c, polite: polite}, nil
}

// discover asks the provider where its keys are, once.
func (p *Provider) discover() (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	now := p.config.Clock()
	if p.failed != nil && now.Sub(p.failedAt) < retryDiscovery {
		return nil, p.failed
	}
	// The keys are fetched with this context later on: it must not end with a request.
	ctx := oidc.ClientContext(context.Background(), p.config.HTTP)
	found, err := oidc.NewProvider(ctx, p.config.Issuer)
	if err != nil {
		p.failed, p.failedAt = fmt.Errorf("identity: provider %s: %w", p.config.Issuer, err), now
		return nil, p.failed
	}
	p.found, p.failed = found, nil
	return found, nil
}

func (p *Provider) verifier(audience string) (*oidc.IDTokenVerifier, error) {
	found, err := p.discover()
	if err != nil {
		return nil, err
	}
	// The algorithms are those that the provider announces, as far as they are asymmetric; "none" is
	// never among them.
	return found.Verifier(&oidc.Config{ClientID: audience, Now: p.config.Clock}), nil
}

func noIDToken() *api.Problem {
	return &api.Problem{Status: http.StatusUnauthorized, Code: "token", Detail: "The request carries no valid token.",
		Next: "Get a new one from the identity provider, meant for this TAM."}
}

// Authenticate implements [api.Authenticator].
func (p *Provider) Authenticate(r *http.Request) (*api.Caller, error) {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, nil
	}
	v, err := p.verifier(p.config.Audience)
	if err != nil {
		return nil, err
	}
	return p.caller(r.Context(), v, raw, "")
}

// caller verifies a token and finds out what it allows. nonce is what an ID token of a login has to have.
func (p *Provider) caller(ctx context.Context, v *oidc.IDTokenVerifier, raw, nonce string) (*api.Caller, error) {
	token, err := v.Verify(ctx, raw)
	if err != nil {
		if p.unreachable(err) {
			return nil, fmt.Errorf("identity: keys of %s: %w", p.config.Issuer, err)
		}
		p.config.Logger.WarnContext(ctx, "token of the identity provider refused", "err", err)
		return nil, noIDToken()
	}
	if token.Nonce != nonce && nonce != "" {
		p.config.Logger.WarnContext(ctx, "ID token is of another login")
		return nil, noIDToken()
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil || token.Subject == "" {
		return nil, noIDToken()
	}
	c, err := grant(p.config.Grants, claimValues(claims, p.config.Claim))
	if err != nil || c == nil {
		p.config.Logger.WarnContext(ctx, "token of the identity provider without a grant", "subject", token.Subject, "err", err)
		return nil, &api.Problem{Status: http.StatusForbidden, Code: "no-role", Detail: "The identity provider knows you, and you have no role here.",
			Next: "Ask the TAM's administrator for one."}
	}
	c.Subjects = subjects(claims, token.Issuer+"#"+token.Subject)
	c.ID, c.Name, c.Expires = "oidc:"+token.Issuer+"#"+token.Subject, personName(claims, token.Subject), token.Expiry
	return c, nil
}

// unreachable tells that the provider could not be asked from that it said no. Where it was not asked because it has been
// so often, and answered, its keys are known as they were a moment ago, and the token is by none of them: a flood of
// such tokens is no failure of the TAM.
func (p *Provider) unreachable(err error) bool {
	text := err.Error() // the library wraps neither
	return strings.Contains(text, "fetching keys") && !(strings.Contains(text, errPolite.Error()) && p.polite.answers.Load())
}

// claimValues follows the dots of path into claims.
func claimValues(claims map[string]any, path string) []string {
	v, direct := claims[path] // names may have dots: https://example.com/roles
	if !direct {
		v = any(claims)
		for name := range strings.SplitSeq(path, ".") {
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[name]
		}
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

func personName(claims map[string]any, otherwise string) string {
	for _, name := range []string{"preferred_username", "email", "name"} {
		if s, ok := claims[name].(string); ok && s != "" && len(s) <= 128 {
			return s
		}
	}
	return otherwise
}

// subjects name the person for comparison with what names the owners of tokens and of certificates: the
// e-mail address, where the provider verified it, is what organizations have for that.
func subjects(claims map[string]any, account string) []string {
	address, _ := claims["email"].(string)
	if verified, _ := claims["email_verified"].(bool); verified && address != "" && len(address) <= 256 {
		return []string{address, account}
	}
	return []string{account}
}

// Login is one attempt of a person to log in, which the browser keeps, encrypted, until it comes back.
type Login struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

// CanLogin tells whether people can log in with the provider.
func (p *Provider) CanLogin() bool { return p != nil && p.config.RedirectURL != "" }

// oauth is the configuration of the authorization-code flow.
func (p *Provider) oauth() (*oauth2.Config, error) {
	found, err := p.discover()
	if err != nil {
		return nil, err
	}
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, RedirectURL: p.config.RedirectURL,
		Endpoint: found.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID, "profile"}, p.config.ExtraScopes...),
	}, nil
}

// BeginLogin returns the page of the provider to send somebody to, with PKCE (RFC 7636).
func (p *Provider) BeginLogin(l Login) (string, error) {
	c, err := p.oauth()
	if err != nil {
		return "", err
	}
	return c.AuthCodeURL(l.State, oidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(l.Verifier)), nil
}

// FinishLogin makes of what the provider sent back who logged in. A [*api.Problem] says that nobody did.
func (p *Provider) FinishLogin(ctx context.Context, l Login, answer url.Values) (*api.Caller, error) {
	switch {
	case l.State == "" || l.Nonce == "" || answer.Get("state") != l.State:
		return nil, &api.Problem{Status: http.StatusBadRequest, Code: "login-state", Detail: "This is not the login that was begun here.",
			Next: "Begin again at the console's login page."}
	case answer.Get("error") != "":
		p.config.Logger.WarnContext(ctx, "login refused by the identity provider", "error", answer.Get("error"))
		return nil, &api.Problem{Status: http.StatusForbidden, Code: "login-refused", Detail: "The identity provider did not log you in.",
			Next: "Try again, or ask who runs the provider."}
	case answer.Has("iss") && answer.Get("iss") != p.config.Issuer: // RFC 9207
		return nil, &api.Problem{Status: http.StatusBadRequest, Code: "login-state", Detail: "The answer is of another identity provider.",
			Next: "Begin again at the console's login page."}
	}
	c, err := p.oauth()
	if err != nil {
		return nil, err
	}
	token, err := c.Exchange(oidc.ClientContext(ctx, p.config.HTTP), answer.Get("code"), oauth2.VerifierOption(l.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.Response.StatusCode < 500 {
			p.config.Logger.WarnContext(ctx, "code of a login refused by the identity provider", "error", refused.ErrorCode)
			return nil, noIDToken()
		}
		return nil, fmt.Errorf("identity: provider %s: %w", p.config.Issuer, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, fmt.Errorf("identity: provider %s sent no ID token", p.config.Issuer)
	}
	v, err := p.verifier(p.config.ClientID)
	if err != nil {
		return nil, err
	}
	return p.caller(ctx, v, raw, l.Nonce)
}

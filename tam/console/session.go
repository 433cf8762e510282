package console

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
)

// session is the content of the cookie, encrypted under a key that all replicas share. It holds the API
// token, so that a token that is revoked, expires or loses a scope ends or limits the session at once;
// who steals the cookie has the session until it ends, and not the token.
type session struct {
	Token string `json:"token,omitempty"`
	// Caller is who logged in with the identity provider; then there is no token.
	Caller  *api.Caller `json:"caller,omitempty"`
	Expires time.Time   `json:"expires"`
	CSRF    string      `json:"csrf"`
}

const (
	sessionLifetime = 8 * time.Hour
	// secureCookie can only be set over TLS, for this host, and by no other host of its domain.
	secureCookie = "__Host-teep-console"
	localCookie  = "teep-console"
	csrfField    = "csrf"
)

var errNoSession = errors.New("console: no session")

// cookieName returns the name of the cookie, and whether it must travel over TLS. Without TLS there are
// sessions on this machine only.
func (s *console) cookieName(r *http.Request) (name string, secure bool, err error) {
	if r.TLS != nil || s.TLSInFront {
		return secureCookie + s.cookieSuffix(), true, nil
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "", false, fmt.Errorf("console: %w", err)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.Unmap().IsLoopback() {
		return "", false, &api.Problem{Status: http.StatusForbidden, Code: "no-tls", Detail: "This connection is not encrypted: a token would be read on its way.",
			Next: "Configure api.tls, or set console.tls-in-front where a proxy speaks TLS."}
	}
	return localCookie + s.cookieSuffix(), false, nil
}

// cookieSuffix keeps the cookies of tenants apart, which share a host.
func (s *console) cookieSuffix() string { return strings.ReplaceAll(s.Base, "/", "-") }

// ciphers makes one cipher for each generation of the store's token keys, the newest last.
func (s *console) ciphers(ctx context.Context) ([]cipher.AEAD, error) {
	keys, err := s.Store.TokenKeys(ctx)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("console: the store has no token key: the TAM makes one when it starts")
	}
	list := make([]cipher.AEAD, len(keys))
	for i, k := range keys {
		// A use of its own: the tokens of the protocol are made with another key.
		key, err := hkdf.Key(sha256.New, k.Secret, nil, "teep console session", 32)
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		if list[i], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
	}
	return list, nil
}

// seal writes a session for the cookie of that name.
func (s *console) seal(ctx context.Context, name string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("console: %w", err)
	}
	list, err := s.ciphers(ctx)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(list[len(list)-1].Seal(nil, nil, data, []byte(name))), nil
}

func (s *console) unseal(ctx context.Context, name, value string) (*session, error) {
	v := new(session)
	if err := s.open(ctx, name, value, v); err != nil {
		return nil, err
	}
	if !s.Clock().Before(v.Expires) {
		return nil, errNoSession
	}
	return v, nil
}

// open decrypts the value of the cookie of that name.
func (s *console) open(ctx context.Context, name, value string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return errNoSession
	}
	list, err := s.ciphers(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		plain, err := c.Open(nil, nil, data, []byte(name))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(plain, into); err != nil {
			return errNoSession
		}
		return nil
	}
	return errNoSession
}

// visit finds out who a request is from.
func (s *console) visit(w http.ResponseWriter, r *http.Request) (*visit, error) {
	name, _, err := s.cookieName(r)
	if err != nil {
		return nil, err
	}
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil, errNoSession
	}
	v, err := s.unseal(r.Context(), name, cookie.Value)
	if err != nil {
		return nil, err
	}
	ctx, caller := audit.WithActor(r.Context(), audit.Actor{Via: "console"}), v.Caller
	if caller == nil {
		if caller, err = api.AuthenticateToken(r.Context(), s.Store, v.Token, s.Clock()); err != nil {
			return nil, err
		}
	} else {
		ctx = api.WithCaller(ctx, caller)
	}
	return &visit{w: w, r: r.WithContext(ctx), session: v, caller: caller, api: s.client(v.Token), previewDevices: s.PreviewDevices}, nil
}

// csrfHolds tells whether a form was made for this session.
func (v *session) csrfHolds(r *http.Request) bool {
	return v.CSRF != "" && subtle.ConstantTimeCompare([]byte(r.PostFormValue(csrfField)), []byte(v.CSRF)) == 1
}

// sendToLogin answers a request without a session. What stands in the way of one is said there.
func (s *console) sendToLogin(w http.ResponseWriter, r *http.Request, err error) {
	var p *api.Problem
	switch {
	case errors.Is(err, errNoSession), errors.As(err, &p) && p.Status == http.StatusUnauthorized:
		http.Redirect(w, r, Prefix+"login", http.StatusSeeOther)
	default:
		s.fail(&visit{w: w, r: r}, err)
	}
}

func (s *console) loginForm(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	if _, _, err := s.cookieName(r); err != nil {
		s.fail(v, err)
		return
	}
	s.render(v, http.StatusOK, "login", "Log in", loginPage{Provider: s.Provider.CanLogin()})
}

func (s *console) login(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	name, secure, err := s.cookieName(r)
	if err != nil {
		s.fail(v, err)
		return
	}
	secret := strings.TrimSpace(r.PostFormValue("token"))
	caller, err := api.AuthenticateToken(r.Context(), s.Store, secret, s.Clock())
	if p := (*api.Problem)(nil); errors.As(err, &p) {
		s.Logger.WarnContext(r.Context(), "console login refused", "reason", p.Code, "remote", r.RemoteAddr)
		s.render(v, http.StatusUnauthorized, "login", "Log in", loginPage{p, s.Provider.CanLogin()})
		return
	}
	if err == nil {
		err = s.startSession(v, name, secure, caller, session{Token: secret, Expires: s.Clock().Add(sessionLifetime)})
	}
	if err == nil {
		err = v.back("")
	}
	if err != nil {
		s.fail(v, err)
	}
}

// loginPage is the form, what stood in the way before, and whether there is another way in.
type loginPage struct {
	Problem  *api.Problem
	Provider bool
}

// startSession gives the browser its session.
func (s *console) startSession(v *visit, name string, secure bool, caller *api.Caller, begun session) error {
	csrf, err := s.random()
	if err != nil {
		return err
	}
	begun.CSRF = csrf
	value, err := s.seal(v.r.Context(), name, begun)
	if err != nil {
		return err
	}
	http.SetCookie(v.w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(begun.Expires.Sub(s.Clock()).Seconds()),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	})
	s.Logger.InfoContext(v.r.Context(), "console login", "caller", caller.ID, "name", caller.Name)
	return nil
}

// random makes 256 bits for somebody who must not guess them.
func (s *console) random() (string, error) {
	var random [32]byte
	if _, err := io.ReadFull(s.Rand, random[:]); err != nil {
		return "", fmt.Errorf("console: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(random[:]), nil
}

func (s *console) logout(v *visit) error {
	name, secure, err := s.cookieName(v.r)
	if err != nil {
		return err
	}
	http.SetCookie(v.w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode})
	return v.back("login")
}

// client calls the API on behalf of a token, without leaving the process.
func (s *console) client(token string) *api.Client {
	return &api.Client{BaseURL: "http://operator-api", Token: token, HTTP: &http.Client{Transport: within{s.API}}}
}

// within is a transport that ends at a handler.
type within struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	a := &answer{header: http.Header{}, status: http.StatusOK}
	w.handler.ServeHTTP(a, r)
	return &http.Response{
		StatusCode: a.status, Header: a.header, Body: io.NopCloser(&a.body), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, r.Context().Err()
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// Package oidctest is an OpenID Connect provider for tests: it signs real tokens, has the endpoints of the
// authorization-code flow with PKCE, and lies on demand.
//
//	p := oidctest.New(t)
//	p.Claims = map[string]any{"sub": "alice", "groups": []string{"ops"}}
//	raw := p.Sign(t, p.Token("teep-tam"))
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Provider is a running provider. Set its fields between requests, not during them.
type Provider struct {
	Server *httptest.Server
	Issuer string
	// ClientID and ClientSecret are those of the one client.
	ClientID, ClientSecret string
	// Claims go into every token beside iss, aud, iat and exp.
	Claims map[string]any
	// Change is called for every token that the code flow ends in, before it is signed.
	Change func(claims map[string]any)
	// ForeignKey signs with a key that the provider does not publish.
	ForeignKey bool
	// Down lets every request fail.
	Down bool
	// Now is the clock.
	Now func() time.Time

	key, foreign *ecdsa.PrivateKey
	mu           sync.Mutex
	codes        map[string]code
	// keyFetches counts requests for the keys.
	keyFetches int
}

// code is an authorization code that was not used yet.
type code struct{ challenge, nonce, redirect string }

// New starts a provider that ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{ClientID: "teep-tam", ClientSecret: "s3cret-of-the-client", Now: time.Now, codes: map[string]code{}}
	for _, k := range []**ecdsa.PrivateKey{&p.key, &p.foreign} {
		var err error
		if *k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.Down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Server.Close)
	p.Issuer = p.Server.URL
	return p
}

// KeyFetches tells how often the keys were fetched.
func (p *Provider) KeyFetches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyFetches
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the test notices
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": p.Server.URL + "/authorize", "token_endpoint": p.Server.URL + "/token",
		"jwks_uri": p.Server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
	})
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	p.keyFetches++
	p.mu.Unlock()
	answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
}

// authorize logs everybody in at once, as a person would after a form.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != p.ClientID || q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	name := rand.Text()
	p.mu.Lock()
	p.codes[name] = code{q.Get("code_challenge"), q.Get("nonce"), q.Get("redirect_uri")}
	p.mu.Unlock()
	back := url.Values{"code": {name}, "state": {q.Get("state")}}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

// token redeems a code, once, for who knows the verifier and the secret.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	p.mu.Lock()
	c, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || id != p.ClientID || secret != p.ClientSecret || r.PostFormValue("redirect_uri") != c.redirect ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"error":"invalid_grant"}`)) //nolint:errcheck // see answer
		return
	}
	claims := p.Token(p.ClientID)
	claims["nonce"] = c.nonce
	if p.Change != nil {
		p.Change(claims)
	}
	raw, err := p.sign(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": raw})
}

// Token makes the claims of a token for an audience, good for five minutes.
func (p *Provider) Token(audience string) map[string]any {
	now := p.Now()
	claims := map[string]any{"iss": p.Issuer, "aud": audience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, p.Claims)
	return claims
}

// Sign makes a token.
func (p *Provider) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	raw, err := p.sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (p *Provider) sign(claims map[string]any) (string, error) {
	key := p.key
	if p.ForeignKey {
		key = p.foreign
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := s.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Unsigned makes a token with alg none.
func Unsigned(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err) // claims of tests are JSON
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","kid":"1"}`)) + "." + encode(payload) + "."
}

// HMACWithPublicKey makes a token whose signature is an HMAC under the provider's public key: a verifier
// that lets the token choose between HMAC and ECDSA would accept it.
func (p *Provider) HMACWithPublicKey(t testing.TB, claims map[string]any) string {
	t.Helper()
	public, err := p.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: public, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

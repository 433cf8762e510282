package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
)

// tokenPrefix makes tokens recognizable to people and to scanners for leaked secrets.
const tokenPrefix = "teep_"

// maxTokenLifetime keeps a forgotten token from being good for ever.
const maxTokenLifetime = 366 * 24 * time.Hour

// TokenRequest describes a token to make.
type TokenRequest struct {
	// Name says what it is for.
	Name string
	// Scopes are what it allows; at least one.
	Scopes []Scope
	// Publisher limits uploads to those that this publisher signed; "" for no limit.
	Publisher string
	// Owner names the person whose token it is, as others of theirs are named: the e-mail address at the
	// identity provider, where there is one. Without it the token cannot take part in an approval.
	Owner string
	// Lifetime is at most 366 days.
	Lifetime time.Duration
}

// IssueToken makes a token and stores its hash. The returned secret is shown once and kept nowhere.
func IssueToken(ctx context.Context, s tam.APITokens, r TokenRequest, now time.Time, rand io.Reader) (secret string, t *tam.APIToken, err error) {
	if err := r.check(); err != nil {
		return "", nil, err
	}
	var random [40]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return "", nil, fmt.Errorf("api: randomness for a token: %w", err)
	}
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:32])
	t = &tam.APIToken{
		ID: hex.EncodeToString(random[32:]), Name: r.Name, Hash: hashToken(secret), Publisher: r.Publisher, Owner: r.Owner,
		Created: now.UTC(), Expires: now.Add(r.Lifetime).UTC(),
	}
	for _, scope := range r.Scopes {
		t.Scopes = append(t.Scopes, string(scope))
	}
	if err := s.AddAPIToken(ctx, *t); err != nil {
		return "", nil, err
	}
	return secret, t, nil
}

// ErrToken says that a token cannot be made as described.
var ErrToken = errors.New("api: token cannot be made")

func (r TokenRequest) check() error {
	switch {
	case r.Name == "" || len(r.Name) > 128:
		return fmt.Errorf("%w: give it a name of 1 to 128 bytes that says what it is for", ErrToken)
	case len(r.Owner) > 256 || strings.TrimSpace(r.Owner) != r.Owner:
		return fmt.Errorf("%w: an owner has at most 256 bytes, and no space around it", ErrToken)
	case len(r.Scopes) == 0:
		return fmt.Errorf("%w: give at least one scope of %v", ErrToken, Scopes())
	case r.Lifetime <= 0 || r.Lifetime > maxTokenLifetime:
		return fmt.Errorf("%w: give a lifetime of at most 366 days", ErrToken)
	}
	for _, s := range r.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("%w: there is no scope %q; the scopes are %v", ErrToken, s, Scopes())
		}
	}
	return nil
}

// hashToken needs no salt or stretching: tokens have 256 random bits.
func hashToken(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// Authenticate finds the token that a secret belongs to; a [*Problem] says that it is none that counts.
// What is wrong with one is not told apart, but for its age: that helps its owner and nobody else.
func Authenticate(ctx context.Context, s tam.APITokens, secret string, now time.Time) (*tam.APIToken, error) {
	no := noToken()
	if !strings.HasPrefix(secret, tokenPrefix) {
		return nil, no
	}
	t, err := s.APITokenByHash(ctx, hashToken(secret))
	switch {
	case errors.Is(err, tam.ErrNotFound):
		return nil, no
	case err != nil:
		return nil, err
	case !t.Revoked.IsZero() || !now.Before(t.Expires):
		return nil, &Problem{Status: http.StatusUnauthorized, Code: "token-expired",
			Detail: "The token expired or was revoked.", Next: "Ask the TAM's administrator for a new one."}
	}
	return t, nil
}

// AuthenticateToken is [Authenticate] for those who want to know what the token allows.
func AuthenticateToken(ctx context.Context, s tam.APITokens, secret string, now time.Time) (*Caller, error) {
	t, err := Authenticate(ctx, s, secret, now)
	if err != nil {
		return nil, err
	}
	return tokenCaller(t), nil
}

// Package veraison has hardware reports appraised by a remote verifier with the challenge-response
// API of Project Veraison, for hardware whose collateral is kept elsewhere. It implements
// [bound.Reports]: the report inside bound evidence goes to the verifier with the binding of the
// claims as its nonce; what comes back is an EAT Attestation Result (rats-ear) as a JWT, whose
// signature is checked with keys that were configured, not with any that the server offers. The
// claims themselves never leave, and the result for the TAM is made and signed here.
//
// It is the one package below attest that has connections opened, by transport/challengeresponse.
// The server is not trusted to be there, to answer in time or in bounds, nor to answer the question
// that was asked; only the signer of its results is trusted to appraise.
package veraison

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/transport/challengeresponse"
)

// ErrRemote says that the remote verifier gave no usable answer, which says nothing about the
// device: ask again later.
var ErrRemote = challengeresponse.ErrUnusable

// Config configures [New].
type Config struct {
	// Endpoint is the base of the API: everything before /challenge-response/v1. It must be https,
	// but for loopback addresses.
	Endpoint *url.URL
	// Client sends the requests; its timeout and TLS settings count. Redirects are not followed.
	Client *http.Client
	// Owner names the verifier in results.
	Owner string
	// Keys are the public keys that it signs results with.
	Keys []*cose.Key
	// MediaType is the kind of report that goes to it, and TheirType what it calls it; empty
	// means the same.
	MediaType, TheirType string
	// Class limits what devices its results may be of; the vendor (OEMID) at least.
	Class appraisal.Class
	// MaxAge is the greatest age of a result, DefaultMaxAge when zero; MaxSkew how far clocks may
	// lie apart, eat.DefaultMaxSkew when zero.
	MaxAge, MaxSkew time.Duration
	// Poll is challengeresponse.DefaultPoll when zero.
	Poll time.Duration
}

// DefaultMaxAge is the greatest age of a result.
const DefaultMaxAge = 5 * time.Minute

// Client asks one remote verifier. It is safe for concurrent use.
type Client struct {
	c   Config
	api *challengeresponse.Client
}

var _ bound.Reports = (*Client)(nil)

// New checks the configuration.
func New(c Config) (*Client, error) {
	switch {
	case c.Endpoint == nil || c.Client == nil || c.MediaType == "":
		return nil, errors.New("veraison: an endpoint, an HTTP client and the media type of reports are needed")
	case c.Class.OEMID == nil:
		return nil, errors.New("veraison: the vendor is needed whose devices this verifier appraises; without it, it could speak for all")
	case len(c.Keys) == 0 || c.Owner == "":
		return nil, errors.New("veraison: the verifier's name and the keys of its results are needed; without them any answer would do")
	}
	for _, k := range c.Keys {
		if _, err := algorithm(k); err != nil {
			return nil, err
		}
	}
	if c.TheirType == "" {
		c.TheirType = c.MediaType
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxSkew == 0 {
		c.MaxSkew = eat.DefaultMaxSkew
	}
	api, err := challengeresponse.NewClient(c.Endpoint, c.Client, c.Poll)
	if err != nil {
		return nil, fmt.Errorf("veraison: %w", err)
	}
	return &Client{c: c, api: api}, nil
}

// Accepts implements [bound.Reports].
func (c *Client) Accepts(mediaType string) bool { return mediaType == c.c.MediaType }

// Read implements [bound.Reports].
func (c *Client) Read(ctx context.Context, report []byte, b bound.Beside) (*bound.Report, error) {
	r, err := c.api.Appraise(ctx, c.c.TheirType, report, b.Binding[:])
	switch {
	case errors.Is(err, challengeresponse.ErrFailed):
		return nil, fmt.Errorf("%w: %w", attest.ErrUntrusted, err)
	case err != nil:
		return nil, err
	case r.MediaType != challengeresponse.TokenType:
		return nil, fmt.Errorf("%w: its result is %.100q, not %s", ErrRemote, r.MediaType, challengeresponse.TokenType)
	}
	return c.result(string(r.Data), b)
}

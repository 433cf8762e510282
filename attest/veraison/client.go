// Package veraison has hardware reports appraised by a remote verifier with the challenge-response
// API of Project Veraison, for hardware whose collateral is kept elsewhere. It implements
// [bound.Reports]: the report inside bound evidence goes to the verifier with the binding of the
// claims as its nonce; what comes back is an EAT Attestation Result (rats-ear) as a JWT, whose
// signature is checked with keys that were configured, not with any that the server offers. The
// claims themselves never leave, and the result for the TAM is made and signed here.
//
// It is the one package below attest that opens connections. The server is not trusted to be
// there, to answer in time or in bounds, nor to answer the question that was asked; only the
// signer of its results is trusted to appraise.
package veraison

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// ErrRemote says that the remote verifier gave no usable answer, which says nothing about the
// device: ask again later.
var ErrRemote = errors.New("veraison: remote verifier")

// sessionType is the media type of sessions.
const sessionType = "application/vnd.veraison.challenge-response-session+json"

const (
	// MaxAnswerBytes is the largest answer that is read.
	MaxAnswerBytes = 1 << 20
	// DefaultPoll is how long is waited before a pending result is asked for again.
	DefaultPoll = 500 * time.Millisecond
	maxPolls    = 60
)

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
	// Poll is DefaultPoll when zero.
	Poll time.Duration
}

// DefaultMaxAge is the greatest age of a result.
const DefaultMaxAge = 5 * time.Minute

// Client asks one remote verifier. It is safe for concurrent use.
type Client struct {
	c    Config
	http *http.Client
}

var _ bound.Reports = (*Client)(nil)

// New checks the configuration.
func New(c Config) (*Client, error) {
	switch {
	case c.Endpoint == nil || c.Client == nil || c.MediaType == "":
		return nil, errors.New("veraison: an endpoint, an HTTP client and the media type of reports are needed")
	case c.Endpoint.Scheme != "https" && (c.Endpoint.Scheme != "http" || !loopback(c.Endpoint.Hostname())):
		return nil, fmt.Errorf("veraison: the endpoint %s is not https", c.Endpoint.Redacted())
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
	if c.Poll == 0 {
		c.Poll = DefaultPoll
	}
	own := *c.Client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{c: c, http: &own}, nil
}

func loopback(host string) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host)
}

// Accepts implements [bound.Reports].
func (c *Client) Accepts(mediaType string) bool { return mediaType == c.c.MediaType }

// Read implements [bound.Reports].
func (c *Client) Read(ctx context.Context, report []byte, b bound.Beside) (*bound.Report, error) {
	token, err := c.appraise(ctx, c.c.TheirType, report, b.Binding)
	if err != nil {
		return nil, err
	}
	return c.result(token, b)
}

// session is the state of a challenge-response session.
type session struct {
	Nonce  []byte   `json:"nonce"`
	Accept []string `json:"accept"`
	Status string   `json:"status"`
	Result string   `json:"result"`
}

// appraise runs one session and returns the signed result.
func (c *Client) appraise(ctx context.Context, mediaType string, report []byte, nonce bound.Binding) (string, error) {
	u := c.c.Endpoint.JoinPath("challenge-response/v1/newSession")
	u.RawQuery = url.Values{"nonce": {base64.URLEncoding.EncodeToString(nonce[:])}}.Encode()
	s, at, err := c.do(ctx, http.MethodPost, u, "", nil, http.StatusCreated)
	if err != nil {
		return "", err
	}
	switch {
	case at == nil:
		return "", fmt.Errorf("%w: the new session has no Location", ErrRemote)
	case !bytes.Equal(s.Nonce, nonce[:]):
		return "", fmt.Errorf("%w: the session is for another nonce than was asked for", ErrRemote)
	case len(s.Accept) > 0 && !slices.Contains(s.Accept, mediaType):
		return "", fmt.Errorf("%w: it does not take %s, only %.300q", ErrRemote, mediaType, s.Accept)
	}
	defer c.end(ctx, at)
	if s, _, err = c.do(ctx, http.MethodPost, at, mediaType, report, http.StatusOK, http.StatusAccepted); err != nil {
		return "", err
	}
	for range maxPolls {
		switch s.Status {
		case "complete":
			return s.Result, nil
		case "failed":
			return "", fmt.Errorf("%w: the remote verifier says that the appraisal failed", attest.ErrUntrusted)
		case "waiting", "processing":
		default:
			return "", fmt.Errorf("%w: unknown session status %.40q", ErrRemote, s.Status)
		}
		if err := wait(ctx, c.c.Poll); err != nil {
			return "", err
		}
		if s, _, err = c.do(ctx, http.MethodGet, at, "", nil, http.StatusOK); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: no result after %d questions", ErrRemote, maxPolls)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// end gives the session back; a server that forgets sessions by itself needs no word.
func (c *Client) end(ctx context.Context, at *url.URL) {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, at.String(), nil)
	if err != nil {
		return
	}
	if resp, err := c.http.Do(req); err == nil {
		_ = resp.Body.Close() // nothing in it counts
	}
}

// do sends one request and reads the session in the answer. at is where the session is, when the
// answer says so.
func (c *Client) do(ctx context.Context, method string, u *url.URL, contentType string, body []byte, want ...int) (s *session, at *url.URL, err error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRemote, err)
	}
	req.Header.Set("Accept", sessionType)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRemote, err)
	}
	defer resp.Body.Close()
	if !slices.Contains(want, resp.StatusCode) {
		return nil, nil, fmt.Errorf("%w: %s answers %s", ErrRemote, method, resp.Status)
	}
	if typ, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || typ != sessionType {
		return nil, nil, fmt.Errorf("%w: the answer is %.100q, not %s", ErrRemote, resp.Header.Get("Content-Type"), sessionType)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRemote, err)
	}
	if len(data) > MaxAnswerBytes {
		return nil, nil, fmt.Errorf("%w: an answer of more than %d bytes", ErrRemote, MaxAnswerBytes)
	}
	s = &session{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, nil, fmt.Errorf("%w: the session is not JSON: %w", ErrRemote, err)
	}
	at, err = c.location(u, resp.Header.Get("Location"))
	return s, at, err
}

// location keeps the session on the server that was configured: Evidence goes nowhere else.
func (c *Client) location(base *url.URL, text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := base.Parse(text)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host {
		return nil, fmt.Errorf("%w: it sends the session to %.200q, which is another server", ErrRemote, text)
	}
	return u, nil
}

package challengeresponse

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	// MaxAnswerBytes is the largest answer that is read.
	MaxAnswerBytes = 1 << 20
	// DefaultPoll is how long is waited before a pending result is asked for again.
	DefaultPoll = 500 * time.Millisecond
	maxPolls    = 60
)

// Client asks one verifier. The server is not trusted to be there, to answer in time or in bounds, nor to
// answer the question that was asked. Safe for concurrent use.
type Client struct {
	endpoint *url.URL
	http     *http.Client
	poll     time.Duration
}

// NewClient checks where the verifier is: endpoint is everything before /challenge-response/v1, and https
// but for loopback addresses. The timeout and the TLS settings of h count; redirects are not followed.
// poll is DefaultPoll when zero.
func NewClient(endpoint *url.URL, h *http.Client, poll time.Duration) (*Client, error) {
	switch {
	case endpoint == nil || h == nil:
		return nil, errors.New("challenge-response: an endpoint and an HTTP client are needed")
	case endpoint.Host == "" || endpoint.Scheme != "https" && (endpoint.Scheme != "http" || !loopback(endpoint.Hostname())):
		return nil, fmt.Errorf("challenge-response: the endpoint %s is not https", endpoint.Redacted())
	}
	if poll == 0 {
		poll = DefaultPoll
	}
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{endpoint: endpoint, http: &own, poll: poll}, nil
}

func loopback(host string) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host)
}

// Appraise has Evidence appraised in one session, whose nonce is given: it is in the Evidence, or what
// that was made for. Errors are ErrUnusable, ErrFailed, or those of ctx.
func (c *Client) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (Result, error) {
	u := c.endpoint.JoinPath(prefix, "newSession")
	u.RawQuery = url.Values{"nonce": {base64.URLEncoding.EncodeToString(nonce)}}.Encode()
	s, at, err := c.do(ctx, http.MethodPost, u, "", nil, http.StatusCreated)
	if err != nil {
		return Result{}, err
	}
	switch {
	case at == nil:
		return Result{}, fmt.Errorf("%w: the new session has no Location", ErrUnusable)
	case !bytes.Equal(s.Nonce, nonce):
		return Result{}, fmt.Errorf("%w: the session is for another nonce than was asked for", ErrUnusable)
	case len(s.Accept) > 0 && !slices.ContainsFunc(s.Accept, func(a string) bool { return sameType(a, mediaType) }):
		return Result{}, fmt.Errorf("%w: it does not take %s, only %.300q", ErrUnusable, mediaType, s.Accept)
	}
	defer c.end(ctx, at)
	if s, _, err = c.do(ctx, http.MethodPost, at, mediaType, evidence, http.StatusOK, http.StatusAccepted); err != nil {
		return Result{}, err
	}
	for range maxPolls {
		switch s.Status {
		case statusComplete:
			return s.result()
		case statusFailed:
			return Result{}, ErrFailed
		case statusWaiting, statusProcessing:
		default:
			return Result{}, fmt.Errorf("%w: unknown session status %.40q", ErrUnusable, s.Status)
		}
		if err := wait(ctx, c.poll); err != nil {
			return Result{}, err
		}
		if s, _, err = c.do(ctx, http.MethodGet, at, "", nil, http.StatusOK); err != nil {
			return Result{}, err
		}
	}
	return Result{}, fmt.Errorf("%w: no result after %d questions", ErrUnusable, maxPolls)
}

// sameType compares media types, however they are written.
func sameType(a, b string) bool {
	if a == b {
		return true
	}
	x, px, err := mime.ParseMediaType(a)
	y, py, err2 := mime.ParseMediaType(b)
	return err == nil && err2 == nil && x == y && maps.Equal(px, py)
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
		return nil, nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	req.Header.Set("Accept", SessionType)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnusable, cause(err))
	}
	defer resp.Body.Close()
	if !slices.Contains(want, resp.StatusCode) {
		return nil, nil, fmt.Errorf("%w: %s answers %s", ErrUnusable, method, resp.Status)
	}
	if typ, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || typ != SessionType {
		return nil, nil, fmt.Errorf("%w: the answer is %.100q, not %s", ErrUnusable, resp.Header.Get("Content-Type"), SessionType)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if len(data) > MaxAnswerBytes {
		return nil, nil, fmt.Errorf("%w: an answer of more than %d bytes", ErrUnusable, MaxAnswerBytes)
	}
	s = &session{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, nil, fmt.Errorf("%w: the session is not JSON: %w", ErrUnusable, err)
	}
	at, err = location(u, resp.Header.Get("Location"))
	return s, at, err
}

// cause leaves out the URL of an error, whose query holds the nonce.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// location keeps the session on the server that was configured: Evidence goes nowhere else.
func location(base *url.URL, text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := base.Parse(text)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host {
		return nil, fmt.Errorf("%w: it sends the session to %.200q, which is another server", ErrUnusable, text)
	}
	return u, nil
}

package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// ClientOptions configures a [Client]. The zero value talks to servers whose certificates the
// operating system trusts, and repeats nothing.
type ClientOptions struct {
	// CAFile names a PEM file of the only certificate authorities that servers are verified by.
	// Empty means those of the operating system.
	CAFile string
	// UserAgent is sent with every request; empty means "teep-broker".
	UserAgent string
	// MaxResponse is the largest TEEP message accepted, in bytes; 0 means 64 MiB. It does not
	// bound payloads, which are read piece by piece.
	MaxResponse int64
	// Timeout bounds one POST, the server's work included; 0 means 2 minutes.
	Timeout time.Duration
	// IdleTimeout bounds the wait for the next bytes of a payload; 0 means 1 minute.
	IdleTimeout time.Duration
	// FetchRedirects is how many redirects a payload fetch follows, never from https to http.
	// POSTs never follow any.
	FetchRedirects int
	// Retry says how often faults of the transport are tried again.
	Retry RetryPolicy
	// Now, Random ([0,1)) and Sleep are the clock and the dice; nil means real ones.
	Now    func() time.Time
	Random func() float64
	Sleep  Sleeper
}

// Client is the HTTP client of a broker, or of a TAM that connects to agents. Safe for concurrent
// use. It keeps no cookies and verifies server identity by host name (RFC 9525); there is no way
// to switch that off.
type Client struct {
	options ClientOptions
	posts   *http.Client
	fetches *http.Client
}

// NewClient makes a client.
func NewClient(o ClientOptions) (*Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = "teep-broker"
	}
	o.MaxResponse = orDefault(o.MaxResponse, 64<<20)
	o.Timeout = orDefault(o.Timeout, 2*time.Minute)
	o.IdleTimeout = orDefault(o.IdleTimeout, time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Sleep == nil {
		o.Sleep = sleepTimer
	}
	config, err := TLSConfig(o.CAFile)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   30 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: o.Timeout,
		// Ranges of a payload count its own bytes, not those of a coding for the way.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &Client{
		options: o,
		posts: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // TEEP/HTTP §4: MUST NOT be followed
		}},
		fetches: &http.Client{Transport: t, CheckRedirect: followWithin(o.FetchRedirects)},
	}, nil
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// TLSConfig has servers verified by the authorities of a PEM file alone, or by those of the operating
// system where it is empty.
func TLSConfig(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	pool, err := readCAs(caFile)
	c.RootCAs = pool
	return c, err
}

func readCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("transport: certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("transport: %s holds no PEM certificate", file)
	}
	return pool, nil
}

func followWithin(limit int) func(*http.Request, []*http.Request) error {
	return func(next *http.Request, via []*http.Request) error {
		if len(via) > limit {
			return http.ErrUseLastResponse
		}
		if via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return fmt.Errorf("%w: redirect from https to %s", ErrURI, next.URL.Scheme)
		}
		return nil
	}
}

// CloseIdleConnections closes connections that no request is using.
func (c *Client) CloseIdleConnections() { c.posts.CloseIdleConnections() }

// Post sends one TEEP message to a TAM URI, or with an empty body asks for the first one, and
// returns the answer: empty when the server has nothing more to say (TEEP/HTTP §5.3, §5.4). Faults
// of the transport are repeated as the policy says.
func (c *Client) Post(ctx context.Context, uri string, body []byte) (reply []byte, err error) {
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	err = c.options.Retry.do(ctx, c.options.Random, c.options.Sleep, func() (err error) {
		reply, err = c.post(ctx, uri, body)
		return err
	})
	return reply, err
}

func checkURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil {
		return fmt.Errorf("%w: not a URI", ErrURI) // the parser's text repeats what may be secret in it
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%w: scheme %q; http and https are supported", ErrURI, u.Scheme)
	}
	if u.Host == "" {
		return fmt.Errorf("%w: no host", ErrURI)
	}
	return nil
}

func (c *Client) post(ctx context.Context, uri string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURI, err)
	}
	request.Header.Set("Accept", MediaType)
	request.Header.Set("User-Agent", c.options.UserAgent)
	if len(body) > 0 {
		request.Header.Set("Content-Type", MediaType)
	}
	response, err := c.posts.Do(request)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer drain(response)
	if response.StatusCode/100 != 2 {
		return nil, newStatusError(response, c.options.Now())
	}
	reply, err := c.readReply(response)
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	if !isMediaType(response.Header.Get("Content-Type")) {
		return nil, fmt.Errorf("%w but %q; is this the TAM's URI?", ErrMediaType, response.Header.Get("Content-Type"))
	}
	return reply, nil
}

func (c *Client) readReply(response *http.Response) ([]byte, error) {
	limit := c.options.MaxResponse
	if response.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, %d allowed", ErrTooLarge, response.ContentLength, limit)
	}
	reply, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: the response broke off: %w", ErrUnreachable, err)
	}
	if int64(len(reply)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return reply, nil
}

func isMediaType(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == MediaType
}

// drain lets the connection be used again, unless there is a lot left to read.
func drain(response *http.Response) {
	io.CopyN(io.Discard, response.Body, 64<<10) //nolint:errcheck // only for the connection's sake
	response.Body.Close()                       //nolint:errcheck // was read as far as it matters
}

// unreachable wraps what the HTTP client says. Its url.Error repeats the URI, whose query may hold
// what no log should; the cause alone says what failed.
func unreachable(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, ErrURI) {
		return err
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = errors.Join(ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

package transport

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Sentinel errors of the client.
var (
	// ErrURI says that a URI is not one that this client talks to.
	ErrURI = errors.New("transport: unusable URI")
	// ErrUnreachable says that no HTTP response came: name, network, TLS or time.
	ErrUnreachable = errors.New("transport: no response")
	// ErrMediaType says that a response is no TEEP message.
	ErrMediaType = errors.New("transport: response is not " + MediaType)
	// ErrTooLarge says that a response exceeds the limit.
	ErrTooLarge = errors.New("transport: response too large")
	// ErrRange says that a payload has no such offset.
	ErrRange = errors.New("transport: offset is beyond the end of the payload")
	// ErrChanged says that the payload behind a URI changed while it was fetched.
	ErrChanged = errors.New("transport: payload changed during the fetch")
)

// StatusError is an HTTP response that is no success.
type StatusError struct {
	// Status is the HTTP status code.
	Status int
	// RetryAfter is what the server asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Location is where a redirect pointed. It was not followed.
	Location string
}

// Error implements error.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("transport: HTTP status %d %s", e.Status, http.StatusText(e.Status))
	if e.Location != "" {
		s += fmt.Sprintf("; redirects are not followed, configure %q directly if it is right", e.Location)
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf("; try again in %v", e.RetryAfter)
	}
	return s
}

// Temporary tells whether the same request may succeed later.
func (e *StatusError) Temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// maxRetryAfter bounds what a server can ask for.
const maxRetryAfter = 24 * time.Hour

func newStatusError(r *http.Response, now time.Time) *StatusError {
	e := &StatusError{Status: r.StatusCode, RetryAfter: parseRetryAfter(r.Header.Get("Retry-After"), now)}
	if r.StatusCode/100 == 3 {
		e.Location = r.Header.Get("Location")
		if len(e.Location) > 256 {
			e.Location = e.Location[:256]
		}
	}
	return e
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3); nonsense is 0.
func parseRetryAfter(s string, now time.Time) time.Duration {
	d := time.Duration(0)
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

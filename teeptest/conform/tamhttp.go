package conform

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-teep/teep"
)

var httpChecks = []check[*tamRun]{
	{"http-connect", "HTTP §6.1", Must, "an empty POST is answered with a message of the TAM", func(ctx context.Context, r *tamRun) error {
		_, _, err := r.connect(ctx)
		return err
	}},
	{"http-content-type", "HTTP §6.3", Must, "a message has the media type " + teep.MediaType, func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, nil)
		if err != nil {
			return err
		}
		if t, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || t != teep.MediaType {
			return fmt.Errorf("Content-Type is %q", a.header.Get("Content-Type"))
		}
		return nil
	}},
	{"http-headers", "HTTP §4", Should, "responses with content have the three headers that keep browsers from acting on it", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, nil)
		if err != nil {
			return err
		}
		for name, value := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer",
		} {
			if got := a.header.Get(name); got != value {
				return fmt.Errorf("%s is %q, not %q", name, got, value)
			}
		}
		return nil
	}},
	{"http-cookies", "HTTP §4", Must, "cookies are not used", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, nil)
		if err == nil && a.header.Get("Set-Cookie") != "" {
			err = fmt.Errorf("the TAM sets a cookie")
		}
		return err
	}},
	{"http-redirect", "HTTP §4", Should, "the TAM URI does not redirect: clients must not follow", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, nil)
		if err == nil && a.status/100 == 3 {
			err = fmt.Errorf("HTTP status %d", a.status)
		}
		return err
	}},
	{"http-method", "HTTP §4", Should, "methods other than POST are refused (405)", func(ctx context.Context, r *tamRun) error {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			if err := r.refused(ctx, nil, http.StatusMethodNotAllowed, func(q *http.Request) { q.Method = method }); err != nil {
				return fmt.Errorf("%s: %w", method, err)
			}
		}
		return nil
	}},
	{"http-415", "HTTP §6.1", Should, "a message of another media type is refused (415)", func(ctx context.Context, r *tamRun) error {
		return r.refused(ctx, []byte{0xd2}, http.StatusUnsupportedMediaType, func(q *http.Request) { q.Header.Set("Content-Type", "application/cbor") })
	}},
	{"http-415-absent", "HTTP §6.1", Should, "a message without media type is refused (415)", func(ctx context.Context, r *tamRun) error {
		return r.refused(ctx, []byte{0xd2}, http.StatusUnsupportedMediaType, func(q *http.Request) { q.Header.Del("Content-Type") })
	}},
	{"http-accept", "HTTP §6.1", Should, "a request that accepts no TEEP messages is refused", func(ctx context.Context, r *tamRun) error {
		return r.refused(ctx, nil, 0, func(q *http.Request) { q.Header.Set("Accept", "text/html") })
	}},
	{"http-accept-absent", "HTTP §6.1", Should, "a request without Accept is refused", func(ctx context.Context, r *tamRun) error {
		return r.refused(ctx, nil, 0, func(q *http.Request) { q.Header.Del("Accept") })
	}},
	{"http-empty", "HTTP §6.2", Must, "what the TAM has no answer to gets a 2xx response without body", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, []byte{0x00})
		if err != nil {
			return err
		}
		if a.status/100 != 2 || len(a.body) != 0 {
			return fmt.Errorf("HTTP status %d with %d bytes in answer to what is no message", a.status, len(a.body))
		}
		return nil
	}},
	{"http-204", "HTTP §6.2", Should, "a response without body has status 204", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, []byte{0x00})
		if err == nil && a.status/100 == 2 && a.status != http.StatusNoContent {
			err = fmt.Errorf("HTTP status %d", a.status)
		}
		return err
	}},
	{"http-oversize", "§11", Should, "a message of 65 MiB is refused, and the TAM goes on", func(ctx context.Context, r *tamRun) error {
		const size = 65 << 20
		a, err := r.post(ctx, []byte{0}, func(q *http.Request) {
			q.Body, q.ContentLength = io.NopCloser(io.LimitReader(zeros{}, size)), size
		})
		// A server that has seen enough may close the connection before it is told all.
		if err == nil && a.status/100 == 2 && len(a.body) != 0 {
			return fmt.Errorf("HTTP status %d with %d bytes", a.status, len(a.body))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, _, err = r.connect(ctx)
		return err
	}},
	{"http-tls", "HTTP §4", Should, "HTTPS is used (strongly recommended)", func(_ context.Context, r *tamRun) error {
		if !strings.HasPrefix(r.URI, "https://") {
			return fmt.Errorf("%s", r.URI)
		}
		return nil
	}},
}

// zeros is an endless message.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// refused expects an HTTP error, of a certain status where that is not 0.
func (r *tamRun) refused(ctx context.Context, body []byte, status int, change func(*http.Request)) error {
	a, err := r.post(ctx, body, change)
	if err != nil {
		return err
	}
	if a.status/100 != 4 || status != 0 && a.status != status {
		return fmt.Errorf("HTTP status %d", a.status)
	}
	return nil
}

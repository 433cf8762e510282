package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam/api"
)

// TestUnanswered: whoever gets no answer, or none of an operator API, is told what to look at.
func TestUnanswered(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	strangers := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}}
	calls := map[string]func(context.Context, *api.Client) error{
		"a list": func(ctx context.Context, c *api.Client) error { _, err := c.Overview(ctx); return err },
		"export": func(ctx context.Context, c *api.Client) error { return c.ExportAuditFrom(ctx, 0, io.Discard) },
		"events": func(ctx context.Context, c *api.Client) error {
			return c.Follow(ctx, 0, func(api.FeedEvent) error { return nil })
		},
	}
	for name, test := range map[string]struct {
		url  string
		http *http.Client
		want string
	}{
		"a private authority": {server.URL, strangers, "--tam-ca"},
		"plain HTTP, to TLS":  {strings.Replace(server.URL, "https://", "http://", 1), nil, "https://"},
		"nobody":              {gone.URL, nil, "is the TAM running"},
		"no operator API":     {server.URL, server.Client(), "Check that the URL"},
	} {
		t.Run(name, func(t *testing.T) {
			for what, call := range calls {
				err := call(t.Context(), &api.Client{BaseURL: test.url, HTTP: test.http})
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %v", what, err)
				}
				if err != nil && test.want != "--tam-ca" && strings.Contains(err.Error(), "--tam-ca") {
					t.Errorf("%s: an authority is asked for: %v", what, err)
				}
			}
		})
	}
}

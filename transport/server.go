package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// NewServer makes an HTTP server with timeouts and limits fit for handlers of this package: slow
// headers, large headers and idle connections are cut off. Bodies have the handler's timeouts,
// because how long an endpoint works is its own affair. Set Addr and TLSConfig as needed; with
// TLS it speaks HTTP/2.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// Serve serves on ln, with TLS if the server has a TLSConfig, until ctx ends; then requests under way have
// grace to finish. It closes ln, and returns nil unless serving or finishing failed.
func Serve(ctx context.Context, server *http.Server, ln net.Listener, grace time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(ln, "", "")
		} else {
			err = server.Serve(ln)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		return server.Shutdown(ctx)
	})
	return g.Wait()
}

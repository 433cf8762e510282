package transport

import (
	"net/http"
	"time"
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

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// http-version CA URL VERSION: an HTTPS server speaks that version of HTTP, and is the one that CA vouches for.
func httpVersion(ts *testscript.TestScript, _ bool, args []string) {
	ca, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodPost, args[1], http.NoBody)
	ts.Check(err)
	request.Header.Set("Accept", "application/teep+cbor")
	response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(request)
	ts.Check(err)
	ts.Check(response.Body.Close())
	if response.Proto != args[2] || response.StatusCode != http.StatusOK {
		ts.Fatalf("%s, %s", response.Proto, response.Status)
	}
}

// http-status URL BYTES STATUS: a POST of so many bytes is answered with a status, and where that asks to
// come again later, with Retry-After.
func httpStatus(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	request, err := http.NewRequest(http.MethodPost, args[0], bytes.NewReader(make([]byte, size)))
	ts.Check(err)
	request.Header.Set("Accept", "application/teep+cbor")
	request.Header.Set("Content-Type", "application/teep+cbor")
	response, err := (&http.Client{Timeout: 30 * time.Second}).Do(request)
	ts.Check(err)
	ts.Check(response.Body.Close())
	if strconv.Itoa(response.StatusCode) != args[2] {
		ts.Fatalf("%s, not %s", response.Status, args[2])
	}
	if response.StatusCode == http.StatusTooManyRequests && response.Header.Get("Retry-After") != "7" {
		ts.Fatalf("Retry-After %q", response.Header.Get("Retry-After"))
	}
}

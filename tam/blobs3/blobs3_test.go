package blobs3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobs3"
	"github.com/go-teep/teep/tam/download"
	"github.com/go-teep/teep/tam/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// service is an S3 service with the bucket teep, behind what wrap makes of it.
func service(t *testing.T, wrap func(http.Handler) http.Handler) (blobs3.Config, gofakes3.Backend) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "teep")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret of the bucket")
	backend := s3mem.New()
	must(t, backend.CreateBucket("teep"))
	h := gofakes3.New(backend).Server()
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return blobs3.Config{Endpoint: s.URL, Bucket: "teep", Prefix: "tam", Region: "us-east-1", InsecureHTTP: true, Spool: t.TempDir()}, backend
}

func open(t *testing.T, c blobs3.Config) *blobs3.Store {
	t.Helper()
	s, err := blobs3.Open(c)
	must(t, err)
	return s
}

func TestBlobs(t *testing.T) {
	storetest.RunBlobs(t, func(t *testing.T) func() tam.Blobs {
		c, _ := service(t, nil)
		return func() tam.Blobs { return open(t, c) }
	})
}

func TestPayloads(t *testing.T) {
	storetest.RunPayloads(t, func(t *testing.T) func() tam.Payloads {
		c, _ := service(t, nil)
		return func() tam.Payloads { return open(t, c).Payloads() }
	})
}

// TestEnvelopesAreNoPayloads: who knows the digest of an envelope gets no payload by it.
func TestEnvelopesAreNoPayloads(t *testing.T) {
	c, _ := service(t, nil)
	digest, err := open(t, c).Put(t.Context(), []byte("envelope"))
	must(t, err)
	if _, err := open(t, c).Payloads().Open(t.Context(), digest); !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	c.Prefix = "another"
	if _, err := open(t, c).Get(t.Context(), digest); !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("under another prefix: %v", err)
	}
}

func TestChangedObjectIsNotReturned(t *testing.T) {
	c, backend := service(t, nil)
	s := open(t, c)
	digest, err := s.Put(t.Context(), []byte("envelope"))
	must(t, err)
	list, err := backend.ListBucket("teep", nil, gofakes3.ListBucketPage{})
	must(t, err)
	_, err = backend.PutObject("teep", list.Contents[0].Key, map[string]string{}, strings.NewReader("Envelope"), 8, nil)
	must(t, err)
	if data, err := s.Get(t.Context(), digest); err == nil || errors.Is(err, tam.ErrNotFound) {
		t.Fatalf("got %q, %v", data, err)
	}
	_, err = s.Put(t.Context(), []byte("envelope"))
	must(t, err)
	_, err = s.Get(t.Context(), digest)
	must(t, err)
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		config blobs3.Config
		want   string
	}{
		"no endpoint":    {blobs3.Config{Bucket: "b"}, "no base URL"},
		"a host":         {blobs3.Config{Endpoint: "s3.example", Bucket: "b"}, "no base URL"},
		"with path":      {blobs3.Config{Endpoint: "https://s3.example/b", Bucket: "b"}, "no base URL"},
		"with password":  {blobs3.Config{Endpoint: "https://id:hidden@s3.example", Bucket: "b"}, "no base URL"},
		"without TLS":    {blobs3.Config{Endpoint: "http://s3.example", Bucket: "b"}, "no TLS"},
		"another scheme": {blobs3.Config{Endpoint: "ftp://s3.example", Bucket: "b"}, "write https"},
		"no bucket":      {blobs3.Config{Endpoint: "https://s3.example"}, "bucket is missing"},
	} {
		if _, err := blobs3.Open(c.config); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// TestServiceThatIsAway: its errors are errors, never "not found", and what was away comes back by itself.
func TestServiceThatIsAway(t *testing.T) {
	away := false
	c, _ := service(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if away {
				w.WriteHeader(http.StatusForbidden) // not one that is tried again
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s := open(t, c)
	digest, err := s.Put(t.Context(), []byte("envelope"))
	must(t, err)
	stored, _, err := s.Payloads().Put(t.Context(), strings.NewReader("payload"))
	must(t, err)
	for range 2 {
		away = !away
		_, putErr := s.Put(t.Context(), []byte("another"))
		_, getErr := s.Get(t.Context(), digest)
		_, openErr := s.Payloads().Open(t.Context(), stored)
		_, _, uploadErr := s.Payloads().Put(t.Context(), strings.NewReader("further"))
		for what, err := range map[string]error{"put": putErr, "get": getErr, "open": openErr, "upload": uploadErr} {
			if away == (err == nil) || errors.Is(err, tam.ErrNotFound) {
				t.Errorf("%s, away %v: %v", what, away, err)
			}
		}
	}
}

// TestRangesReachTheService: a range of a download is a range of the object.
func TestRangesReachTheService(t *testing.T) {
	var ranges []string
	c, _ := service(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if v := r.Header.Get("Range"); v != "" {
				ranges = append(ranges, v)
			}
			next.ServeHTTP(w, r)
		})
	})
	payloads := open(t, c).Payloads()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	digest, _, err := payloads.Put(t.Context(), bytes.NewReader(data))
	must(t, err)
	s := httptest.NewServer(http.StripPrefix("/", download.NewHandler(download.Config{Payloads: payloads})))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/"+hex.EncodeToString(digest[:]), nil)
	must(t, err)
	req.Header.Set("Range", "bytes=9990-")
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || string(got) != "0123456789" || res.StatusCode != http.StatusPartialContent {
		t.Errorf("%d %q, %v", res.StatusCode, got, err)
	}
	if len(ranges) == 0 || !strings.HasPrefix(ranges[len(ranges)-1], "bytes=9990-") {
		t.Errorf("the service was asked for %q", ranges)
	}
}

// TestSpoolIsEmptied: an upload leaves no file behind, whether it succeeds or not.
func TestSpoolIsEmptied(t *testing.T) {
	c, _ := service(t, nil)
	payloads := open(t, c).Payloads()
	_, _, err := payloads.Put(t.Context(), strings.NewReader("payload"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := payloads.Put(ctx, strings.NewReader("another")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(c.Spool)
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v (%v)", left, err)
	}
}

// overTLS is the same service over TLS, with a certificate that c's transport trusts.
func overTLS(t *testing.T, c blobs3.Config, backend gofakes3.Backend, wrap func(http.Handler) http.Handler) blobs3.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(wrap(gofakes3.New(backend).Server()))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports who does not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	c.Endpoint, c.InsecureHTTP, c.Transport = s.URL, false, s.Client().Transport
	return c
}

// TestLargePayloadsGoInParts: what is too large for one request goes in several, and comes back whole.
func TestLargePayloadsGoInParts(t *testing.T) {
	var begun, parts atomic.Int32
	c, backend := service(t, nil)
	c = overTLS(t, c, backend, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); r.Method == http.MethodPost && q.Has("uploads") {
				begun.Add(1)
			} else if r.Method == http.MethodPut && q.Has("partNumber") {
				parts.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	payloads := open(t, c).Payloads()
	const size = 33<<20 + 7
	digest, n, err := payloads.Put(t.Context(), io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
	must(t, err)
	if n != size || begun.Load() != 1 || parts.Load() < 2 {
		t.Errorf("%d bytes in %d uploads with %d parts", n, begun.Load(), parts.Load())
	}
	p, err := payloads.Open(t.Context(), digest)
	must(t, err)
	defer p.Close()
	h := sha256.New()
	if n, err := io.Copy(h, p); err != nil || n != size || p.Size() != size || [32]byte(h.Sum(nil)) != digest {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	found := 0
	must(t, payloads.Each(t.Context(), func(tam.StoredPayload) error { found++; return nil }))
	if found != 1 {
		t.Errorf("%d objects are there", found)
	}
}

// TestBrokenOffPartsAreNoPayload: an upload of which the service loses a part stores nothing.
func TestBrokenOffPartsAreNoPayload(t *testing.T) {
	c, _ := service(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2" {
				w.WriteHeader(http.StatusForbidden) // not one that is tried again
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	payloads := open(t, c).Payloads()
	if _, _, err := payloads.Put(t.Context(), io.LimitReader(rand.NewChaCha8([32]byte{2}), 33<<20)); err == nil {
		t.Error("stored")
	}
	must(t, payloads.Each(t.Context(), func(p tam.StoredPayload) error { t.Errorf("%+v is there", p); return nil }))
}

// TestOverTLS: the service is reached over TLS, and only if its certificate is one that is trusted.
func TestOverTLS(t *testing.T) {
	c, backend := service(t, nil)
	trusted := overTLS(t, c, backend, func(next http.Handler) http.Handler { return next })
	digest, err := open(t, trusted).Put(t.Context(), []byte("envelope"))
	must(t, err)
	data, err := open(t, trusted).Get(t.Context(), digest)
	if err != nil || string(data) != "envelope" {
		t.Errorf("%q, %v", data, err)
	}
	stranger, plain := trusted, trusted
	stranger.Transport = nil
	if _, err := open(t, stranger).Get(t.Context(), digest); err == nil || errors.Is(err, tam.ErrNotFound) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate of nobody: %v", err)
	}
	plain.Endpoint = strings.Replace(trusted.Endpoint, "https", "http", 1)
	if _, err := blobs3.Open(plain); err == nil || !strings.Contains(err.Error(), "no TLS") {
		t.Errorf("without TLS: %v", err)
	}
}

// TestFaultsThatPass: what may pass by itself is marked so, that the TAM answers 503; what does not is not.
func TestFaultsThatPass(t *testing.T) {
	status := http.StatusOK
	c, _ := service(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status != http.StatusOK {
				w.WriteHeader(status)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s := open(t, c)
	digest, err := s.Put(t.Context(), []byte("envelope"))
	must(t, err)
	passes := func(err error) bool {
		var temporary interface{ Temporary() bool }
		return errors.As(err, &temporary) && temporary.Temporary()
	}
	for given, want := range map[int]bool{http.StatusForbidden: false, http.StatusUnauthorized: false, http.StatusInternalServerError: true, http.StatusServiceUnavailable: true} {
		status = given
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // it is tried again for a while
		if _, err := s.Get(ctx, digest); err == nil || passes(err) != want {
			t.Errorf("%d: %v, passes %v", given, err, passes(err))
		}
		cancel()
	}
	c.Endpoint = "http://127.0.0.1:1"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := open(t, c).Get(ctx, digest); !passes(err) {
		t.Errorf("not reached: %v", err)
	}
}

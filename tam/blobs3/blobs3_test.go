package blobs3_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

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

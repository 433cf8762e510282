package transport

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestChanged: what is as it was is not fetched again, by whichever validator there is.
func TestChanged(t *testing.T) {
	for name, validators := range map[string]map[string]string{
		"entity tag": {"ETag": `"one"`}, "date": {"Last-Modified": "Mon, 02 Mar 2026 12:00:00 GMT"},
		"both": {"ETag": `"one"`, "Last-Modified": "Mon, 02 Mar 2026 12:00:00 GMT"}, "none": {},
	} {
		t.Run(name, func(t *testing.T) {
			var whole atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for k, v := range validators {
					w.Header().Set(k, v)
				}
				etag, date := validators["ETag"], validators["Last-Modified"]
				if etag != "" && r.Header.Get("If-None-Match") == etag || etag == "" && date != "" && r.Header.Get("If-Modified-Since") == date {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				whole.Add(1)
				w.Write([]byte("content")) //nolint:errcheck // the client checks
			}))
			defer s.Close()
			c, err := NewClient(ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			d, err := c.Changed(t.Context(), s.URL, Download{}, 7)
			if err != nil || string(d.Data) != "content" {
				t.Fatalf("%+v, %v", d, err)
			}
			again, err := c.Changed(t.Context(), s.URL, *d, 7)
			if err != nil || (again == nil) != (len(validators) > 0) {
				t.Errorf("%+v, %v", again, err)
			}
			if _, err := c.Changed(t.Context(), s.URL, Download{}, 6); !errors.Is(err, ErrTooLarge) {
				t.Errorf("too large: %v", err)
			}
		})
	}
}

func TestChangedFails(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if strings.HasSuffix(r.URL.Path, "away") {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer s.Close()
	c, err := NewClient(ClientOptions{Retry: RetryPolicy{Attempts: 2, Base: time.Millisecond, Max: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	for _, uri := range []string{"file:///etc/passwd", "x", s.URL + "/nothing", s.URL + "/away"} {
		if d, err := c.Changed(t.Context(), uri, Download{}, 10); err == nil {
			t.Errorf("%s: %+v", uri, d)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

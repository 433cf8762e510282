package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestServeLetsRequestsFinish: a request that is under way when serving ends is answered, unless it takes
// longer than the grace.
func TestServeLetsRequestsFinish(t *testing.T) {
	for name, grace := range map[string]time.Duration{"in time": time.Minute, "too slow": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			came, goOn := make(chan struct{}), make(chan struct{})
			server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(came)
				<-goOn
				io.WriteString(w, "done") //nolint:errcheck // the client checks
			}))
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served, answer := make(chan error, 1), make(chan string, 1)
			go func() { served <- Serve(ctx, server, ln, grace) }()
			go func() {
				var body []byte
				if r, err := http.Get("http://" + ln.Addr().String()); err == nil {
					body, _ = io.ReadAll(r.Body)
					r.Body.Close() //nolint:errcheck // was only read
				}
				answer <- string(body)
			}()
			<-came
			end()
			if grace == time.Millisecond {
				if err := <-served; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended with %v", err)
				}
				close(goOn)
				return
			}
			for { // until it accepts nobody any more
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					break
				}
				c.Close() //nolint:errcheck // was only a try
			}
			close(goOn)
			if got := <-answer; got != "done" {
				t.Errorf("answered %q", got)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServeTellsWhatFailed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() //nolint:errcheck // that is what fails
	if err := Serve(t.Context(), NewServer(http.NotFoundHandler()), ln, time.Second); err == nil {
		t.Error("served on a closed listener")
	}
}

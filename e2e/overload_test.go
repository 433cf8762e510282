package e2e

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// flood URL: asks for new sessions from many sides at once until one is answered 503, with Retry-After.
func flood(ts *testscript.TestScript, _ bool, args []string) {
	const sides = 32
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: sides}}
	defer client.CloseIdleConnections()
	full, done := make(chan string, sides), make(chan struct{})
	var all sync.WaitGroup
	for range sides {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-done:
					return
				default:
				}
				request, err := http.NewRequest(http.MethodPost, args[0], http.NoBody)
				if err != nil {
					continue
				}
				request.Header.Set("Accept", "application/teep+cbor")
				response, err := client.Do(request)
				if err != nil {
					continue
				}
				_ = response.Body.Close()
				if response.StatusCode == http.StatusServiceUnavailable {
					full <- response.Header.Get("Retry-After")
					return
				}
			}
		}()
	}
	var after string
	select {
	case after = <-full:
	case <-time.After(60 * time.Second):
	}
	close(done)
	all.Wait()
	if after == "" {
		ts.Fatalf("no 503 with Retry-After")
	}
}

// busyServers are what busy started, by the variable it set.
var busyServers sync.Map

// busyServer answers the first messages with 503, and passes on those that come afterwards.
type busyServer struct {
	next  http.Handler
	after int

	mu    sync.Mutex
	left  int
	since time.Time       // the last refusal
	waits []time.Duration // from a refusal to the message after it
}

// busy NAME URL TIMES SECONDS: puts a server in front of URL that is overloaded so many times and asks to
// come again after so many seconds, and sets $NAME to its address.
func busy(ts *testscript.TestScript, _ bool, args []string) {
	target, err := url.Parse(args[1])
	ts.Check(err)
	b := &busyServer{next: httputil.NewSingleHostReverseProxy(target)}
	b.left, err = strconv.Atoi(args[2])
	ts.Check(err)
	b.after, err = strconv.Atoi(args[3])
	ts.Check(err)
	ln := listenLocally(ts)
	server := &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	ts.Defer(func() { _ = server.Close() })
	busyServers.Store(ts.MkAbs(args[0]), b)
	ts.Setenv(args[0], ln.Addr().String())
}

func (b *busyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	now := time.Now()
	if !b.since.IsZero() {
		b.waits, b.since = append(b.waits, now.Sub(b.since)), time.Time{}
	}
	refuse := b.left > 0
	if refuse {
		b.left--
		b.since = now
	}
	b.mu.Unlock()
	if refuse {
		w.Header().Set("Retry-After", strconv.Itoa(b.after))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.next.ServeHTTP(w, r)
}

// obeyed NAME: whoever was refused by busy came again, and not before it was asked to.
func obeyed(ts *testscript.TestScript, _ bool, args []string) {
	found, ok := busyServers.Load(ts.MkAbs(args[0]))
	if !ok {
		ts.Fatalf("no server %s", args[0])
	}
	b := found.(*busyServer)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left > 0 || len(b.waits) == 0 {
		ts.Fatalf("it was not asked again: %d refusals are left, %v", b.left, b.waits)
	}
	for _, wait := range b.waits {
		if wait < time.Duration(b.after)*time.Second {
			ts.Fatalf("asked again after %s, and not %d s", wait, b.after)
		}
	}
}

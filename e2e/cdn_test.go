package e2e

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cdns are those that cdn started, by the variable it set.
var cdns sync.Map

// between is a server between devices and a TAM, which breaks the first download off.
type between struct {
	proxy   *httputil.ReverseProxy
	breakAt int
	mu      sync.Mutex
	ranges  []string
}

// cdn NAME ADDRESS BYTES: forwards to a server, breaks the first download off after BYTES, and sets $NAME to its URL.
func cdn(ts *testscript.TestScript, _ bool, args []string) {
	breakAt, err := strconv.Atoi(args[2])
	ts.Check(err)
	c := &between{proxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: args[1]}), breakAt: breakAt}
	ln := listenLocally(ts)
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	ts.Defer(func() { _ = server.Close() })
	cdns.Store(args[0], c)
	ts.Setenv(args[0], "http://"+ln.Addr().String())
}

func (c *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	first := len(c.ranges) == 0
	c.ranges = append(c.ranges, r.Header.Get("Range"))
	c.mu.Unlock()
	if first {
		w = &breaking{ResponseWriter: w, left: c.breakAt}
	}
	c.proxy.ServeHTTP(w, r)
}

// breaking lets some bytes through, and then breaks the connection.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) < b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left])
	_ = http.NewResponseController(b.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func (b *breaking) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// resumed NAME: the download that was broken off went on where it was.
func resumed(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := cdns.Load(args[0])
	if !ok {
		ts.Fatalf("no server %s", args[0])
	}
	c := v.(*between)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.ranges[1:] {
		if strings.HasPrefix(r, "bytes=") && !strings.HasPrefix(r, "bytes=0-") {
			return
		}
	}
	ts.Fatalf("no download went on where it was: %q", c.ranges)
}

// get-range URL RANGE FILE: writes a part of what is at a URL into a file, with a newline behind it.
func getRange(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	req.Header.Set("Range", args[1])
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	ts.Check(err)
	if res.StatusCode != http.StatusPartialContent || res.Header.Get("ETag") == "" {
		ts.Fatalf("%s of %s: %d, ETag %q", args[1], args[0], res.StatusCode, res.Header.Get("ETag"))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), append(data, '\n'), 0o600))
}

// setenv-from NAME FILE: sets an environment variable to what a file holds.
func setenvFrom(ts *testscript.TestScript, _ bool, args []string) {
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], strings.TrimSpace(string(data)))
}

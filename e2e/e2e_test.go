// Package e2e runs the real programs against each other, as scripts: testdata/*.txtar. Each
// script works in a folder of its own, and every process that it starts ends with it.
package e2e

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-teep/teep/internal/freeport"
	"github.com/go-teep/teep/tee/teetest/program"
)

// scriptsAtOnce is how many scripts run at a time for each processor.
const scriptsAtOnce = 2

// programs is the folder that TestMain built everything into.
var programs string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "teep-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// The folder's own Makefile target is what users run, so it is what is tested.
	build := exec.Command("make", "-C", "..", "build", "BIN="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make build: %v\n%s", err, out)
		return 1
	}
	// Where a script is not about the application, it need not be one that every device compiles for seconds.
	if err := os.WriteFile(filepath.Join(dir, "greeter.wasm"), program.Greeter("1.0.0", 300<<10), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = dir
	flag.Parse()
	if atOnce := flag.Lookup("test.parallel"); atOnce.Value.String() == atOnce.DefValue {
		// The scripts wait for intervals and back-offs more than they compute.
		if err := atOnce.Value.Set(strconv.Itoa(scriptsAtOnce * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func TestScripts(t *testing.T) {
	t.Parallel()
	services := startServices(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("PROGRAMS", programs)
			services.setenv(env)
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, "tmp"))
			return os.MkdirAll(filepath.Join(env.WorkDir, "tmp"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeaddr":    freeAddress,
			"await":       await,
			"serve":       servePayload,
			"await-fetch": awaitFetch,
			"open-gate":   openGate,
			"eventually":  eventually,
			"fetched":     fetched,
			"flip":        flip,
			"expand":      expand,
			"expose":      expose,

			"authority":      authorityFile,
			"certify":        certify,
			"certify-server": certifyServer,
			"revoke":         revoke,
			"http-version":   httpVersion,
			"http-status":    httpStatus,

			"collect":        collect,
			"receive-hooks":  receiveHooks,
			"receive-traces": receiveTraces,
			"log-in":         logIn,
			"token-keys":     tokenKeys,
			"conceals":       conceals,
			"get":            get,
			"get-range":      getRange,
			"setenv-from":    setenvFrom,
			"cdn":            cdn,
			"resumed":        resumed,
			"flood":          flood,
			"busy":           busy,
			"obeyed":         obeyed,
			"older-agent":    olderAgent,
		},
	})
}

func listenLocally(ts *testscript.TestScript) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	return ln
}

// freeAddress NAME sets an environment variable to a loopback address that nobody listens on.
func freeAddress(ts *testscript.TestScript, _ bool, args []string) {
	address, err := freeport.Address()
	ts.Check(err)
	ts.Setenv(args[0], address)
}

// await tcp|unix|text …: waits until somebody accepts connections there, or a file contains a text.
func await(ts *testscript.TestScript, _ bool, args []string) {
	check := func() error {
		conn, err := net.Dial(args[0], ts.MkAbs(args[1]))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	switch args[0] {
	case "tcp":
		check = func() error {
			conn, err := net.Dial("tcp", args[1])
			if err != nil {
				return err
			}
			return conn.Close()
		}
	case "text":
		check = func() error {
			data, err := os.ReadFile(ts.MkAbs(args[1]))
			if err == nil && !strings.Contains(string(data), args[2]) {
				err = fmt.Errorf("%s does not contain %q", args[1], args[2])
			}
			return err
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("await %s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gates holds what servePayload started, by the variable it set.
var gates sync.Map

// gate is a server of one file that stops in the middle until it is opened.
type gate struct {
	content  []byte
	stopAt   int64
	reached  chan struct{}
	open     chan struct{}
	onceSeen sync.Once
	onceOpen sync.Once
	mu       sync.Mutex
	requests []string
}

// serve NAME FILE BYTES: serves a file over HTTP with Range, stops after BYTES until open-gate NAME,
// and sets $NAME to its URL.
func servePayload(ts *testscript.TestScript, _ bool, args []string) {
	content, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	stopAt, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	g := &gate{content: content, stopAt: stopAt, reached: make(chan struct{}), open: make(chan struct{})}
	ln := listenLocally(ts)
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	ts.Defer(func() {
		g.onceOpen.Do(func() { close(g.open) })
		_ = server.Close()
	})
	gates.Store(args[0], g)
	ts.Setenv(args[0], "http://"+ln.Addr().String()+"/"+filepath.Base(args[1]))
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r.Header.Get("Range"))
	g.mu.Unlock()
	http.ServeContent(&gatedWriter{ResponseWriter: w, g: g, r: r}, r, "payload", time.Unix(1, 0), strings.NewReader(string(g.content)))
}

// gatedWriter lets stopAt bytes through.
type gatedWriter struct {
	http.ResponseWriter
	g       *gate
	r       *http.Request
	written int64
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	if w.written+int64(len(p)) <= w.g.stopAt {
		w.written += int64(len(p))
		return w.ResponseWriter.Write(p)
	}
	select {
	case <-w.g.open:
	default:
		head := max(0, w.g.stopAt-w.written)
		n, err := w.ResponseWriter.Write(p[:head])
		if err != nil {
			return n, err
		}
		w.written += head
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		w.g.onceSeen.Do(func() { close(w.g.reached) })
		select {
		case <-w.g.open:
		case <-w.r.Context().Done():
			return n, w.r.Context().Err()
		}
		m, err := w.ResponseWriter.Write(p[head:])
		return n + m, err
	}
	return w.ResponseWriter.Write(p)
}

// await-fetch NAME: waits until the payload was fetched up to the gate.
func awaitFetch(ts *testscript.TestScript, _ bool, args []string) {
	g, ok := gates.Load(args[0])
	if !ok {
		ts.Fatalf("no server %s", args[0])
	}
	select {
	case <-g.(*gate).reached:
	case <-time.After(30 * time.Second):
		ts.Fatalf("nobody fetched %s", args[0])
	}
}

// open-gate NAME: lets the rest of the payload through.
func openGate(ts *testscript.TestScript, _ bool, args []string) {
	g, ok := gates.Load(args[0])
	if !ok {
		ts.Fatalf("no server %s", args[0])
	}
	g.(*gate).onceOpen.Do(func() { close(g.(*gate).open) })
}

// eventually PROGRAM ARG …: runs a program until it succeeds.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// fetched NAME COUNT: the payload was asked for from its beginning so many times.
func fetched(ts *testscript.TestScript, _ bool, args []string) {
	g, ok := gates.Load(args[0])
	if !ok {
		ts.Fatalf("no server %s", args[0])
	}
	server := g.(*gate)
	server.mu.Lock()
	defer server.mu.Unlock()
	n := 0
	for _, r := range server.requests {
		if r == "" || strings.HasPrefix(r, "bytes=0-") {
			n++
		}
	}
	if strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s was asked for %d times: %q", args[0], n, server.requests)
	}
}

// flip FILE: flips one bit in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// expand FILE: replaces $NAME in a file by the script's environment.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, []byte(os.Expand(string(data), ts.Getenv)), 0o600))
}

// expose FILE: makes a file readable by everybody.
func expose(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o644))
}

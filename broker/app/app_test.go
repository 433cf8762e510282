package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/link/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBackend records its calls and answers what the test sets.
type fakeBackend struct {
	mu     sync.Mutex
	calls  []any
	err    error
	out    []byte
	status []Status
	next   uint64
	steps  int
}

func (b *fakeBackend) record(call any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call)
	return b.err
}

func (b *fakeBackend) take() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func (b *fakeBackend) Request(_ context.Context, r Request, progress func(Progress)) error {
	for i := range b.steps {
		progress(Progress{TEE: "one", Kind: broker.EventFetch, URI: "https://x", Bytes: int64(i)})
	}
	return b.record(r)
}
func (b *fakeBackend) UnrequestFor(_ context.Context, app string, c ComponentID, r Requirements) error {
	return b.record([]any{"unrequest", app, c, r})
}
func (b *fakeBackend) Open(_ context.Context, c ComponentID, r Requirements) (uint64, error) {
	err := b.record([]any{"open", c, r})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return b.next, err
}
func (b *fakeBackend) Invoke(_ context.Context, s uint64, command string, input []byte) ([]byte, error) {
	return b.out, b.record(fmt.Sprintf("invoke %d %s %s", s, command, input))
}
func (b *fakeBackend) Close(_ context.Context, s uint64) error {
	return b.record(fmt.Sprintf("close %d", s))
}
func (b *fakeBackend) PolicyCheck(context.Context) (int, error) { return 3, b.record("policy") }
func (b *fakeBackend) ReplaceTrustAnchors(_ context.Context, signed []byte, r Requirements) error {
	return b.record(fmt.Sprintf("trust %x %v", signed, r))
}
func (b *fakeBackend) RenewRevocationLists(_ context.Context, file []byte, r Requirements) error {
	return b.record(fmt.Sprintf("lists %x %v", file, r))
}
func (b *fakeBackend) Status(context.Context) []Status { return b.status }

func pair(t *testing.T, b Backend, o ServeOptions) (c *Client, served chan error) {
	t.Helper()
	near, far := net.Pipe()
	served = make(chan error, 1)
	go func() {
		served <- Serve(context.Background(), far, b, o)
		close(served)
	}()
	c = NewClient(near)
	t.Cleanup(func() {
		c.Close()
		for range served {
		}
	})
	return c, served
}

func component() ComponentID { return ComponentID{[]byte("app"), {0}} }

func TestCalls(t *testing.T) {
	b := &fakeBackend{out: []byte("out"), steps: 3, status: []Status{
		{TEE: "one", Properties: map[string]string{"type": "sandbox"}, Busy: true, Reachable: true, PolicyCheck: time.Unix(1000, 0), PolicyError: "x"},
		{TEE: "two"},
	}}
	c, _ := pair(t, b, ServeOptions{})
	ctx := context.Background()
	requirements := Requirements{TEE: "one", Properties: map[string]string{"type": "sandbox"}}
	request := Request{Component: component(), TAMURI: "https://tam.example", MinSequence: 3, Requirements: requirements}
	var progress []Progress
	if err := c.As("calendar").Request(ctx, request, func(p Progress) { progress = append(progress, p) }); err != nil {
		t.Error(err)
	}
	request.App = "calendar"
	if calls := b.take(); !reflect.DeepEqual(calls, []any{request}) {
		t.Errorf("%+v", calls)
	}
	for i, p := range progress {
		if p != (Progress{TEE: "one", Kind: broker.EventFetch, URI: "https://x", Bytes: int64(i)}) {
			t.Errorf("%+v", p)
		}
	}
	if err := c.Request(ctx, request, nil); err != nil {
		t.Errorf("without progress: %v", err)
	}
	b.take()
	if err := c.As("mail").Unrequest(ctx, component(), requirements); err != nil {
		t.Error(err)
	}
	session, err := c.Open(ctx, component(), Requirements{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Invoke(ctx, session, "greet", []byte("you")); err != nil || string(out) != "out" {
		t.Error(out, err)
	}
	if err := c.CloseSession(ctx, session); err != nil {
		t.Error(err)
	}
	if sessions, err := c.PolicyCheck(ctx); err != nil || sessions != 3 {
		t.Error(sessions, err)
	}
	want := []any{[]any{"unrequest", "mail", component(), requirements}, []any{"open", component(), Requirements{}}, "invoke 1 greet you", "close 1", "policy"}
	if calls := b.take(); !reflect.DeepEqual(calls, want) {
		t.Errorf("%+v", calls)
	}
	if got, err := c.Status(ctx); err != nil || !reflect.DeepEqual(got, b.status) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestErrorsCross(t *testing.T) {
	var logged []error
	b := &fakeBackend{}
	c, _ := pair(t, b, ServeOptions{OnError: func(err error) { logged = append(logged, err) }})
	for _, sentinel := range []error{
		broker.ErrNoTEE, broker.ErrNotProvided, broker.ErrTransport, broker.ErrAgent, broker.ErrTooLong, broker.ErrNoSession,
		link.ErrNotInstalled, link.ErrNoSession, link.ErrTrap, link.ErrQuota, link.ErrRefused, link.ErrUnavailable, link.ErrBusy, link.ErrClosed,
	} {
		b.err = fmt.Errorf("TEE one: %w", sentinel)
		if _, err := c.PolicyCheck(context.Background()); !errors.Is(err, sentinel) || err.Error() != b.err.Error() {
			t.Errorf("%v became %v", b.err, err)
		}
	}
	b.err = fmt.Errorf("x: %w", &link.ExitError{Code: 2, Stderr: "usage"})
	var exit *link.ExitError
	if _, err := c.PolicyCheck(context.Background()); !errors.As(err, &exit) || exit.Code != 2 || exit.Stderr != "usage" {
		t.Error(err)
	}
	if len(logged) > 0 {
		t.Errorf("logged %v", logged)
	}
	b.err = errors.New("open /etc/shadow")
	if _, err := c.PolicyCheck(context.Background()); err == nil || strings.Contains(err.Error(), "shadow") || len(logged) != 1 {
		t.Errorf("%v, logged %v", err, logged)
	}
}

func TestServeRefuses(t *testing.T) {
	b := &fakeBackend{}
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, b, ServeOptions{}) }()
	raw := frame.NewCaller(near, frame.CallerOptions{MaxFrame: MaxFrame})
	any1, noReq, long := [][]byte{{1}}, []any{"", map[string]string{}}, strings.Repeat("x", maxText+1)
	many := make(map[string]string)
	for i := range maxRequirements + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, c := range map[string]struct {
		method uint64
		args   any
		code   uint64
	}{
		"method 0":            {0, []any{}, frame.CodeUnknown},
		"method 8":            {8, []any{}, frame.CodeUnknown},
		"no arguments":        {methodRequest, nil, frame.CodeUnknown},
		"too few":             {methodRequest, []any{any1}, frame.CodeUnknown},
		"too many":            {methodStatus, []any{1}, frame.CodeUnknown},
		"policy with some":    {methodPolicyCheck, []any{1}, frame.CodeUnknown},
		"no component":        {methodRequest, []any{[][]byte{}, "", 0, noReq, "", nil}, codeInvalid},
		"large component":     {methodOpen, []any{[][]byte{make([]byte, link.MaxComponentID+1)}, noReq}, codeInvalid},
		"long URI":            {methodRequest, []any{any1, long, 0, noReq, "", nil}, codeInvalid},
		"long TEE":            {methodUnrequest, []any{any1, []any{long, map[string]string{}}, ""}, codeInvalid},
		"long name":           {methodUnrequest, []any{any1, noReq, long}, codeInvalid},
		"long name, request":  {methodRequest, []any{any1, "", 0, noReq, long, nil}, codeInvalid},
		"long property":       {methodOpen, []any{any1, []any{"", map[string]string{"a": long}}}, codeInvalid},
		"many requirements":   {methodRequest, []any{any1, "", 0, []any{"", many}, "", nil}, codeInvalid},
		"foreign session":     {methodInvoke, []any{1, "x", []byte{}}, codeNoSession},
		"close of no session": {methodClose, []any{1}, codeNoSession},
		"long command":        {methodInvoke, []any{1, long, []byte{}}, codeInvalid},
	} {
		var f *frame.Failure
		if err := raw.Call(context.Background(), c.method, c.args, nil, nil); !errors.As(err, &f) || f.Code != c.code {
			t.Errorf("%s: %v (%+v), want code %d", name, err, f, c.code)
		}
	}
	raw.Close()
	<-served
	if calls := b.take(); len(calls) > 0 {
		t.Errorf("the broker got %+v", calls)
	}
}

// Sessions belong to their connection and end with it.
func TestSessionsOfConnections(t *testing.T) {
	b := &fakeBackend{}
	one, served := pair(t, b, ServeOptions{MaxSessions: 2})
	two, _ := pair(t, b, ServeOptions{})
	ctx := context.Background()
	var sessions []uint64
	for range 2 {
		s, err := one.Open(ctx, component(), Requirements{})
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	if _, err := one.Open(ctx, component(), Requirements{}); !errors.Is(err, link.ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := two.Invoke(ctx, sessions[0], "x", nil); !errors.Is(err, broker.ErrNoSession) {
		t.Errorf("foreign session: %v", err)
	}
	if err := two.CloseSession(ctx, sessions[0]); !errors.Is(err, broker.ErrNoSession) {
		t.Errorf("foreign session: %v", err)
	}
	if err := one.CloseSession(ctx, sessions[0]); err != nil {
		t.Error(err)
	}
	b.take()
	one.Close()
	<-served
	if calls := b.take(); !reflect.DeepEqual(calls, []any{fmt.Sprintf("close %d", sessions[1])}) {
		t.Errorf("left open: %+v", calls)
	}
	if _, err := one.Invoke(ctx, 1, "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sock")
	if _, err := Dial(context.Background(), path); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("no broker: %v", err)
	}
	ln, err := Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	var peers []Peer
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- ServeListener(ctx, ln, &fakeBackend{}, ServeOptions{
			MaxConns: 1,
			Authorize: func(p Peer) error {
				peers = append(peers, p)
				return nil
			},
		})
	}()
	if _, err := Listen(path, 0o660); err == nil || !strings.Contains(err.Error(), "listens at") {
		t.Errorf("taken over from a living broker: %v", err)
	}
	// The question above takes the only place until its end is noticed.
	for !dialed(t, path, func(c *Client) bool { _, err := c.PolicyCheck(ctx); return err == nil }) {
	}
	if len(peers) == 0 || peers[0].UID != uint32(os.Getuid()) || peers[0].PID != int32(os.Getpid()) {
		t.Errorf("peers %+v", peers)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func dialed(t *testing.T, path string, use func(*Client) bool) bool {
	t.Helper()
	c, err := Dial(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return use(c)
}

func TestSocketRefusesPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	refused := errors.New("not you")
	reported := make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		done <- ServeListener(ctx, ln, &fakeBackend{}, ServeOptions{
			Authorize: func(Peer) error { return refused }, OnError: func(err error) { reported <- err },
		})
	}()
	dialed(t, path, func(c *Client) bool {
		if _, err := c.PolicyCheck(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("refused peer: %v", err)
		}
		return true
	})
	if err := <-reported; !errors.Is(err, refused) {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := peerOf(nil); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("no socket: %v", err)
	}
}

func TestListenReplaces(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	again, err := Listen(stale, 0o600)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	again.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, 0o600); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" {
		t.Error("the file is gone")
	}
	if _, err := Listen(filepath.Join(dir, "missing", "s"), 0o600); err == nil {
		t.Error("listens in no directory")
	}
}

// FuzzAppCall: no arguments make the broker's end panic, and none get around the limits.
func FuzzAppCall(f *testing.F) {
	for method, args := range map[uint64]any{
		methodRequest:     requestArgs{Component: component(), TAMURI: "https://x"},
		methodUnrequest:   componentArgs{Component: component()},
		methodInvoke:      invokeArgs{Session: 1, Command: "x"},
		methodClose:       sessionArgs{Session: 1},
		methodPolicyCheck: noArgs{},
	} {
		data, err := cbor.Marshal(args)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(method, data)
	}
	f.Fuzz(func(t *testing.T, method uint64, body []byte) {
		b := &fakeBackend{}
		s := &server{backend: b, options: ServeOptions{MaxSessions: 1}, sessions: map[uint64]bool{}}
		_, err := s.handle(context.Background(), method, body, func(any) error { return nil })
		var failure *frame.Failure
		if err != nil && (!errors.As(err, &failure) || len(b.calls) > 0) {
			t.Fatalf("%v after %v", err, b.calls)
		}
		for _, call := range b.calls {
			if r, ok := call.(Request); ok && (len(r.Component) == 0 || len(r.TAMURI) > maxText) {
				t.Fatalf("%+v", r)
			}
		}
	})
}

// TestSignedFromOthers: trust anchors and revocation lists cross whole, and what an agent says to them too.
func TestSignedFromOthers(t *testing.T) {
	b := &fakeBackend{}
	c, _ := pair(t, b, ServeOptions{})
	r := Requirements{TEE: "one"}
	for name, call := range map[string]func([]byte) error{
		"trust": func(d []byte) error { return c.ReplaceTrustAnchors(t.Context(), d, r) },
		"lists": func(d []byte) error { return c.RenewRevocationLists(t.Context(), d, r) },
	} {
		b.err = nil
		if err := call([]byte{1, 2}); err != nil {
			t.Error(err)
		}
		if got, want := b.take(), []any{fmt.Sprintf("%s 0102 %v", name, r)}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		b.err = fmt.Errorf("agent: not signed by the administrator: %w", link.ErrRefused)
		if err := call([]byte{1}); !errors.Is(err, link.ErrRefused) || !strings.Contains(err.Error(), "administrator") {
			t.Errorf("%s: %v", name, err)
		}
		b.take()
		for _, bad := range [][]byte{nil, make([]byte, link.MaxAnchors+1)} {
			if err := call(bad); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s of %d bytes: %v", name, len(bad), err)
			}
		}
		if calls := b.take(); len(calls) > 0 {
			t.Errorf("%v", calls)
		}
	}
}

package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent records its calls and answers what the test sets.
type fakeAgent struct {
	mu    sync.Mutex
	calls []any
	ask   Ask
	out   []byte
	err   error
	wait  chan struct{} // if set, Invoke waits for it or its context
}

func (a *fakeAgent) record(call any) (Ask, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
	return a.ask, a.err
}

func (a *fakeAgent) set(ask Ask, out []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ask, a.out, a.err, a.calls = ask, out, err, nil
}

func (a *fakeAgent) RequestTA(_ context.Context, r Request) (Ask, error) { return a.record(r) }
func (a *fakeAgent) UnrequestTA(_ context.Context, c ComponentID) (Ask, error) {
	return a.record(c)
}
func (a *fakeAgent) RequestPolicyCheck(context.Context) (Ask, error) { return a.record("policy") }
func (a *fakeAgent) ProcessTeepMessage(_ context.Context, s uint64, m []byte) (Ask, error) {
	return a.record(fmt.Sprintf("message %d %x", s, m))
}
func (a *fakeAgent) ProcessError(_ context.Context, s uint64, uri, reason string) error {
	_, err := a.record(fmt.Sprintf("error %d %s %s", s, uri, reason))
	return err
}
func (a *fakeAgent) Deliver(_ context.Context, c Chunk) (Ask, error)       { return a.record(c) }
func (a *fakeAgent) Appraised(_ context.Context, r Appraised) (Ask, error) { return a.record(r) }
func (a *fakeAgent) ReplaceTrustAnchors(_ context.Context, signed []byte) error {
	_, err := a.record(fmt.Sprintf("trust %x", signed))
	return err
}
func (a *fakeAgent) RenewRevocationLists(_ context.Context, files [][]byte) error {
	_, err := a.record(fmt.Sprintf("lists %x", files))
	return err
}
func (a *fakeAgent) OpenSession(_ context.Context, c ComponentID) (uint64, error) {
	_, err := a.record(c)
	return 42, err
}
func (a *fakeAgent) Invoke(ctx context.Context, app uint64, command string, input []byte) ([]byte, error) {
	if a.wait != nil {
		select {
		case <-a.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	_, err := a.record(fmt.Sprintf("invoke %d %s %s", app, command, input))
	return a.out, err
}
func (a *fakeAgent) CloseSession(_ context.Context, app uint64) error {
	_, err := a.record(fmt.Sprintf("close %d", app))
	return err
}

func serve(t *testing.T, a Agent, o ServeOptions) *Client {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, a, o) }()
	c := NewClient(near, ClientOptions{})
	t.Cleanup(func() {
		c.Close()
		<-served
	})
	return c
}

func component() ComponentID { return ComponentID{[]byte("app"), {0, 1}} }

// TestCallsCross: every call arrives with its arguments, and every answer comes back.
func TestCallsCross(t *testing.T) {
	a := &fakeAgent{}
	c := serve(t, a, ServeOptions{})
	ctx := context.Background()
	asks := []Ask{
		{},
		{Session: 1, TAMURI: "https://tam.example/tam"},
		{Session: 1<<64 - 1, TAMURI: "https://tam.example/tam", Message: []byte{1, 2}},
		{Session: 2, Fetch: &Fetch{ID: 3, URI: "https://cdn.example/x", Offset: 1 << 40, Length: MaxChunk}},
		{Session: 3, Appraisal: &Appraisal{ID: 4, MediaType: "application/eat+cwt", Evidence: []byte{1}, Nonce: make([]byte, 8)}},
	}
	result := Appraised{Session: 3, AppraisalID: 4, MediaType: "application/eat+cwt", Result: make([]byte, MaxResult)}
	chunk := Chunk{Session: 2, FetchID: 3, Offset: 1 << 40, Data: []byte("data"), Last: true}
	request := Request{Component: component(), TAMURI: "https://hint.example", MinSequence: 1<<64 - 1}
	for _, ask := range asks {
		for name, call := range map[string]struct {
			call func() (Ask, error)
			want any
		}{
			"RequestTA":          {func() (Ask, error) { return c.RequestTA(ctx, request) }, request},
			"UnrequestTA":        {func() (Ask, error) { return c.UnrequestTA(ctx, component()) }, component()},
			"RequestPolicyCheck": {func() (Ask, error) { return c.RequestPolicyCheck(ctx) }, "policy"},
			"ProcessTeepMessage": {func() (Ask, error) { return c.ProcessTeepMessage(ctx, 7, []byte{0xd2}) }, "message 7 d2"},
			"Deliver":            {func() (Ask, error) { return c.Deliver(ctx, chunk) }, chunk},
			"Appraised":          {func() (Ask, error) { return c.Appraised(ctx, result) }, result},
		} {
			a.set(ask, nil, nil)
			got, err := call.call()
			if err != nil || !reflect.DeepEqual(got, ask) {
				t.Errorf("%s: %+v, %v, want %+v", name, got, err, ask)
			}
			if !reflect.DeepEqual(a.calls, []any{call.want}) {
				t.Errorf("%s: the agent got %+v", name, a.calls)
			}
		}
	}
	a.set(Ask{}, []byte("out"), nil)
	if err := c.ProcessError(ctx, 9, "https://tam.example", strings.Repeat("é", 600)+"\xff"); err != nil {
		t.Error(err)
	}
	if app, err := c.OpenSession(ctx, component()); err != nil || app != 42 {
		t.Error(app, err)
	}
	if out, err := c.Invoke(ctx, 42, "greet", []byte("world")); err != nil || string(out) != "out" {
		t.Error(out, err)
	}
	if err := c.CloseSession(ctx, 42); err != nil {
		t.Error(err)
	}
	if a.calls[0] != "error 9 https://tam.example "+strings.Repeat("é", 512) || a.calls[2] != "invoke 42 greet world" || a.calls[3] != "close 42" {
		t.Errorf("the agent got %q", a.calls)
	}
	a.set(Ask{}, nil, nil)
	if err := c.ReplaceTrustAnchors(ctx, []byte{1, 2}); err != nil {
		t.Error(err)
	}
	if err := c.RenewRevocationLists(ctx, [][]byte{{3}, {4}}); err != nil {
		t.Error(err)
	}
	if _, err := c.Appraised(ctx, Appraised{Session: 1, AppraisalID: 2, Err: strings.Repeat("é", 600)}); err != nil {
		t.Error(err)
	}
	if want := []any{"trust 0102", "lists [03 04]", Appraised{Session: 1, AppraisalID: 2, Result: []byte{}, Err: strings.Repeat("é", 512)}}; !reflect.DeepEqual(a.calls, want) {
		t.Errorf("the agent got %+v", a.calls)
	}
	if out, err := c.Invoke(ctx, 42, "", nil); err != nil || len(out) != 0 {
		t.Error(out, err)
	}
}

func TestErrorsCross(t *testing.T) {
	var logged []string
	a := &fakeAgent{}
	c := serve(t, a, ServeOptions{OnError: func(call string, err error) { logged = append(logged, call+": "+err.Error()) }})
	ctx := context.Background()
	for _, sentinel := range []error{ErrNotInstalled, ErrNoSession, ErrTrap, ErrQuota, ErrBusy, ErrRefused, ErrUnavailable} {
		a.set(Ask{}, nil, fmt.Errorf("component 'x': %w", sentinel))
		_, err := c.Invoke(ctx, 1, "x", nil)
		if !errors.Is(err, sentinel) || !strings.HasPrefix(err.Error(), "component 'x': ") {
			t.Errorf("%v became %v", sentinel, err)
		}
		a.set(Ask{}, nil, sentinel)
		if _, err := c.Invoke(ctx, 1, "x", nil); err != sentinel {
			t.Errorf("%v became %v", sentinel, err)
		}
	}
	a.set(Ask{}, nil, fmt.Errorf("invoke: %w", &ExitError{Code: 3, Stderr: "usage"}))
	var exit *ExitError
	if _, err := c.Invoke(ctx, 1, "x", nil); !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "usage" {
		t.Errorf("exit: %v", err)
	}
	if len(logged) != 0 {
		t.Errorf("logged %q", logged)
	}
	a.set(Ask{}, nil, errors.New("sealing key 00112233"))
	if _, err := c.RequestPolicyCheck(ctx); !errors.Is(err, ErrInternal) || strings.Contains(err.Error(), "0011") {
		t.Errorf("a secret crossed: %v", err)
	}
	if len(logged) != 1 || logged[0] != "RequestPolicyCheck: sealing key 00112233" {
		t.Errorf("logged %q", logged)
	}
}

func TestClientRefusesBeforeSending(t *testing.T) {
	a := &fakeAgent{}
	c := serve(t, a, ServeOptions{})
	ctx := context.Background()
	long := strings.Repeat("x", MaxURI+1)
	for name, call := range map[string]func() error{
		"no component":      func() error { _, err := c.RequestTA(ctx, Request{}); return err },
		"large component":   func() error { _, err := c.UnrequestTA(ctx, ComponentID{make([]byte, MaxComponentID+1)}); return err },
		"many parts":        func() error { _, err := c.OpenSession(ctx, make(ComponentID, MaxComponentParts+1)); return err },
		"long URI":          func() error { _, err := c.RequestTA(ctx, Request{Component: component(), TAMURI: long}); return err },
		"long URI in error": func() error { return c.ProcessError(ctx, 1, long, "x") },
		"large chunk":       func() error { _, err := c.Deliver(ctx, Chunk{Data: make([]byte, MaxChunk+1)}); return err },
		"negative offset":   func() error { _, err := c.Deliver(ctx, Chunk{Offset: -1}); return err },
		"data and error":    func() error { _, err := c.Deliver(ctx, Chunk{Data: []byte{1}, Err: "x"}); return err },
		"last and error":    func() error { _, err := c.Deliver(ctx, Chunk{Last: true, Err: "x"}); return err },
		"large result":      func() error { _, err := c.Appraised(ctx, Appraised{Result: make([]byte, MaxResult+1)}); return err },
		"no result":         func() error { _, err := c.Appraised(ctx, Appraised{}); return err },
		"result and error":  func() error { _, err := c.Appraised(ctx, Appraised{Result: []byte{1}, Err: "x"}); return err },
		"no anchors":        func() error { return c.ReplaceTrustAnchors(ctx, nil) },
		"large anchors":     func() error { return c.ReplaceTrustAnchors(ctx, make([]byte, MaxAnchors+1)) },
		"no lists":          func() error { return c.RenewRevocationLists(ctx, nil) },
		"empty list":        func() error { return c.RenewRevocationLists(ctx, [][]byte{{}}) },
		"large list":        func() error { return c.RenewRevocationLists(ctx, [][]byte{make([]byte, MaxRevocationFile+1)}) },
		"many lists":        func() error { return c.RenewRevocationLists(ctx, make([][]byte, MaxRevocationFiles+1)) },
		"long command":      func() error { _, err := c.Invoke(ctx, 1, strings.Repeat("x", MaxCommand+1), nil); return err },
	} {
		if err := call(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(a.calls) != 0 {
		t.Errorf("the agent got %+v", a.calls)
	}
}

// A broker that skips the checks of Client meets the same ones at the agent's end, and the agent
// never hears of it.
func TestServeRefuses(t *testing.T) {
	near, far := net.Pipe()
	a := &fakeAgent{}
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, a, ServeOptions{}) }()
	raw := frame.NewCaller(near, frame.CallerOptions{MaxFrame: MaxFrame})
	many := make([][]byte, MaxComponentParts+1)
	for i := range many {
		many[i] = []byte{}
	}
	big, long := make([]byte, MaxComponentID+1), strings.Repeat("x", MaxURI+1)
	for name, c := range map[string]struct {
		method uint64
		args   any
		want   error
	}{
		"method 0":            {0, []any{}, ErrUnknownCall},
		"method 13":           {13, []any{}, ErrUnknownCall},
		"large result":        {methodAppraised, []any{1, 1, "x", make([]byte, MaxResult+1), ""}, ErrRefused},
		"result and error":    {methodAppraised, []any{1, 1, "x", []byte{1}, "x"}, ErrRefused},
		"long media type":     {methodAppraised, []any{1, 1, long, []byte{1}, ""}, ErrRefused},
		"result of text":      {methodAppraised, []any{1, 1, "x", "y", ""}, ErrUnknownCall},
		"no anchors":          {methodReplaceTrust, []any{[]byte{}}, ErrRefused},
		"large anchors":       {methodReplaceTrust, []any{make([]byte, MaxAnchors+1)}, ErrRefused},
		"no lists":            {methodRenewRevocations, []any{[][]byte{}}, ErrRefused},
		"empty list":          {methodRenewRevocations, []any{[][]byte{{}}}, ErrRefused},
		"many lists":          {methodRenewRevocations, []any{make([][]byte, MaxRevocationFiles+1)}, ErrRefused},
		"too few arguments":   {methodRequestTA, []any{[][]byte{{1}}}, ErrUnknownCall},
		"too many arguments":  {methodRequestPolicyCheck, []any{1}, ErrUnknownCall},
		"arguments missing":   {methodInvoke, nil, ErrUnknownCall},
		"arguments as map":    {methodCloseSession, map[int]int{0: 1}, ErrUnknownCall},
		"text for a number":   {methodCloseSession, []any{"1"}, ErrUnknownCall},
		"negative session":    {methodCloseSession, []any{-1}, ErrUnknownCall},
		"empty component":     {methodOpenSession, []any{[][]byte{}}, ErrRefused},
		"component of text":   {methodOpenSession, []any{[]string{"a"}}, ErrUnknownCall},
		"many parts":          {methodUnrequestTA, []any{many}, ErrRefused},
		"large component":     {methodRequestTA, []any{[][]byte{big}, "", 0, false}, ErrRefused},
		"long URI":            {methodRequestTA, []any{[][]byte{{1}}, long, 0, false}, ErrRefused},
		"long URI in error":   {methodProcessError, []any{1, long, ""}, ErrRefused},
		"long reason":         {methodProcessError, []any{1, "", long}, ErrRefused},
		"large chunk":         {methodDeliver, []any{1, 1, 0, make([]byte, MaxChunk+1), false, ""}, ErrRefused},
		"offset over int64":   {methodDeliver, []any{1, 1, uint64(1 << 63), []byte{}, false, ""}, ErrRefused},
		"data and an error":   {methodDeliver, []any{1, 1, 0, []byte{1}, false, "x"}, ErrRefused},
		"long command":        {methodInvoke, []any{1, long, []byte{}}, ErrRefused},
		"component of nil":    {methodOpenSession, []any{nil}, ErrRefused},
		"message of 4 arrays": {methodProcessTeepMessage, []any{1, []any{[]any{}}}, ErrUnknownCall},
	} {
		if err := fromFailure(raw.Call(context.Background(), c.method, c.args, nil, nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	raw.Close()
	<-served
	if len(a.calls) != 0 {
		t.Errorf("the agent got %+v", a.calls)
	}
}

// An agent gone bad cannot make the broker do what an Ask is not for.
func TestClientRefusesAsks(t *testing.T) {
	for name, w := range map[string]any{
		"message to nowhere":    wireAsk{Message: []byte{1}},
		"message and fetch":     wireAsk{TAMURI: "https://x", Fetch: &wireFetch{URI: "https://y", Length: 1}},
		"fetch of nothing":      wireAsk{Fetch: &wireFetch{URI: "https://y"}},
		"fetch of too much":     wireAsk{Fetch: &wireFetch{URI: "https://y", Length: MaxChunk + 1}},
		"fetch from nowhere":    wireAsk{Fetch: &wireFetch{Length: 1}},
		"fetch beyond int64":    wireAsk{Fetch: &wireFetch{URI: "https://y", Length: 1, Offset: 1 << 63}},
		"long TAM URI":          wireAsk{TAMURI: strings.Repeat("x", MaxURI+1)},
		"long fetch URI":        wireAsk{Fetch: &wireFetch{URI: strings.Repeat("x", MaxURI+1), Length: 1}},
		"five elements":         []any{1, "", nil, nil, nil},
		"six elements":          []any{1, "", nil, nil, nil, nil},
		"appraisal of nothing":  []any{1, "", nil, nil, []any{1, "x", []byte{}, make([]byte, 8)}},
		"appraisal of much":     []any{1, "", nil, nil, []any{1, "x", make([]byte, MaxEvidence+1), make([]byte, 8)}},
		"appraisal, no type":    []any{1, "", nil, nil, []any{1, "", []byte{1}, make([]byte, 8)}},
		"appraisal, long type":  []any{1, "", nil, nil, []any{1, strings.Repeat("x", MaxMediaType+1), []byte{1}, make([]byte, 8)}},
		"appraisal, no nonce":   []any{1, "", nil, nil, []any{1, "x", []byte{1}, []byte{}}},
		"appraisal, long nonce": []any{1, "", nil, nil, []any{1, "x", []byte{1}, make([]byte, 65)}},
		"appraisal and URI":     []any{1, "https://x", nil, nil, []any{1, "x", []byte{1}, make([]byte, 8)}},
		"appraisal and fetch":   []any{1, "", nil, []any{1, "https://x", 0, 1}, []any{1, "x", []byte{1}, make([]byte, 8)}},
		"three elements":        []any{1, "", nil},
		"a number":              5,
		"text for the message":  []any{1, "https://x", "text", nil},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				frame.Serve(context.Background(), far, func(context.Context, uint64, cbor.RawMessage, func(any) error) (any, error) {
					return w, nil
				}, frame.ServeOptions{MaxFrame: MaxFrame})
			}()
			c := NewClient(near, ClientOptions{})
			if ask, err := c.RequestPolicyCheck(context.Background()); err == nil {
				t.Errorf("accepted %+v", ask)
			}
			c.Close()
			<-served
		})
	}
}

func TestBadAskOfTheAgentIsInternal(t *testing.T) {
	a := &fakeAgent{ask: Ask{Fetch: &Fetch{URI: "https://x", Offset: -1, Length: 1}}}
	c := serve(t, a, ServeOptions{})
	if _, err := c.RequestPolicyCheck(context.Background()); !errors.Is(err, ErrInternal) {
		t.Error(err)
	}
}

func TestInvokeIsCancelled(t *testing.T) {
	a := &fakeAgent{wait: make(chan struct{})}
	c := serve(t, a, ServeOptions{MaxCalls: 1})
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	if _, err := c.Invoke(ctx, 1, "x", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(a.wait)
}

func TestConnectionLoss(t *testing.T) {
	near, far := net.Pipe()
	a := &fakeAgent{wait: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, a, ServeOptions{}) }()
	c := NewClient(near, ClientOptions{})
	errs := make(chan error, 1)
	go func() { _, err := c.Invoke(context.Background(), 1, "x", nil); errs <- err }()
	near.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := c.RequestPolicyCheck(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("later: %v", err)
	}
	<-served // the handler's context ended with the connection
	c.Close()
}

func TestServeListenerAndRedialer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	a := &fakeAgent{ask: Ask{Session: 5, TAMURI: "https://tam.example"}}
	start := func() (stop func()) {
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- ServeListener(ctx, ln, a, ServeOptions{MaxConns: 2}) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("ServeListener: %v", err)
			}
		}
	}
	r := &Redialer{Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	ctx := context.Background()
	if _, err := r.RequestPolicyCheck(ctx); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("no agent: %v", err)
	}
	for range 2 {
		stop := start()
		if err := r.Check(ctx); err != nil {
			t.Error(err)
		}
		if ask, err := r.RequestPolicyCheck(ctx); err != nil || ask.Session != 5 {
			t.Errorf("%+v, %v", ask, err)
		}
		stop()
		<-r.client.Done()
		if _, err := r.RequestTA(ctx, Request{Component: component()}); !errors.Is(err, ErrClosed) {
			t.Errorf("agent gone: %v", err)
		}
	}
	stop := start()
	defer stop()
	for name, call := range map[string]func() error{
		"RequestTA":          func() error { _, err := r.RequestTA(ctx, Request{Component: component()}); return err },
		"UnrequestTA":        func() error { _, err := r.UnrequestTA(ctx, component()); return err },
		"ProcessTeepMessage": func() error { _, err := r.ProcessTeepMessage(ctx, 1, nil); return err },
		"ProcessError":       func() error { return r.ProcessError(ctx, 1, "", "") },
		"Deliver":            func() error { _, err := r.Deliver(ctx, Chunk{}); return err },
		"OpenSession":        func() error { _, err := r.OpenSession(ctx, component()); return err },
		"Invoke":             func() error { _, err := r.Invoke(ctx, 1, "x", nil); return err },
		"CloseSession":       func() error { return r.CloseSession(ctx, 1) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.Close()
	if _, err := r.RequestPolicyCheck(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestServeListenerBoundsConnections(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeListener(ctx, ln, &fakeAgent{}, ServeOptions{MaxConns: 1}) }()
	dial := func() *Client {
		conn, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return NewClient(conn, ClientOptions{})
	}
	one := dial()
	if _, err := one.RequestPolicyCheck(ctx); err != nil {
		t.Error(err)
	}
	two := dial()
	if _, err := two.RequestPolicyCheck(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	one.Close()
	two.Close()
}

func TestServeListenerFails(t *testing.T) {
	broken := errors.New("broken")
	if err := ServeListener(context.Background(), &brokenListener{broken}, &fakeAgent{}, ServeOptions{}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type brokenListener struct{ err error }

func (l *brokenListener) Accept() (net.Conn, error) { return nil, l.err }
func (*brokenListener) Close() error                { return nil }

// FuzzCall: no arguments make the agent's end panic, and what reaches the agent is within its limits.
func FuzzCall(f *testing.F) {
	for method, args := range map[uint64]any{
		methodRequestTA:          requestArgs{Component: component(), TAMURI: "https://x", MinSequence: 1},
		methodUnrequestTA:        componentArgs{Component: component()},
		methodRequestPolicyCheck: noArgs{},
		methodProcessTeepMessage: messageArgs{Session: 1, Message: []byte{1}},
		methodProcessError:       errorArgs{Session: 1, TAMURI: "x", Reason: "y"},
		methodDeliver:            chunkArgs{Session: 1, FetchID: 2, Offset: 3, Data: []byte{4}, Last: true},
		methodInvoke:             invokeArgs{App: 1, Command: "x", Input: []byte{1}},
		methodCloseSession:       appArgs{App: 1},
		methodAppraised:          appraisedArgs{Session: 1, AppraisalID: 2, MediaType: "x", Result: []byte{1}},
		methodReplaceTrust:       trustArgs{Signed: []byte{1}},
		methodRenewRevocations:   revocationArgs{Files: [][]byte{{1}}},
	} {
		data, err := cbor.Marshal(args)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(method, data)
	}
	f.Fuzz(func(t *testing.T, method uint64, body []byte) {
		a := &fakeAgent{}
		s := &server{agent: a}
		if _, err := s.handle(context.Background(), method, body, nil); err != nil {
			var failure *frame.Failure
			if !errors.As(err, &failure) || len(a.calls) > 0 {
				t.Fatalf("%v, calls %v", err, a.calls)
			}
			return
		}
		if method == 0 || method > methodRenewRevocations {
			t.Fatalf("method %d was carried out", method)
		}
		for _, call := range a.calls {
			if c, ok := call.(Chunk); ok && (c.Offset < 0 || len(c.Data) > MaxChunk) {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// Large messages cross whole.
func TestLargeMessage(t *testing.T) {
	a := &fakeAgent{out: bytes.Repeat([]byte{7}, 8<<20)}
	c := serve(t, a, ServeOptions{})
	if out, err := c.Invoke(context.Background(), 1, "x", nil); err != nil || !bytes.Equal(out, a.out) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

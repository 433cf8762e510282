package frame

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-teep/teep/internal/cbor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 1 << 16

func TestReadWrite(t *testing.T) {
	var b bytes.Buffer
	for _, payload := range [][]byte{{}, {1}, bytes.Repeat([]byte{7}, limit)} {
		if err := Write(&b, payload, limit); err != nil {
			t.Fatal(err)
		}
		got, err := Read(&b, limit)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes became %d, %v", len(payload), len(got), err)
		}
	}
	if err := Write(&b, make([]byte, limit+1), limit); !errors.Is(err, ErrTooLarge) || b.Len() != 0 {
		t.Errorf("too large: %v, %d bytes written", err, b.Len())
	}
}

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":      {nil, io.EOF},
		"half header":  {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"header alone": {[]byte{0, 0, 0, 1}, io.ErrUnexpectedEOF},
		"half a frame": {[]byte{0, 0, 0, 3, 1, 2}, io.ErrUnexpectedEOF},
		"too large":    {[]byte{0, 1, 0, 1}, ErrTooLarge},
		"4 GiB":        {[]byte{255, 255, 255, 255}, ErrTooLarge},
		"HTTP":         {[]byte("GET / HTTP/1.1\r\n"), ErrTooLarge},
	} {
		if got, err := Read(bytes.NewReader(c.data), limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %x, %v, want %v", name, got, err, c.want)
		}
	}
}

// An announced size alone takes no memory.
func TestReadAllocatesWhatArrives(t *testing.T) {
	header := []byte{0x03, 0xff, 0xff, 0xff}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Read(bytes.NewReader(header), 64<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 1<<20 {
		t.Errorf("%d bytes allocated for an announcement", allocated)
	}
}

type echoArgs struct {
	_    struct{} `cbor:",toarray"`
	Text string
}

// echoHandler: 1 echoes, 2 waits for the end of its context, 3 notes thrice, 4 fails with a code,
// 5 fails with a secret, 6 answers too much.
func echoHandler(started chan<- struct{}) Handler {
	return func(ctx context.Context, method uint64, args cbor.RawMessage, note func(any) error) (any, error) {
		switch method {
		case 1:
			return args, nil
		case 2:
			started <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		case 3:
			for i := range 3 {
				if err := note(i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		case 4:
			return nil, fmt.Errorf("wrapped: %w", &Failure{Code: 99, Text: strings.Repeat("é", 600), Detail: 7})
		case 5:
			return nil, errors.New("the key is 42")
		case 6:
			return make([]byte, limit), nil
		}
		return nil, &Failure{Code: CodeUnknown}
	}
}

type ends struct {
	caller  *Caller
	conn    net.Conn // the caller's
	served  chan error
	started chan struct{}
}

func connect(t *testing.T, o ServeOptions, co CallerOptions) *ends {
	t.Helper()
	near, far := net.Pipe()
	e := &ends{conn: near, served: make(chan error, 1), started: make(chan struct{}, 100)}
	o.MaxFrame, co.MaxFrame = limit, limit
	go func() { e.served <- Serve(context.Background(), far, echoHandler(e.started), o) }()
	e.caller = NewCaller(near, co)
	t.Cleanup(func() {
		e.caller.Close()
		<-e.served
		e.served <- nil
	})
	return e
}

func TestCall(t *testing.T) {
	e := connect(t, ServeOptions{}, CallerOptions{})
	ctx := context.Background()
	var got echoArgs
	if err := e.caller.Call(ctx, 1, echoArgs{Text: "hello"}, &got, nil); err != nil || got.Text != "hello" {
		t.Errorf("%+v, %v", got, err)
	}
	var notes []byte
	err := e.caller.Call(ctx, 3, nil, nil, func(n cbor.RawMessage) { notes = append(notes, n...) })
	if err != nil || !bytes.HasPrefix([]byte{0, 1, 2}, notes) {
		t.Errorf("notes %x, %v", notes, err)
	}
	var f *Failure
	if err := e.caller.Call(ctx, 4, nil, nil, nil); !errors.As(err, &f) || f.Code != 99 || f.Detail != 7 || len(f.Text) != MaxFailureText {
		t.Errorf("failure %+v (%d)", f, len(f.Text))
	}
	if err := e.caller.Call(ctx, 5, nil, nil, nil); !errors.As(err, &f) || f.Code != CodeInternal || strings.Contains(err.Error(), "42") {
		t.Errorf("internal: %v", err)
	}
	if err := e.caller.Call(ctx, 6, nil, nil, nil); !errors.As(err, &f) || f.Code != CodeTooLarge {
		t.Errorf("too large a result: %v", err)
	}
	if err := e.caller.Call(ctx, 1, make([]byte, limit), nil, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large an argument: %v", err)
	}
	var number uint64
	if err := e.caller.Call(ctx, 1, echoArgs{Text: "x"}, &number, nil); !errors.Is(err, ErrViolation) {
		t.Errorf("an answer of another type: %v", err)
	}
	if err := e.caller.Call(ctx, 1, func() {}, nil, nil); err == nil {
		t.Error("a function crossed")
	}
}

func TestCallsRunSideBySide(t *testing.T) {
	e := connect(t, ServeOptions{}, CallerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	slow := make(chan error, 1)
	go func() { slow <- e.caller.Call(ctx, 2, nil, nil, nil) }()
	<-e.started
	var all sync.WaitGroup
	for i := range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			want := fmt.Sprint(i)
			var got echoArgs
			if err := e.caller.Call(context.Background(), 1, echoArgs{Text: want}, &got, nil); err != nil || got.Text != want {
				t.Errorf("%s became %q, %v", want, got.Text, err)
			}
		}()
	}
	all.Wait()
	cancel()
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled call: %v", err)
	}
}

// Cancelling ends the call's context at the other end, and frees its place.
func TestCancelReachesTheHandler(t *testing.T) {
	e := connect(t, ServeOptions{MaxCalls: 1}, CallerOptions{})
	for range 5 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.caller.Call(ctx, 2, nil, nil, nil) }()
		select {
		case <-e.started:
		case err := <-done:
			// The place of the call before is not free yet.
			var f *Failure
			if !errors.As(err, &f) || f.Code != CodeBusy {
				t.Fatal(err)
			}
			cancel()
			continue
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

func TestCallWithAnEndedContext(t *testing.T) {
	e := connect(t, ServeOptions{}, CallerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 50 {
		if err := e.caller.Call(ctx, 2, nil, nil, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if err := e.caller.Call(context.Background(), 1, nil, nil, nil); err != nil {
		t.Errorf("the connection suffered: %v", err)
	}
}

func TestBusy(t *testing.T) {
	e := connect(t, ServeOptions{MaxCalls: 2, MaxBytes: 100}, CallerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	var f *Failure
	if err := e.caller.Call(ctx, 1, make([]byte, 101), nil, nil); !errors.As(err, &f) || f.Code != CodeBusy {
		t.Errorf("too many bytes: %v", err)
	}
	for range 2 {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			e.caller.Call(ctx, 2, nil, nil, nil)
		}()
		<-e.started
	}
	for range 10 {
		if err := e.caller.Call(ctx, 1, nil, nil, nil); !errors.As(err, &f) || f.Code != CodeBusy {
			t.Errorf("too many calls: %v", err)
		}
	}
	cancel()
	waiting.Wait()
}

func TestMaxPending(t *testing.T) {
	e := connect(t, ServeOptions{}, CallerOptions{MaxPending: 1})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.caller.Call(ctx, 2, nil, nil, nil) }()
	<-e.started
	var f *Failure
	if err := e.caller.Call(ctx, 1, nil, nil, nil); !errors.As(err, &f) || f.Code != CodeBusy {
		t.Errorf("%v", err)
	}
	cancel()
	<-done
}

func TestLossFailsPendingCalls(t *testing.T) {
	e := connect(t, ServeOptions{}, CallerOptions{})
	errs := make(chan error, 3)
	for range 3 {
		go func() { errs <- e.caller.Call(context.Background(), 2, nil, nil, nil) }()
		<-e.started
	}
	e.conn.Close()
	for range 3 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
	<-e.caller.Done()
	if err := e.caller.Call(context.Background(), 1, nil, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("later: %v", err)
	}
}

func rawFrame(t *testing.T, v any) []byte {
	t.Helper()
	data, ok := v.([]byte)
	if !ok {
		var err error
		if data, err = cbor.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

// TestHostileCaller: whatever a caller does that is not the protocol ends the connection.
func TestHostileCaller(t *testing.T) {
	call := func(id, method uint64) []byte { return rawFrame(t, []any{kindCall, id, method, nil}) }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"no CBOR":           {rawFrame(t, []byte{0xff}), ErrViolation},
		"empty frame":       {rawFrame(t, []byte{}), ErrViolation},
		"two items":         {rawFrame(t, []byte{0x84, 1, 1, 1, 0xf6, 0}), ErrViolation},
		"an integer":        {rawFrame(t, 1), ErrViolation},
		"five elements":     {rawFrame(t, []any{1, 1, 1, 1, 1}), ErrViolation},
		"negative id":       {rawFrame(t, []any{1, -1, 1, nil}), ErrViolation},
		"kind 0":            {rawFrame(t, []any{0, 1, 1, nil}), ErrViolation},
		"kind 6":            {rawFrame(t, []any{6, 1, 1, nil}), ErrViolation},
		"an answer":         {rawFrame(t, []any{kindAnswer, 1, 0, nil}), ErrViolation},
		"a note":            {rawFrame(t, []any{kindNote, 1, 0, nil}), ErrViolation},
		"a number twice":    {append(call(1, 2), call(1, 2)...), ErrViolation},
		"too large":         {[]byte{0xff, 0, 0, 0}, ErrTooLarge},
		"half a frame":      {call(1, 2)[:6], io.ErrUnexpectedEOF},
		"cancel of nothing": {rawFrame(t, []any{kindCancel, 77, 0, nil}), nil},
		"nothing":           {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, near)
			served := make(chan error, 1)
			go func() {
				served <- Serve(context.Background(), far, echoHandler(make(chan struct{}, 9)), ServeOptions{MaxFrame: limit})
			}()
			near.Write(c.data)
			near.Close()
			if err := <-served; !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestHostileServer: whatever the answering end does that is not the protocol fails the call and
// ends the connection.
func TestHostileServer(t *testing.T) {
	for name, answer := range map[string][]byte{
		"no CBOR":             rawFrame(t, []byte{0xff}),
		"too large":           {0xff, 0, 0, 0},
		"half a frame":        {0, 0, 0, 9, 1},
		"another number":      rawFrame(t, []any{kindAnswer, 9, 0, nil}),
		"a call":              rawFrame(t, []any{kindCall, 1, 1, nil}),
		"a cancel":            rawFrame(t, []any{kindCancel, 1, 0, nil}),
		"two answers":         append(rawFrame(t, []any{kindAnswer, 1, 0, []byte("x")}), rawFrame(t, []any{kindAnswer, 1, 0, nil})...),
		"failure without one": rawFrame(t, []any{kindFailure, 1, 0, 5}),
		"nothing":             {},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			c := NewCaller(near, CallerOptions{MaxFrame: limit})
			defer c.Close()
			go func() {
				Read(far, limit)
				far.Write(answer)
				far.Close()
			}()
			var n uint64
			err := c.Call(context.Background(), 1, nil, &n, nil)
			if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrViolation) {
				t.Errorf("%v", err)
			}
			<-c.Done()
		})
	}
}

// A caller that never reads its answers stalls its own connection, which ends with the context.
func TestServeEndsWithItsContext(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, far, echoHandler(nil), ServeOptions{MaxFrame: limit}) }()
	near.Write(rawFrame(t, []any{kindCall, 1, 1, nil}))
	stop := errors.New("shutting down")
	cancel(stop)
	select {
	case err := <-served:
		if !errors.Is(err, stop) {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still serving")
	}
}

// FuzzServe: no bytes of a caller make the answering end panic or hang, and each frame of its answers
// is one of the protocol.
func FuzzServe(f *testing.F) {
	seed := func(v ...any) []byte {
		data, err := cbor.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	}
	f.Add(seed(kindCall, 1, 1, "x"))
	f.Add(append(seed(kindCall, 1, 3, nil), seed(kindCancel, 1, 0, nil)...))
	f.Add(append(seed(kindCall, 1, 4, nil), seed(kindCall, 2, 5, nil)...))
	f.Add([]byte{0, 0, 0, 1, 0xf6})
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		conn := &scripted{in: bytes.NewReader(data), out: &out}
		started := make(chan struct{}, 1000)
		Serve(context.Background(), conn, echoHandler(started), ServeOptions{MaxFrame: 1 << 12}) //nolint:errcheck // any error is right
		for {
			frame, err := Read(&out, 1<<12)
			if err != nil {
				break
			}
			if e, err := decodeEnvelope(frame); err != nil || e.Kind == kindCall || e.Kind == kindCancel {
				t.Fatalf("answered %x (%v)", frame, err)
			}
		}
	})
}

// FuzzFrame: reading gives back what was written, and nothing else is read as a frame.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("payload"), []byte{0, 0, 0, 2, 1})
	f.Fuzz(func(t *testing.T, payload, raw []byte) {
		var b bytes.Buffer
		if Write(&b, payload, 1<<12) == nil {
			if got, err := Read(&b, 1<<12); err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("%x became %x, %v", payload, got, err)
			}
		}
		r := bytes.NewReader(raw)
		got, err := Read(r, 1<<12)
		if err == nil && (len(raw) < headerSize+len(got) || binary.BigEndian.Uint32(raw) != uint32(len(got))) {
			t.Fatalf("%x was read as %x", raw, got)
		}
	})
}

type scripted struct {
	in  io.Reader
	mu  sync.Mutex
	out io.Writer
}

func (s *scripted) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (*scripted) Close() error { return nil }

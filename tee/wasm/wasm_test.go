package wasm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
	"github.com/go-teep/teep/tee/wasm"
)

// blob is a tee.Blob in memory.
type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func newBlob(b []byte) tee.Blob { return blob{bytes.NewReader(b)} }

// appData is a tee.AppData in memory.
type appData struct {
	mu      sync.Mutex
	values  map[string][]byte
	loadErr error
	applied int
}

func (a *appData) Load() (map[string][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string][]byte{}
	for k, v := range a.values {
		out[k] = bytes.Clone(v)
	}
	return out, a.loadErr
}

func (a *appData) Apply(changes map[string][]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.applied++
	if a.values == nil {
		a.values = map[string][]byte{}
	}
	for k, v := range changes {
		if v == nil {
			delete(a.values, k)
		} else {
			a.values[k] = v
		}
	}
	return nil
}

func (a *appData) Remove() error { a.values = nil; return nil }

func newRuntime(t testing.TB, change func(*wasm.Config)) *wasm.Runtime {
	t.Helper()
	cfg := wasm.Config{Rand: rand.Reader, Now: time.Now}
	if change != nil {
		change(&cfg)
	}
	r, err := wasm.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// limits leave time enough for a slow machine; what is tested to run out of it gets less.
func limits() tee.Limits {
	return tee.Limits{MemoryBytes: 4 << 20, CallDuration: 3 * time.Second, OutputBytes: 64 << 10, StorageBytes: 100 << 10}
}

func open(t testing.TB, r *wasm.Runtime, app tee.Application) tee.Session {
	t.Helper()
	s, err := r.Open(context.Background(), app)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openCode(t testing.TB, r *wasm.Runtime, code []byte, data tee.AppData) tee.Session {
	t.Helper()
	return open(t, r, tee.Application{Name: "app", Code: newBlob(code), Data: data, Limits: limits()})
}

func TestGreeter(t *testing.T) {
	r := newRuntime(t, nil)
	s := openCode(t, r, program.Greeter("1.2.3", 100_000), &appData{})
	for _, name := range []string{"Ada", "", strings.Repeat("long ", 1000)} {
		out, err := s.Invoke(t.Context(), "greet", []byte(name))
		if want := "Hello, " + name + "! This is hello 1.2.3, inside the TEE."; err != nil || string(out) != want {
			t.Errorf("%q: %q, %v", name, out, err)
		}
	}
}

func TestEcho(t *testing.T) {
	r := newRuntime(t, nil)
	s := openCode(t, r, program.Echo(), &appData{})
	for _, in := range []string{"", "x", strings.Repeat("long ", 5000)} {
		out, err := s.Invoke(t.Context(), "any", []byte(in))
		if err != nil || string(out) != in {
			t.Fatalf("echo of %d bytes: %d bytes, %v", len(in), len(out), err)
		}
	}
	if _, err := s.Invoke(t.Context(), "nul\x00", nil); err == nil {
		t.Fatal("a command with a NUL byte was accepted")
	}
}

func TestHostilePrograms(t *testing.T) {
	r := newRuntime(t, nil)
	good := open(t, r, tee.Application{Name: "good", Code: newBlob(program.Echo()), Data: &appData{}, Limits: limits()})
	paths := []string{"/etc/passwd", "etc/passwd", "../etc/passwd", "../../../../etc/passwd", "a/../../etc/passwd", "/proc/self/mem", ".\x00/etc/passwd", "\xff"}
	for _, tc := range []struct {
		name string
		code []byte
		want error
		exit uint32
	}{
		{"spins", program.Spin(), tee.ErrQuota, 0},
		{"sleeps", program.Sleep(), tee.ErrQuota, 0},
		{"allocates", program.Allocate(), tee.ErrQuota, 0},
		{"needs too much memory to start", program.BigMemory(1000), tee.ErrQuota, 0},
		{"writes without end", program.WriteForever(1), tee.ErrQuota, 0},
		{"logs without end", program.WriteForever(2), tee.ErrQuota, 0},
		{"stores without end", program.StoreForever("f"), tee.ErrQuota, 0},
		{"keeps files without names", program.Unlinked(false), tee.ErrQuota, 0},
		{"empties files without names", program.Unlinked(true), tee.ErrQuota, 0},
		{"makes a sparse file", program.SparseFile("f"), tee.ErrQuota, 0},
		{"opens files without end", program.OpenForever("f"), tee.ErrQuota, 0},
		{"recurses", program.Recurse(), tee.ErrTrap, 0},
		{"traps", program.Trap(), tee.ErrTrap, 0},
		{"refuses", program.Exit(3, "no"), nil, 3},
		{"claims a timeout", program.Exit(-0x10000001, ""), nil, 0xefffffff},
		{"opens other files", program.Escape(paths...), nil, program.Contained},
		{"uses sockets", program.Socket(), nil, program.Contained},
		{"renumbers descriptors", program.Renumber(), nil, program.Contained},
		{"writes to personalization", program.WritePersonalization("p"), nil, program.Contained},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := &appData{values: map[string][]byte{"keep": []byte("me")}}
			l := limits()
			switch tc.name {
			case "spins", "sleeps", "logs without end": // nothing but the time ends them
				l.CallDuration = 300 * time.Millisecond
			case "recurses":
				l.CallDuration = time.Minute
			}
			s := open(t, r, tee.Application{Name: "hostile", Code: newBlob(tc.code), Data: data, Limits: l,
				Personalization: map[string]tee.Blob{"p": newBlob([]byte("secret"))}})
			for range 2 {
				out, err := s.Invoke(t.Context(), "go", []byte("in"))
				var exit *tee.ExitError
				switch {
				case tc.want != nil && !errors.Is(err, tc.want):
					t.Fatalf("error is %v, want %v", err, tc.want)
				case tc.want == nil && (!errors.As(err, &exit) || exit.Code != tc.exit):
					t.Fatalf("error is %v, want exit code %d", err, tc.exit)
				case out != nil:
					t.Fatalf("output %q with an error", out)
				}
			}
			if data.applied > 0 || string(data.values["keep"]) != "me" {
				t.Fatal("a failed invocation changed sealed storage")
			}
			if out, err := good.Invoke(t.Context(), "", []byte("still well")); err != nil || string(out) != "still well" {
				t.Fatalf("another application afterwards: %q, %v", out, err)
			}
		})
	}
}

func TestExitErrorCarriesTheEndOfStderr(t *testing.T) {
	var log bytes.Buffer
	r := newRuntime(t, func(c *wasm.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s := openCode(t, r, program.Exit(9, "the reason\n"), nil)
	_, err := s.Invoke(t.Context(), "x", nil)
	var exit *tee.ExitError
	if !errors.As(err, &exit) || exit.Code != 9 || exit.Stderr != "the reason" {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(log.String(), "the reason") {
		t.Fatalf("log: %s", log.String())
	}
	log.Reset()
	s = openCode(t, r, program.WriteForever(2), nil)
	if _, err := s.Invoke(t.Context(), "x", nil); !errors.Is(err, tee.ErrQuota) {
		t.Fatal(err)
	}
	if log.Len() > 300<<10 {
		t.Fatalf("%d bytes of log from one invocation", log.Len())
	}
}

func TestStorageIsAtomic(t *testing.T) {
	r := newRuntime(t, nil)
	data := &appData{}
	invoke := func(code []byte, in string) ([]byte, error) {
		return openCode(t, r, code, data).Invoke(t.Context(), "", []byte(in))
	}
	if _, err := invoke(program.Save("f", 0), "one"); err != nil {
		t.Fatal(err)
	}
	if out, err := invoke(program.Load("f"), ""); err != nil || string(out) != "one" {
		t.Fatalf("%q, %v", out, err)
	}
	for name, code := range map[string][]byte{"exit": program.Save("f", 5), "trap": program.SaveThenTrap("f")} {
		if _, err := invoke(code, "two"); err == nil {
			t.Fatalf("%s: no error", name)
		}
	}
	if out, err := invoke(program.Load("f"), ""); err != nil || string(out) != "one" {
		t.Fatalf("after failures: %q, %v", out, err)
	}
	if _, err := invoke(program.Load("other"), ""); err == nil {
		t.Fatal("a file that is not there was read")
	}
	if data.applied != 1 {
		t.Fatalf("storage was written %d times", data.applied)
	}
}

func TestStorageThatFails(t *testing.T) {
	r := newRuntime(t, nil)
	s := openCode(t, r, program.Load("f"), &appData{loadErr: tee.ErrCorrupt})
	if _, err := s.Invoke(t.Context(), "", nil); !errors.Is(err, tee.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	s = openCode(t, r, program.Save("f", 0), nil)
	var exit *tee.ExitError
	if _, err := s.Invoke(t.Context(), "", nil); !errors.As(err, &exit) {
		t.Fatalf("an application without storage stored: %v", err)
	}
}

// brokenBlob fails as a tampered sealed blob does.
type brokenBlob struct{ tee.Blob }

func (brokenBlob) ReadAt([]byte, int64) (int, error) { return 0, tee.ErrCorrupt }

func TestPersonalization(t *testing.T) {
	r := newRuntime(t, nil)
	app := tee.Application{Name: "app", Code: newBlob(program.LoadPersonalization("keys/a")), Limits: limits(),
		Personalization: map[string]tee.Blob{"keys/a": newBlob([]byte("personal"))}}
	if out, err := open(t, r, app).Invoke(t.Context(), "", nil); err != nil || string(out) != "personal" {
		t.Fatalf("%q, %v", out, err)
	}
	app.Personalization = map[string]tee.Blob{"keys/a": brokenBlob{newBlob([]byte("personal"))}}
	if _, err := open(t, r, app).Invoke(t.Context(), "", nil); !errors.Is(err, tee.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	for _, name := range []string{"", ".", "..", "../a", "/a", "a//b", "a/", "a\x00", "\xff", strings.Repeat("a", 256)} {
		app.Personalization = map[string]tee.Blob{name: newBlob(nil)}
		if _, err := open(t, r, app).Invoke(t.Context(), "", nil); err == nil || errors.As(err, new(*tee.ExitError)) {
			t.Errorf("personalization %q: %v", name, err)
		}
	}
	app.Personalization = map[string]tee.Blob{"a": newBlob(nil), "a/b": newBlob(nil)}
	if _, err := open(t, r, app).Invoke(t.Context(), "", nil); err == nil {
		t.Error("a file that is also a folder was accepted")
	}
}

func TestProgramsThatAreRefused(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) { c.MaxCodeBytes = 10000 })
	echo := program.Echo()
	component := append([]byte("\x00asm\x0d\x00\x01\x00"), echo[8:]...)
	bombs := map[string][]byte{
		"types":            section(1, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"results":          section(1, 1, 0x60, 0, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"parameters":       section(1, 1, 0x60, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"another type":     section(1, 1, 0x4e, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"imports":          section(2, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"an import's name": section(2, 1, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a memory import":  section(2, 1, 1, 'e', 1, 'm', 2, 0, 1),
		"functions":        section(3, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"tables":           section(4, 2, 0x70, 0, 1, 0x70, 0, 1),
		"globals":          section(6, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"an export's name": section(7, 1, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"elements":         section(9, 1, 0, 0x41, 0, 0x0b, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"an element kind":  section(9, 1, 8),
		"an expression":    section(9, 1, 0, 0x20, 0, 0x0b, 0),
		"locals":           section(10, 1, 8, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b),
		"local groups":     section(10, 1, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x0b),
		"data":             section(11, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a data kind":      section(11, 1, 3, 0),
		"a tag section":    section(13, 1, 0, 0),
		"a long section":   section(1, 0, 0),
	}
	for name, code := range bombs {
		if err := r.Check(t.Context(), newBlob(code)); !errors.Is(err, wasm.ErrProgram) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		code []byte
		want error
	}{
		"empty":           {nil, wasm.ErrProgram},
		"not WebAssembly": {[]byte("#!/bin/sh\nexit 0\n"), wasm.ErrProgram},
		"a component":     {component, wasm.ErrProgram},
		"truncated":       {echo[:len(echo)-3], wasm.ErrProgram},
		"no exports":      {[]byte("\x00asm\x01\x00\x00\x00"), wasm.ErrProgram},
		"a huge table":    {program.BigTable(1 << 26), wasm.ErrProgram},
		"another import":  {bytes.Replace(echo, []byte("preview1"), []byte("preview2"), 1), wasm.ErrProgram},
		"unknown import":  {bytes.Replace(echo, []byte("sock_accept"), []byte("sock_accepz"), 1), wasm.ErrProgram},
		"no entry":        {bytes.Replace(echo, []byte("_start"), []byte("_stark"), 1), wasm.ErrProgram},
		"half a reactor":  {bytes.Replace(program.Reactor(), []byte("teep_alloc"), []byte("teep_alloz"), 1), wasm.ErrProgram},
		"too large":       {make([]byte, 10001), tee.ErrQuota},
	} {
		if err := r.Check(t.Context(), newBlob(tc.code)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Open(t.Context(), tee.Application{Name: "a", Code: newBlob(tc.code)}); !errors.Is(err, tc.want) {
			t.Errorf("%s: open: %v", name, err)
		}
	}
	for name, code := range map[string][]byte{"command": echo, "reactor": program.Reactor()} {
		if err := r.Check(t.Context(), newBlob(code)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Check(t.Context(), nil); !errors.Is(err, wasm.ErrProgram) {
		t.Errorf("no code: %v", err)
	}
	if err := r.Check(t.Context(), brokenBlob{newBlob(echo)}); !errors.Is(err, tee.ErrCorrupt) {
		t.Errorf("code that does not authenticate: %v", err)
	}
}

// section is a module of one section.
func section(id byte, body ...byte) []byte {
	return append([]byte{0, 'a', 's', 'm', 1, 0, 0, 0, id, byte(len(body))}, body...)
}

// TestCustomSectionsAreIgnored: names and debugging information that lie do no harm.
func TestCustomSectionsAreIgnored(t *testing.T) {
	r := newRuntime(t, nil)
	echo := program.Echo()
	custom := append(bytes.Clone(echo), section(0, 4, 'n', 'a', 'm', 'e', 1, 6, 0xff, 0xff, 0xff, 0xff, 0x0f)[8:]...)
	if out, err := openCode(t, r, custom, nil).Invoke(t.Context(), "", []byte("in")); err != nil || string(out) != "in" {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestReactor(t *testing.T) {
	r := newRuntime(t, nil)
	s := openCode(t, r, program.Reactor(), &appData{})
	for _, in := range []string{"", "input", strings.Repeat("x", 50000)} {
		if out, err := s.Invoke(t.Context(), "echo", []byte(in)); err != nil || string(out) != in {
			t.Fatalf("%d bytes: %d bytes, %v", len(in), len(out), err)
		}
	}
	for command, want := range map[string]error{"x": tee.ErrTrap, "s": tee.ErrQuota, "p": tee.ErrTrap, "h": tee.ErrQuota} {
		if _, err := s.Invoke(t.Context(), command, nil); !errors.Is(err, want) {
			t.Fatalf("command %s: %v, want %v", command, err, want)
		}
		if out, err := s.Invoke(t.Context(), "echo", []byte("again")); err != nil || string(out) != "again" {
			t.Fatalf("after command %s: %q, %v", command, out, err)
		}
	}
	if _, err := s.Invoke(t.Context(), "echo", make([]byte, 5<<20)); !errors.Is(err, tee.ErrQuota) {
		t.Fatalf("input larger than memory: %v", err)
	}
	if _, err := s.Invoke(t.Context(), "echo", make([]byte, 1<<20)); !errors.Is(err, tee.ErrTrap) {
		t.Fatalf("buffer smaller than the input: %v", err)
	}
}

func TestCancellation(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) { c.Defaults.CallDuration = time.Hour })
	for name, code := range map[string][]byte{"spin": program.Spin(), "sleep": program.Sleep()} {
		s := open(t, r, tee.Application{Name: name, Code: newBlob(code)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := s.Invoke(ctx, "", nil)
			done <- err
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) { c.MaxSessions = 2; c.MaxCached = 1 })
	a := openCode(t, r, program.Echo(), nil)
	openCode(t, r, program.Spin(), nil)
	app := tee.Application{Name: "third", Code: newBlob(program.Echo())}
	if _, err := r.Open(t.Context(), app); !errors.Is(err, tee.ErrQuota) {
		t.Fatalf("third session: %v", err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Invoke(t.Context(), "", nil); err == nil {
		t.Fatal("closed session invoked")
	}
	for i := range 5 {
		s, err := r.Open(t.Context(), tee.Application{Name: "n", Code: newBlob(program.Exit(int32(i), ""))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Invoke(t.Context(), "", nil); (err == nil) != (i == 0) {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Open(t.Context(), tee.Application{Name: "n", Code: newBlob(program.Echo()), Limits: tee.Limits{MemoryBytes: 1 << 40}}); err == nil {
		t.Fatal("absurd memory limit accepted")
	}
	if _, err := r.Open(t.Context(), tee.Application{Name: "n", Code: newBlob(program.Echo()), Limits: tee.Limits{CallDuration: -1}}); err == nil {
		t.Fatal("negative limit accepted")
	}
}

package wasm_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
	"github.com/go-teep/teep/tee/wasm"
)

// build compiles one of the examples for the runtime.
func build(t testing.TB, example string, flags ...string) []byte {
	t.Helper()
	if raceDetector {
		t.Skip("a Go program takes half a minute to compile under the race detector")
	}
	out := filepath.Join(t.TempDir(), "app.wasm")
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, "../../examples/"+example)...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build examples/%s: %v\n%s", example, err, b)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestExampleHello(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) {
		c.Now = func() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }
		c.Defaults.CallDuration = time.Minute // the race detector is slow
	})
	data := &appData{}
	s := open(t, r, tee.Application{Name: "hello", Data: data,
		Code:            newBlob(build(t, "hello", "-ldflags=-s -w -X main.version=1.2.3")),
		Personalization: map[string]tee.Blob{"secret": newBlob([]byte("swordfish"))}})
	for _, tc := range []struct{ command, input, want string }{
		{"greet", "Ada", "Hello, Ada! This is hello 1.2.3, inside the TEE."},
		{"count", "", "1"},
		{"count", "", "2"},
		{"digest", "abc", fmt.Sprintf("%x", sha256.Sum256([]byte("abc")))},
		{"remember", "a note", ""},
		{"recall", "", "a note"},
		{"secret", "", fmt.Sprintf("%x", sha256.Sum256([]byte("swordfish")))},
		{"whoami", "", "hello 1.2.3\ntime 2026-05-04T03:02:01Z\nenvironment variables 0\npersonalization files 1\nstored files 2\n"},
	} {
		out, err := s.Invoke(t.Context(), tc.command, []byte(tc.input))
		if err != nil || string(out) != tc.want {
			t.Fatalf("%s: %q, %v; want %q", tc.command, out, err, tc.want)
		}
	}
	for _, command := range []string{"", "unknown", "greet"} {
		var exit *tee.ExitError
		if _, err := s.Invoke(t.Context(), command, nil); !errors.As(err, &exit) || exit.Code != 1 || exit.Stderr == "" {
			t.Fatalf("%q: %v", command, err)
		}
	}
}

func TestExampleCounter(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) { c.Defaults.CallDuration = time.Minute })
	data := &appData{}
	app := tee.Application{Name: "counter", Code: newBlob(build(t, "counter", "-buildmode=c-shared", "-ldflags=-s -w")), Data: data}
	a, b := open(t, r, app), open(t, r, app)
	// Two sessions of one application: no update may be lost.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			s := a
			if i%2 == 0 {
				s = b
			}
			if _, err := s.Invoke(t.Context(), "add", []byte("n")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if out, err := a.Invoke(t.Context(), "get", []byte("n")); err != nil || string(out) != "20" {
		t.Fatalf("%q, %v", out, err)
	}
	var exit *tee.ExitError
	if _, err := a.Invoke(t.Context(), "nothing", nil); !errors.As(err, &exit) || exit.Stderr == "" {
		t.Fatalf("%v", err)
	}
	if out, err := a.Invoke(t.Context(), "ping", []byte("back")); err != nil || string(out) != "back" {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestExampleInterpreter(t *testing.T) {
	r := newRuntime(t, func(c *wasm.Config) { c.Defaults.CallDuration = time.Minute })
	script, err := os.ReadFile("../../examples/interpreter/visitors.script")
	if err != nil {
		t.Fatal(err)
	}
	code := build(t, "interpreter", "-ldflags=-s -w")
	start := func(script string) tee.Session {
		return open(t, r, tee.Application{Name: "visitors", Data: &appData{}, Code: newBlob(code), Personalization: map[string]tee.Blob{
			"application": newBlob([]byte(script)), "motto": newBlob([]byte("be kind"))}})
	}
	s := start(string(script))
	for i, name := range []string{"Ada", "Grace"} {
		want := fmt.Sprintf("Hello, %s. You are number %d; be kind", name, i+1)
		if out, err := s.Invoke(t.Context(), "greet", []byte(name)); err != nil || string(out) != want {
			t.Fatalf("%q, %v", out, err)
		}
	}
	for script, want := range map[string]string{
		": w 1 2 + 3 * ;":                        "9",
		": w 7 2 / 1 - ;":                        "2",
		`: w "a" "b" swap cat dup len ;`:         "ba\n2",
		`: w 1 2 < if "less" else "not" then ;`:  "less",
		`: w 1 2 > if "more" else "not" then ;`:  "not",
		`: w "" if 1 if 2 then else 3 then ;`:    "3",
		`: w "x" "y" over drop drop ; # comment`: "x",
		": w x x ; : x 1 ;":                      "1\n1",
		`: w "none" load len "none" data len ;`:  "0\n0",
		`: w "kept" "k" store "k" load ;`:        "kept",
	} {
		if out, err := start(script).Invoke(t.Context(), "w", nil); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
	for _, script := range []string{"", "w", ": w", ": w 1", ": v ;", ": w + ;", ": w 1 0 / ;", `: w "a" 1 + ;`, ": w w ;", `: w "x`,
		`: w "" if 2 ;`, ": w no ;", `: w "sorry" fail ;`, ": w x x ; : x y y ; : y z z ; : z 1 1 1 1 1 1 1 1 x ;"} {
		var exit *tee.ExitError
		if out, err := start(script).Invoke(t.Context(), "w", nil); !errors.As(err, &exit) || exit.Stderr == "" {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
}

func BenchmarkInvoke(b *testing.B) {
	r := newRuntime(b, nil)
	for _, bc := range []struct {
		name, command string
		code          []byte
	}{
		{"CommandSmall", "", program.Echo()},
		{"CommandGo", "greet", build(b, "hello", "-ldflags=-s -w")},
		{"ReactorSmall", "echo", program.Reactor()},
		{"ReactorGo", "ping", build(b, "counter", "-buildmode=c-shared", "-ldflags=-s -w")},
		{"ReactorGoStorage", "add", build(b, "counter", "-buildmode=c-shared", "-ldflags=-s -w")},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := open(b, r, tee.Application{Name: bc.name, Code: newBlob(bc.code), Data: &appData{}})
			for b.Loop() {
				if _, err := s.Invoke(context.Background(), bc.command, []byte("Ada")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenGo(b *testing.B) {
	code := build(b, "hello", "-ldflags=-s -w")
	for b.Loop() {
		r := newRuntime(b, nil)
		if err := r.Check(context.Background(), newBlob(code)); err != nil {
			b.Fatal(err)
		}
	}
}

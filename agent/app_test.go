package agent_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/link"
)

const personalized = `
manifest-component-id: [hello, config]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [shared, config.json], content: {text: "for this device"}}]
dependencies: [{id: [hello, manifest], file: hello.suit, uri: "https://dev.example/hello.suit"}]
`

func TestPersonalizationData(t *testing.T) {
	w := newWorld(t)
	w.start()
	hello := w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - {id: [hello], payload: {file: it, integrated: true}}
  - {id: [hello, etc, key], content: {text: "under its prefix"}}
`, map[string]string{"it": "app"})
	w.mustInstall(w.one, hello)
	w.mustInstall(w.one, w.manifest(w.dev, personalized, map[string]string{"hello.suit": string(hello)}))
	w.mustInstall(w.one, w.simple("two", 1, "app without", "integrated: true"))
	for name, want := range map[string]string{"etc/key": "under its prefix", "shared/config.json": "for this device"} {
		if got, err := w.run("read "+name, nil, "hello"); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := w.run("read shared/config.json", nil, "two"); err == nil {
		t.Error("another application reads it")
	}
	if _, err := w.run("code", nil, "shared", "config.json"); !errors.Is(err, agent.ErrNotRunnable) {
		t.Errorf("data was run: %v", err)
	}
}

func TestOpenSessionRefused(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Applications = 2
	w.start()
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
	if _, err := w.agent.OpenSession(t.Context(), nil); !errors.Is(err, agent.ErrLimit) {
		t.Error(err)
	}
	w.mustInstall(w.one, w.hello(1, "no program"), w.simple("two", 1, "app", "integrated: true"))
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotRunnable) {
		t.Errorf("no program: %v", err)
	}
	var open []uint64
	for range 2 {
		app, err := w.agent.OpenSession(t.Context(), id("two"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, app)
	}
	if _, err := w.agent.OpenSession(t.Context(), id("two")); !errors.Is(err, agent.ErrLimit) {
		t.Errorf("third: %v", err)
	}
	if err := w.agent.CloseSession(t.Context(), open[0]); err != nil {
		t.Error(err)
	}
	if err := w.agent.CloseSession(t.Context(), open[0]); !errors.Is(err, agent.ErrSession) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := w.agent.Invoke(t.Context(), open[0], "code", nil); !errors.Is(err, agent.ErrSession) {
		t.Errorf("closed: %v", err)
	}
	var exit *link.ExitError // in the link's terms, so that it crosses
	if _, err := w.agent.Invoke(t.Context(), open[1], "nonsense", nil); !errors.As(err, &exit) {
		t.Errorf("the application's refusal: %v", err)
	}
}

func TestSealedContentThatChangedIsNotRun(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app "+string(bytes.Repeat([]byte("x"), 1000))))
	for _, name := range w.device.disk.Files() {
		data := w.device.disk.Read(name)
		if len(data) < 1000 || len(data) > 1500 {
			continue
		}
		if err := w.device.disk.Remove(name); err != nil {
			t.Fatal(err)
		}
		f, err := w.device.disk.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := w.run("code", nil, "hello"); err == nil {
		t.Fatalf("ran %q", out)
	}
}

// TestReplacedAndRemovedApplicationsAreClosed: also in the middle of a call.
func TestReplacedAndRemovedApplicationsAreClosed(t *testing.T) {
	for name, u := range map[string]func(w *world) *teep.Update{
		"updated": func(w *world) *teep.Update { return install(t, w.hello(2, "app two")) },
		"removed": func(w *world) *teep.Update { return unlink(t, id("hello", "manifest")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.device.runtime.waiting = make(chan struct{})
			w.start()
			w.mustInstall(w.one, w.hello(1, "app one"))
			app, err := w.agent.OpenSession(t.Context(), id("hello"))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := w.agent.Invoke(t.Context(), app, "wait", nil); err == nil {
					t.Error("the call ended well")
				}
			})
			<-w.device.runtime.waiting
			if s, ok := w.exchange(w.one, u(w)).(*teep.Success); !ok {
				t.Fatalf("got %#v", s)
			}
			wg.Wait()
			if _, err := w.agent.Invoke(t.Context(), app, "code", nil); !errors.Is(err, agent.ErrSession) {
				t.Errorf("still open: %v", err)
			}
		})
	}
}

func TestApplicationsRunWhileAnUpdateWaits(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app one"))
	fetch, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(2, "app two"))))
	if err != nil || fetch.Fetch == nil {
		t.Fatalf("%+v, %v", fetch, err)
	}
	w.wantRun("app one")
	if _, err := w.serve(fetch); err != nil {
		t.Fatal(err)
	}
	w.wantRun("app two")
}

package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
)

func TestOtherTAMsComponent(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app of one"))
	t.Run("update", func(t *testing.T) {
		e, ok := w.exchange(w.two, install(t, w.hello(2, "app of two"))).(*teep.Error)
		if !ok || !strings.Contains(e.Message, "another TAM") {
			t.Fatalf("got %#v", e)
		}
	})
	t.Run("unlink", func(t *testing.T) {
		e, ok := w.exchange(w.two, unlink(t, id("hello", "manifest"))).(*teep.Error)
		if !ok || !strings.Contains(e.Message, "another TAM") {
			t.Fatalf("got %#v", e)
		}
	})
	t.Run("component under another manifest", func(t *testing.T) {
		m := w.manifest(w.dev, `
manifest-component-id: [two, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [hello], payload: {file: it, integrated: true}}]
`, map[string]string{"it": "app of two"})
		e, ok := w.exchange(w.two, install(t, m)).(*teep.Error)
		if !ok || !strings.Contains(e.Message, "another TAM") {
			t.Fatalf("got %#v", e)
		}
	})
	t.Run("copy", func(t *testing.T) {
		m := w.manifest(w.dev, `
manifest-component-id: [two, manifest]
sequence-number: 2
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - id: [hello]
    image: {file: it}
  - id: [two]
    copy-from: [hello]
    image: {file: it}
`, map[string]string{"it": "app of one"})
		if e, ok := w.exchange(w.two, install(t, m)).(*teep.Error); !ok || !strings.Contains(e.Message, "another TAM") {
			t.Fatalf("got %#v", e)
		}
	})
	t.Run("knowing the digest is not having the content", func(t *testing.T) {
		m := w.simple("two", 3, "app of one", "uri: https://dev.example/stolen")
		w.payloads["https://dev.example/stolen"] = []byte("app of xxx")
		if e, ok := w.exchange(w.two, install(t, m)).(*teep.Error); !ok {
			t.Fatalf("got %#v", e)
		}
		if len(w.fetched) == 0 {
			t.Error("content of another TAM was adopted")
		}
	})
	if list := w.inventory(w.two); len(list) != 0 {
		t.Errorf("two sees %x", list)
	}
	if list := w.inventory(w.one); len(list) != 1 {
		t.Errorf("one sees %x", list)
	}
	w.wantRun("app of one")
}

func TestTAMLimitedToItsComponents(t *testing.T) {
	w := newWorld(t)
	w.one.components = "'shared'"
	w.start()
	e, ok := w.exchange(w.one, install(t, w.hello(1, "app"))).(*teep.Error)
	if !ok || !strings.Contains(e.Message, "trust anchor") {
		t.Fatalf("got %#v", e)
	}
	w.mustInstall(w.two, w.hello(1, "app"))
}

func TestOneUpdateAtATime(t *testing.T) {
	w := newWorld(t)
	w.start()
	session := w.connect(w.one).Session
	other := w.connect(w.two).Session
	raw := w.protect(w.one, install(t, w.fetchedHello(1, "app")))
	fetch, err := w.agent.ProcessTeepMessage(t.Context(), session, raw)
	if err != nil || fetch.Fetch == nil {
		t.Fatalf("got %+v, %v", fetch, err)
	}
	ask, err := w.agent.ProcessTeepMessage(t.Context(), other, w.protect(w.two, install(t, w.simple("two", 1, "app", "integrated: true"))))
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := w.decode(ask).(*teep.Error); !ok || e.Code != teep.ErrTemporaryError {
		t.Fatalf("got %#v", e)
	}
	// The same Update again joins the work.
	if again, err := w.agent.ProcessTeepMessage(t.Context(), session, raw); err != nil || again.Fetch == nil || *again.Fetch != *fetch.Fetch {
		t.Fatalf("got %+v, %v", again, err)
	}
	// Once the broker has been silent for long, another one may have the place.
	w.device.now = w.device.now.Add(2 * time.Hour)
	ask, err = w.agent.ProcessTeepMessage(t.Context(), 0, w.protect(w.two, install(t, w.simple("two", 1, "app", "integrated: true"))))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := w.decode(ask).(*teep.Success); !ok {
		t.Fatalf("got %#v", s)
	}
	if _, err := w.agent.Deliver(t.Context(), w.chunk(fetch)); !errors.Is(err, agent.ErrFetch) && !errors.Is(err, agent.ErrSession) {
		t.Errorf("a chunk of the old one: %v", err)
	}
}

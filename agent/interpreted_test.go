package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/suit/processor"
)

// runtimeManifest is an interpreter, which starts what its dependents leave to it.
func (w *world) runtimeManifest(version int) []byte {
	w.t.Helper()
	m := w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [shared, manifest]
sequence-number: %d
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [shared], payload: {file: it, uri: "https://dev.example/runtime-%[1]d"}, invoke: true}]
`, version), map[string]string{"it": fmt.Sprint("app runtime ", version)})
	w.payloads[fmt.Sprintf("https://dev.example/runtime-%d.suit", version)] = m
	return m
}

// script is an application that the runtime of a version loads. Its manifest begins nothing itself.
func (w *world) script(name string, version, runtime int) []byte {
	w.t.Helper()
	return w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [%[1]s, manifest]
sequence-number: %[2]d
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [%[1]s], payload: {file: it, integrated: true}}]
dependencies: [{id: [shared, manifest], file: runtime.suit, uri: "https://dev.example/runtime-%[3]d.suit"}]
`, name, version, runtime), map[string]string{"it": fmt.Sprintf("script %s %d", name, version), "runtime.suit": string(w.runtimeManifest(runtime))})
}

// wantScript opens an application and finds which program interprets what.
func (w *world) wantScript(name, program, script string) {
	w.t.Helper()
	code, err := w.run("code", nil, name)
	if err != nil || code != program {
		w.t.Errorf("%s is interpreted by %q, %v; want %q", name, code, err, program)
	}
	if got, err := w.run("read application", nil, name); err != nil || got != script {
		w.t.Errorf("%s: %q, %v; want %q", name, got, err, script)
	}
}

func TestRuntimeAndApplication(t *testing.T) {
	w := newWorld(t)
	w.start()
	// Installing the application brings its runtime.
	w.mustInstall(w.one, w.script("hello", 1, 1))
	w.wantScript("hello", "app runtime 1", "script hello 1")
	w.mustInstall(w.one, w.script("two", 1, 1))
	w.wantScript("two", "app runtime 1", "script two 1")

	// Two applications of one runtime share nothing else.
	if _, err := w.run("put v", []byte("of hello"), "hello"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.run("get", nil, "two"); err != nil || got != "" {
		t.Errorf("another application reads %q, %v", got, err)
	}

	// Neither may be left without the runtime that it was made for.
	refused := func(what string, m teep.Message) {
		t.Helper()
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrManifestProcessingFailed {
			t.Fatalf("%s: %#v", what, m)
		}
		w.wantScript("hello", "app runtime 1", "script hello 1")
		w.wantScript("two", "app runtime 1", "script two 1")
	}
	refused("removing the runtime", w.exchange(w.one, unlink(t, id("shared", "manifest"))))
	refused("updating the runtime alone", w.exchange(w.one, install(t, w.runtimeManifest(2))))
	refused("updating it with one of two", w.exchange(w.one, install(t, w.runtimeManifest(2), w.script("hello", 2, 2))))

	// Together they go, in one step.
	w.mustInstall(w.one, w.script("two", 2, 2), w.runtimeManifest(2), w.script("hello", 2, 2))
	w.wantScript("hello", "app runtime 2", "script hello 2")
	w.wantScript("two", "app runtime 2", "script two 2")
	if got, err := w.run("get", nil, "hello"); err != nil || got != "of hello" {
		t.Errorf("after the update: %q, %v", got, err)
	}

	// What goes together is undone together, and each manifest has a report that says so.
	third := install(t, w.runtimeManifest(3), w.script("two", 3, 3), w.script("hello", 3, 3))
	delete(w.payloads, "https://dev.example/runtime-3")
	e, ok := w.exchange(w.one, third).(*teep.Error)
	if !ok {
		t.Fatal("installed without the payload of the runtime")
	}
	undone := 0
	for _, r := range w.reports(w.one, e.SUITReports) {
		if r.Failure == nil {
			t.Error("a success report after a failure")
		} else if r.Failure.Code == processor.CodeRolledBack {
			undone++
		}
	}
	if len(e.SUITReports) != 3 || undone != 2 {
		t.Errorf("%d reports, %d of them say that they were undone", len(e.SUITReports), undone)
	}
	w.wantScript("hello", "app runtime 2", "script hello 2")
	w.wantScript("two", "app runtime 2", "script two 2")
}

// An open session ends when the program that interprets it is replaced, also where its own content
// stays the same.
func TestSessionEndsWithItsRuntime(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.script("hello", 1, 1))
	session, err := w.agent.OpenSession(t.Context(), id("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.agent.Invoke(t.Context(), session, "code", nil); err != nil {
		t.Fatal(err)
	}
	w.mustInstall(w.one, w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 2
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [hello], payload: {file: it, integrated: true}}]
dependencies: [{id: [shared, manifest], file: runtime.suit, uri: "https://dev.example/runtime-2.suit"}]
`, map[string]string{"it": "script hello 1", "runtime.suit": string(w.runtimeManifest(2))}))
	if _, err := w.agent.Invoke(t.Context(), session, "code", nil); !errors.Is(err, agent.ErrSession) {
		t.Fatalf("the session of the old runtime: %v", err)
	}
	w.wantScript("hello", "app runtime 2", "script hello 1")
}

// TestRuntimeLeavesWithItsLastApplication: it was never asked for by itself.
func TestRuntimeLeavesWithItsLastApplication(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.script("hello", 1, 1))
	w.mustInstall(w.one, w.script("two", 1, 1))
	for i, name := range []string{"hello", "two"} {
		if _, ok := w.exchange(w.one, unlink(t, id(name, "manifest"))).(*teep.Success); !ok {
			t.Fatalf("%s does not leave", name)
		}
		if got := len(w.inventory(w.one)); got != 2-2*i {
			t.Errorf("after %s left: %d components", name, got)
		}
	}
}

// TestApplicationThatStartsAnother: nothing but what its manifest depends on may stand in for it.
func TestApplicationThatStartsAnother(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.simple("two", 1, "app two", "integrated: true"))
	for i, invoke := range []string{
		"- set-component-index: 1\n    - invoke", // another component of the same manifest
		"- set-component-index: 0\n    - override-parameters: {uri: x}",
	} {
		w.mustInstall(w.one, w.manifest(w.dev, strings.ReplaceAll(`
manifest-component-id: [hello, manifest]
sequence-number: SEQUENCE
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - {id: [hello], payload: {file: it, integrated: true}}
  - {id: [hello, other], payload: {file: other, integrated: true}}
sequences:
  invoke:
    `+invoke+"\n", "SEQUENCE", fmt.Sprint(i+1)), map[string]string{"it": "app one", "other": "app other"}))
		if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotRunnable) {
			t.Errorf("%s: %v", invoke, err)
		}
	}
}

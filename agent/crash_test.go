package agent_test

import (
	"fmt"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// attempt is what a scenario saw before the machine went down.
type attempt struct {
	answered bool
}

// crashScenario is one Update, on a device that has something installed already.
type crashScenario struct {
	update func(w *world) *teep.Update
	// before and after are the states that may be found; nothing else may.
	before, after string
}

var crashScenarios = map[string]crashScenario{
	"update with a fetch": {
		update: func(w *world) *teep.Update { return install(w.t, w.fetchedHello(2, "app two")) },
		before: "app one/-", after: "app two/-",
	},
	"application and library": {
		update: func(w *world) *teep.Update {
			return install(w.t, w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 2
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - {id: [hello], payload: {file: it, uri: "https://dev.example/hello-2"}}
  - {id: [hello, lib], payload: {file: lib, uri: "https://dev.example/lib"}}
`, map[string]string{"it": "app two", "lib": "library"}))
		},
		before: "app one/-", after: "app two/library",
	},
	"removal": {
		update: func(w *world) *teep.Update { return unlink(w.t, id("hello", "manifest")) },
		before: "app one/-", after: "-/-",
	},
}

// state runs what is installed: the application's code and its library.
func (w *world) state() string {
	code, err := w.run("code", nil, "hello")
	if err != nil {
		code = "-"
	}
	lib, err := w.run("read lib", nil, "hello")
	if err != nil {
		lib = "-"
	}
	return code + "/" + lib
}

// try sends the Update and serves it until the machine goes down or the answer is there.
func (w *world) try(raw []byte) (a attempt) {
	ask, err := w.agent.RequestPolicyCheck(w.t.Context())
	if err != nil || ask.TAMURI == "" {
		return a
	}
	ask, err = w.agent.ProcessTeepMessage(w.t.Context(), ask.Session, raw)
	if err == nil {
		ask, err = w.serve(ask)
	}
	if err == nil && ask.Message != nil {
		_, a.answered = w.decode(ask).(*teep.Success)
	}
	return a
}

func TestCrashAtEveryStepOfAnUpdate(t *testing.T) {
	for name, s := range crashScenarios {
		for _, survival := range []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced, crashfs.KeepSome} {
			// What the disk loses at worst is tried at every step; the kinder disks at every fifth.
			stride := 5
			if survival == crashfs.LoseUnsynced {
				stride = 1
			}
			t.Run(fmt.Sprintf("%s/%v", name, survival), func(t *testing.T) {
				t.Parallel()
				s.sweep(t, survival, stride)
			})
		}
	}
}

func (s crashScenario) sweep(t *testing.T, survival crashfs.Survival, stride int) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app one"))
	w.inventory(w.one) // the answer arrived
	raw := w.protect(w.one, s.update(w))
	w.device.now = w.device.now.AddDate(0, 1, 0)
	w.agent.Close()
	w.agent = nil
	before := w.device.disk
	steps := 0
	for step := 1; ; step += stride {
		w.device.disk = before.Clone()
		w.device.boot(t)
		w.restart()
		w.fetched = nil
		w.device.disk.CrashAt(step)
		done := w.try(raw)
		if !w.device.disk.Crashed() {
			if !done.answered {
				t.Fatal("the scenario without a crash does not succeed")
			}
			break
		}
		steps = step
		w.crash(survival)
		s.check(w, step, raw)
	}
	if steps < 20 {
		t.Errorf("only %d steps: the scenario does not do what it should", steps)
	}
}

// check finds one of the two generations whole, completes the work, and finds the later one.
func (s crashScenario) check(w *world, step int, raw []byte) {
	t := w.t
	t.Helper()
	w.restart()
	if got := w.state(); got != s.before && got != s.after {
		t.Fatalf("step %d: found %q", step, got)
	}
	// The broker goes on as it always does. If the Update was not written down before the
	// crash, it is lost, and its TAM sends it again.
	answered := false
	for range 4 {
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err == nil {
			ask, err = w.serve(ask)
		}
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if ask.Message != nil {
			if m, ok := w.decode(ask).(*teep.Success); !ok {
				t.Fatalf("step %d: resumed and then %#v", step, m)
			}
			answered = true
		}
	}
	if !answered {
		ask, err := w.agent.ProcessTeepMessage(t.Context(), 0, raw)
		if err == nil {
			ask, err = w.serve(ask)
		}
		if err != nil {
			t.Fatalf("step %d: sent again: %v", step, err)
		}
		if m, ok := w.decode(ask).(*teep.Success); !ok {
			t.Fatalf("step %d: sent again and then %#v", step, m)
		}
	}
	if got := w.state(); got != s.after {
		t.Fatalf("step %d: completed to %q", step, got)
	}
}

// restart starts the agent with what is sealed.
func (w *world) restart() {
	w.t.Helper()
	if _, err := w.tryStart(nil); err != nil {
		w.t.Fatal(err)
	}
}

// TestKilledAgentDoesNotFetchAgain: the first of two payloads was complete before the kill.
func TestKilledAgentDoesNotFetchAgain(t *testing.T) {
	w := newWorld(t)
	w.start()
	s := crashScenarios["application and library"]
	ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, s.update(w)))
	if err != nil {
		t.Fatal(err)
	}
	if ask, err = w.agent.Deliver(t.Context(), w.chunk(ask)); err != nil || ask.Fetch == nil {
		t.Fatalf("%+v, %v", ask, err)
	}
	first, second := w.fetched[0], ask.Fetch.URI
	w.crash(crashfs.LoseUnsynced)
	w.start()
	w.fetched = nil
	if ask, err = w.agent.RequestPolicyCheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ask, err = w.serve(ask); err != nil {
		t.Fatal(err)
	}
	if m, ok := w.decode(ask).(*teep.Success); !ok {
		t.Fatalf("got %#v", m)
	}
	if len(w.fetched) != 1 || w.fetched[0] != second+"@0" {
		t.Errorf("after %s was complete, fetched %v", first, w.fetched)
	}
	if got := w.state(); got != s.after {
		t.Errorf("state %q", got)
	}
}

func TestUpdateThatKillsTheAgentIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Attempts = 3
	w.start()
	if _, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, "app")))); err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for range 6 {
		w.crash(crashfs.KeepUnsynced)
		w.start()
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ask.Fetch != nil {
			resumed++
		}
	}
	if resumed != 3 {
		t.Errorf("resumed %d times", resumed)
	}
}

func TestPendingUpdateOfATAMThatIsNotTrustedAnyLonger(t *testing.T) {
	w := newWorld(t)
	w.start()
	if _, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, "app")))); err != nil {
		t.Fatal(err)
	}
	w.one = newTAM(t, "one")
	w.version++
	if _, err := w.tryStart(w.signedTrust(w.admin)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil || ask.Fetch != nil {
			t.Fatalf("%+v, %v", ask, err)
		}
	}
}

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
			// What the disk loses at worst is tried at every step; the kinder disks at every tenth.
			stride := 10
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
	w, raw := s.ready(t)
	before := w.device.disk
	old, after, files := s.reference(w, before, raw)
	if old == after {
		t.Fatalf("the scenario changes nothing: %s", old)
	}
	steps, olds, news := 0, 0, 0
	for step := 1; ; step += stride {
		w.boot(before.Clone())
		w.device.disk.CrashAt(step)
		w.try(raw)
		if !w.device.disk.Crashed() {
			break
		}
		steps = step
		w.crash(survival)
		w.restart()
		switch got := w.state(); got {
		case old:
			olds++
		case after:
			news++
		case s.between:
		default:
			t.Fatalf("step %d: found %s, neither %s nor %s", step, got, old, after)
		}
		w.complete(step, raw)
		if got := w.state(); got != after {
			t.Fatalf("step %d: completed to %s", step, got)
		}
		w.restart()
		if got := len(w.device.disk.Files()); got != files {
			t.Fatalf("step %d: %d files after all, without a crash %d", step, got, files)
		}
	}
	if steps < 20 || olds == 0 || news == 0 {
		t.Errorf("%d steps, found the old generation %d times and the new one %d times", steps, olds, news)
	}
}

// ready is a device before the scenario, and the Update as its TAM protected it.
func (s crashScenario) ready(t *testing.T) (w *world, raw []byte) {
	w = newWorld(t)
	w.start()
	if s.before != nil {
		w.mustInstall(w.one, s.before(w)...)
	}
	w.inventory(w.one) // the answer arrived
	raw = w.protect(w.one, s.update(w))
	w.device.now = w.device.now.AddDate(0, 1, 0)
	return w, raw
}

// reference goes through the scenario without a crash. It returns what is there before and
// afterwards, and how many files the store has in the end.
func (s crashScenario) reference(w *world, before *crashfs.Disk, raw []byte) (old, after string, files int) {
	w.t.Helper()
	w.boot(before.Clone())
	old = w.state()
	if !w.try(raw).answered {
		w.t.Fatal("the scenario without a crash does not succeed")
	}
	after = w.state()
	w.restart()
	return old, after, len(w.device.disk.Files())
}

// boot starts the machine with a disk, and the agent on it.
func (w *world) boot(disk *crashfs.Disk) {
	w.t.Helper()
	if w.agent != nil {
		w.agent.Close()
		w.agent = nil
	}
	w.device.disk = disk
	w.device.boot(w.t)
	w.restart()
	w.fetched = nil
}

// drain goes on as a broker does after a restart, and returns what the agent answers.
func (w *world) drain(step int) (answers []teep.Message) {
	w.t.Helper()
	for range 4 {
		ask, err := w.agent.RequestPolicyCheck(w.t.Context())
		if err == nil {
			ask, err = w.serve(ask)
		}
		if err != nil {
			w.t.Fatalf("step %d: %v", step, err)
		}
		if ask.Message != nil {
			answers = append(answers, w.decode(ask))
		}
	}
	return answers
}

// complete goes on until the Update's answer is there.
func (w *world) complete(step int, raw []byte) {
	t := w.t
	t.Helper()
	answered := false
	for _, m := range w.drain(step) {
		if _, answered = m.(*teep.Success); !answered {
			t.Fatalf("step %d: resumed and then %#v", step, m)
		}
	}
	if answered {
		return
	}
	// The Update was not written down before the crash, so it is lost, and its TAM sends it again.
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
	w.mustInstall(w.one, s.before(w)...)
	ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, s.update(w)))
	if err != nil {
		t.Fatal(err)
	}
	if ask, err = w.agent.Deliver(t.Context(), w.chunk(ask)); err != nil || ask.Fetch == nil {
		t.Fatalf("%+v, %v", ask, err)
	}
	first, second := w.fetched[len(w.fetched)-1], ask.Fetch.URI
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
	if got := w.state(); got != "hello=app two lib=library" {
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

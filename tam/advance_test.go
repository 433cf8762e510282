package tam_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
	"github.com/go-teep/teep/tam/sqlite"
)

// rollOut creates a rollout of version 2 of app to everybody.
func (w *world) rollOut(name string, change ...func(*policy.Rollout)) {
	w.t.Helper()
	r := policy.Rollout{Name: name, Manifest: manifestID("app").String(), Sequence: 2, Stages: []policy.Stage{{Percent: 100}}}
	for _, f := range change {
		f(&r)
	}
	_, err := w.tam.CreateRollout(ctx(), r, policy.Person{ID: "1", Name: "Ann"})
	must(w.t, err)
}

func (w *world) rolloutNow(name string) *tam.RolloutStatus {
	w.t.Helper()
	s, err := w.tam.Rollout(ctx(), name)
	must(w.t, err)
	return s
}

// TestRolloutOfWhatIsNotOffered: a rollout whose version will not come to any device any more stops, and says why, also
// while it is paused.
func TestRolloutOfWhatIsNotOffered(t *testing.T) {
	for name, test := range map[string]struct {
		end func(w *world, v *tam.Version)
		why string
	}{
		"withdrawn": {func(w *world, v *tam.Version) {
			must(t, w.store.WithdrawVersion(ctx(), v.Manifest, v.Sequence, "leaks", w.clock.read()))
		}, "the version was withdrawn: leaks"},
		"key withdrawn": {func(w *world, v *tam.Version) {
			must(t, w.tam.WithdrawPublisherKey(ctx(), "acme", v.Signer, "stolen", false))
		}, "the key that signed the version was withdrawn: stolen"},
		"publisher revoked": {func(w *world, _ *tam.Version) { must(t, w.store.RevokePublisher(ctx(), "acme", w.clock.read())) }, "publisher acme was revoked"},
		"nothing":           {func(*world, *tam.Version) {}, ""},
	} {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, paused %v", name, paused), func(t *testing.T) {
				w := newWorld(t)
				w.publish(release{name: "app", sequence: 1, payload: "one"})
				w.rollOut("two", func(r *policy.Rollout) { r.Stages = []policy.Stage{{Percent: 100, Soak: policy.Duration(time.Hour)}} })
				must(t, w.tam.AdvanceRollouts(ctx()))
				two := w.publish(release{name: "app", sequence: 2, payload: "two"})
				if paused {
					_, err := w.tam.ActOnRollout(ctx(), "two", policy.ActionPause, policy.Person{Name: "Ann"}, "", tam.ExpectAny)
					must(t, err)
				}
				test.end(w, two)
				must(t, w.tam.AdvanceRollouts(ctx()))
				s := w.rolloutNow("two")
				if (s.State == policy.StateStopped) != (test.why != "") || s.Reason != test.why {
					t.Errorf("it is %s: %q, want %q", s.State, s.Reason, test.why)
				}
			})
		}
	}
}

// TestCountingAfterTheClockWasSetBack: somebody began to count at a time that is yet to come, and never ended.
func TestCountingAfterTheClockWasSetBack(t *testing.T) {
	w := newWorld(t)
	w.rollOut("two", func(r *policy.Rollout) { r.Stages[0].Soak = policy.Duration(time.Hour) })
	must(t, w.tam.AdvanceRollouts(ctx())) // begins
	record, err := w.store.PolicyRecord(ctx(), tam.KindRollout, "two")
	must(t, err)
	claim := func(at time.Time) {
		data := strings.Replace(string(record.Data), `"state":`, fmt.Sprintf(`"counting":%q,"state":`, at.Format(time.RFC3339)), 1)
		current, err := w.store.PolicyRecord(ctx(), tam.KindRollout, "two")
		must(t, err)
		must(t, w.store.ChangePolicy(ctx(), tam.PolicyChange{Kind: tam.KindRollout, Name: "two", Revision: current.Revision, Data: []byte(data)}))
	}
	for at, counted := range map[time.Duration]bool{20 * time.Second: false, -20 * time.Second: false, -time.Minute: true, 24 * time.Hour: true} {
		claim(w.clock.read().Add(at))
		must(t, w.tam.AdvanceRollouts(ctx()))
		if got := len(w.rolloutNow("two").Totals) == 1; got != counted {
			t.Errorf("somebody counts since %v from now: counted anew %v", at, got)
		}
	}
}

// manyDevices is a store that lists devices which are not there.
type manyDevices struct {
	*sqlite.Store
	pages int
	each  func(page int)
	err   func() error
}

func (s *manyDevices) ListDevices(_ context.Context, after string, limit int) ([]tam.Device, error) {
	page := 0
	if after != "" {
		fmt.Sscanf(after, "%d-", &page)
		page++
	}
	s.each(page)
	if s.err != nil && s.err() != nil {
		return nil, s.err()
	}
	if page >= s.pages {
		limit = limit / 2
	}
	list := make([]tam.Device, limit)
	for i := range list {
		list[i].ID = fmt.Sprintf("%06d-%06d", page, i)
	}
	return list, nil
}

// TestRolloutsAreLookedAfterWhileOneIsCounted: counting a large fleet does not keep others from being stopped or begun.
func TestRolloutsAreLookedAfterWhileOneIsCounted(t *testing.T) {
	w := newWorld(t)
	many := &manyDevices{Store: w.store, pages: 22}
	c := w.config
	c.Store, c.Blobs = many, noBlobs{}
	counting, err := tam.New(ctx(), c)
	must(t, err)
	w.rollOut("counted")
	w.rollOut("later", func(r *policy.Rollout) { r.Sequence, r.Start = 3, w.clock.read().Add(time.Minute) })
	must(t, counting.AdvanceRollouts(ctx())) // begins
	states := make(map[int]policy.State)
	many.each = func(page int) {
		if page == 1 {
			w.clock.advance(2 * time.Minute)
		}
		states[page] = w.rolloutNow("later").State
	}
	must(t, counting.AdvanceRollouts(ctx()))
	if states[1] != policy.StateScheduled || states[22] != policy.StateRunning {
		t.Errorf("in the beginning it is %s, in the end %s", states[1], states[22])
	}
	if s := w.rolloutNow("counted"); len(s.Totals) != 1 {
		t.Error("it was not counted")
	}
}

// TestCountingByOneReplica: as long as one replica says that it counts a rollout's devices, no other does, and when it
// died, another one does within a minute.
func TestCountingByOneReplica(t *testing.T) {
	w := newWorld(t)
	many := &manyDevices{Store: w.store, pages: 20, each: func(int) { w.clock.advance(5 * time.Second) }}
	c := w.config
	c.Store, c.Blobs = many, noBlobs{}
	slow, err := tam.New(ctx(), c)
	must(t, err)
	w.rollOut("counted")
	must(t, slow.AdvanceRollouts(ctx())) // begins
	many.each = func(page int) {
		w.clock.advance(5 * time.Second)
		must(t, w.tam.AdvanceRollouts(ctx())) // of another replica, which sees no device
		if s := w.rolloutNow("counted"); len(s.Totals) > 0 {
			t.Errorf("counted twice, at page %d", page)
		}
	}
	must(t, slow.AdvanceRollouts(ctx()))
	if s := w.rolloutNow("counted"); len(s.Totals) != 1 || s.Totals[0] != 0 {
		t.Errorf("it was not counted: %v", s.Totals)
	}

	w.rollOut("dies", func(r *policy.Rollout) { r.Sequence = 3 })
	must(t, slow.AdvanceRollouts(ctx())) // begins
	dying, die := context.WithCancel(ctx())
	many.each = func(page int) {
		if page == 10 {
			die()
		}
	}
	many.err = dying.Err
	if err := slow.AdvanceRollouts(dying); err == nil {
		t.Error("it counted although it died")
	}
	w.clock.advance(time.Minute)
	must(t, w.tam.AdvanceRollouts(ctx()))
	if s := w.rolloutNow("dies"); len(s.Totals) != 1 {
		t.Error("nobody counted after who did died")
	}
}

// TestRolloutsWaitForNobodyInVain: devices that must not have the manifest, or are held at another version, are not among
// those that a stage waits for.
func TestRolloutsWaitForNobodyInVain(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	for i, ring := range []string{"", "held", "forbidden", "removed"} {
		a := w.agent(cose.AlgESP256)
		a.ueid = []byte(fmt.Sprintf("\x01device-%010d", i))
		a.requests(componentID("app"))
		a.succeed(a.update())
		a.set(func(d *tam.Device) { d.SetLabels(map[string]string{"ring": ring}) })
	}
	for name, component := range map[string]policy.Component{"held": {Mode: tam.ModeAvailable, Sequence: 1}, "forbidden": {Mode: tam.ModeForbidden}} {
		component.Manifest = manifestID("app").String()
		_, err := w.tam.SetGroup(ctx(), policy.Group{Name: name, Match: fmt.Sprintf(`labels[?"ring"].orValue("") == %q`, name),
			Components: []policy.Component{component}}, tam.ExpectAny)
		must(t, err)
	}
	_, err := w.tam.SetRemoval(ctx(), policy.Removal{Name: "x", Manifest: manifestID("app").String(), Sequence: 2, Match: `labels[?"ring"].orValue("") == "removed"`,
		Reason: "test"}, policy.Person{Name: "Ann"}, tam.ExpectNew)
	must(t, err)
	w.rollOut("two")
	must(t, w.tam.AdvanceRollouts(ctx())) // begins
	must(t, w.tam.AdvanceRollouts(ctx())) // counts
	if s := w.rolloutNow("two"); len(s.Totals) != 1 || s.Totals[0] != 1 {
		t.Errorf("it waits for %v devices, want 1", s.Totals)
	}
}

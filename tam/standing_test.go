package tam

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/policy"
)

// governed builds a catalogue with policy records beside the shelf's versions.
func governed(t *testing.T, o offer, versions ...string) *catalogue {
	t.Helper()
	for _, s := range versions {
		for _, m := range shelf(nil, s).order {
			o.versions = append(o.versions, m.versions...)
		}
	}
	if o.publishers == nil {
		o.publishers = []Publisher{{Name: "acme"}}
	}
	compiler, err := policy.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	c, err := o.build(compiler, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func staged(state policy.State, stage int, change ...func(*policy.Rollout)) policy.Rollout {
	r := policy.Rollout{Name: "r", Manifest: "'app'", Sequence: 2, State: state, Stage: stage,
		Stages: []policy.Stage{{Group: "lab"}, {Percent: 100}}}
	for _, f := range change {
		f(&r)
	}
	return r
}

func TestDecideWithPolicy(t *testing.T) {
	lab := policy.Group{Name: "lab", Match: "labels.site == 'lab'", Priority: 1}
	with := func(g policy.Group, c ...policy.Component) policy.Group { g.Components = c; return g }
	app := func(mode Mode, sequence uint64) policy.Component {
		return policy.Component{Manifest: "'app'", Mode: mode, Sequence: sequence}
	}
	domain := policy.Domain{Name: "d", Owner: "acme", Manifests: []string{"'app'", "'key'"}}
	inLab := map[string]string{"site": "lab"}
	for _, test := range []struct {
		name    string
		offer   offer
		shelf   string
		has     string
		request string
		labels  map[string]string
		want    string
	}{
		{name: "required in its group", offer: offer{groups: []policy.Group{with(lab, app(ModeRequired, 0))}}, shelf: "app:1", labels: inLab, want: "+app:1"},
		{name: "in no group", offer: offer{groups: []policy.Group{with(lab, app(ModeRequired, 0))}}, shelf: "app:1"},
		{name: "higher priority", offer: offer{groups: []policy.Group{with(lab, app(ModeRequired, 0)), {Name: "z", Match: "true", Priority: 2, Components: []policy.Component{app(ModeForbidden, 0)}}}}, shelf: "app:1", labels: inLab, has: "app:1", want: "-app"},
		{name: "group over assignment for all", offer: offer{groups: []policy.Group{with(lab, app(ModeAvailable, 0))}, assignments: []Assignment{{Manifest: id("app"), Mode: ModeForbidden}}}, shelf: "app:1", labels: inLab, request: "app", want: "+app:1"},
		{name: "device over group", offer: offer{groups: []policy.Group{with(lab, app(ModeForbidden, 0))}, assignments: []Assignment{{Manifest: id("app"), Mode: ModeRequired, Devices: []string{"device"}}}}, shelf: "app:1", labels: inLab, want: "+app:1"},
		{name: "held at a version", offer: offer{groups: []policy.Group{with(lab, app(ModeRequired, 1))}}, shelf: "app:1 app:2", labels: inLab, want: "+app:1"},
		{name: "held below what it has", offer: offer{groups: []policy.Group{with(lab, app(ModeRequired, 1))}}, shelf: "app:1 app:2", labels: inLab, has: "app:2"},

		{name: "before the rollout", offer: offer{rollouts: []policy.Rollout{staged(policy.StateProposed, 0)}}, shelf: "app:1 app:2", request: "app", want: "+app:1"},
		{name: "in the open stage", offer: offer{groups: []policy.Group{lab}, rollouts: []policy.Rollout{staged(policy.StateRunning, 0)}}, shelf: "app:1 app:2", has: "app:1", labels: inLab, want: "+app:2"},
		{name: "not in the open stage", offer: offer{groups: []policy.Group{lab}, rollouts: []policy.Rollout{staged(policy.StateRunning, 0)}}, shelf: "app:1 app:2", has: "app:1"},
		{name: "in the next stage", offer: offer{groups: []policy.Group{lab}, rollouts: []policy.Rollout{staged(policy.StateRunning, 1)}}, shelf: "app:1 app:2", has: "app:1", want: "+app:2"},
		{name: "paused", offer: offer{groups: []policy.Group{lab}, rollouts: []policy.Rollout{staged(policy.StatePaused, 1)}}, shelf: "app:1 app:2", has: "app:1", labels: inLab},
		{name: "stopped", offer: offer{rollouts: []policy.Rollout{staged(policy.StateStopped, 1)}}, shelf: "app:1 app:2", has: "app:1"},
		{name: "done", offer: offer{rollouts: []policy.Rollout{staged(policy.StateDone, 1)}}, shelf: "app:1 app:2", has: "app:1", want: "+app:2"},
		{name: "outside of its window", offer: offer{rollouts: []policy.Rollout{staged(policy.StateRunning, 1, func(r *policy.Rollout) { r.Windows = []policy.Window{{From: "01:00", To: "02:00"}} })}}, shelf: "app:1 app:2", has: "app:1"},
		{name: "not chosen", offer: offer{rollouts: []policy.Rollout{staged(policy.StateDone, 1, func(r *policy.Rollout) { r.Match = "labels.site == 'lab'" })}}, shelf: "app:1 app:2", has: "app:1"},
		{name: "required by the rollout", offer: offer{rollouts: []policy.Rollout{staged(policy.StateRunning, 1, func(r *policy.Rollout) { r.Require = true })}}, shelf: "app:2", want: "+app:2"},
		{name: "staged without rollout", offer: offer{assignments: []Assignment{{Manifest: id("app"), Mode: ModeRequired, Staged: true, StagedFrom: 1}}}, shelf: "app:1 app:2", want: "+app:1"},

		{name: "removal over required", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'"}}, assignments: []Assignment{{Manifest: id("app"), Mode: ModeRequired}}}, shelf: "app:1", has: "app:1", want: "-app"},
		{name: "removal over the device's wish", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'"}}}, shelf: "app:1", request: "app"},
		{name: "removal over a dependency", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'lib'"}}}, shelf: "app:1>lib lib:1", has: "app:1 lib:1", want: "-lib"},
		{name: "removal of older versions", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'", Sequence: 1}}}, shelf: "app:1 app:2", has: "app:1", want: "+app:2"},
		{name: "removal of the newest", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'", Sequence: 2}}}, shelf: "app:1 app:2", has: "app:2", want: "-app"},
		{name: "removal of some devices", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'", Match: "labels.site == 'lab'"}}}, shelf: "app:1", has: "app:1"},
		{name: "removal although paused", offer: offer{rollouts: []policy.Rollout{staged(policy.StatePaused, 0)}, removals: []policy.Removal{{Name: "x", Manifest: "'app'"}}}, shelf: "app:1 app:2", has: "app:2", want: "-app"},
		{name: "removal of a domain", offer: offer{domains: []policy.Domain{domain}, removals: []policy.Removal{{Name: "x", Domain: "d"}}}, shelf: "app:1 key:1", has: "app:1 key:1", want: "-key -app"},

		{name: "domain comes together", offer: offer{domains: []policy.Domain{domain}}, shelf: "app:1 key:1", request: "app", want: "+app:1 +key:1"},
		{name: "domain comes whole or not", offer: offer{domains: []policy.Domain{domain}}, shelf: "app:1 key:1!", request: "app"},
		{name: "domain is completed", offer: offer{domains: []policy.Domain{domain}}, shelf: "app:1 key:1", has: "key:1", want: "+app:1"},
		{name: "domain required", offer: offer{domains: []policy.Domain{domain}, groups: []policy.Group{with(lab, policy.Component{Domain: "d", Mode: ModeRequired})}}, shelf: "app:1 key:1", labels: inLab, want: "+app:1 +key:1"},

		{name: "withdrawn key", offer: offer{publishers: []Publisher{{Name: "acme", Withdrawn: []WithdrawnKey{{Thumbprint: []byte("k")}}}}}, shelf: "app:1", request: "app"},
		{name: "withdrawn key, installed stays", offer: offer{publishers: []Publisher{{Name: "acme", Withdrawn: []WithdrawnKey{{Thumbprint: []byte("k")}}}}}, shelf: "app:1", has: "app:1"},
		{name: "withdrawn key, installed goes", offer: offer{publishers: []Publisher{{Name: "acme", Withdrawn: []WithdrawnKey{{Thumbprint: []byte("k"), Remove: true}}}}}, shelf: "app:1", has: "app:1", want: "-app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := governed(t, test.offer, strings.Fields(test.shelf)...)
			d := holding(strings.Fields(test.has)...)
			d.Labels = test.labels
			if got := show(decide(c, d, wish(test.request, ""), decisionTime)); got != test.want {
				t.Errorf("decided %q, want %q", got, test.want)
			}
		})
	}
}

// TestRemovalDoesNotWait: what failed to be removed before is ordered again at once.
func TestRemovalDoesNotWait(t *testing.T) {
	c := governed(t, offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'"}}}, "app:1")
	d := holding("app:1")
	d.recordFailure(id("app"), 0, decisionTime, 1<<40, "stuck")
	if got := show(decide(c, d, wishes{}, decisionTime)); got != "-app" {
		t.Errorf("decided %q", got)
	}
}

// TestProgressIsCountedOnce: a device moves between counts, and their sum is one.
func TestProgressIsCountedOnce(t *testing.T) {
	c := governed(t, offer{rollouts: []policy.Rollout{staged(policy.StateRunning, 1)}}, "app:1", "app:2")
	d := holding("app:1")
	sum := map[policy.Progress]int64{}
	settle := func(want policy.Progress) {
		t.Helper()
		for _, n := range d.counts {
			sum[n.Progress] += n.Devices
		}
		d.counts = nil
		var all int64
		for _, n := range sum {
			all += n
		}
		if all != 1 || sum[want] != 1 {
			t.Fatalf("counts %v, want one %s", sum, want)
		}
	}
	offer := func() {
		d.noteRollouts(decisionTime)
		d.enterRollouts(&standing{catalogue: c, device: d, now: decisionTime}, decide(c, d, wishes{}, decisionTime))
	}
	two := c.manifests[id("app").Key()].versions[1].installed()
	offer()
	settle(policy.ProgressOffered)
	offer() // once more
	settle(policy.ProgressOffered)
	d.progress(two, policy.ProgressFailed, decisionTime)
	settle(policy.ProgressFailed)
	offer()
	settle(policy.ProgressFailed)
	d.setInstalled(two)
	offer() // its Success was lost
	settle(policy.ProgressSucceeded)
	d.dropRollouts(decisionTime)
	settle(policy.ProgressDropped)
	offer()
	settle(policy.ProgressSucceeded)
}

// TestReplacementsAreBounded: no ID is forgotten to make room, and records of releases that kept none but the last
// bring that one along.
func TestReplacementsAreBounded(t *testing.T) {
	d := &Device{ID: "b", Replaces: "a", Status: DeviceAccepted} // of an older release
	for n := range maxFormerly - 1 {
		next := &Device{ID: fmt.Sprint(n), Status: DevicePending}
		if err := next.replace(d); err != nil {
			t.Fatalf("replacement %d: %v", n, err)
		}
		d = next
	}
	if !d.isNamed([]string{"a"}) || !d.isNamed([]string{"x", "b"}) || d.isNamed([]string{"x"}) || d.isNamed(nil) {
		t.Errorf("it goes by the names %v", d.names())
	}
	last := &Device{ID: "last", Status: DevicePending}
	if err := last.replace(d); !errors.Is(err, ErrReplacement) {
		t.Errorf("one replacement more: %v", err)
	}
	if last.Status != DevicePending || last.Replaces != "" || d.Status != DeviceAccepted || d.ReplacedBy != "" {
		t.Errorf("what was refused left %+v and %+v", last, d)
	}
}

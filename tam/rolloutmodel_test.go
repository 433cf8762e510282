package tam

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/go-teep/teep/tam/policy"
)

// fleetModel is a fleet under rollouts of versions 2 and 3 of app, to which people, devices and time do what they like.
// It knows in its own words who may have what.
type fleetModel struct {
	*rapid.T
	compiler *policy.Compiler
	offer    offer
	now      time.Time
	devices  []*Device
	counts   map[string][]policy.Counts // of each rollout, by stage
	entered  map[string]map[string]bool // devices that each rollout reached
}

const modelDevices = 8

var modelPerson = policy.Person{ID: "1", Name: "Ann", Subjects: []string{"ann"}}

func newFleetModel(t *rapid.T, compiler *policy.Compiler) *fleetModel {
	m := &fleetModel{T: t, compiler: compiler, now: decisionTime, counts: map[string][]policy.Counts{}, entered: map[string]map[string]bool{}}
	m.offer.publishers = []Publisher{{Name: "acme"}}
	for _, name := range []string{"canary", "lab"} {
		m.offer.groups = append(m.offer.groups, policy.Group{Name: name, Match: fmt.Sprintf("labels.ring == %q", name)})
	}
	for _, s := range []string{"app:1", "app:2>lib", "app:3", "lib:1"} {
		for _, one := range shelf(nil, s).order {
			m.offer.versions = append(m.offer.versions, one.versions...)
		}
	}
	for i := range modelDevices {
		d := holding("app:1")
		d.ID, d.Status = fmt.Sprint("device", i), DeviceAccepted
		m.devices = append(m.devices, d)
	}
	for _, sequence := range []uint64{2, 3} {
		r := policy.Rollout{
			Name: fmt.Sprint("r", sequence), Manifest: "'app'", Sequence: sequence, Approval: rapid.Bool().Draw(t, "approval"), Require: rapid.Bool().Draw(t, "require"),
			Stages: []policy.Stage{{Group: "canary"}, {Percent: 40, Success: 50, Failure: 60, FailureMin: 2}, {Group: "lab"}, {Percent: 100, Failure: 60, FailureMin: 2}},
		}
		if rapid.Bool().Draw(t, "windows") {
			r.Windows = []policy.Window{{From: "22:00", To: "06:00"}}
		}
		if rapid.Bool().Draw(t, "match") {
			r.Match = `labels.ring != "lab"` // and none without a ring
		}
		if err := r.Check(compiler); err != nil {
			t.Fatal(err)
		}
		m.offer.rollouts = append(m.offer.rollouts, r.Begin(policy.Person{ID: "2", Name: "Bob", Subjects: []string{"bob"}}, m.now))
		m.counts[r.Name], m.entered[r.Name] = make([]policy.Counts, len(r.Stages)), map[string]bool{}
	}
	return m
}

func (m *fleetModel) catalogue() *catalogue {
	c, err := m.offer.build(m.compiler, m.now)
	if err != nil {
		m.Fatal(err)
	}
	return c
}

// night is the model's reading of the windows.
func (m *fleetModel) night() bool { h := m.now.Hour(); return h >= 22 || h < 6 }

// mayGet is the model's reading of a rollout.
func (m *fleetModel) mayGet(r *policy.Rollout, d *Device) bool {
	ring, labelled := d.Labels["ring"]
	if r.Match != "" && (!labelled || ring == "lab") || len(r.Windows) > 0 && !m.night() {
		return false
	}
	stage := r.StageOf(d.ID, func(group string) bool { return ring == group })
	return r.State == policy.StateDone || r.State == policy.StateRunning && stage <= r.Stage
}

// taken tells whether an emergency removal is about a version here.
func (m *fleetModel) taken(d *Device, i Installed) bool {
	return slices.ContainsFunc(m.offer.removals, func(r policy.Removal) bool {
		return r.Manifest == i.Manifest.String() && (r.Sequence == 0 || i.Sequence <= r.Sequence) && (r.Match == "" || d.Labels["ring"] == "lab")
	})
}

// session has a device ask, and do what it is told, or fail to.
func (m *fleetModel) session() {
	d := rapid.SampledFrom(m.devices).Draw(m.T, "device")
	w := wishes{}
	if rapid.Bool().Draw(m.T, "wish") {
		w = wish("app", "")
	}
	d.noteRollouts(m.now)
	c := m.catalogue()
	plan := decide(c, d, w, m.now)
	d.enterRollouts(&standing{catalogue: c, device: d, now: m.now}, plan)
	m.check(d, plan)
	waiting := len(d.Pending) > 0
	d.Pending = nil
	for _, id := range plan.unlink {
		d.setRemoved(id)
	}
	for _, s := range plan.install {
		switch i := s.version.installed(); rapid.SampledFrom([]string{"installed", "installed", "failed", "silent", "report lost"}).Draw(m.T, "outcome") {
		case "installed":
			d.setInstalled(i)
			d.clearFailure(i.Manifest, i.Sequence)
			d.progress(i, policy.ProgressSucceeded, m.now)
		case "failed":
			d.recordFailure(i.Manifest, i.Sequence, m.now, time.Hour, "broken")
			d.progress(i, policy.ProgressFailed, m.now)
		case "silent":
			d.Pending = []PendingUpdate{{Offered: []Installed{i}}}
		case "report lost":
			d.setInstalled(i)
		}
	}
	for _, i := range d.Inventory {
		replaced := slices.ContainsFunc(plan.install, func(s step) bool { return s.version.Manifest.Equal(i.Manifest) })
		if m.taken(d, i) && (!replaced || waiting && i.Manifest.Equal(id("app"))) {
			m.Fatalf("%s has %v:%d after a session, although it was removed", d.ID, i.Manifest, i.Sequence)
		}
	}
	m.count(d)
}

// check holds a plan against what the model says.
func (m *fleetModel) check(d *Device, plan decision) {
	for _, s := range plan.install {
		v := s.version
		has, _ := d.installed(v.Manifest)
		switch {
		case v.Sequence <= has.Sequence:
			m.Fatalf("%s goes from %d to %d", d.ID, has.Sequence, v.Sequence)
		case m.taken(d, v.installed()):
			m.Fatalf("%s gets %v:%d, which was removed", d.ID, v.Manifest, v.Sequence)
		case !v.Withdrawn.IsZero():
			m.Fatalf("%s gets %v:%d, which was withdrawn", d.ID, v.Manifest, v.Sequence)
		}
		n := slices.IndexFunc(m.offer.rollouts, func(r policy.Rollout) bool { return v.Manifest.Equal(id("app")) && r.Sequence == v.Sequence })
		if n >= 0 && !m.mayGet(&m.offer.rollouts[n], d) {
			r := &m.offer.rollouts[n]
			m.Fatalf("%s with %v gets version %d at %v, though the rollout is %s in stage %d", d.ID, d.Labels, v.Sequence, m.now, r.State, r.Stage)
		}
		if s.rollout != nil {
			m.entered[s.rollout.Name][d.ID] = true
		}
		for _, needed := range v.Dependencies {
			_, there := d.installed(needed)
			if !there && !slices.ContainsFunc(plan.install, func(o step) bool { return o.version.Manifest.Equal(needed) }) {
				m.Fatalf("%s gets %v without %v, which it needs", d.ID, v.Manifest, needed)
			}
		}
	}
}

// count does what a store does with the counts of a record.
func (m *fleetModel) count(d *Device) {
	for _, n := range d.counts {
		m.counts[n.Rollout][n.Stage].Add(n.Progress, n.Devices)
	}
	d.counts = nil
	for name, stages := range m.counts {
		var seen int64
		for _, c := range stages {
			if seen += c.Seen(); min(c.Offered, c.Succeeded, c.Failed, c.Dropped) < 0 {
				m.Fatalf("rollout %s counts %+v", name, c)
			}
		}
		if seen != int64(len(m.entered[name])) {
			m.Fatalf("rollout %s counts %d devices, and reached %d", name, seen, len(m.entered[name]))
		}
	}
}

// act has somebody or something interfere.
func (m *fleetModel) act() {
	r := &m.offer.rollouts[rapid.IntRange(0, len(m.offer.rollouts)-1).Draw(m.T, "rollout")]
	switch rapid.SampledFrom([]string{"person", "time", "time", "time", "label", "withdraw", "remove", "lift", "drop", "lose"}).Draw(m.T, "what") {
	case "person":
		*r, _ = r.Act(rapid.SampledFrom(policy.Actions()).Draw(m.T, "action"), modelPerson, "why", m.now)
	case "time":
		m.now = m.now.Add(time.Duration(rapid.IntRange(-60, 600).Draw(m.T, "minutes")) * time.Minute)
		if len(r.Totals) == 0 && r.State == policy.StateRunning {
			r.Totals = []int64{1, 2, 1, 4}
		}
		*r, _ = r.Advance(m.counts[r.Name], m.now)
	case "label":
		d := rapid.SampledFrom(m.devices).Draw(m.T, "device")
		d.SetLabels(map[string]string{"ring": rapid.SampledFrom([]string{"", "canary", "lab", "field"}).Draw(m.T, "ring")})
	case "withdraw":
		if rapid.IntRange(0, 4).Draw(m.T, "really") == 0 {
			m.offer.versions[rapid.IntRange(1, 2).Draw(m.T, "version")].Withdrawn = m.now
		}
	case "remove":
		m.offer.removals = append(m.offer.removals[:len(m.offer.removals):len(m.offer.removals)], policy.Removal{
			Name: "x", Manifest: rapid.SampledFrom([]string{"'app'", "'lib'"}).Draw(m.T, "of"), Sequence: uint64(rapid.IntRange(0, 3).Draw(m.T, "up to")),
			Match: rapid.SampledFrom([]string{"", "labels.ring == 'lab'"}).Draw(m.T, "on")})
	case "lift":
		m.offer.removals = nil
	case "drop":
		d := rapid.SampledFrom(m.devices).Draw(m.T, "device")
		d.dropRollouts(m.now)
		m.count(d)
	case "lose":
		d := rapid.SampledFrom(m.devices).Draw(m.T, "device")
		d.setRemoved(rapid.SampledFrom([]Installed{{Manifest: id("app")}, {Manifest: id("lib")}}).Draw(m.T, "lost").Manifest)
	}
}

// TestRolloutsKeepTheirWord: whatever happens in whatever order, no device gets a version outside of the stages that are
// open and of the windows, none goes back, none gets or keeps what was withdrawn or removed, nothing comes without what it
// needs, and each device is counted once.
func TestRolloutsKeepTheirWord(t *testing.T) {
	compiler, err := policy.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newFleetModel(t, compiler)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "session") {
				m.session()
			} else {
				m.act()
			}
		}
	})
}

package tam_test

import (
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

func (w *world) remove(r policy.Removal) {
	w.t.Helper()
	r.Name, r.Reason = "x", "test"
	_, err := w.tam.SetRemoval(ctx(), r, policy.Person{ID: "1", Name: "Ann"}, tam.ExpectAny)
	must(w.t, err)
}

// answer runs a session and returns the Update that it ends with, also one that tells of an error.
func (a *agent) answer() *teep.Update {
	a.w.t.Helper()
	u, ok := a.session().(*teep.Update)
	if !ok {
		a.w.t.Fatalf("no Update; log:\n%s", a.w.log)
	}
	return u
}

// TestRemovalReachesDevicesThatFailAttestation: what an emergency removal is about may be why they fail.
func TestRemovalReachesDevicesThatFailAttestation(t *testing.T) {
	for name, test := range map[string]struct {
		removal policy.Removal
		before  func(a *agent)
		gone    bool
	}{
		"of all":        {policy.Removal{Manifest: manifestID("app").String()}, nil, true},
		"of it":         {policy.Removal{Manifest: manifestID("app").String(), Sequence: 1, Match: `labels.site == "lab"`}, nil, true},
		"of others":     {policy.Removal{Manifest: manifestID("app").String(), Match: `labels.site == "roof"`}, nil, false},
		"of older ones": {policy.Removal{Manifest: manifestID("other").String()}, nil, false},
		"when it is not accepted": {policy.Removal{Manifest: manifestID("app").String()}, func(a *agent) {
			a.set(func(d *tam.Device) { d.Status = tam.DevicePending })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256).requests(componentID("app"))
			a.succeed(a.update())
			a.has(componentID("app"), "one")
			a.set(func(d *tam.Device) { d.SetLabels(map[string]string{"site": "lab"}) })
			w.remove(test.removal)
			if test.before != nil {
				test.before(a)
			}
			a.measurement = "debug"
			u := a.answer()
			if (len(u.UnneededManifests) == 1) != test.gone || len(u.Manifests) != 0 || (u.ErrorCode != 0) == test.gone {
				t.Fatalf("told to remove %v and install %d, %v", u.UnneededManifests, len(u.Manifests), u.ErrorCode)
			}
			if !test.gone {
				return
			}
			a.succeed(u)
			a.expect()
			if u := a.answer(); len(u.UnneededManifests) != 0 || u.ErrorCode == 0 {
				t.Error("told once more")
			}
		})
	}
}

// TestHealingBringsNothingThatWasRemoved: neither to a device that is known, nor to a stranger.
func TestHealingBringsNothingThatWasRemoved(t *testing.T) {
	firmware := manifestID("firmware").String()
	for name, test := range map[string]struct {
		removal       policy.Removal
		stranger      bool
		forbid, heals bool
	}{
		"known":                              {policy.Removal{Manifest: firmware}, false, false, false},
		"known, older versions":              {policy.Removal{Manifest: firmware, Sequence: 1}, false, false, true},
		"known, newest version":              {policy.Removal{Manifest: firmware, Sequence: 2}, false, false, false},
		"known, of others":                   {policy.Removal{Manifest: firmware, Match: `id == ""`}, false, false, true},
		"known, forbidden":                   {policy.Removal{Manifest: manifestID("app").String()}, false, true, false},
		"stranger":                           {policy.Removal{Manifest: firmware}, true, false, false},
		"stranger, perhaps of it":            {policy.Removal{Manifest: firmware, Match: `labels.site == "lab"`}, true, false, false},
		"stranger, older versions":           {policy.Removal{Manifest: firmware, Sequence: 1}, true, false, true},
		"stranger, of something else, of it": {policy.Removal{Manifest: manifestID("app").String()}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *tam.Config) { c.Policy.Healing = []suit.ComponentID{manifestID("firmware")} })
			w.publish(release{name: "firmware", sequence: 1, payload: "one"})
			w.publish(release{name: "firmware", sequence: 2, payload: "two"})
			a := w.agent(cose.AlgESP256)
			a.session()
			a.measurement = "debug"
			if test.stranger {
				a.measurement = "evil"
				a = w.agent(cose.AlgESP256)
				a.measurement = "evil"
			}
			w.remove(test.removal)
			if test.forbid {
				must(t, w.store.PutAssignment(ctx(), tam.Assignment{Manifest: manifestID("firmware"), Mode: tam.ModeForbidden}))
			}
			u := a.answer()
			if (len(u.Manifests) == 1) != test.heals || (u.ErrorCode == 0) != test.heals {
				t.Errorf("got %d manifests, %v", len(u.Manifests), u.ErrorCode)
			}
		})
	}
}

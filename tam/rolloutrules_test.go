package tam

import (
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/policy"
)

// TestRolloutsAndDependencies: what a rollout keeps from a device does not come as a dependency either, and what needs it
// waits, instead of failing on the device.
func TestRolloutsAndDependencies(t *testing.T) {
	of := func(manifest string, sequence uint64, state policy.State) policy.Rollout {
		return staged(state, 0, func(r *policy.Rollout) { r.Manifest, r.Sequence = "'"+manifest+"'", sequence })
	}
	for _, test := range []struct {
		name             string
		offer            offer
		shelf, has, asks string
		want, notes      string
	}{
		{name: "needs what a later stage has", offer: offer{rollouts: []policy.Rollout{of("lib", 1, policy.StateRunning)}}, shelf: "app:1>lib lib:1", asks: "app", notes: "waits"},
		{name: "needs what was stopped", offer: offer{rollouts: []policy.Rollout{of("lib", 1, policy.StateStopped)}}, shelf: "app:1>lib lib:1", asks: "app", notes: "waits"},
		{name: "needs what is done", offer: offer{rollouts: []policy.Rollout{of("lib", 1, policy.StateDone)}}, shelf: "app:1>lib lib:1", asks: "app", want: "+lib:1 +app:1"},
		{name: "needs it and has it", offer: offer{rollouts: []policy.Rollout{of("lib", 1, policy.StateStopped)}}, shelf: "app:1>lib lib:1", has: "lib:1", asks: "app", want: "+app:1"},
		{name: "gets the one before", offer: offer{rollouts: []policy.Rollout{of("lib", 2, policy.StateStopped)}}, shelf: "app:1>lib lib:1 lib:2", asks: "app", want: "+lib:1 +app:1"},
		{name: "by digest, in a later stage", offer: offer{rollouts: []policy.Rollout{of("lib", 2, policy.StateRunning)}}, shelf: "app:1>lib=2 lib:1 lib:2", asks: "app", notes: "waits"},
		{name: "by digest, stopped, and an older one there", offer: offer{rollouts: []policy.Rollout{of("lib", 2, policy.StateStopped)}}, shelf: "app:1>lib=2 lib:1 lib:2", has: "lib:1", asks: "app", notes: "waits"},
		{name: "by digest, stopped, and there", offer: offer{rollouts: []policy.Rollout{of("lib", 2, policy.StateStopped)}}, shelf: "app:1>lib=2 lib:1 lib:2", has: "lib:2", asks: "app", want: "+app:1"},
		{name: "by digest, done", offer: offer{rollouts: []policy.Rollout{of("lib", 2, policy.StateDone)}}, shelf: "app:1>lib=2 lib:1 lib:2", has: "lib:1", asks: "app", want: "+lib:2 +app:1"},
		{name: "a chain", offer: offer{rollouts: []policy.Rollout{of("c", 1, policy.StatePaused)}}, shelf: "a:1>b b:1>c c:1", asks: "a", notes: "waits"},
		{name: "a circle with something that waits", offer: offer{rollouts: []policy.Rollout{of("c", 1, policy.StatePaused)}}, shelf: "a:1>b b:1>a,c c:1", asks: "a", notes: "waits"},
		{name: "an update whose new dependency waits", offer: offer{rollouts: []policy.Rollout{of("lib", 1, policy.StatePaused)}}, shelf: "app:1 app:2>lib lib:1", has: "app:1", notes: "waits"},
		{name: "of a removal", offer: offer{removals: []policy.Removal{{Name: "x", Manifest: "'lib'", Sequence: 1}}}, shelf: "app:1>lib lib:1", asks: "app", notes: "waits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := governed(t, test.offer, strings.Fields(test.shelf)...)
			d := decide(c, holding(strings.Fields(test.has)...), wish(test.asks, ""), decisionTime)
			if got := show(d); got != test.want {
				t.Errorf("decided %q, want %q (%v)", got, test.want, d.notes)
			}
			if notes := strings.Join(d.notes, "; "); !strings.Contains(notes, test.notes) || test.notes == "" && notes != "" {
				t.Errorf("notes %q, want %q", notes, test.notes)
			}
		})
	}
}

// TestRemovalWaitsForNothing: what an emergency removal takes goes, where nothing newer comes in its place after all.
func TestRemovalWaitsForNothing(t *testing.T) {
	upTo := []policy.Removal{{Name: "x", Manifest: "'app'", Sequence: 1}}
	offered := []PendingUpdate{{Offered: []Installed{{Manifest: id("app"), Sequence: 2}}}}
	for name, test := range map[string]struct {
		offer      offer
		shelf, has string
		pending    []PendingUpdate
		want       string
	}{
		"a newer one comes":                     {offer{removals: upTo}, "app:1 app:2", "app:1", nil, "+app:2"},
		"a newer one did not come":              {offer{removals: upTo}, "app:1 app:2", "app:1", offered, "-app"},
		"another one did not come":              {offer{removals: upTo}, "app:1 app:3", "app:1", offered, "+app:3"},
		"what did not come needs no removal":    {offer{}, "app:1 app:2", "app:1", offered, "+app:2"},
		"the newer one waits for a dependency":  {offer{removals: upTo, rollouts: []policy.Rollout{staged(policy.StatePaused, 0, func(r *policy.Rollout) { r.Manifest, r.Sequence = "'lib'", 1 })}}, "app:1 app:2>lib lib:1", "app:1", nil, "-app"},
		"the newer one needs what was removed":  {offer{removals: append([]policy.Removal{{Name: "y", Manifest: "'lib'", Sequence: 1}}, upTo...)}, "app:1 app:2>lib lib:1", "app:1 lib:1", nil, "-app -lib"},
		"something new needs it":                {offer{removals: upTo, assignments: []Assignment{{Manifest: id("tool"), Mode: ModeRequired}}}, "app:1 tool:1>app", "app:1", nil, "-app"},
		"something new needs it, and a newer":   {offer{removals: upTo, assignments: []Assignment{{Manifest: id("tool"), Mode: ModeRequired}}}, "app:1 app:2 tool:1>app", "app:1", nil, "+app:2 +tool:1"},
		"the newer one is in a stage to come":   {offer{removals: upTo, rollouts: []policy.Rollout{staged(policy.StateRunning, 0)}}, "app:1 app:2", "app:1", nil, "-app"},
		"the newer one waits for its window":    {offer{removals: upTo, rollouts: []policy.Rollout{staged(policy.StateDone, 1, func(r *policy.Rollout) { r.Windows = []policy.Window{{From: "01:00", To: "02:00"}} })}}, "app:1 app:2", "app:1", nil, "-app"},
		"the newer one failed here a while ago": {offer{removals: upTo}, "app:1 app:2", "app:1", nil, "-app"},
	} {
		t.Run(name, func(t *testing.T) {
			d := holding(strings.Fields(test.has)...)
			d.Pending = test.pending
			if strings.Contains(name, "failed here") {
				d.recordFailure(id("app"), 2, decisionTime, time.Hour, "broken")
			}
			if got := show(decide(governed(t, test.offer, strings.Fields(test.shelf)...), d, wishes{}, decisionTime)); got != test.want {
				t.Errorf("decided %q, want %q", got, test.want)
			}
		})
	}
}

// TestRolloutRequiresItsVersionOnly: a rollout that has devices install its version without asking does not make them
// install another one.
func TestRolloutRequiresItsVersionOnly(t *testing.T) {
	require := func(state policy.State) policy.Rollout {
		return staged(state, 1, func(r *policy.Rollout) { r.Require = true })
	}
	hold := policy.Group{Name: "g", Match: "true", Components: []policy.Component{{Manifest: "'app'", Mode: ModeAvailable, Sequence: 1}}}
	for name, test := range map[string]struct {
		offer offer
		shelf string
		want  string
	}{
		"offered":             {offer{rollouts: []policy.Rollout{require(policy.StateRunning)}}, "app:1 app:2", "+app:2"},
		"done":                {offer{rollouts: []policy.Rollout{require(policy.StateDone)}}, "app:1 app:2", "+app:2"},
		"not published yet":   {offer{rollouts: []policy.Rollout{require(policy.StateRunning)}}, "app:1", ""},
		"withdrawn":           {offer{rollouts: []policy.Rollout{require(policy.StateRunning)}}, "app:1 app:2!", ""},
		"withdrawn when done": {offer{rollouts: []policy.Rollout{require(policy.StateDone)}}, "app:1 app:2!", ""},
		"held at another one": {offer{rollouts: []policy.Rollout{require(policy.StateRunning)}, groups: []policy.Group{hold}}, "app:1 app:2", ""},
		"removed":             {offer{rollouts: []policy.Rollout{require(policy.StateRunning)}, removals: []policy.Removal{{Name: "x", Manifest: "'app'", Sequence: 2}}}, "app:1 app:2", ""},
		"aborted":             {offer{rollouts: []policy.Rollout{require(policy.StateAborted)}}, "app:1 app:2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := show(decide(governed(t, test.offer, strings.Fields(test.shelf)...), holding(), wishes{}, decisionTime)); got != test.want {
				t.Errorf("decided %q, want %q", got, test.want)
			}
		})
	}
}

// TestDataDoesNotBringBackOlderVersions: a device that has a version which is offered to nobody any longer is owed
// nothing beside an older one, and what is owed beside the version that it has goes on coming.
func TestDataDoesNotBringBackOlderVersions(t *testing.T) {
	for name, test := range map[string]struct {
		offer offer
		shelf string
		want  string
	}{
		"running":   {offer{rollouts: []policy.Rollout{staged(policy.StateRunning, 1)}}, "app:1 app:2", "+app:2"},
		"paused":    {offer{rollouts: []policy.Rollout{staged(policy.StatePaused, 1)}}, "app:1 app:2", "+app:2"},
		"stopped":   {offer{rollouts: []policy.Rollout{staged(policy.StateStopped, 1)}}, "app:1 app:2", "+app:2"},
		"withdrawn": {offer{rollouts: []policy.Rollout{staged(policy.StateStopped, 1)}}, "app:1 app:2!", ""},
		"held": {offer{groups: []policy.Group{{Name: "g", Match: "true", Components: []policy.Component{{Manifest: "'app'", Mode: ModeRequired, Sequence: 1}}}}},
			"app:1 app:2", "+app:2"},
		"removed": {offer{removals: []policy.Removal{{Name: "x", Manifest: "'app'", Sequence: 2}}}, "app:1 app:2", "-app"},
	} {
		t.Run(name, func(t *testing.T) {
			c := governed(t, test.offer, strings.Fields(test.shelf)...)
			d := holding("app:2")
			owed := &material{delivery: delivery{manifest: id("app"), last: Delivery{Version: 2, Deposits: []byte("old"), Done: true}}}
			d.deliveries = deposited{id("app").Key(): owed}
			if got := show(decide(c, d, wishes{}, decisionTime)); got != test.want {
				t.Errorf("decided %q, want %q", got, test.want)
			}
		})
	}
}

package tam

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/suit"
	"pgregory.net/rapid"
)

var decisionTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// shelf builds a catalogue: "app:2>runtime" is version 2 of app, which needs runtime, and "app:2>runtime=3" one
// that needs version 3 of it by digest.
func shelf(modes map[string]Mode, versions ...string) *catalogue {
	c := &catalogue{
		manifests: make(map[string]*manifest), byComponent: make(map[string][]*manifest), byDigest: make(map[string]*Version),
	}
	for _, s := range versions {
		head, needs, _ := strings.Cut(s, ">")
		name, number, _ := strings.Cut(head, ":")
		v := Version{
			Manifest: id(name), Digest: []byte(strings.TrimSuffix(head, "!")), Publisher: "acme",
			Components: []VersionComponent{{ID: suit.NewComponentID("component", name), Digest: []byte(head)}},
		}
		if number, withdrawn := strings.CutSuffix(number, "!"); withdrawn {
			v.Withdrawn = decisionTime
			fmt.Sscan(number, &v.Sequence)
		} else {
			fmt.Sscan(number, &v.Sequence)
		}
		for _, n := range strings.Fields(strings.ReplaceAll(needs, ",", " ")) {
			n, pin, pinned := strings.Cut(n, "=")
			v.Dependencies = append(v.Dependencies, id(n))
			if pinned {
				v.Pins = append(v.Pins, Pin{Manifest: id(n), Digest: []byte(n + ":" + pin)})
			}
		}
		c.add(v)
	}
	for name, mode := range modes {
		name, device, limited := strings.Cut(name, "@")
		a := Assignment{Manifest: id(name), Mode: mode}
		if limited {
			a.Devices = []string{device}
		}
		c.manifest(a.Manifest).assignment = a
	}
	c.publishers = map[string]*Publisher{"acme": {Name: "acme"}}
	c.index(time.Time{})
	return c
}

func id(name string) suit.ComponentID { return suit.NewComponentID(name) }

func holding(installed ...string) *Device {
	d := &Device{ID: "device"}
	for _, s := range installed {
		name, number, _ := strings.Cut(s, ":")
		i := Installed{Manifest: id(name)}
		fmt.Sscan(number, &i.Sequence)
		d.Inventory = append(d.Inventory, i)
	}
	return d
}

func wish(requested, unneeded string) wishes {
	var w wishes
	for _, s := range strings.Fields(requested) {
		name, number, minimum := strings.Cut(s, ":")
		r := teep.RequestedComponent{ID: teep.ComponentID(suit.NewComponentID("component", name))}
		if minimum {
			number, have := strings.CutSuffix(number, "b")
			r.MinSequence, r.HaveBinary = new(uint64), &have
			fmt.Sscan(number, r.MinSequence)
		}
		w.requested = append(w.requested, r)
	}
	for _, s := range strings.Fields(unneeded) {
		w.unneeded = append(w.unneeded, teep.ComponentID(id(s)))
	}
	return w
}

func show(d decision) string {
	var parts []string
	for _, s := range d.install {
		part := fmt.Sprintf("+%s:%d", s.version.Manifest[0], s.version.Sequence)
		if s.haveBinary {
			part += "b"
		}
		parts = append(parts, part)
	}
	for _, u := range d.unlink {
		parts = append(parts, fmt.Sprintf("-%s", u[0]))
	}
	return strings.Join(parts, " ")
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		name    string
		modes   map[string]Mode
		shelf   string
		has     string
		request string
		unneed  string
		want    string
		notes   string
	}{
		{name: "nothing asked, nothing done", shelf: "app:1"},
		{name: "requested", shelf: "app:1 app:2", request: "app", want: "+app:2"},
		{name: "requested and there", shelf: "app:1 app:2", has: "app:2", request: "app"},
		{name: "requested by nobody's name", shelf: "app:1", request: "game", notes: "nothing is published"},
		{name: "requested too new", shelf: "app:1", request: "app:2", notes: "newest offered is 1"},
		{name: "requested, binary there", shelf: "app:1 app:2", request: "app:2b", want: "+app:2b"},
		{name: "requested, older binary there", shelf: "app:1 app:2", request: "app:1b", want: "+app:2"},
		{name: "installed is kept up to date", shelf: "app:1 app:2", has: "app:1", want: "+app:2"},
		{name: "unknown version is replaced", shelf: "app:1", has: "app:0", want: "+app:1"},
		{name: "no downgrade", shelf: "app:1 app:2!", has: "app:2"},
		{name: "withdrawn is not offered", shelf: "app:1 app:2!", request: "app", want: "+app:1"},
		{name: "all withdrawn", shelf: "app:1!", request: "app", notes: "nothing is published"},
		{name: "dependency comes first", shelf: "app:1>runtime runtime:3", request: "app", want: "+runtime:3 +app:1"},
		{name: "dependency there already", shelf: "app:1>runtime runtime:3", has: "runtime:3", request: "app", want: "+app:1"},
		{name: "dependency is updated with it", shelf: "app:1>runtime runtime:3", has: "runtime:2", request: "app", want: "+runtime:3 +app:1"},
		{name: "dependency of another TAM", shelf: "app:1>elsewhere", request: "app", want: "+app:1"},
		{name: "chain", shelf: "a:1>b b:1>c c:1", request: "a", want: "+c:1 +b:1 +a:1"},
		{name: "circle", shelf: "a:1>b b:1>a", request: "a", want: "+a:1 +b:1"},
		{name: "required", modes: map[string]Mode{"app": ModeRequired}, shelf: "app:1", want: "+app:1"},
		{name: "required here", modes: map[string]Mode{"app@device": ModeRequired}, shelf: "app:1", want: "+app:1"},
		{name: "required elsewhere", modes: map[string]Mode{"app@other": ModeRequired}, shelf: "app:1"},
		{name: "required and nothing published", modes: map[string]Mode{"app": ModeRequired}},
		{name: "forbidden and there", modes: map[string]Mode{"app": ModeForbidden}, shelf: "app:1 app:2", has: "app:1", want: "-app"},
		{name: "forbidden and requested", modes: map[string]Mode{"app": ModeForbidden}, shelf: "app:1", request: "app", notes: "allowed"},
		{name: "needs what is forbidden", modes: map[string]Mode{"runtime": ModeForbidden}, shelf: "app:1>runtime runtime:1", request: "app", notes: "must not have"},
		{name: "forbidden although needed", modes: map[string]Mode{"runtime": ModeForbidden}, shelf: "app:1>runtime runtime:1", has: "app:1 runtime:1", want: "-runtime"},
		{name: "unneeded", shelf: "app:1", has: "app:1", unneed: "app", want: "-app"},
		{name: "unneeded and no longer published", has: "old:1", unneed: "old", want: "-old"},
		{name: "unneeded and outdated", shelf: "app:1 app:2", has: "app:1", unneed: "app", want: "-app"},
		{name: "unneeded and required", modes: map[string]Mode{"app": ModeRequired}, shelf: "app:1", has: "app:1", unneed: "app", notes: "required"},
		{name: "unneeded and requested", shelf: "app:1", has: "app:1", request: "app", unneed: "app", notes: "wanted too"},
		{name: "unneeded and depended on", shelf: "app:1>runtime runtime:1", has: "app:1 runtime:1", unneed: "runtime", notes: "depends on it"},
		{name: "unneeded together", shelf: "app:1>runtime runtime:1", has: "app:1 runtime:1", unneed: "runtime app", want: "-app -runtime"},
		{name: "older by digest", shelf: "app:1>runtime=2 runtime:2 runtime:3", request: "app", want: "+runtime:2 +app:1"},
		{name: "newest by digest", shelf: "app:1>runtime=3 runtime:2 runtime:3", request: "app", want: "+runtime:3 +app:1"},
		{name: "older by digest, and there", shelf: "app:1>runtime=2 runtime:2 runtime:3", has: "runtime:2", request: "app", want: "+app:1"},
		{name: "held by digest", shelf: "app:1>runtime=2 runtime:2 runtime:3", has: "app:1 runtime:2"},
		{name: "held no longer", shelf: "app:1>runtime=2 app:2>runtime=3 runtime:2 runtime:3", has: "app:1 runtime:2", want: "+runtime:3 +app:2"},
		{name: "both requested, the older first", shelf: "app:1>runtime=2 runtime:2 runtime:3", request: "runtime app", want: "+runtime:2 +app:1"},
		{name: "required, and needed by digest", modes: map[string]Mode{"app": ModeRequired, "runtime": ModeRequired}, shelf: "app:1>runtime=2 runtime:2 runtime:3", want: "+runtime:2 +app:1"},
		{name: "chain by digest", shelf: "a:1>b=1 b:1>c=1 b:2>c=2 c:1 c:2", request: "a", want: "+c:1 +b:1 +a:1"},
		{name: "circle by digest", shelf: "a:1>b=1 b:1>a=1", request: "a", want: "+a:1 +b:1"},
		{name: "older by digest, and newer there", shelf: "app:1>runtime=2 runtime:2 runtime:3", has: "runtime:3", request: "app", notes: "does not go for an older one"},
		{name: "withdrawn and needed by digest", shelf: "app:1>runtime=2 runtime:2! runtime:3", request: "app", want: "+app:1"},
		{name: "needed by digest and never published", shelf: "app:1>runtime=7 runtime:3", request: "app", want: "+app:1"},
		{name: "two by digest", shelf: "a:1>c=1 b:1>c=2 c:1 c:2", request: "a b", want: "+c:1 +a:1", notes: "in another version"},
		{name: "by digest of what leaves", shelf: "app:1>runtime=2 runtime:2 runtime:3", has: "app:1 runtime:2", unneed: "app", want: "+runtime:3 -app"},
		{name: "needed by what comes", shelf: "app:1>runtime runtime:1", has: "runtime:1", request: "app", unneed: "runtime", notes: "wanted too", want: "+app:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := shelf(test.modes, strings.Fields(test.shelf)...)
			d := decide(c, holding(strings.Fields(test.has)...), wish(test.request, test.unneed), decisionTime)
			if got := show(d); got != test.want {
				t.Errorf("decided %q, want %q (%v)", got, test.want, d.notes)
			}
			if notes := strings.Join(d.notes, "; "); !strings.Contains(notes, test.notes) || test.notes == "" && notes != "" {
				t.Errorf("notes %q, want %q", notes, test.notes)
			}
		})
	}
}

func TestRevokedPublisherIsNotOffered(t *testing.T) {
	c := shelf(nil, "app:1")
	for _, publishers := range []map[string]*Publisher{{}, {"acme": {Name: "acme", Revoked: decisionTime}}} {
		c.publishers = publishers
		c.index(time.Time{})
		if d := decide(c, holding(), wish("app", ""), decisionTime); !d.empty() {
			t.Fatalf("decided %q", show(d))
		}
	}
}

// TestExplainedVersionIsTheOneThatComes: what a device is said to be offered is what it is sent, also where that
// is not the newest.
func TestExplainedVersionIsTheOneThatComes(t *testing.T) {
	required := map[string]Mode{"app": ModeRequired}
	for name, test := range map[string]struct {
		modes map[string]Mode
		has   []string
		want  uint64
		next  string
	}{
		"nothing needs it": {nil, []string{"tool:1"}, 2, ""},
		"needed by digest": {nil, []string{"app:1", "runtime:1"}, 1, ""},
		"is to be needed":  {required, nil, 1, "install 'runtime' sequence number 1, install 'app' sequence number 1"},
	} {
		c := shelf(test.modes, "app:1>runtime=1", "tool:1", "runtime:1", "runtime:2")
		e := explain(&standing{catalogue: c, device: holding(test.has...), now: decisionTime})
		n := slices.IndexFunc(e.Manifests, func(m ExplainedManifest) bool { return m.Manifest.Equal(id("runtime")) })
		if n < 0 || e.Manifests[n].Offered != test.want {
			t.Errorf("%s: %+v", name, e.Manifests)
		}
		if next := strings.Join(e.Next, ", "); next != test.next {
			t.Errorf("%s: next comes %q, want %q", name, next, test.next)
		}
	}
}

func TestHeldBack(t *testing.T) {
	c := shelf(nil, "app:1>runtime", "runtime:1")
	d := holding()
	d.recordFailure(id("runtime"), 1, decisionTime, time.Hour, "broken")
	if got := show(decide(c, d, wish("app", ""), decisionTime)); got != "" {
		t.Errorf("an application whose dependency failed: %q", got)
	}
	if got := show(decide(c, d, wish("app", ""), decisionTime.Add(time.Hour))); got != "+runtime:1 +app:1" {
		t.Errorf("an hour later: %q", got)
	}
	d = holding("app:1")
	d.recordFailure(id("app"), 0, decisionTime, time.Hour, "stuck")
	if got := show(decide(c, d, wish("", "app"), decisionTime)); strings.Contains(got, "-app") {
		t.Errorf("a removal that failed a moment ago: %q", got)
	}
}

// TestDecisionsAreSound holds for any catalogue and device: nothing twice, nothing both ways,
// nothing forbidden or withdrawn, never down, dependencies first, and what was decided settles.
func TestDecisionsAreSound(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(t *rapid.T) {
		pick := rapid.SampledFrom(names)
		var versions []string
		for _, n := range names {
			for s := range rapid.IntRange(0, 3).Draw(t, "versions of "+n) {
				v := fmt.Sprintf("%s:%d", n, s+1)
				if rapid.IntRange(0, 4).Draw(t, "withdrawn") == 0 {
					v += "!"
				}
				needs := rapid.SliceOfNDistinct(pick, 0, 2, rapid.ID).Draw(t, "needs")
				for i := range needs {
					if pin := rapid.IntRange(0, 4).Draw(t, "by digest"); pin > 0 {
						needs[i] = fmt.Sprintf("%s=%d", needs[i], pin)
					}
				}
				versions = append(versions, v+">"+strings.Join(needs, ","))
			}
		}
		modes := make(map[string]Mode)
		for _, n := range rapid.SliceOfDistinct(pick, rapid.ID).Draw(t, "assigned") {
			modes[n] = rapid.SampledFrom([]Mode{ModeAvailable, ModeRequired, ModeForbidden}).Draw(t, "mode")
		}
		var has []string
		for _, n := range rapid.SliceOfDistinct(pick, rapid.ID).Draw(t, "installed") {
			has = append(has, fmt.Sprintf("%s:%d", n, rapid.IntRange(0, 4).Draw(t, "sequence")))
		}
		c, d := shelf(modes, versions...), holding(has...)
		w := wish(strings.Join(rapid.SliceOfDistinct(pick, rapid.ID).Draw(t, "requested"), " "),
			strings.Join(rapid.SliceOfDistinct(pick, rapid.ID).Draw(t, "unneeded"), " "))
		plan := decide(c, d, w, decisionTime)
		checkPlan(t, c, d, plan)
		for _, s := range plan.install {
			d.setInstalled(s.version.installed())
		}
		for _, u := range plan.unlink {
			d.setRemoved(u)
		}
		// The same device asking for nothing more is left alone, but for what it lost.
		if again := decide(c, d, wishes{}, decisionTime); len(again.unlink) > 0 {
			t.Fatalf("then removes %q", show(again))
		}
	})
}

func checkPlan(t *rapid.T, c *catalogue, d *Device, plan decision) {
	seen := make(map[string]bool)
	for n, s := range plan.install {
		v := s.version
		key := v.Manifest.Key()
		has, _ := d.installed(v.Manifest)
		switch m := c.manifests[key]; {
		case seen[key]:
			t.Fatalf("%v twice", v.Manifest)
		case (&standing{catalogue: c, device: d}).mode(m) == ModeForbidden:
			t.Fatalf("%v is forbidden", v.Manifest)
		case !v.Withdrawn.IsZero():
			t.Fatalf("%v:%d was withdrawn", v.Manifest, v.Sequence)
		case v.Sequence <= has.Sequence:
			t.Fatalf("%v goes from %d to %d", v.Manifest, has.Sequence, v.Sequence)
		case slices.ContainsFunc(plan.unlink, v.Manifest.Equal):
			t.Fatalf("%v both ways", v.Manifest)
		}
		seen[key] = true
		for _, other := range plan.install {
			if pin := v.pin(other.version.Manifest); pin != nil && string(pin) != string(other.version.Digest) && c.byDigest[string(pin)] != nil {
				t.Fatalf("%v needs %s, and comes with %s", v.Manifest, pin, other.version.Digest)
			}
		}
		for _, needed := range v.Dependencies {
			later := slices.IndexFunc(plan.install, func(s step) bool { return s.version.Manifest.Equal(needed) })
			if later > n && !reaches(c, plan, needed, v.Manifest) {
				t.Fatalf("%v before %v, which it needs: %q", v.Manifest, needed, show(plan))
			}
		}
	}
	for n, u := range plan.unlink {
		if slices.IndexFunc(plan.unlink, u.Equal) != n {
			t.Fatalf("%v removed twice", u)
		}
	}
}

// reaches tells whether the planned versions, or else the newest, lead from one manifest to another by dependency.
func reaches(c *catalogue, plan decision, from, to suit.ComponentID) bool {
	visited := make(map[string]bool)
	var visit func(id suit.ComponentID) bool
	visit = func(id suit.ComponentID) bool {
		m := c.manifests[id.Key()]
		if visited[id.Key()] || m == nil || m.offered == nil {
			return false
		}
		visited[id.Key()] = true
		v := m.offered
		if i := slices.IndexFunc(plan.install, func(s step) bool { return s.version.Manifest.Equal(id) }); i >= 0 {
			v = plan.install[i].version // an older one, where it is needed by digest
		}
		return slices.ContainsFunc(v.Dependencies, func(d suit.ComponentID) bool { return d.Equal(to) || visit(d) })
	}
	return visit(from)
}

// TestNeeds: what is compared with groups when they are saved is what the version names that counts.
func TestNeeds(t *testing.T) {
	c := shelf(nil, "base:7", "base:8", "app:1>base=7", "app:2>base=8,lib", "odd:1>base=9")
	needs := func(manifest string, sequence uint64) string {
		return fmt.Sprint(c.needs(id(manifest).String(), sequence))
	}
	for want, got := range map[string]string{
		"[{'base' 8} {'lib' 0}]": needs("app", 0),
		"[{'base' 7}]":           needs("app", 1),
		"[{'base' 0}]":           needs("odd", 0), // nobody has that version
		"[]":                     needs("base", 0) + needs("app", 3)[2:] + needs("nobody", 0)[2:],
	} {
		if got != want {
			t.Errorf("needs %s, want %s", got, want)
		}
	}
	c.manifests[id("app").Key()].assignment = Assignment{Staged: true, StagedFrom: 1}
	if got := needs("app", 0); got != "[{'base' 0} {'lib' 0}]" {
		t.Errorf("of a version that rollouts decide about: %s", got)
	}
}

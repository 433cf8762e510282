package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // as in teep-tam: whatever the machine knows

	"pgregory.net/rapid"

	"github.com/go-teep/teep/tam/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func compiler(t *testing.T) *policy.Compiler {
	t.Helper()
	c, err := policy.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConditions(t *testing.T) {
	c := compiler(t)
	f := policy.Facts{ID: "d", OEMID: "pen:3704", Attestation: "affirming", Labels: map[string]string{"site": "lab"},
		Claims: map[string]string{"measurement": "affirming"}, Inventory: map[string]uint64{"'a'": 3}, FirstSeen: noon}
	for source, want := range map[string]bool{
		"true": true, "false": false,
		`labels.site == "lab"`:                            true,
		`labels[?"ring"].orValue("") == ""`:               true,
		`oemid == "pen:3704" && attestation != "warning"`: true,
		`inventory["'a'"] >= 3u`:                          true,
		`"'b'" in inventory`:                              false,
		`claims.measurement == "affirming"`:               true,
		`first_seen < timestamp("2026-03-02T00:00:00Z")`:  true,
		`id.startsWith("x")`:                              false,
	} {
		condition, err := c.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := condition.Holds(&f); got != want || err != nil {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
	for _, source := range []string{`labels.ring == "a"`, `inventory["'x'"] > 0u`, `labels.map(a, labels.map(b, labels.map(c, c))).size() > 0 && labels.x == "y"`} {
		condition, err := c.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := condition.Holds(&f); got || err == nil {
			t.Errorf("%s holds: %v, %v; what is not known holds for nobody", source, got, err)
		}
	}
}

// TestConditionsCostIsBounded: a condition that loops over loops ends, and holds for nobody.
func TestConditionsCostIsBounded(t *testing.T) {
	list := "[" + strings.Repeat("1,", 99) + "1]"
	condition, err := compiler(t).Compile(list + ".all(a, " + list + ".all(b, " + list + ".all(c, a+b+c > 0)))")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := condition.Holds(&policy.Facts{}); got || err == nil {
		t.Errorf("a million steps: %v, %v", got, err)
	}
}

func TestConditionsAreRefused(t *testing.T) {
	c := compiler(t)
	for _, source := range []string{"", "id", "id ==", "nobody == 'x'", "id == 1", "labels == 'x'", "now() > first_seen", "1", strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), "'" + strings.Repeat("x", policy.MaxCondition) + "' == id"} {
		if _, err := c.Compile(source); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%.40q: %v", source, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	c, err := policy.NewCompiler()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`labels.site == "lab"`)
	f.Add(`[1].all(x, x > 0)`)
	f.Fuzz(func(t *testing.T, source string) {
		condition, err := c.Compile(source)
		if err != nil {
			if !errors.Is(err, policy.ErrInvalid) {
				t.Errorf("%v is no ErrInvalid", err)
			}
			return
		}
		if holds, err := condition.Holds(&policy.Facts{}); holds && err != nil {
			t.Error("holds, with an error")
		}
	})
}

func group(name string, priority int, components ...policy.Component) policy.Group {
	return policy.Group{Name: name, Match: "true", Priority: priority, Components: components}
}

func says(manifest string, mode policy.Mode, sequence ...uint64) policy.Component {
	c := policy.Component{Manifest: manifest, Mode: mode}
	if len(sequence) > 0 {
		c.Sequence = sequence[0]
	}
	return c
}

func TestConflicts(t *testing.T) {
	needs := func(manifest string, sequence uint64) []policy.Need {
		if manifest == "pinned" { // version 2 needs version 7 of base, and the newest needs version 8
			return []policy.Need{{Manifest: "base", Sequence: map[uint64]uint64{0: 8, 2: 7}[sequence]}}
		}
		return map[string][]policy.Need{"app": {{Manifest: "lib"}}, "lib": {{Manifest: "runtime"}}, "loop": {{Manifest: "pool"}}, "pool": {{Manifest: "loop"}},
			"above": {{Manifest: "pinned", Sequence: 2}}, "rounds": {{Manifest: "rounds", Sequence: 3}}}[manifest]
	}
	const req, avail, forb = policy.ModeRequired, policy.ModeAvailable, policy.ModeForbidden
	for _, test := range []struct {
		name     string
		groups   []policy.Group
		defaults []policy.Default
		want     string // left|right|manifest
	}{
		{name: "none"},
		{name: "required and forbidden", groups: []policy.Group{group("a", 1, says("app", req)), group("b", 1, says("app", forb))}, want: "group a|group b|app"},
		{name: "different priorities", groups: []policy.Group{group("a", 1, says("app", req)), group("b", 2, says("app", forb))}},
		{name: "two versions", groups: []policy.Group{group("a", 1, says("app", req, 1)), group("b", 1, says("app", avail, 2))}, want: "group a|group b|app"},
		{name: "one version", groups: []policy.Group{group("a", 1, says("app", req, 1)), group("b", 1, says("app", avail, 1))}},
		{name: "dependency forbidden in one group", groups: []policy.Group{group("a", 1, says("app", req), says("lib", forb))}, want: "group a|group a|lib"},
		{name: "dependency of a dependency", groups: []policy.Group{group("a", 1, says("app", req)), group("b", 1, says("runtime", forb))}, want: "group a|group b|runtime"},
		{name: "dependency forbidden above", groups: []policy.Group{group("a", 1, says("app", req)), group("b", 2, says("lib", forb))}, want: "group a|group b|lib"},
		{name: "above forbids both", groups: []policy.Group{group("a", 1, says("app", req)), group("b", 2, says("lib", forb), says("app", forb))}},
		{name: "the requiring group allows it", groups: []policy.Group{group("a", 2, says("app", req), says("lib", avail)), group("b", 1, says("lib", forb))}},
		{name: "forbidden for all", groups: []policy.Group{group("a", 1, says("app", req))}, defaults: []policy.Default{{Manifest: "lib", Mode: forb}}, want: "group a|assignment of lib|lib"},
		{name: "group over assignment", groups: []policy.Group{group("a", 1, says("app", forb))}, defaults: []policy.Default{{Manifest: "app", Mode: req}}},
		{name: "required for all", groups: []policy.Group{group("a", 1, says("lib", forb))}, defaults: []policy.Default{{Manifest: "app", Mode: req}}, want: "assignment of app|group a|lib"},
		{name: "held at another version", groups: []policy.Group{group("a", 1, says("pinned", req)), group("b", 1, says("base", avail, 7))}, want: "group a|group b|base"},
		{name: "held at another version in one group", groups: []policy.Group{group("a", 1, says("pinned", req, 2), says("base", avail, 8))}, want: "group a|group a|base"},
		{name: "held at the version that is needed", groups: []policy.Group{group("a", 1, says("pinned", req, 2)), group("b", 2, says("base", avail, 7))}},
		{name: "held at no version", groups: []policy.Group{group("a", 1, says("pinned", req)), group("b", 1, says("base", avail))}},
		{name: "held above", groups: []policy.Group{group("a", 1, says("pinned", req), says("base", avail, 8)), group("b", 2, says("base", avail, 7))}, want: "group a|group b|base"},
		{name: "held below", groups: []policy.Group{group("a", 2, says("pinned", req), says("base", avail, 8)), group("b", 1, says("base", avail, 7))}},
		{name: "not required", groups: []policy.Group{group("a", 1, says("pinned", avail)), group("b", 1, says("base", avail, 7))}},
		{name: "through another version", groups: []policy.Group{group("a", 1, says("above", req)), group("b", 1, says("base", avail, 8))}, want: "group a|group b|base"},
		{name: "needs itself", groups: []policy.Group{group("a", 1, says("rounds", req))}},
		{name: "circle", groups: []policy.Group{group("a", 1, says("loop", req))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := policy.Conflicts(test.groups, test.defaults, nil, needs)
			var got []string
			for _, c := range found {
				got = append(got, c.Left+"|"+c.Right+"|"+c.Manifest)
				if c.Text == "" {
					t.Error("a conflict without a text")
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
			if len(policy.New(found, found)) != 0 {
				t.Error("what was there before is new")
			}
		})
	}
}

func TestWindows(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := policy.Window{Days: []string{"fri"}, From: "22:00", To: "04:00", Zone: "Europe/Berlin"}
	if err := night.Check(); err != nil {
		t.Fatal(err)
	}
	for when, want := range map[string]bool{
		"2026-03-06T20:59:00Z": false, "2026-03-06T21:00:00Z": true, // Friday, one hour behind Berlin
		"2026-03-07T02:59:59Z": true, "2026-03-07T03:00:00Z": false, "2026-03-07T22:00:00Z": false, "2026-03-06T01:00:00Z": false,
		"2026-07-03T20:00:00Z": true, // summer: two hours behind
	} {
		if got := night.Open(at(when)); got != want {
			t.Errorf("%s: open %v", when, got)
		}
	}
	for _, w := range []policy.Window{{From: "25:00", To: "04:00"}, {From: "x", To: "04:00"}, {From: "22:00"}, {From: "22:00", To: "23:00", Zone: "Mars"},
		{From: "22:00", To: "23:00", Zone: "Local"}, {From: "22:00", To: "23:00", Days: []string{"Friday"}}} {
		if err := w.Check(); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

// TestWindowsWhenClocksChange: a window is one span also where the clocks show an hour twice, or leave one out.
func TestWindowsWhenClocksChange(t *testing.T) {
	const layout = "2006-01-02T15:04Z07:00"
	for _, test := range []struct {
		name, from, to, zone string
		days                 []string
		day                  string   // looked at from its beginning, for two days
		want                 []string // open from, closed from
	}{
		{"twice", "02:00", "03:00", "Europe/Berlin", nil, "2026-10-25T00:00+02:00", []string{"2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00", "2026-10-26T02:00+01:00", "2026-10-26T03:00+01:00"}},
		{"ends in the hour that comes twice", "23:00", "02:30", "Europe/Berlin", []string{"sat"}, "2026-10-24T12:00+02:00", []string{"2026-10-24T23:00+02:00", "2026-10-25T02:30+02:00"}},
		{"begins in it", "02:30", "05:00", "Europe/Berlin", []string{"sun"}, "2026-10-25T00:00+02:00", []string{"2026-10-25T02:30+02:00", "2026-10-25T05:00+01:00"}},
		{"left out", "02:00", "03:00", "Europe/Berlin", nil, "2026-03-29T00:00+01:00", []string{"2026-03-30T02:00+02:00", "2026-03-30T03:00+02:00"}},
		{"begins in the hour that is left out", "02:30", "04:00", "Europe/Berlin", []string{"sun"}, "2026-03-29T00:00+01:00", []string{"2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"}},
		{"ends in it", "22:00", "02:30", "Europe/Berlin", []string{"sat"}, "2026-03-28T12:00+01:00", []string{"2026-03-28T22:00+01:00", "2026-03-29T03:00+02:00"}},
		{"half an hour", "01:00", "02:15", "Australia/Lord_Howe", []string{"sun"}, "2026-10-04T00:00+10:30", []string{"2026-10-04T01:00+10:30", "2026-10-04T02:30+11:00"}},
		{"a day that there was not", "10:00", "11:00", "Pacific/Apia", nil, "2011-12-29T00:00-10:00", []string{"2011-12-29T10:00-10:00", "2011-12-29T11:00-10:00", "2011-12-31T10:00+14:00", "2011-12-31T11:00+14:00"}},
		{"the whole day", "00:00", "00:00", "", []string{"wed"}, "2026-03-03T12:00Z", []string{"2026-03-04T00:00Z", "2026-03-05T00:00Z"}},
	} {
		w := policy.Window{Days: test.days, From: test.from, To: test.to, Zone: test.zone}
		if err := w.Check(); err != nil {
			t.Fatal(err)
		}
		begin, err := time.Parse(layout, test.day)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		was := w.Open(begin.Add(-time.Minute))
		for m := range 48 * 60 {
			at := begin.Add(time.Duration(m) * time.Minute)
			if is := w.Open(at); is != was {
				was = is
				zone, _ := time.LoadLocation(test.zone)
				got = append(got, at.In(zone).Format(layout))
			}
		}
		if strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%s: open and closed %v, want %v", test.name, got, test.want)
		}
	}
}

func TestAllowList(t *testing.T) {
	key := strings.Repeat("ab", 32)
	l, err := policy.ParseAllowList([]byte("# devices\nkey " + key + " # first\n\nueid 01020304050607\n"))
	if err != nil || l.Len() != 2 {
		t.Fatal(l, err)
	}
	thumb := []byte(strings.Repeat("\xab", 32))
	for _, test := range []struct {
		key, ueid []byte
		want      bool
	}{{thumb, nil, true}, {nil, []byte{1, 2, 3, 4, 5, 6, 7}, true}, {[]byte{1, 2, 3, 4, 5, 6, 7}, nil, false}, {nil, thumb, false}, {nil, nil, false}} {
		if got := l.Allows(test.key, test.ueid); got != test.want {
			t.Errorf("%x %x: %v", test.key, test.ueid, got)
		}
	}
	for _, text := range []string{"key", "key 00", "ueid 00", "name 0102030405060708", "key zz", "key " + key + " x", "ueid " + strings.Repeat("00", 34)} {
		if _, err := policy.ParseAllowList([]byte(text)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestStagesAreStable: a device is in one stage, always the same, and stages have about their share.
// TestAdmissionsSayTheirLabels: what the audit log has of a rule tells two apart that give other labels.
func TestAdmissionsSayTheirLabels(t *testing.T) {
	for want, labels := range map[string]map[string]string{
		`accepts devices with true`: nil,
		`accepts devices with true, with labels ring="new", site="a, b=\"c\""`: {"site": `a, b="c"`, "ring": "new"},
	} {
		if got := (&policy.Admission{Name: "all", Match: "true", Labels: labels}).Describe(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStagesAreStable(t *testing.T) {
	r := policy.Rollout{Name: "r", Stages: []policy.Stage{{Group: "canary"}, {Percent: 10}, {Percent: 50}, {Percent: 100}}}
	no := func(string) bool { return false }
	counts := make([]int, 4)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "id")
		n := r.StageOf(id, no)
		if n != r.StageOf(id, no) || n < 1 || n > 3 {
			t.Fatalf("stage %d", n)
		}
		if r.StageOf(id, func(string) bool { return true }) != 0 {
			t.Fatal("a canary is not in the stage of canaries")
		}
	})
	for i := range 10_000 {
		counts[r.StageOf(strings.Repeat("x", i%7)+time.Duration(i).String(), no)]++
	}
	if counts[0] != 0 || counts[1] < 800 || counts[1] > 1200 || counts[2] < 3600 || counts[2] > 4400 {
		t.Errorf("of 10000 devices the stages have %v", counts)
	}
}

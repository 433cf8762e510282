package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Conflict is a contradiction between two records, found before it reaches devices.
type Conflict struct {
	Manifest string `json:"manifest"`
	// Left and Right name both sides: "group edge", "assignment of 'acme'/'app'".
	Left  string `json:"left"`
	Right string `json:"right"`
	Text  string `json:"text"`
}

// ConflictError says that a record contradicts others.
type ConflictError struct{ Conflicts []Conflict }

// Error implements error.
func (e *ConflictError) Error() string {
	texts := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		texts[i] = c.Text
	}
	return "policy: " + strings.Join(texts, "; ")
}

// Default is what an assignment says for all devices.
type Default struct {
	Manifest string
	Mode     Mode
}

// Need is a manifest that a version depends on. Sequence is that of the version which it names by digest; 0: any.
type Need struct {
	Manifest string
	Sequence uint64
}

// Dependencies tells what a version needs; sequence 0 is the newest that is offered.
type Dependencies func(manifest string, sequence uint64) []Need

// side is a group, or the defaults of all devices, ready to be asked.
type side struct {
	name     string
	priority int
	lowest   bool // below every group
	says     map[string]Component
}

func (s *side) label(manifest string) string {
	if s.lowest {
		return "assignment of " + manifest
	}
	return "group " + s.name
}

// Conflicts finds what contradicts itself for devices that are in two groups, whichever devices these
// are:
//
//   - two groups of one priority of which one requires and the other forbids a manifest, or that hold
//     it at different versions;
//   - a manifest that is required although a manifest that it depends on is forbidden, or held at another
//     version than the one that it names by digest.
//
// Groups of different priorities do not contradict each other: the higher one was meant to count.
// domains has the manifests of each domain. The order of the result depends on the records only.
func Conflicts(groups []Group, defaults []Default, domains map[string][]string, needs Dependencies) []Conflict {
	sides := make([]side, 0, len(groups)+1)
	base := side{lowest: true, says: make(map[string]Component)}
	for _, d := range defaults {
		base.says[d.Manifest] = Component{Manifest: d.Manifest, Mode: d.Mode}
	}
	for _, g := range groups {
		sides = append(sides, side{name: g.Name, priority: g.Priority, says: g.Expand(domains)})
	}
	slices.SortFunc(sides, func(a, b side) int { return strings.Compare(a.name, b.name) })
	sides = append(sides, base)
	var found []Conflict
	for i := range sides {
		for j := i; j < len(sides); j++ {
			if i != j && !sides[i].lowest && !sides[j].lowest && sides[i].priority == sides[j].priority {
				found = append(found, contradictions(&sides[i], &sides[j])...)
			}
			found = append(found, unmetNeeds(&sides[i], &sides[j], needs)...)
		}
	}
	return found
}

// Expand returns what the group says by manifest. What it says of a manifest itself counts before
// what it says of its domain.
func (g *Group) Expand(domains map[string][]string) map[string]Component {
	says := make(map[string]Component)
	for _, x := range g.Components {
		for _, m := range domains[x.Domain] {
			if have, ok := says[m]; !ok || x.Mode.rank() > have.Mode.rank() {
				says[m] = Component{Manifest: m, Mode: x.Mode}
			}
		}
	}
	for _, x := range g.Components {
		if x.Manifest != "" {
			says[x.Manifest] = x
		}
	}
	return says
}

func contradictions(a, b *side) []Conflict {
	var found []Conflict
	for _, m := range manifests(a.says) {
		x := a.says[m]
		y, ok := b.says[m]
		if !ok {
			continue
		}
		text := ""
		switch {
		case x.Mode != y.Mode && min(x.Mode.rank(), y.Mode.rank()) > 0:
			text = fmt.Sprintf("group %s says that %s is %s, and group %s that it is %s", a.name, m, x.Mode, b.name, y.Mode)
		case x.Mode != ModeForbidden && y.Mode != ModeForbidden && x.Sequence != y.Sequence && x.Sequence != 0 && y.Sequence != 0:
			text = fmt.Sprintf("group %s holds %s at sequence number %d, and group %s at %d", a.name, m, x.Sequence, b.name, y.Sequence)
		default:
			continue
		}
		found = append(found, Conflict{m, a.label(m), b.label(m),
			text + fmt.Sprintf(", both with priority %d: give the one that is to count for devices in both a higher priority", a.priority)})
	}
	return found
}

// unmetNeeds looks at devices that are in a and b, or in a alone when both are one.
func unmetNeeds(a, b *side, needs Dependencies) []Conflict {
	var found []Conflict
	for _, required := range union(a.says, b.says) {
		x, from := effective(a, b, required)
		if x.Mode != ModeRequired {
			continue
		}
		for _, needed := range closure(required, x.Sequence, needs) {
			y, by := effective(a, b, needed.Manifest)
			// A pair is looked at for what the two say together; each alone is looked at by itself.
			if a != b && from == by {
				continue
			}
			left, right := from.label(required), by.label(needed.Manifest)
			switch {
			case y.Mode == ModeForbidden:
				found = append(found, Conflict{needed.Manifest, left, right,
					fmt.Sprintf("%s requires %s, which depends on %s, and %s forbids that: allow the dependency, or let the same group forbid %s too",
						left, required, needed.Manifest, right, required)})
			case needed.Sequence != 0 && y.Sequence != 0 && y.Sequence != needed.Sequence:
				found = append(found, Conflict{needed.Manifest, left, right,
					fmt.Sprintf("%s requires %s, which needs %s at sequence number %d, and %s holds that at %d: hold it at %d, or hold %s at a version that needs the other",
						left, required, needed.Manifest, needed.Sequence, right, y.Sequence, needed.Sequence, required)})
			}
		}
	}
	return found
}

// effective is what counts for a manifest on devices that are in a and b.
func effective(a, b *side, manifest string) (Component, *side) {
	x, inA := a.says[manifest]
	y, inB := b.says[manifest]
	switch {
	case !inA && !inB:
		return Component{Mode: ModeAvailable}, a
	case !inB, inA && a.counts(x, b, y):
		return x, a
	}
	return y, b
}

func (s *side) counts(x Component, o *side, y Component) bool {
	if s.lowest != o.lowest {
		return o.lowest
	}
	if s.priority != o.priority {
		return s.priority > o.priority
	}
	return x.Mode.rank() >= y.Mode.rank()
}

// closure lists everything that a manifest depends on, each version that is named once.
func closure(manifest string, sequence uint64, needs Dependencies) []Need {
	var list []Need
	visited := map[Need]bool{{Manifest: manifest}: true, {manifest, sequence}: true}
	var visit func(m string, sequence uint64)
	visit = func(m string, sequence uint64) {
		for _, n := range needs(m, sequence) {
			if !visited[n] {
				visited[n] = true
				list = append(list, n)
				visit(n.Manifest, n.Sequence)
			}
		}
	}
	visit(manifest, sequence)
	return list
}

func manifests(says map[string]Component) []string {
	list := make([]string, 0, len(says))
	for m := range says {
		list = append(list, m)
	}
	slices.Sort(list)
	return list
}

func union(a, b map[string]Component) []string {
	return slices.Compact(slices.SortedFunc(slices.Values(append(manifests(a), manifests(b)...)), cmp.Compare[string]))
}

// New returns the conflicts of after that are not among before: a change answers for its own.
func New(before, after []Conflict) []Conflict {
	return slices.DeleteFunc(slices.Clone(after), func(c Conflict) bool { return slices.Contains(before, c) })
}

// Rule is what one group says about one manifest.
type Rule struct {
	Group    int // index
	Priority int
	Mode     Mode
	Sequence uint64
}

// SortRules puts rules into the order in which they count.
func SortRules(rules []Rule) {
	slices.SortStableFunc(rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(b.Mode.rank(), a.Mode.rank()), cmp.Compare(b.Sequence, a.Sequence))
	})
}

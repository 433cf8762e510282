package describe

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// Change is one difference between two manifests, as it matters to a device.
type Change struct {
	// What is the thing that changes: "sequence-number", a component identifier, a section.
	What string
	// Old and New describe it before and after; empty means that it is not there.
	Old, New string
}

// String is the change in one line.
func (c Change) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("+ %s: %s", c.What, c.New)
	case c.New == "":
		return fmt.Sprintf("- %s: %s", c.What, c.Old)
	}
	return fmt.Sprintf("~ %s: %s -> %s", c.What, c.Old, c.New)
}

// Diff says what changes for a device when the manifest before is replaced by after: numbers,
// versions, components, the parameters that are set for each of them, dependencies and command
// sequences. Both must be parsed; nothing is verified. No change at all gives nil. A section that was
// severed from one of them, or from both, did not change if its digest is the same.
func Diff(before, after *suit.Manifest) []Change {
	var d differ
	before, after = withoutSameSections(before, after)
	d.compare("manifest-component-id", idText(before.ComponentID), idText(after.ComponentID))
	d.compare("sequence-number", fmt.Sprint(before.SequenceNumber), fmt.Sprint(after.SequenceNumber))
	d.compare("version", versionText(before), versionText(after))
	d.compare("reference-uri", stringText(before.ReferenceURI), stringText(after.ReferenceURI))
	d.components(before, after)
	d.dependencies(before, after)
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		d.section(label, before.Section(label), after.Section(label))
	}
	return d.changes
}

// withoutSameSections drops the severable sections that are the same, of which one may not be at hand.
func withoutSameSections(before, after *suit.Manifest) (*suit.Manifest, *suit.Manifest) {
	was, is := *before, *after
	for _, label := range suit.SectionLabels() {
		a, b := was.Section(label), is.Section(label)
		if a.Severed != nil && b.Severed != nil && a.Severed.Equal(*b.Severed) {
			*a, *b = suit.Section{}, suit.Section{}
		}
	}
	return &was, &is
}

type differ struct{ changes []Change }

func (d *differ) compare(what, before, after string) {
	if before != after {
		d.changes = append(d.changes, Change{What: what, Old: before, New: after})
	}
}

func idText(id suit.ComponentID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

func stringText(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func versionText(m *suit.Manifest) string {
	if len(m.SetVersion) == 0 {
		return ""
	}
	return m.SetVersion.String()
}

// components compares components by identifier, whatever their index, with all parameters that
// any sequence sets for them.
func (d *differ) components(before, after *suit.Manifest) {
	was, is := parametersByComponent(before), parametersByComponent(after)
	ids := slices.Concat(before.Common.Components, after.Common.Components)
	slices.SortFunc(ids, suit.ComponentID.Compare)
	for _, id := range slices.CompactFunc(ids, suit.ComponentID.Equal) {
		old, gone := was[id.Key()]
		now, here := is[id.Key()]
		what := "component " + id.String()
		switch {
		case !gone:
			d.compare(what, "", "added")
		case !here:
			d.compare(what, "present", "")
			continue
		}
		labels := slices.Concat(old.Labels(), now.Labels())
		slices.Sort(labels)
		for _, label := range slices.Compact(labels) {
			d.compare(what+" "+label.String(), parameterText(old, label), parameterText(now, label))
		}
	}
}

// parameterText describes one parameter; what has no better form is told by its size and digest.
func parameterText(p suit.Parameters, label suit.ParameterLabel) string {
	raw, ok := p.Raw(label)
	if !ok {
		return ""
	}
	switch label {
	case suit.ParamImageDigest:
		if v, ok := p.Digest(); ok {
			return v.String()
		}
	case suit.ParamImageSize:
		if v, ok := p.Size(); ok {
			return fmt.Sprintf("%d bytes", v)
		}
	case suit.ParamURI:
		if v, ok := p.URI(); ok {
			return fmt.Sprintf("%q", v)
		}
	case suit.ParamVersion:
		if v, ok := p.Version(); ok {
			return v.String()
		}
	case suit.ParamClassIdentifier:
		if v, ok := p.ClassID(); ok {
			return v.String()
		}
	case suit.ParamDeviceIdentifier:
		if v, ok := p.DeviceID(); ok {
			return v.String()
		}
	case suit.ParamVendorIdentifier:
		if v, ok := p.VendorID(); ok && v.PEN == nil {
			return v.UUID.String()
		}
	}
	if len(raw) <= 9 {
		return fmt.Sprintf("%x", raw)
	}
	return fmt.Sprintf("%d bytes, %v", len(raw), suit.NewDigest(raw))
}

// parametersByComponent collects every parameter that is set for a component, the last one
// winning. Alternatives of a try-each are not told apart: sections say where they differ.
func parametersByComponent(m *suit.Manifest) map[string]suit.Parameters {
	collected := map[string]suit.Parameters{}
	for _, id := range m.Common.Components {
		collected[id.Key()] = suit.Parameters{}
	}
	set := func(index uint64, p suit.Parameters) {
		if index < uint64(len(m.Common.Components)) {
			key := m.Common.Components[index].Key()
			all := collected[key].Clone()
			all.Override(p)
			collected[key] = all
		}
	}
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		selected := []uint64{0}
		m.Section(label).Commands.Walk(func(c *suit.Command) bool {
			switch c.Code {
			case suit.DirSetComponentIndex:
				selected = c.Index.Indexes
				if c.Index.All {
					selected = nil
					for i := range m.Common.Components {
						selected = append(selected, uint64(i))
					}
				}
			case suit.DirOverrideParameters, suit.DirSetParameters:
				for _, i := range selected {
					set(i, c.Parameters)
				}
			case suit.DirOverrideMultiple:
				for _, entry := range c.Multiple {
					set(entry.Index, entry.Parameters)
				}
			}
			return true
		})
	}
	return collected
}

func (d *differ) dependencies(before, after *suit.Manifest) {
	text := func(m *suit.Manifest, index uint64) string {
		dep, ok := m.Common.Dependency(index)
		if !ok {
			return ""
		}
		if dep.Prefix == nil {
			return "without prefix"
		}
		return "prefix " + dep.Prefix.String()
	}
	var indexes []uint64
	for _, dep := range slices.Concat(before.Common.Dependencies, after.Common.Dependencies) {
		indexes = append(indexes, dep.Index)
	}
	slices.Sort(indexes)
	for _, i := range slices.Compact(indexes) {
		d.compare(fmt.Sprintf("dependency %d", i), text(before, i), text(after, i))
	}
}

// section compares the commands of a section, parameters left out: those are compared by
// component.
func (d *differ) section(label suit.Label, before, after *suit.Section) {
	d.compare(label.String(), sectionText(before), sectionText(after))
}

func sectionText(s *suit.Section) string {
	switch {
	case !s.Present():
		return ""
	case !s.Available():
		return "severed, " + s.Severed.String()
	}
	text := ""
	s.Commands.Walk(func(c *suit.Command) bool {
		if c.Code == suit.DirOverrideParameters || c.Code == suit.DirSetParameters {
			return true
		}
		if text != "" {
			text += ", "
		}
		text += c.Code.String()
		if c.Code == suit.DirSetComponentIndex {
			text += " " + indexText(c.Index)
		}
		return true
	})
	if text == "" {
		return "parameters only"
	}
	return text
}

func indexText(a suit.IndexArg) string {
	if a.All {
		return "all"
	}
	return fmt.Sprint(a.Indexes)
}

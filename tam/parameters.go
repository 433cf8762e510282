package tam

import (
	"slices"

	"github.com/go-teep/teep/suit"
)

// componentState is what the command sequences of a manifest do with one component, as far as the
// manifest alone tells.
type componentState struct {
	id suit.ComponentID // nil of a dependency that is named by prefix alone
	// final are the parameters after the last command.
	final   suit.Parameters
	fetches []fetch
}

// fetch is a fetch directive with the parameters at that point.
type fetch struct {
	uri       string
	digest    suit.Digest
	hasDigest bool
	encrypted bool
	// component is what it is fetched into.
	component suit.ComponentID
}

func (s *componentState) digest() (suit.Digest, bool) { return s.final.Digest() }

// componentParameters follows the sequences that bring payloads to a device, in the order of the
// update procedure (SUIT §6.3). Of a try-each every alternative is followed, because devices differ.
func componentParameters(m *suit.Manifest) []componentState {
	w := walk{states: make([]componentState, m.Common.IndexCount())}
	for i, id := range m.Common.Components {
		w.states[i].id = id
	}
	w.selected = []uint64{0}
	shared := m.Common.SharedSequence.Commands
	w.sequence(shared, 0)
	for _, label := range []suit.Label{suit.LabelDependencyResolution, suit.LabelPayloadFetch, suit.LabelInstall} {
		w.selected = []uint64{0}
		w.sequence(m.Section(label).Commands, 0)
	}
	for i := range w.states {
		// A digest may be given after the fetch and before the image match.
		d, ok := w.states[i].final.Digest()
		for n := range w.states[i].fetches {
			if f := &w.states[i].fetches[n]; !f.hasDigest {
				f.digest, f.hasDigest = d, ok
			}
		}
	}
	return w.states
}

type walk struct {
	states   []componentState
	selected []uint64
}

// maxWalkDepth is beyond what the parser of the suit package lets through.
const maxWalkDepth = 32

func (w *walk) sequence(s suit.Sequence, depth int) {
	if depth > maxWalkDepth {
		return
	}
	for i := range s {
		w.command(&s[i], depth)
	}
}

func (w *walk) command(c *suit.Command, depth int) {
	switch c.Code {
	case suit.DirSetComponentIndex:
		w.selected = w.indexes(c.Index)
	case suit.DirOverrideParameters:
		w.each(func(s *componentState) { s.final.Override(c.Parameters) })
	case suit.DirSetParameters:
		w.each(func(s *componentState) { s.final.SetMissing(c.Parameters) })
	case suit.DirOverrideMultiple:
		for _, entry := range c.Multiple {
			if entry.Index < uint64(len(w.states)) {
				w.states[entry.Index].final.Override(entry.Parameters)
			}
		}
	case suit.DirCopyParams:
		for _, entry := range c.Copies {
			if entry.Source < uint64(len(w.states)) {
				source := w.states[entry.Source].final.Only(entry.Labels...)
				w.each(func(s *componentState) { s.final.Override(source) })
			}
		}
	case suit.DirFetch:
		w.each(func(s *componentState) {
			f := fetch{component: s.id, encrypted: s.final.Has(suit.ParamEncryptionInfo)}
			f.uri, _ = s.final.URI()
			f.digest, f.hasDigest = s.final.Digest()
			s.fetches = append(s.fetches, f)
		})
	case suit.DirTryEach, suit.DirRunSequence:
		selected := slices.Clone(w.selected)
		for _, nested := range c.Sequences {
			w.selected = slices.Clone(selected)
			w.sequence(nested, depth+1)
		}
		w.selected = selected
	}
}

func (w *walk) indexes(arg suit.IndexArg) []uint64 {
	if !arg.All {
		return arg.Indexes
	}
	all := make([]uint64, len(w.states))
	for i := range all {
		all[i] = uint64(i)
	}
	return all
}

func (w *walk) each(f func(*componentState)) {
	for _, i := range w.selected {
		if i < uint64(len(w.states)) {
			f(&w.states[i])
		}
	}
}

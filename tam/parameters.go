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
	// matched says that a condition compares its content with a digest, moved that content gets from one component
	// to another.
	matched, moved bool
}

// neverCompared tells whether something is fetched for sure that nothing vouches for.
func (s *componentState) neverCompared() bool {
	return !s.matched && !s.moved && slices.ContainsFunc(s.fetches, func(f fetch) bool { return !f.maybe && !f.encrypted })
}

// fetch is a fetch directive with the parameters at that point.
type fetch struct {
	uri       string
	digest    suit.Digest
	hasDigest bool
	size      uint64
	hasSize   bool
	encrypted bool
	// maybe says that it is one of several alternatives, or that its failure may be of no consequence.
	maybe bool
	// isDependency says that what is fetched is an envelope.
	isDependency bool
	// component is what it is fetched into.
	component suit.ComponentID
}

// otherSize tells whether a size is another than the manifest says.
func (f *fetch) otherSize(n int64) bool { return f.hasSize && f.size != uint64(n) }

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
	// What these set is for later procedures, but what they compare counts.
	checks := walk{states: slices.Clone(w.states)}
	for _, label := range []suit.Label{suit.LabelCandidateVerification, suit.LabelValidate} {
		checks.selected = []uint64{0}
		checks.sequence(m.Section(label).Commands, 0)
	}
	for i := range w.states {
		w.states[i].matched, w.states[i].moved = checks.states[i].matched, checks.states[i].moved
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
			f.size, f.hasSize = s.final.Size()
			f.maybe = depth > 0
			s.fetches = append(s.fetches, f)
		})
	case suit.CondImageMatch:
		w.each(func(s *componentState) { s.matched = true })
	case suit.DirCopy, suit.DirSwap:
		for i := range w.states {
			w.states[i].moved = true
		}
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

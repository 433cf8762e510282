package agent

import (
	"fmt"
	"maps"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

var (
	_ processor.Tx             = (*tx)(nil)
	_ processor.SequenceDigest = (*tx)(nil)
)

// Commit implements processor.Tx: the staged changes become the record, in one step. Afterwards
// applications whose code changed or left are closed, and the sealed data of those that left is
// removed.
func (t *tx) Commit() error {
	if t.done {
		return errTxDone
	}
	if len(t.components)+len(t.manifests)+len(t.sequences) == 0 {
		t.done = true
		return nil
	}
	if err := t.a.change(t.apply); err != nil {
		return err
	}
	t.done = true
	t.a.closeReplaced()
	t.a.removeLeft()
	return nil
}

func (t *tx) apply(next *state.Record) error {
	if t.a.anchors != t.anchors {
		return errTrustReplaced // Agent.mu is held: they cannot change from here on
	}
	for key, c := range t.components {
		before, had := next.Components[key]
		switch {
		case c != nil:
			next.Components[key] = *c
		case had:
			delete(next.Components, key)
			delete(next.Unneeded, key)
			next.Leaving[key] = before.ID
		}
	}
	maps.Copy(next.Sequences, t.sequences)
	for key, m := range t.manifests {
		if m == nil {
			delete(next.Manifests, key)
		} else {
			next.Manifests[key] = *m
		}
	}
	// Only now the manifests are complete, which say how new a component is.
	for key, q := range next.Requested {
		if fulfils(next, q) {
			delete(next.Requested, key)
		}
	}
	return t.checkSize(next)
}

// checkSize keeps installing from filling the record. Only installing is refused: bookkeeping has
// bounds of its own, and it must be possible to remove something when the record is full.
func (t *tx) checkSize(next *state.Record) error {
	data, err := next.Encode()
	if err != nil {
		return err
	}
	if limit := t.a.cfg.Limits.Record; len(data) > limit && len(next.Manifests) >= len(t.base.Manifests) {
		return fmt.Errorf("%w: the state record would have %d bytes, at most %d: unlink something first", ErrLimit, len(data), limit)
	}
	return nil
}

// fulfils tells whether what is installed is what was requested.
func fulfils(r *state.Record, q state.Request) bool {
	if !r.Installed(q.ID) {
		return false
	}
	m, ok := r.Installer(q.ID)
	return q.MinSequence == 0 || ok && m.Sequence >= q.MinSequence
}

func toProcessor(m state.Manifest) processor.ManifestRecord {
	r := processor.ManifestRecord{
		ID: m.ID.Clone(), SequenceNumber: m.Sequence, Envelope: m.Envelope, Digest: m.Digest.Clone(), Root: m.Root,
		Dependents: cloneIDs(m.Dependents), Components: cloneIDs(m.Components), Prefix: m.Prefix.Clone(), Signer: m.Signer,
	}
	for _, d := range m.Dependencies {
		r.Dependencies = append(r.Dependencies, processor.Dependency{Component: d.Component.Clone(), ID: d.ID.Clone(), Digest: d.Digest.Clone()})
	}
	return r
}

func fromProcessor(r processor.ManifestRecord) state.Manifest {
	m := state.Manifest{
		ID: r.ID.Clone(), Sequence: r.SequenceNumber, Envelope: r.Envelope, Digest: r.Digest.Clone(), Root: r.Root,
		Dependents: cloneIDs(r.Dependents), Components: cloneIDs(r.Components), Prefix: r.Prefix.Clone(), Signer: r.Signer,
	}
	for _, d := range r.Dependencies {
		m.Dependencies = append(m.Dependencies, state.Dependency{Component: d.Component.Clone(), ID: d.ID.Clone(), Digest: d.Digest.Clone()})
	}
	return m
}

func cloneIDs(in []suit.ComponentID) []suit.ComponentID {
	var out []suit.ComponentID
	for _, id := range in {
		out = append(out, id.Clone())
	}
	return out
}

package processor

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// The persistent reference counts are the manifest records themselves: a component is referred
// to by every record that names it, a manifest by its Dependents. They count a manifest once,
// however often it says so, and survive a restart with the transaction that wrote them (trust
// domains §suit-directive-unlink).

// users lists the manifests that refer to a component.
func (r *run) users(id suit.ComponentID) ([]suit.ComponentID, error) {
	if r.refs == nil {
		all, err := r.tx.Manifests()
		if err != nil {
			return nil, fmt.Errorf("read manifest records: %w", err)
		}
		r.refs = map[string][]suit.ComponentID{}
		for _, record := range all {
			for _, c := range record.Components {
				r.refs[c.Key()] = append(r.refs[c.Key()], record.ID)
			}
		}
	}
	return r.refs[id.Key()], nil
}

func (r *run) put(record ManifestRecord) error {
	r.refs, r.changed = nil, true
	if err := r.tx.PutManifest(record); err != nil {
		return fmt.Errorf("record manifest %s: %w", record.ID, err)
	}
	return nil
}

// unreferenced fails when a manifest that this run does not replace refers to the component.
func (r *run) unreferenced(id suit.ComponentID) error {
	users, err := r.users(id)
	if err != nil {
		return err
	}
	for _, u := range users {
		if !r.group[u.Key()] {
			return fmt.Errorf("%w: %s is in use by %s", ErrReferenced, id, u)
		}
	}
	return nil
}

// register records the manifests of a tree, dependencies first, and lets go of what their
// predecessors had and they have not.
func (r *run) register(root *node) error {
	dependents := map[string][]suit.ComponentID{}
	r.edges(root, map[*node]bool{}, func(from, to *node) {
		if list := dependents[to.id.Key()]; !slices.ContainsFunc(list, from.id.Equal) {
			dependents[to.id.Key()] = append(list, from.id)
		}
	})
	type change struct {
		old ManifestRecord
		now ManifestRecord
	}
	var changes []change
	err := root.visit(func(n *node) error {
		old, err := r.tx.Manifest(n.id)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return fmt.Errorf("read manifest record: %w", err)
		}
		now := r.recordOf(n, old, dependents[n.id.Key()])
		if n.settled && now.Root == old.Root && len(now.Dependents) == len(old.Dependents) {
			return nil
		}
		changes = append(changes, change{old, now})
		return r.put(now)
	})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := r.release(c.old, c.now); err != nil {
			return err
		}
	}
	return r.describe(root)
}

func (r *run) edges(n *node, seen map[*node]bool, f func(from, to *node)) {
	if seen[n] {
		return
	}
	seen[n] = true
	for _, child := range n.children {
		f(n, child)
		r.edges(child, seen, f)
	}
}

func (r *run) recordOf(n *node, old ManifestRecord, dependents []suit.ComponentID) ManifestRecord {
	now := old
	if !n.settled {
		kept := *n.envelope
		kept.Integrated = nil
		now = ManifestRecord{ID: n.id, SequenceNumber: n.manifest.SequenceNumber, Envelope: kept.Encode(),
			Digest: n.digest, Root: old.Root, Dependents: old.Dependents, Signer: n.signer, Prefix: n.prefix}
		gone := r.unlinked[n.id.Key()]
		for _, id := range n.own() {
			if !gone[id.Key()] {
				now.Components = append(now.Components, id)
			}
		}
		for i := range n.comps {
			c := &n.comps[i]
			if child := n.children[c.index]; child != nil && !gone[c.key()] {
				now.Dependencies = append(now.Dependencies, Dependency{Component: c.id, ID: child.id, Digest: child.digest})
			}
		}
	}
	now.Root = now.Root || n.parent == nil
	for _, d := range dependents {
		if !slices.ContainsFunc(now.Dependents, d.Equal) {
			now.Dependents = append(slices.Clone(now.Dependents), d)
		}
	}
	return now
}

// describe keeps the parameters that outlive the procedure.
func (r *run) describe(root *node) error {
	return root.visit(func(n *node) error {
		if n.settled {
			return nil
		}
		for _, id := range n.own() {
			p := r.x.params[id.Key()].Only(suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamDeviceIdentifier,
				suit.ParamImageDigest, suit.ParamImageSize, suit.ParamVersion, suit.ParamComponentMetadata)
			if p.Len() == 0 {
				continue
			}
			if err := r.tx.SetParameters(id, p.Clone()); err != nil {
				return fmt.Errorf("record parameters of %s: %w", id, err)
			}
		}
		return nil
	})
}

// release lets go of the components and dependencies of old that now no longer has.
func (r *run) release(old, now ManifestRecord) error {
	for _, id := range old.Components {
		if !slices.ContainsFunc(now.Components, id.Equal) {
			if err := r.removeUnused(id); err != nil {
				return err
			}
		}
	}
	for _, d := range old.Dependencies {
		if slices.ContainsFunc(now.Dependencies, func(o Dependency) bool { return o.ID.Equal(d.ID) }) {
			continue
		}
		if err := r.dropReference(d.ID, old.ID); err != nil {
			return err
		}
	}
	return nil
}

// removeUnused empties a component that no manifest refers to.
func (r *run) removeUnused(id suit.ComponentID) error {
	users, err := r.users(id)
	if err != nil || len(users) > 0 {
		return err
	}
	content, err := r.tx.Content(id)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = content.Close()
	r.changed = true
	if err := r.tx.Remove(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	r.origin.removed(id)
	return nil
}

// dropReference takes a dependent from a manifest, and removes the manifest when it was the last
// one and nobody installed it for its own sake.
func (r *run) dropReference(id, dependent suit.ComponentID) error {
	record, err := r.tx.Manifest(id)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read manifest record: %w", err)
	}
	before := len(record.Dependents)
	record.Dependents = slices.DeleteFunc(slices.Clone(record.Dependents), dependent.Equal)
	if len(record.Dependents) == 0 && !record.Root {
		return r.removeOrphan(record)
	}
	if len(record.Dependents) == before {
		return nil
	}
	return r.put(record)
}

// consistent is the last check before a commit: every dependency is there in the version that is
// pinned, and knows its dependents.
func (r *run) consistent() error {
	all, err := r.tx.Manifests()
	if err != nil {
		return fmt.Errorf("read manifest records: %w", err)
	}
	byID := make(map[string]*ManifestRecord, len(all))
	for i := range all {
		byID[all[i].ID.Key()] = &all[i]
	}
	for i := range all {
		for _, d := range all[i].Dependencies {
			target := byID[d.ID.Key()]
			if target == nil || !target.Digest.Equal(d.Digest) {
				return fmt.Errorf("%w: %s needs %s in version %s", ErrReferenced, all[i].ID, d.ID, d.Digest)
			}
			if !slices.ContainsFunc(target.Dependents, all[i].ID.Equal) {
				return fmt.Errorf("manifest records disagree: %s does not know its dependent %s", d.ID, all[i].ID)
			}
		}
	}
	return nil
}

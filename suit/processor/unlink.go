package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// unlink gives up this manifest's reference to a component or a dependency (trust domains
// §suit-directive-unlink). A second unlink by the same manifest changes nothing.
func (r *run) unlink(k *call) error {
	mine := r.unlinked[k.n.id.Key()]
	if mine == nil {
		mine = map[string]bool{}
		r.unlinked[k.n.id.Key()] = mine
	}
	if mine[k.c.key()] {
		return nil
	}
	mine[k.c.key()] = true
	record, err := r.tx.Manifest(k.n.id)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("read manifest record: %w", err)
	}
	if k.c.dependency {
		return r.unlinkDependency(k, record)
	}
	if i := slices.IndexFunc(record.Components, k.c.id.Equal); i >= 0 {
		record.Components = slices.Delete(slices.Clone(record.Components), i, i+1)
		if err := r.put(record); err != nil {
			return err
		}
	}
	return r.removeUnused(k.c.id)
}

func (r *run) unlinkDependency(k *call, record ManifestRecord) error {
	delete(r.incoming, k.c.key())
	delete(k.n.children, k.c.index)
	i := slices.IndexFunc(record.Dependencies, func(d Dependency) bool { return d.Component.Equal(k.c.id) })
	if i < 0 {
		return nil
	}
	id := record.Dependencies[i].ID
	record.Dependencies = slices.Delete(slices.Clone(record.Dependencies), i, i+1)
	if err := r.put(record); err != nil {
		return err
	}
	before, here := r.cause, recordAt(k.n.path, k.f.label, k.cmd.Offset, k.index())
	r.cause = &here
	err := r.dropReference(id, record.ID)
	r.cause = before
	return err
}

// removeOrphan removes a dependency that lost its last dependent. Seen from the root manifest its commands
// have no place, because whether they run depends on what else is installed: the report tells of them apart
// (removal.go). A failure in them is one of what made it an orphan.
func (r *run) removeOrphan(record ManifestRecord) error {
	trail := r.x.trail
	r.x.trail = func(s Step) { s.Aside = true; trail(s) }
	err := r.removeManifest(record)
	r.x.trail = trail
	if err == nil {
		return nil
	}
	f := asFailure(err)
	return &Failure{Reason: f.Reason, Err: fmt.Errorf("remove %s, which nobody needs any more: %w", record.ID, f)}
}

// removeManifest runs the suit-uninstall section of a manifest that nobody needs any more, if it
// did not run yet, and removes what is left of it. Its sequence number stays.
func (r *run) removeManifest(record ManifestRecord) error {
	own, err := r.components(record)
	if err != nil {
		return err
	}
	return r.forget(record, own)
}

// components retires a manifest, if that was not done yet in this run.
func (r *run) components(record ManifestRecord) ([]suit.ComponentID, error) {
	if key := record.ID.Key(); r.x.executed[key][suit.LabelUninstall] {
		r.rep.removed(record, r.cause)
		if n := r.nodes[key]; n != nil {
			return n.own(), nil
		}
		return record.Components, nil
	}
	n, err := r.reopen(record)
	if err != nil {
		return nil, err
	}
	if n == nil {
		r.rep.removed(record, r.cause)
		return record.Components, nil
	}
	r.rep.beginRemoval(record, r.cause)
	abandoned, err := r.retire(n)
	r.rep.endRemoval(abandoned, err)
	if err != nil {
		return nil, err
	}
	return n.own(), nil
}

// retire runs the suit-uninstall section. A dependency whose signer lost its rights must not keep its
// dependents installed: then the rest of the section is abandoned.
func (r *run) retire(n *node) (abandoned bool, err error) {
	r.group[n.id.Key()] = true
	err = r.uninstallSection(n)
	if err != nil && distrusted(err) {
		return true, nil
	}
	return false, err
}

// forget removes what is left of a manifest. Its section may have unlinked some of it, and filled
// it again; what nobody refers to does not stay.
func (r *run) forget(record ManifestRecord, own []suit.ComponentID) error {
	left, err := r.tx.Manifest(record.ID)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read manifest record: %w", err)
	}
	r.refs, r.changed = nil, true
	if err := r.tx.RemoveManifest(record.ID); err != nil {
		return fmt.Errorf("remove manifest %s: %w", record.ID, err)
	}
	left.Components = own
	return r.release(left, ManifestRecord{ID: record.ID})
}

// uninstallSection is a procedure of its own, and starts with no parameters (SUIT §6.1).
func (r *run) uninstallSection(n *node) error {
	before, proc := r.x.params, r.proc
	r.x.params, r.proc = map[string]suit.Parameters{}, ProcedureUninstall
	err := r.x.section(n, suit.LabelUninstall)
	r.x.params, r.proc = before, proc
	return err
}

// reopen makes the node of an installed manifest for its uninstall section. A manifest whose
// signer is no longer trusted is not executed; then there is no node and no error, and the
// processor removes what the records say.
func (r *run) reopen(record ManifestRecord) (*node, error) {
	n, err := r.p.open(r.ctx, record)
	if err == nil {
		return n, nil
	}
	if distrusted(err) {
		return nil, nil
	}
	return nil, err
}

// distrusted tells whether a manifest failed because of who signed it.
func distrusted(err error) bool {
	switch asFailure(err).Reason {
	case suit.ReasonUnauthorised, suit.ReasonComponentUnauthorised, suit.ReasonAlgUnsupported:
		return true
	}
	return false
}

// open authenticates and checks an installed manifest again, against the rights of today.
func (p *Processor) open(ctx context.Context, record ManifestRecord) (*node, error) {
	e, err := suit.ParseEnvelope(record.Envelope)
	if err != nil {
		return nil, asFailure(fmt.Errorf("recorded envelope: %w", err))
	}
	if !e.Digest.Equal(record.Digest) {
		return nil, fail(suit.ReasonOperationFailed, "the recorded envelope is not the one that was installed")
	}
	a, rights, err := p.authenticate(e, true)
	if err != nil {
		return nil, err
	}
	n, err := p.prepare(a, rights, nil, record.ID, record.Prefix)
	if err != nil {
		return nil, err
	}
	return n, p.checkManifest(ctx, n)
}

package processor

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/suit"
)

// envelope finds the envelope behind a dependency: the one that was fetched in this run, or the
// one that is installed. ErrNotExist if there is none.
func (r *run) envelope(n *node, c *component) (*suit.Envelope, error) {
	if e := r.incoming[c.key()]; e != nil {
		return e, nil
	}
	record, err := r.installed(n, c)
	if err != nil {
		return nil, err
	}
	e, err := suit.ParseEnvelope(record.Envelope)
	if err != nil {
		return nil, fmt.Errorf("recorded envelope of %s: %w", record.ID, err)
	}
	return e, nil
}

// installed finds the record of a dependency: where the dependent's own record points, or else
// under the component identifier itself.
func (r *run) installed(n *node, c *component) (ManifestRecord, error) {
	id := c.id
	own, err := r.tx.Manifest(n.id)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return ManifestRecord{}, err
	}
	for _, d := range own.Dependencies {
		if d.Component.Equal(c.id) {
			id = d.ID
		}
	}
	return r.tx.Manifest(id)
}

// pinned is the digest that the dependent's own record has for a dependency.
func (r *run) pinned(n *node, c *component) (suit.Digest, bool) {
	own, err := r.tx.Manifest(n.id)
	if err != nil || !own.Digest.Equal(n.digest) {
		return suit.Digest{}, false
	}
	for _, d := range own.Dependencies {
		if d.Component.Equal(c.id) {
			return d.Digest, true
		}
	}
	return suit.Digest{}, false
}

// fetchDependency obtains an envelope. What was checked of an earlier one no longer counts
// (trust domains §suit-condition-dependency-integrity).
func (r *run) fetchDependency(k *call) error {
	key := k.c.key()
	delete(k.n.children, k.c.index)
	delete(r.incoming, key)
	if found := r.already(k); found != nil {
		r.incoming[key] = found
		return nil
	}
	src, err := r.open(k)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	data, err := r.readEnvelope(src)
	if err != nil {
		return err
	}
	if info, ok := k.args.EncryptionInfo(); ok {
		if data, err = r.decryptEnvelope(data, info); err != nil {
			return err
		}
		r.consumed[key] = string(info)
	}
	e, err := r.p.parse(data)
	if err != nil {
		return err
	}
	r.incoming[key] = e
	return nil
}

// already finds an envelope with the right digest among those that came along and those that
// are installed. Like a fetched one, it is verified before it is used.
func (r *run) already(k *call) *suit.Envelope {
	want, ok := k.args.Digest()
	if !ok {
		return nil
	}
	for _, e := range r.available {
		if e.Digest.Equal(want) {
			return e
		}
	}
	if record, err := r.installed(k.n, k.c); err == nil && record.Digest.Equal(want) {
		if e, err := suit.ParseEnvelope(record.Envelope); err == nil {
			return e
		}
	}
	return nil
}

func (r *run) readEnvelope(src io.Reader) ([]byte, error) {
	limit := r.p.cfg.Limits.Envelope
	data, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: the envelope of the dependency is longer than %d bytes", ErrLimit, limit)
	}
	return data, nil
}

func (r *run) decryptEnvelope(data, info []byte) ([]byte, error) {
	open, err := r.unwrap(info)
	if err != nil {
		return nil, err
	}
	plain, err := open.reader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return r.readEnvelope(plain)
}

// checkDependencyIntegrity is suit-condition-dependency-integrity. Any failure aborts.
func (r *run) checkDependencyIntegrity(k *call) (m suit.Parameters, err error) {
	if !k.c.dependency {
		return m, fail(suit.ReasonConditionFailed, "the component is not a dependency")
	}
	want, ok := k.args.Digest()
	if !ok {
		return m, fail(suit.ReasonConditionFailed, "parameter %s is not set", suit.ParamImageDigest)
	}
	child, err := r.integrity(k, want)
	if err != nil {
		return m, err
	}
	m.SetDigest(child.digest)
	return m, nil
}

// integrity authenticates a dependency, compares it with the digest that its dependent wants,
// and makes all the checks that come before it runs (trust domains §required-checks). The
// signature is verified always, also where the dependent's signer has all the rights.
func (r *run) integrity(k *call, want suit.Digest) (*node, error) {
	if child := k.n.children[k.c.index]; child != nil && child.digest.Equal(want) {
		return child, nil
	}
	e, err := r.envelope(k.n, k.c)
	if errors.Is(err, ErrNotExist) {
		return nil, fail(suit.ReasonConditionFailed, "the dependency was not fetched and is not installed")
	}
	if err != nil {
		return nil, err
	}
	if !e.Digest.Equal(want) {
		return nil, fail(suit.ReasonConditionFailed, "the dependency has digest %s, the dependent wants %s", e.Digest, want)
	}
	record, err := r.installed(k.n, k.c)
	a, rights, err := r.p.authenticate(e, err == nil && record.Digest.Equal(e.Digest))
	if err != nil {
		return nil, err
	}
	id := k.c.id
	if a.Manifest.ComponentID != nil {
		id = k.c.prefix.Join(a.Manifest.ComponentID)
	}
	child, err := r.p.prepare(a, rights, k.n, id, k.c.prefix)
	if err != nil {
		return nil, err
	}
	if err := r.admit(k, child); err != nil {
		f := *asFailure(err)
		f.soft = false
		if f.Section == 0 && f.Manifest == nil {
			f.Manifest = append(append([]uint64{}, k.n.path...), k.c.ordinal)
		}
		return nil, &f
	}
	return child, nil
}

// admit checks a dependency that was authenticated and takes it into the tree.
func (r *run) admit(k *call, child *node) error {
	limits := r.p.cfg.Limits
	if child.depth() > limits.Depth {
		return fmt.Errorf("%w: dependencies nest deeper than %d", ErrLimit, limits.Depth)
	}
	for p := child.parent; p != nil; p = p.parent {
		if p.id.Equal(child.id) || p.digest.Equal(child.digest) {
			return fmt.Errorf("%s depends on itself", child.id)
		}
	}
	key := child.id.Key()
	known, seen := r.nodes[key]
	if seen && !known.digest.Equal(child.digest) {
		return fmt.Errorf("two versions of %s are needed in one tree", child.id)
	}
	if !seen && len(r.nodes) >= limits.Dependencies {
		return fmt.Errorf("%w: more than %d manifests in one tree", ErrLimit, limits.Dependencies)
	}
	if err := checkID(child); err != nil {
		return err
	}
	k.n.attach(k.c, child)
	err := r.p.checkManifest(r.ctx, child)
	if err == nil {
		err = r.populated(k.n, child)
	}
	if err == nil {
		err = r.place(child, known)
	}
	if err != nil {
		delete(k.n.children, k.c.index)
		return err
	}
	if !seen {
		r.nodes[key] = child
	}
	// One that was unlinked in this run is a dependency again, and is to be recorded as one.
	delete(r.unlinked[k.n.id.Key()], k.c.key())
	return nil
}

// place decides whether the dependency is to be installed, or is there.
func (r *run) place(child, known *node) (err error) {
	if r.proc != ProcedureUpdate {
		return nil
	}
	if known != nil {
		child.settled = known.settled
		return nil
	}
	if child.settled, err = r.checkSequence(child); err != nil || child.settled {
		return err
	}
	if err := r.unpinned(child); err != nil {
		return err
	}
	r.group[child.id.Key()] = true
	return nil
}

// populated checks that the dependent has every section of this procedure that the dependency
// has (trust domains §required-checks).
func (r *run) populated(n, child *node) error {
	for _, phase := range r.proc.phases() {
		if phase == suit.LabelUninstall {
			continue // an uninstall section may unlink the dependency instead
		}
		_, has, _ := child.section(phase)
		if _, parent, _ := n.section(phase); has && !parent {
			return fail(suit.ReasonOperationFailed, "the dependency has a %s section and its dependent has none", phase)
		}
	}
	return nil
}

// enter implements machine.
func (r *run) enter(k *call) (*node, bool, error) {
	child := k.n.children[k.c.index]
	if child == nil {
		if !r.p.cfg.ImplicitDependencyIntegrity {
			return nil, false, fail(suit.ReasonOperationFailed,
				"the dependency was not the target of condition-dependency-integrity")
		}
		want, ok := k.args.Digest()
		if !ok {
			if want, ok = r.pinned(k.n, k.c); !ok {
				return nil, false, fail(suit.ReasonConditionFailed, "parameter %s is not set", suit.ParamImageDigest)
			}
		}
		var err error
		if child, err = r.integrity(k, want); err != nil {
			return nil, false, err
		}
	}
	return child, r.nothingToDo(k, child), nil
}

// nothingToDo tells whether a section of a dependency is skipped: what is installed already is
// not installed again, and what others need is not uninstalled.
func (r *run) nothingToDo(k *call, child *node) bool {
	switch k.f.phase {
	case suit.LabelDependencyResolution, suit.LabelPayloadFetch, suit.LabelCandidateVerification, suit.LabelInstall:
		return child.settled
	case suit.LabelUninstall:
		return r.needed(child.id, k.n.id)
	}
	return false
}

// needed tells whether a manifest stays when one of its dependents goes.
func (r *run) needed(id, without suit.ComponentID) bool {
	record, err := r.tx.Manifest(id)
	if err != nil {
		return false
	}
	for _, d := range record.Dependents {
		if !d.Equal(without) {
			return true
		}
	}
	return record.Root
}

// resolved checks, after suit-dependency-resolution, that every dependency is there and was
// checked before any payload is fetched (trust domains §suit-dependency-resolution).
func (r *run) resolved(n *node) error {
	for i := range n.comps {
		c := &n.comps[i]
		if !c.dependency {
			continue
		}
		child := n.children[c.index]
		if child == nil {
			k := &call{f: &frame{n: n, phase: suit.LabelDependencyResolution, label: suit.LabelDependencyResolution},
				n: n, c: c, cmd: &suit.Command{Code: suit.CondDependencyIntegrity}, args: r.x.params[c.paramKey()]}
			var err error
			if child, _, err = r.enter(k); err != nil {
				f := *asFailure(err)
				f.Component, f.ComponentIndex = c.id, c.index
				return &f
			}
		}
		if err := r.resolved(child); err != nil {
			return err
		}
	}
	return nil
}

package processor

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/suit"
)

// Procedure names what a Processor does with a manifest.
type Procedure int

// The procedures (SUIT §8.4.6, trust domains §5 and §6).
const (
	// ProcedureUpdate is staging, installation and validation.
	ProcedureUpdate Procedure = iota + 1
	ProcedureValidate
	// ProcedureInvoke is validation, loading and invocation.
	ProcedureInvoke
	ProcedureUninstall
)

// String is the word for it.
func (p Procedure) String() string {
	switch p {
	case ProcedureUpdate, ProcedureValidate, ProcedureInvoke, ProcedureUninstall:
		return string(p.course())
	}
	return "none"
}

func (p Procedure) phases() []suit.Label {
	switch p {
	case ProcedureUpdate:
		return append(append([]suit.Label{}, installPhases...), suit.LabelValidate)
	case ProcedureValidate:
		return []suit.Label{suit.LabelValidate}
	case ProcedureInvoke:
		return invocationPhases
	case ProcedureUninstall:
		return []suit.Label{suit.LabelUninstall}
	}
	return nil
}

// Update installs what a manifest describes. It must not be called with an envelope that changes
// while it runs. The error, if any, is a *Failure, and says the same as the report.
func (p *Processor) Update(ctx context.Context, envelope []byte, o UpdateOptions) (*suit.Report, error) {
	reports, err := p.UpdateAll(ctx, [][]byte{envelope}, o)
	return reports[0], err
}

// Validate runs the suit-validate section of an installed manifest and of its dependencies. It
// changes nothing: whatever the section does besides checking is rolled back.
func (p *Processor) Validate(ctx context.Context, manifestID suit.ComponentID, o Options) (*suit.Report, error) {
	return p.installed(ctx, manifestID, ProcedureValidate, o)
}

// Invoke validates, loads and invokes what an installed manifest describes. What suit-load
// prepared is committed before a component is started. The component must not call this
// Processor while it is being started: procedures run one at a time.
func (p *Processor) Invoke(ctx context.Context, manifestID suit.ComponentID, o Options) (*suit.Report, error) {
	return p.installed(ctx, manifestID, ProcedureInvoke, o)
}

// Uninstall runs the suit-uninstall section of an installed manifest, and then removes what only
// it referred to: components, and dependencies that nobody installed for their own sake. A
// manifest that others depend on is not uninstalled: ErrReferenced.
func (p *Processor) Uninstall(ctx context.Context, manifestID suit.ComponentID, o Options) (*suit.Report, error) {
	return p.installed(ctx, manifestID, ProcedureUninstall, o)
}

// installed runs a procedure on a manifest that is recorded.
func (p *Processor) installed(ctx context.Context, id suit.ComponentID, proc Procedure, o Options) (*suit.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.Time)
	defer cancel()
	rep := newReporter(o.Nonce, p.cfg.Limits.Records)
	rep.reference.Digest = suit.NewDigest(nil) // until the manifest is found
	ran := false
	err := p.transact(ctx, func(tx Tx) (Tx, bool, error) {
		r := p.newRun(ctx, tx, proc, rep, o.Trail)
		r.dryRun = o.DryRun
		if o.Pending != nil {
			r.pending = func(k *call) error { return o.Pending(rep.pendingReport(k)) }
		}
		err := r.onInstalled(id)
		ran = err == nil
		return r.tx, r.changed && !o.DryRun && proc != ProcedureValidate, err
	})
	if ran {
		err = after(lastOf(proc), err)
	}
	return rep.report(err, p.Capabilities), wrapFailure(err)
}

func lastOf(proc Procedure) suit.Label { phases := proc.phases(); return phases[len(phases)-1] }

// wrapFailure keeps a nil error nil.
func wrapFailure(err error) error {
	if err == nil {
		return nil
	}
	return asFailure(err)
}

// transact runs f in a transaction. f returns the transaction that is open in the end, and
// whether to commit it if there was no error.
func (p *Processor) transact(ctx context.Context, f func(Tx) (Tx, bool, error)) error {
	tx, err := p.cfg.Platform.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx, commit, err := f(tx)
	if err == nil && commit {
		if err = tx.Commit(); err == nil {
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	if e := tx.Rollback(); e != nil && err == nil {
		err = fmt.Errorf("roll back: %w", e)
	}
	return err
}

func (r *run) onInstalled(id suit.ComponentID) error {
	record, err := r.tx.Manifest(id)
	if errors.Is(err, ErrNotExist) {
		f := fail(suit.ReasonOperationFailed, "no such manifest is installed: %w", err)
		f.Component = id
		return f
	}
	if err != nil {
		return fmt.Errorf("read manifest record: %w", err)
	}
	r.rep.reference.Digest = record.Digest
	if r.proc == ProcedureUninstall {
		return r.uninstall(record)
	}
	n, err := r.p.open(r.ctx, record)
	if err != nil {
		return err
	}
	r.begin(n)
	r.rep.tell(r.proc.course(), n.id, &record.Digest)
	for _, phase := range r.proc.phases() {
		if err := r.x.section(n, phase); err != nil {
			return after(phase, err)
		}
	}
	return after(lastOf(r.proc), r.checked())
}

// begin takes the root of the tree.
func (r *run) begin(n *node) {
	r.root = n
	r.nodes[n.id.Key()] = n
	r.group[n.id.Key()] = true
	r.rep.refer(n.envelope, n.manifest)
}

// checked fails if content from outside was not vouched for.
func (r *run) checked() error {
	if id, bad := r.origin.unverified(); bad {
		f := fail(suit.ReasonOperationFailed, "%w", ErrUnverified)
		f.Component = id
		return f
	}
	return nil
}

func (r *run) uninstall(record ManifestRecord) error {
	for _, d := range record.Dependents {
		f := fail(suit.ReasonOperationFailed, "%w: %s depends on it", ErrReferenced, d)
		f.Component = record.ID
		return f
	}
	if e, err := suit.ParseEnvelope(record.Envelope); err == nil {
		if m, err := e.UnverifiedManifest(); err == nil {
			r.rep.refer(e, m)
		}
	}
	record.Root = false
	r.group[record.ID.Key()] = true
	n, err := r.reopen(record)
	if err != nil {
		return err
	}
	own := record.Components // what it may have touched is more, unless nothing of it may run
	if n == nil {
		r.rep.tell(courseRemove, record.ID, &record.Digest)
	} else {
		r.rep.tell(courseUninstall, record.ID, &record.Digest)
		abandoned, err := r.retire(n)
		if err != nil {
			return after(suit.LabelUninstall, err)
		}
		if abandoned {
			r.rep.tell(courseAbandoned, record.ID, nil)
		}
		own = n.own()
	}
	err = r.forget(record, own)
	if err == nil {
		err = r.consistent()
	}
	return after(suit.LabelUninstall, err)
}

// update installs the tree under root.
func (r *run) update(n *node) error {
	r.begin(n)
	same, err := r.checkSequence(n)
	if err != nil {
		return err
	}
	if !same {
		if err := r.unpinned(n); err != nil {
			return err
		}
	}
	before, err := r.recorded(n.id)
	if err != nil {
		return err
	}
	r.rep.tell(courseUpdate, n.id, before)
	if same {
		if done, err := r.again(n); done || err != nil {
			return after(suit.LabelValidate, err)
		}
	}
	if err := r.install(n); err != nil {
		return err
	}
	if err := r.x.section(n, suit.LabelValidate); err != nil {
		return after(suit.LabelValidate, err)
	}
	err = r.checked()
	if err == nil {
		err = r.register(n)
	}
	return after(suit.LabelValidate, err)
}

// recorded is the digest of the manifest that is installed; nil if none is.
func (r *run) recorded(id suit.ComponentID) (*suit.Digest, error) {
	record, err := r.tx.Manifest(id)
	if errors.Is(err, ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest record: %w", err)
	}
	return &record.Digest, nil
}

func (r *run) install(n *node) error {
	for _, phase := range installPhases {
		if err := r.x.section(n, phase); err != nil {
			return after(phase, err)
		}
		if phase == suit.LabelDependencyResolution {
			if err := r.resolved(n); err != nil {
				return after(phase, err)
			}
		}
	}
	return nil
}

// again is for the very manifest that is installed: if it validates, nothing is to be done but
// to remember that it is wanted for its own sake now.
func (r *run) again(n *node) (done bool, err error) {
	trial := r.p.newRun(r.ctx, r.tx, ProcedureValidate, r.rep, r.x.trail)
	trial.origin = r.origin
	trial.begin(n)
	why := courseRepairContent
	switch err := trial.x.section(n, suit.LabelValidate); {
	case err != nil && r.ctx.Err() != nil:
		return false, err
	case err != nil:
		if why = courseRepairOperation; asFailure(err).Reason == suit.ReasonConditionFailed {
			why = courseRepairCondition
		}
	case !trial.changed && r.complete(n):
		record, err := r.tx.Manifest(n.id)
		if err != nil || record.Root {
			return true, err
		}
		record.Root = true
		return true, r.put(record)
	}
	if err := r.ctx.Err(); err != nil {
		return false, fmt.Errorf("stopped: %w", err)
	}
	// It does not hold any more: apply it again.
	r.rep.tell(why, n.id, nil)
	fresh, err := newNode(nil, n.manifest, n.id, n.prefix)
	if err != nil {
		return false, err
	}
	n.children, n.ran, n.comps = fresh.children, fresh.ran, fresh.comps
	return false, nil
}

// complete tells whether every component of an installed manifest still has content. Validation
// alone would not miss one that it does not look at.
func (r *run) complete(n *node) bool {
	record, err := r.tx.Manifest(n.id)
	if err != nil {
		return false
	}
	for _, id := range record.Components {
		content, err := r.tx.Content(id)
		if err != nil {
			return false
		}
		_ = content.Close()
	}
	return true
}

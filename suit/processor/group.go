package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// job is one manifest of an UpdateAll.
type job struct {
	node *node
	rep  *reporter
	err  error
	// ran tells that all of it was done.
	ran bool
}

// UpdateAll installs several manifests in one transaction: all of them or none. They are ordered
// so that a manifest comes after those that it depends on, and each may serve the others as a
// dependency. There is one report for each envelope, in the order given; the error is that of
// the manifest that failed, and the others report ErrRolledBack. With no envelopes it does
// nothing.
func (p *Processor) UpdateAll(ctx context.Context, envelopes [][]byte, o UpdateOptions) ([]*suit.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.Time)
	defer cancel()

	jobs := make([]*job, len(envelopes))
	var failed error
	for i, data := range envelopes {
		jobs[i] = p.accept(ctx, data, o, len(envelopes))
		if failed == nil {
			failed = jobs[i].err
		}
	}
	if failed == nil && len(jobs) > 0 {
		failed = p.runJobs(ctx, jobs, o)
	}
	reports := make([]*suit.Report, len(jobs))
	for i, j := range jobs {
		if j.err == nil && failed != nil {
			j.err = &Failure{Reason: suit.ReasonOperationFailed, Err: ErrRolledBack}
			if len(jobs) == 1 {
				j.err = failed
			}
			if j.ran {
				j.err = after(suit.LabelValidate, j.err)
			}
		}
		reports[i] = j.rep.report(j.err, p.Capabilities)
	}
	return reports, wrapFailure(failed)
}

// Check makes those checks of Update that need no device and no payload: the limits on the envelope, its signature
// and what the signer may do, and the walk through all commands of the manifest, whether or not they would run. What
// is behind its dependencies it does not look at. The error, if any, is a *Failure.
func (p *Processor) Check(ctx context.Context, envelope []byte, o UpdateOptions) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.Time)
	defer cancel()
	return wrapFailure(p.accept(ctx, envelope, o, 1).err)
}

// accept verifies one envelope and makes the checks that need no transaction.
func (p *Processor) accept(ctx context.Context, data []byte, o UpdateOptions, of int) *job {
	j := &job{rep: newReporter(o.Nonce, p.cfg.Limits.Records)}
	// A report refers to the manifest by its digest; for what is no envelope, by that of all bytes.
	j.rep.reference.Digest = suit.NewDigest(data)
	j.err = func() error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped: %w", err)
		}
		e, err := p.parse(data)
		if err != nil {
			return err
		}
		j.rep.refer(e, nil)
		a, rights, err := p.authenticate(e, false)
		if err != nil {
			return err
		}
		j.rep.refer(e, a.Manifest)
		id := a.Manifest.ComponentID
		if id == nil {
			if id = o.ManifestID; id == nil {
				return fail(suit.ReasonOperationFailed,
					"the manifest has no manifest-component-id, and UpdateOptions.ManifestID does not say where to record it")
			}
			if of > 1 {
				return fail(suit.ReasonOperationFailed, "UpdateOptions.ManifestID is for one manifest, not for %d", of)
			}
		}
		if j.node, err = p.prepare(a, rights, nil, id, nil); err != nil {
			return err
		}
		if a.Manifest.ComponentID != nil {
			if err := checkID(j.node); err != nil {
				return err
			}
		}
		return p.checkManifest(ctx, j.node)
	}()
	return j
}

func (p *Processor) runJobs(ctx context.Context, jobs []*job, o UpdateOptions) error {
	available, err := p.alongside(jobs, o.Available)
	if err != nil {
		return err
	}
	ordered, err := orderJobs(jobs)
	if err != nil {
		return err
	}
	return p.transact(ctx, func(tx Tx) (Tx, bool, error) {
		group, origin := map[string]bool{}, newOrigins()
		for _, j := range ordered {
			if group[j.node.id.Key()] {
				j.err = fail(suit.ReasonOperationFailed, "two of the manifests are for %s", j.node.id)
				return tx, false, j.err
			}
			group[j.node.id.Key()] = true
		}
		var last *run
		changed := false
		for _, j := range ordered {
			r := p.newRun(ctx, tx, ProcedureUpdate, j.rep, o.Trail)
			r.group, r.origin, r.available, r.dryRun = group, origin, available, o.DryRun
			if j.err = r.update(j.node); j.err != nil {
				return tx, false, j.err
			}
			j.ran = true
			last, changed = r, changed || r.changed
		}
		return tx, changed && !o.DryRun, last.consistent()
	})
}

// alongside parses the outside of envelopes that may serve as dependencies.
func (p *Processor) alongside(jobs []*job, further [][]byte) ([]*suit.Envelope, error) {
	var list []*suit.Envelope
	for _, j := range jobs {
		list = append(list, j.node.envelope)
	}
	for i, data := range further {
		e, err := p.parse(data)
		if err != nil {
			return nil, fmt.Errorf("UpdateOptions.Available[%d]: %w", i, err)
		}
		list = append(list, e)
	}
	return list, nil
}

var errCircle = errors.New("the manifests depend on each other in a circle")

// orderJobs puts dependencies before dependents and keeps the given order otherwise.
func orderJobs(jobs []*job) ([]*job, error) {
	var ordered []*job
	const visiting, done = 1, 2
	state := map[*job]int{}
	var visit func(j *job) error
	visit = func(j *job) error {
		switch state[j] {
		case visiting:
			return &Failure{Reason: suit.ReasonOperationFailed, Component: j.node.id, Err: errCircle}
		case done:
			return nil
		}
		state[j] = visiting
		for _, other := range jobs {
			if other != j && dependsOn(j.node, other.node) {
				if err := visit(other); err != nil {
					return err
				}
			}
		}
		state[j] = done
		ordered = append(ordered, j)
		return nil
	}
	for _, j := range jobs {
		if err := visit(j); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// dependsOn looks at what a manifest says before it runs: the identifiers of its dependencies,
// and the digests that it sets.
func dependsOn(n, other *node) bool {
	deps := slices.DeleteFunc(slices.Clone(n.comps), func(c component) bool { return !c.dependency })
	if len(deps) == 0 {
		return false
	}
	if slices.ContainsFunc(deps, func(c component) bool { return c.id.Equal(other.id) }) {
		return true
	}
	found := false
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		s := n.manifest.Section(label)
		s.Commands.Walk(func(c *suit.Command) bool {
			if d, ok := c.Parameters.Digest(); ok && d.Equal(other.digest) {
				found = true
			}
			return !found
		})
	}
	return found
}

package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// ErrMismatch says that a report does not belong to the manifest, or cannot come from an honest
// run of it (SUIT report §5).
var ErrMismatch = errors.New("processor: the report does not match the manifest")

// Explain expands a report into the trail of commands that it stands for: it runs the manifest
// again without a device, and lets the records decide the conditions (SUIT report §3). The
// manifests of dependencies are found by the digests that the dependents want; give their
// envelopes in any order. Nothing is verified but the digests: verify report and envelopes first.
//
// A condition without a record succeeded. Dependencies that were installed already when the
// procedure ran look as if they had been processed. If the report and the manifest contradict
// each other, the trail up to there comes with ErrMismatch.
func Explain(report *suit.Report, proc Procedure, root *suit.Envelope, dependencies ...*suit.Envelope) ([]Step, error) {
	m, err := replayable(root)
	if err != nil {
		return nil, err
	}
	if !root.Digest.Equal(report.Reference.Digest) {
		return nil, fmt.Errorf("%w: it is about manifest %s, this is %s", ErrMismatch, report.Reference.Digest, root.Digest)
	}
	n, err := newNode(nil, m, m.ComponentID, nil)
	if err != nil {
		return nil, err
	}
	n.digest = root.Digest
	r := &replay{failure: report.Failure, dependencies: dependencies}
	for _, e := range report.Records {
		if e.Record != nil {
			r.records = append(r.records, e.Record)
		}
	}
	if report.Failure != nil && report.Failure.Record.Section == 0 {
		return nil, nil // nothing ran
	}
	var trail []Step
	r.x = newInterpreter(context.Background(), r, DefaultLimits())
	r.x.trail = func(s Step) { trail = append(trail, s) }
	r.x.record = func(k *call, _ suit.Parameters, err error) {
		// A dependency is recorded when it is done; and what the interpreter refuses by itself,
		// it refuses here as there.
		if k.cmd.Code == suit.DirProcessDependency || err != nil && r.asked != k {
			r.next(k)
		}
	}
	err = r.run(n, proc)
	return trail, r.verdict(err)
}

// replayable parses a manifest and holds it against its own digest.
func replayable(e *suit.Envelope) (*suit.Manifest, error) {
	m, err := e.UnverifiedManifest()
	if err != nil {
		return nil, err
	}
	d, err := manifestDigest(e, e.Digest)
	if err != nil {
		return nil, err
	}
	if !d.Equal(e.Digest) {
		return nil, suit.ErrManifestDigest
	}
	return m, nil
}

// replay is the machine that takes decisions from records.
type replay struct {
	x            *interpreter
	records      []*suit.Record
	failure      *suit.Failure
	dependencies []*suit.Envelope
	asked        *call
}

var errStopped = errors.New("the procedure ended here")

func (r *replay) run(n *node, proc Procedure) error {
	for _, phase := range proc.phases() {
		if err := r.x.section(n, phase); err != nil {
			return err
		}
	}
	return nil
}

// verdict compares how the replay ended with what the report says.
func (r *replay) verdict(err error) error {
	switch {
	case len(r.records) > 0:
		left := r.records[0]
		return fmt.Errorf("%w: nothing in it explains the record of %v, %s at byte %d", ErrMismatch, left.ManifestID, left.Section, left.Offset)
	case err == nil && r.failure != nil && r.failure.Record.Offset != 0:
		return fmt.Errorf("%w: the run should not have failed", ErrMismatch)
	case err != nil && r.failure == nil:
		return fmt.Errorf("%w: the run should have failed: %w", ErrMismatch, err)
	}
	return nil
}

func at(rec *suit.Record, k *call) bool {
	return slices.Equal(rec.ManifestID, k.n.path) && rec.Section == k.f.label &&
		rec.Offset == uint64(k.cmd.Offset) && rec.ComponentIndex == uint64(k.c.index)
}

// next takes the record of a command, if it has one. Records are in the order of events.
func (r *replay) next(k *call) *suit.Record {
	if len(r.records) == 0 || !at(r.records[0], k) {
		return nil
	}
	rec := r.records[0]
	r.records = r.records[1:]
	return rec
}

// ends tells whether the procedure ended at this command.
func (r *replay) ends(k *call) bool {
	return r.failure != nil && len(r.records) == 0 && at(&r.failure.Record, k)
}

// apply implements machine.
func (r *replay) apply(k *call) (suit.Parameters, error) {
	r.asked = k
	rec := r.next(k)
	if r.ends(k) {
		// What failed softly in the last sequence of a try-each failed that as well.
		soft := k.cmd.Code == suit.DirFetch && rec != nil ||
			k.cmd.Code.IsCondition() && k.cmd.Code != suit.CondDependencyIntegrity && r.failure.Reason == suit.ReasonConditionFailed
		return suit.Parameters{}, &Failure{Reason: r.failure.Reason, Err: errStopped, soft: soft}
	}
	switch {
	case k.cmd.Code == suit.CondAbort, k.cmd.Code == suit.CondIsDependency && !k.c.dependency:
		return suit.Parameters{}, unmet("the condition does not hold")
	case rec == nil || satisfied(k, rec.Properties):
		return suit.Parameters{}, nil
	}
	return suit.Parameters{}, unmet("the condition did not hold")
}

// enter implements machine.
func (r *replay) enter(k *call) (*node, bool, error) {
	r.asked = k
	alone := len(r.records) == 0 || len(r.records) == 1 && at(r.records[0], k)
	if r.failure != nil && alone && at(&r.failure.Record, k) {
		return nil, false, &Failure{Reason: r.failure.Reason, Err: errStopped}
	}
	if child := k.n.children[k.c.index]; child != nil {
		return child, false, nil
	}
	want, ok := k.args.Digest()
	if !ok {
		return nil, true, nil
	}
	for _, e := range r.dependencies {
		if !e.Digest.Equal(want) {
			continue
		}
		m, err := replayable(e)
		if err != nil {
			return nil, false, err
		}
		id := k.c.id
		if m.ComponentID != nil {
			id = k.c.prefix.Join(m.ComponentID)
		}
		child, err := newNode(k.n, m, id, k.c.prefix)
		if err != nil {
			return nil, false, err
		}
		child.digest = e.Digest
		k.n.attach(k.c, child)
		return child, false, nil
	}
	return nil, true, nil
}

// satisfied decides a recorded condition from what was measured: it is the reverse of the
// functions in conditions.go, and of a record for a fetch.
func satisfied(k *call, m suit.Parameters) bool {
	switch k.cmd.Code {
	case suit.CondVendorIdentifier:
		want, ok := k.args.VendorID()
		have, measured := m.VendorID()
		return ok && measured && want.Namespace() == have.Namespace()
	case suit.CondClassIdentifier:
		return sameParameter(k, m, suit.ParamClassIdentifier)
	case suit.CondDeviceIdentifier:
		return sameParameter(k, m, suit.ParamDeviceIdentifier)
	case suit.CondComponentSlot:
		return sameParameter(k, m, suit.ParamComponentSlot)
	case suit.CondUpdateAuthorized:
		return sameParameter(k, m, suit.ParamUpdatePriority)
	case suit.CondDependencyIntegrity:
		return sameParameter(k, m, suit.ParamImageDigest)
	case suit.CondImageMatch:
		want, ok := k.args.Size()
		have, measured := m.Size()
		return sameParameter(k, m, suit.ParamImageDigest) && (!ok || !measured || want == have)
	case suit.CondImageNotMatch:
		return k.args.Has(suit.ParamImageDigest) && !sameParameter(k, m, suit.ParamImageDigest)
	case suit.CondCheckContent:
		want, ok := k.args.Content()
		have, measured := m.Size()
		return ok && measured && have == uint64(len(want))
	}
	return satisfiedByOrder(k, m)
}

// satisfiedByOrder is satisfied for what is compared by size.
func satisfiedByOrder(k *call, m suit.Parameters) bool {
	switch k.cmd.Code {
	case suit.CondUseBefore:
		limit, ok := k.args.UseBefore()
		now, measured := m.UseBefore()
		return ok && measured && now < limit
	case suit.CondMinimumBattery:
		want, ok := k.args.MinimumBattery()
		have, measured := m.MinimumBattery()
		return ok && measured && have >= want
	case suit.CondVersion:
		want, ok := k.args.Version()
		have, measured := m.Version()
		return ok && measured && want.Matches(have.Value)
	case suit.DirFetch:
		return m.Has(suit.ParamImageSize) || k.c.dependency && m.Has(suit.ParamImageDigest)
	}
	return true
}

func sameParameter(k *call, m suit.Parameters, l suit.ParameterLabel) bool {
	want, ok := k.args.Raw(l)
	have, measured := m.Raw(l)
	return ok && measured && string(want) == string(have)
}

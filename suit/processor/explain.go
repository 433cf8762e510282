package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// Errors of Explain.
var (
	// ErrMismatch says that a report does not belong to the manifest, or cannot come from an honest
	// run of it (SUIT report §5).
	ErrMismatch = errors.New("processor: the report does not match the manifest")
	// ErrUntold says that a report does not say which procedure ran. Nobody can tell from a success
	// without records whether a manifest was installed, found installed, started or uninstalled.
	ErrUntold = errors.New("processor: the report does not say which procedure ran: say it")
	// ErrCut says that the device left records out, because there were too many. The trail is the one
	// up to there.
	ErrCut = errors.New("processor: the device left out the records of what came next")
)

// DependencyError says that a dependency was processed whose manifest Explain was not given. The trail
// is the one up to there.
type DependencyError struct {
	Dependency suit.ComponentID
	// Digest is that of its manifest; without Bytes where the dependent does not say it.
	Digest suit.Digest
}

func (e *DependencyError) Error() string {
	if len(e.Digest.Bytes) == 0 {
		return fmt.Sprintf("processor: the manifest of dependency %s is needed to follow what ran in it", e.Dependency)
	}
	return fmt.Sprintf("processor: the manifest of dependency %s is needed to follow what ran in it: the one of digest %s", e.Dependency, e.Digest)
}

// Explanation is a report, expanded.
type Explanation struct {
	// Procedure is what ran; 0 where nothing did, or where nobody knows.
	Procedure Procedure
	// Told says that the report itself tells the procedure, or has records of sections that no other
	// has. Else it is what the caller said.
	Told bool
	// Found tells that an update found the manifest installed, so that it only validated it; and
	// Repaired, that it then installed it anew all the same.
	Found, Repaired bool
	// Removed tells that a manifest was uninstalled without executing anything of it, because its
	// signer is not trusted any more.
	Removed bool
	// Steps is the trail of commands that were executed, and no others.
	Steps []Step
	// Unneeded are the manifests that were removed because nobody needs them any more.
	Unneeded []Unneeded
}

// Explain expands a report into the trail of commands that it stands for: it runs the manifest
// again without a device, and lets the records decide the conditions (SUIT report §3). The
// manifests of dependencies are found by the digests that the dependents want; give their
// envelopes in any order. Nothing is verified but the digests: verify report and envelopes first.
//
// Reports of this package say which procedure ran. For those that do not, proc says it, or Explain
// returns ErrUntold; else it may be 0, and must not contradict the report. Whether an update found its
// manifest installed, and so ran suit-validate alone, nobody can say for the report.
//
// A condition without a record succeeded. What was done to remove manifests that nobody needs any more is [Step.Aside],
// and expanded where their envelopes are among the dependencies. If the report and the manifest contradict each
// other, the trail up to there comes with ErrMismatch.
func Explain(report *suit.Report, proc Procedure, root *suit.Envelope, dependencies ...*suit.Envelope) (*Explanation, error) {
	m, err := replayable(root)
	if err != nil {
		return nil, err
	}
	if !root.Digest.Equal(report.Reference.Digest) {
		return nil, fmt.Errorf("%w: it is about manifest %s, this is %s", ErrMismatch, report.Reference.Digest, root.Digest)
	}
	a, err := readAccount(report, m.ComponentID, root.Digest)
	if err != nil {
		return nil, err
	}
	first := &a.stretches[0]
	// Nothing ran if the failure has no place, or is of a command that the required checks refused: one
	// that failed when it ran has a record.
	if f := report.Failure; !a.told && f != nil && (f.Record.Section == 0 || f.Record.Offset != 0 && len(first.records) == 0) {
		return &Explanation{Told: true}, nil
	}
	if !a.told {
		a.infer(report)
	}
	switch {
	case a.proc == 0 && proc == 0:
		return nil, ErrUntold
	case a.proc != 0 && proc != 0 && a.proc != proc:
		return nil, fmt.Errorf("%w: what ran was another procedure: %s", ErrMismatch, a.proc)
	case a.proc == 0:
		a.proc = proc
	}
	if !a.told {
		first.proc = a.proc
	}
	ex := &Explanation{Procedure: a.proc, Told: a.told || a.inferred, Found: a.found, Repaired: len(a.stretches) > 1, Removed: a.removed}
	if a.removed {
		r := &replay{stretch: first, dependencies: dependencies, unlinked: map[string]bool{}, failure: report.Failure, cut: a.cut, ex: ex}
		r.begin()
		err := r.rest()
		if r.lost != nil {
			err = r.lost
		}
		return ex, err
	}
	for i := range a.stretches {
		last := i == len(a.stretches)-1
		n, err := newNode(nil, m, m.ComponentID, nil)
		if err != nil {
			return ex, err
		}
		n.digest = root.Digest
		r := &replay{stretch: &a.stretches[i], dependencies: dependencies, unlinked: map[string]bool{}, ex: ex}
		if last {
			r.failure, r.cut = report.Failure, a.cut
		}
		if r.abandoned || !last && r.failed {
			r.failure = r.brokenOff()
		}
		r.sever(n)
		if err := r.follow(n); err != nil {
			return ex, err
		}
	}
	return ex, nil
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
	*stretch
	x            *interpreter
	failure      *suit.Failure
	dependencies []*suit.Envelope
	asked        *call
	// taken tells that the record of the dependency that was asked for last is used up; used counts all
	// records that are.
	taken bool
	used  int
	ex    *Explanation
	// unlinked are the dependencies that were, by manifest and component.
	unlinked map[string]bool
	// cut says that records are missing after the last. lost is why the trail cannot be followed any
	// further.
	cut  bool
	lost error
}

var errStopped = errors.New("the procedure ended here")

// brokenOff is the failure of a validation that was given up for an installation: the last record is
// that of the command that failed. There is none where it failed between two commands, which it does
// in the replay as well.
func (r *replay) brokenOff() *suit.Failure {
	f := &suit.Failure{Reason: suit.ReasonConditionFailed}
	if r.broken {
		f.Reason = suit.ReasonOperationFailed
	}
	if n := len(r.records); n > 0 {
		f.Record = *r.records[n-1]
	}
	return f
}

// sever takes away the section that the device did not have when it was to run.
func (r *replay) sever(n *node) {
	if f := r.failure; f != nil && f.Code == CodeSevered && slices.Equal(f.Record.ManifestID, n.path) {
		if s := n.manifest.Section(f.Record.Section); s != nil && s.Severed != nil {
			s.Commands = nil
		}
	}
}

// follow runs a procedure and appends its steps to the trail.
func (r *replay) follow(n *node) error {
	r.begin()
	err := r.run(n)
	if r.lost != nil {
		return r.lost
	}
	return r.verdict(err)
}

// begin makes the interpreter.
func (r *replay) begin() {
	r.x = newInterpreter(context.Background(), r, DefaultLimits())
	r.x.trail = func(s Step) {
		if r.lost == nil {
			r.ex.Steps = append(r.ex.Steps, s)
		}
	}
	r.x.halt = r.halt
	r.x.record = func(k *call, _ suit.Parameters, err error) {
		// A dependency is recorded when it is done; and what the interpreter refuses by itself,
		// it refuses here as there.
		if steers(k.cmd.Code) {
			return // halt did
		}
		if r.asked != k || k.cmd.Code == suit.DirProcessDependency && !r.taken {
			r.next(k)
		}
	}
}

func (r *replay) run(n *node) error {
	phases := r.proc.phases()
	for i, phase := range phases {
		err := r.x.section(n, phase)
		// What is removed at the end comes after the last section, or what of that was executed.
		if i == len(phases)-1 && (err == nil || r.abandoned) {
			if e := r.rest(); e != nil {
				return e
			}
		}
		if err != nil {
			return err
		}
		// It failed between two sections.
		if f := r.failure; f != nil && f.Record.Offset == 0 && f.Record.Section == phase && len(r.records) == 0 {
			return errStopped
		}
	}
	return nil
}

// verdict compares how the replay ended with what the report says.
func (r *replay) verdict(err error) error {
	switch {
	case len(r.removals) > 0:
		return fmt.Errorf("%w: nothing in it explains why %s was removed", ErrMismatch, r.removals[0].ID)
	case len(r.records) > 0:
		left := r.records[0]
		return fmt.Errorf("%w: nothing in it explains the record of %v, %s at byte %d", ErrMismatch, left.ManifestID, left.Section, left.Offset)
	case err == nil && r.failure != nil:
		return fmt.Errorf("%w: the run should not have failed", ErrMismatch)
	case err != nil && r.failure == nil:
		return fmt.Errorf("%w: the run should have failed: %w", ErrMismatch, err)
	}
	return nil
}

// lose ends the replay where nothing says any more what happened.
func (r *replay) lose() error {
	if r.lost == nil {
		r.lost = ErrCut
	}
	return &Failure{Reason: suit.ReasonOperationFailed, Err: errStopped}
}

func at(rec *suit.Record, k *call) bool {
	return slices.Equal(rec.ManifestID, k.n.path) && rec.Section == k.f.label &&
		rec.Offset == uint64(k.cmd.Offset) && rec.ComponentIndex == uint64(k.index())
}

// next takes the record of a command, if it has one. Records are in the order of events.
func (r *replay) next(k *call) *suit.Record {
	if len(r.records) == 0 || !at(r.records[0], k) {
		return nil
	}
	rec := r.records[0]
	r.records, r.used = r.records[1:], r.used+1
	return rec
}

// dry tells that nothing says any more what happened.
func (r *replay) dry() bool { return r.cut && len(r.records) == 0 && len(r.removals) == 0 }

// ends tells whether the procedure ended at this command, whose record is always the last one.
func (r *replay) ends(k *call, rec *suit.Record) bool {
	return !r.cut && r.failure != nil && len(r.records) == 0 && rec != nil && at(&r.failure.Record, k)
}

// halt ends the procedure at a command that steers the interpreter, if that is where it ended; the
// record of that is the last one.
func (r *replay) halt(f *frame, cmd *suit.Command, c *component) error {
	k := &call{f: f, n: f.n, c: c, cmd: cmd}
	if r.dry() {
		return r.lose()
	}
	if rec := r.next(k); !r.ends(k, rec) {
		return nil
	}
	return &Failure{Reason: r.failure.Reason, Err: errStopped}
}

// apply implements machine.
func (r *replay) apply(k *call) (suit.Parameters, error) {
	r.asked = k
	if r.dry() {
		return suit.Parameters{}, r.lose()
	}
	if k.cmd.Code == suit.DirUnlink {
		if err := r.unlinks(k); err != nil {
			return suit.Parameters{}, err
		}
	}
	rec := r.next(k)
	r.void(k)
	if r.ends(k, rec) {
		// What failed softly in the last sequence of a try-each failed that as well.
		soft := k.cmd.Code == suit.DirFetch && r.failure.Code == CodeUnavailable ||
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

// void forgets what was checked of a dependency, once another envelope comes or none is left.
func (r *replay) void(k *call) {
	key := k.n.id.Key() + k.c.key()
	if !k.c.dependency || k.cmd.Code != suit.DirFetch && (k.cmd.Code != suit.DirUnlink || r.unlinked[key]) {
		return
	}
	delete(k.n.children, k.c.index)
	if k.cmd.Code == suit.DirUnlink {
		r.unlinked[key] = true
	}
}

// enter implements machine.
func (r *replay) enter(k *call) (*node, bool, error) {
	r.asked, r.taken = k, false
	if r.dry() {
		return nil, false, r.lose()
	}
	if len(r.records) > 0 && at(r.records[0], k) {
		// What was done inside is recorded before the dependency itself; here nothing was.
		last := len(r.records) == 1 && r.failure != nil && at(&r.failure.Record, k)
		if last || r.records[0].Properties.Has(suit.ParamImageDigest) {
			r.next(k)
			r.taken = true
		}
		if last {
			return nil, false, &Failure{Reason: r.failure.Reason, Err: errStopped}
		}
	}
	skip := r.taken
	if child := k.n.children[k.c.index]; child != nil {
		return child, skip, nil
	}
	if skip {
		return nil, true, nil // and so it does not matter what is in it
	}
	want, _ := k.args.Digest()
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
		r.sever(child)
		return child, false, nil
	}
	r.x.step(k.f, k.cmd, k.c, nil) // it began
	r.lost = &DependencyError{Dependency: k.c.id, Digest: want}
	return nil, false, r.lose()
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

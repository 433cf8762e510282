package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// Proposal is a change that is not made yet. Exactly one field is set.
type Proposal struct {
	Group       *policy.Group
	DeleteGroup string
	Domain      *policy.Domain
	Removal     *policy.Removal
	// LiftRemoval is the name of a removal.
	LiftRemoval string
	// Rollout is looked at as if all of its stages were open, and one of its windows.
	Rollout    *policy.Rollout
	Assignment *Assignment
}

// PreviewOptions bound a preview. What is not looked at, another one goes on with after [Preview.Next].
type PreviewOptions struct {
	// After is the ID of a device: those behind it are looked at; empty: from the first one on.
	After string
	// MaxDevices is how many devices are looked at; 0: all.
	MaxDevices int64
	// Until is when no further ones are looked at; zero: as long as it takes.
	Until time.Time
	// Examples is how many changed devices are described.
	Examples int
}

// Preview is what a proposal would change, with the next message of each device and whatever that asks for.
type Preview struct {
	// Devices were looked at; Complete says that behind them are no others. Next is the last one of them where there may be.
	Devices  int64
	Complete bool
	Next     string
	// Chosen is how many accepted devices are in the group, or chosen by the rollout or removal.
	Chosen int64
	// NotEvaluated is for how many the condition could not be evaluated, so that it does not hold.
	NotEvaluated int64
	// Changed is how many accepted devices would be told to do something else than now.
	Changed                 int64
	Installs, Updates, Gone int64
	// Stages is how many devices each stage of a rollout has.
	Stages []int64
	// Conflicts are why it could not be saved.
	Conflicts []policy.Conflict
	Examples  []PreviewedDevice
}

// PreviewedDevice is a device with what would be different on it.
type PreviewedDevice struct {
	ID     string
	Labels map[string]string
	// Changes are sentences: "install 'acme'/'app' sequence number 3".
	Changes []string
}

// previewStep is after how many devices it is asked whether there is time for more.
const previewStep = 100

// Preview finds out what a proposal would change. It looks at every device, page by page, and changes
// nothing. The error is [policy.ErrInvalid] when the proposal could not be saved as it is.
func (t *TAM) Preview(ctx context.Context, p Proposal, o PreviewOptions) (*Preview, error) {
	now, err := readOffer(ctx, t.store)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	then := *now
	chosen, err := t.propose(&then, &p)
	if err != nil {
		return nil, err
	}
	result := &Preview{Complete: true, Examples: []PreviewedDevice{}, Conflicts: []policy.Conflict{}, Stages: []int64{}}
	var conflict *policy.ConflictError
	if err := t.sound(now, func(n *offer) { *n = then }); errors.As(err, &conflict) {
		result.Conflicts = conflict.Conflicts
	} else if err != nil {
		return nil, err
	}
	before, err := now.build(t.compiler, t.clock())
	if err != nil {
		return nil, err
	}
	after, err := then.build(t.compiler, t.clock())
	if err != nil {
		return nil, err
	}
	v := previewer{Preview: result, tam: t, before: before, after: after, match: chosen, examples: o.Examples}
	if p.Rollout != nil {
		n := slices.IndexFunc(after.rollouts, func(r *rollout) bool { return r.Name == p.Rollout.Name })
		v.rollout = after.rollouts[n]
		result.Stages = make([]int64, len(v.rollout.Stages))
	}
	result.Next, err = t.eachDevice(ctx, o.After, func(d *Device) bool {
		v.look(d)
		result.Devices++
		return (o.MaxDevices == 0 || result.Devices < o.MaxDevices) &&
			(o.Until.IsZero() || result.Devices%previewStep != 0 || t.clock().Before(o.Until))
	})
	result.Complete = result.Next == ""
	return result, err
}

// propose makes the change to a copy of the offer, and returns the condition by which it chooses devices.
func (t *TAM) propose(o *offer, p *Proposal) (match *policy.Condition, err error) {
	source := ""
	switch {
	case p.Group != nil:
		source = p.Group.Match
		err = p.Group.Check(t.compiler)
		o.setGroup(*p.Group)
	case p.DeleteGroup != "":
		n := slices.IndexFunc(o.groups, func(g policy.Group) bool { return g.Name == p.DeleteGroup })
		if n < 0 {
			return nil, ErrNotFound
		}
		source = o.groups[n].Match
		o.groups = slices.Delete(slices.Clone(o.groups), n, n+1)
	case p.Domain != nil:
		if err = p.Domain.Check(); err == nil {
			err = o.ownsAll(p.Domain)
		}
		o.setDomain(*p.Domain)
	case p.Removal != nil:
		source = p.Removal.Match
		err = p.Removal.Check(t.compiler)
		o.removals = append(slices.DeleteFunc(slices.Clone(o.removals), func(r policy.Removal) bool { return r.Name == p.Removal.Name }), *p.Removal)
	case p.LiftRemoval != "":
		n := slices.IndexFunc(o.removals, func(r policy.Removal) bool { return r.Name == p.LiftRemoval })
		if n < 0 {
			return nil, ErrNotFound
		}
		source = o.removals[n].Match
		o.removals = slices.Delete(slices.Clone(o.removals), n, n+1)
	case p.Rollout != nil:
		source = p.Rollout.Match
		if err = p.Rollout.Check(t.compiler); err == nil {
			err = o.mayRollOut(p.Rollout)
		}
		open := *p.Rollout
		open.State, open.Windows = policy.StateDone, nil
		o.rollouts = append(slices.DeleteFunc(slices.Clone(o.rollouts), func(r policy.Rollout) bool { return r.Name == open.Name }), open)
	case p.Assignment != nil:
		o.setAssignment(p.Assignment.Manifest, p.Assignment)
	default:
		return nil, fmt.Errorf("%w: the proposal is empty", policy.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return compileOptional(t.compiler, source)
}

// previewer compares what devices are told before and after.
type previewer struct {
	*Preview
	tam           *TAM
	before, after *catalogue
	match         *policy.Condition
	rollout       *rollout
	examples      int
}

func (v *previewer) look(d *Device) {
	if d.Status != DeviceAccepted {
		return
	}
	now := v.tam.clock()
	facts := factsOf(d)
	was := &standing{catalogue: v.before, device: d, now: now, facts: facts}
	is := &standing{catalogue: v.after, device: d, now: now, facts: facts}
	in, err := is.holds(v.match)
	switch {
	case err != nil:
		v.NotEvaluated++
	case in && v.rollout != nil:
		if is.concerns(v.rollout) {
			v.Chosen++
			stage, _ := is.stage(v.rollout)
			v.Stages[stage]++
		}
	case in:
		v.Chosen++
	}
	old, new := decideFor(was, wishes{}), decideFor(is, wishes{})
	changes := v.difference(d, &old, &new)
	if len(changes) == 0 {
		return
	}
	v.Changed++
	if len(v.Examples) < v.examples {
		v.Examples = append(v.Examples, PreviewedDevice{d.ID, d.Labels, changes})
	}
}

// difference describes what new tells a device and old does not, and what it no longer tells.
func (v *previewer) difference(d *Device, old, new *decision) []string {
	var changes []string
	for _, s := range new.install {
		if slices.ContainsFunc(old.install, func(o step) bool {
			return o.version.Sequence == s.version.Sequence && o.version.Manifest.Equal(s.version.Manifest)
		}) {
			continue
		}
		what := "install"
		if has, ok := d.installed(s.version.Manifest); ok {
			what = fmt.Sprintf("update from sequence number %d:", has.Sequence)
			v.Updates++
		} else {
			v.Installs++
		}
		changes = append(changes, fmt.Sprintf("%s %v sequence number %d", what, s.version.Manifest, s.version.Sequence))
	}
	for _, id := range new.unlink {
		if !slices.ContainsFunc(old.unlink, id.Equal) {
			changes = append(changes, fmt.Sprintf("remove %v", id))
			v.Gone++
		}
	}
	return append(changes, v.undone(old, new)...)
}

func (v *previewer) undone(old, new *decision) []string {
	var changes []string
	planned := func(id suit.ComponentID, list []step) bool {
		return slices.ContainsFunc(list, func(s step) bool { return s.version.Manifest.Equal(id) })
	}
	for _, s := range old.install {
		if !planned(s.version.Manifest, new.install) {
			changes = append(changes, fmt.Sprintf("no longer install %v", s.version.Manifest))
		}
	}
	for _, id := range old.unlink {
		if !slices.ContainsFunc(new.unlink, id.Equal) {
			changes = append(changes, fmt.Sprintf("no longer remove %v", id))
		}
	}
	return changes
}

// Matching compiles a condition into a test of devices; the error is [policy.ErrInvalid].
func (t *TAM) Matching(source string) (func(*Device) bool, error) {
	match, err := t.compiler.Compile(source)
	if err != nil {
		return nil, err
	}
	return func(d *Device) bool {
		in, err := match.Holds(factsOf(d))
		return err == nil && in
	}, nil
}

// Explanation is what a device should have, and why.
type Explanation struct {
	Device *Device
	// Groups are those that it is in, and NotEvaluated those whose condition cannot be evaluated.
	Groups, NotEvaluated []string
	Manifests            []ExplainedManifest
	// Next are the changes that its next message brings, and Notes why others do not come.
	Next, Notes []string
}

// ExplainedManifest is what counts for one manifest.
type ExplainedManifest struct {
	Manifest  suit.ComponentID
	Mode      Mode
	Source    string // who says so
	Installed *Installed
	// Offered is the version that the device is to have if any: the newest that it may have, or an older one that
	// something here needs by digest; 0: none.
	Offered uint64
	Rollout string // that brings it
}

// Explain says what counts for a device.
func (t *TAM) Explain(ctx context.Context, id string) (*Explanation, error) {
	d, err := t.store.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return nil, err
	}
	return explain(&standing{catalogue: c, device: d, now: t.clock()}), nil
}

func explain(at *standing) *Explanation {
	c, d := at.catalogue, at.device
	e := &Explanation{Device: d}
	for i := range c.groups {
		switch at.membership(i) {
		case isMember:
			e.Groups = append(e.Groups, c.groups[i].Name)
		case notEvaluated:
			e.NotEvaluated = append(e.NotEvaluated, c.groups[i].Name)
		}
	}
	plan := planFor(at, wishes{})
	for _, m := range c.order {
		w := at.says(m)
		one := ExplainedManifest{Manifest: m.id, Mode: w.mode, Source: w.source}
		if has, ok := d.installed(m.id); ok {
			one.Installed = &has
		}
		if v, r := plan.choose(m); v != nil {
			one.Offered = v.Sequence
			if r != nil {
				one.Rollout = r.Name
			}
		}
		e.Manifests = append(e.Manifests, one)
	}
	if !plan.empty() {
		e.Next = strings.Split(plan.describe(), ", ")
	}
	e.Notes = plan.notes
	return e
}

package processor

import (
	"context"
	"fmt"

	"github.com/go-teep/teep/suit"
)

// machine does what commands mean. The interpreter settles the flow of control and the
// parameters; run is the machine that works on a device, replay the one that explains a report.
type machine interface {
	// apply runs one condition or directive for one component and returns what it measured.
	apply(k *call) (measured suit.Parameters, err error)
	// enter returns the dependency behind a component, ready to be processed; skip says that
	// there is nothing to do in it.
	enter(k *call) (child *node, skip bool, err error)
}

// call is one command for one component.
type call struct {
	f    *frame
	n    *node
	c    *component
	cmd  *suit.Command
	args suit.Parameters // the component's parameters
}

// index is that of the component, and 0 for a command that is for none.
func (k *call) index() int {
	if k.c == nil {
		return 0
	}
	return k.c.index
}

// frame is where one manifest stands in one section.
type frame struct {
	n *node
	// phase is the section that runs; label is what records say: suit-common while the shared
	// sequence runs before it.
	phase, label suit.Label
	// selected are the components that commands apply to; loop tells that they came as an
	// array or true, so that nested sequences run once for each.
	selected []*component
	loop     bool
	// all tells the value true, which for process-dependency means the dependencies only.
	all bool
	// strict is suit-parameter-strict-order.
	strict bool
	// sources and targets are what commands used since strict order ended (SUIT §6.6).
	sources, targets map[string]bool
	// selections is how many set-component-index a sequence may still contain that was issued
	// without strict order; negative is any number.
	selections int
	// soft is suit-parameter-soft-failure; nil outside of try-each and run-sequence.
	soft  *bool
	depth int
}

// interpreter executes command sequences (SUIT §6.4). One goroutine uses it.
type interpreter struct {
	ctx    context.Context
	m      machine
	limits Limits
	params map[string]suit.Parameters // by component identifier, shared by the whole tree
	// nestedRuns is how many top-level sequences are running: one, and those of dependencies.
	nestedRuns int
	undo       []undo // what nested sequences changed, for those that fail
	commands   int
	// executed lists sections by manifest, so that a dependency that two manifests share is
	// processed once.
	executed map[string]map[suit.Label]bool
	trail    func(Step)
	// halt may end the procedure at a command that steers the interpreter; nil never does. c is
	// nil where the command is for no component.
	halt func(f *frame, cmd *suit.Command, c *component) error
	// record is told of every condition and directive, as it ends; try-each and run-sequence, as they
	// begin.
	record func(k *call, measured suit.Parameters, err error)
}

// undo is what a component's parameters were before they were changed.
type undo struct {
	params map[string]suit.Parameters
	key    string
	was    suit.Parameters
}

func newInterpreter(ctx context.Context, m machine, limits Limits) *interpreter {
	return &interpreter{ctx: ctx, m: m, limits: limits, params: map[string]suit.Parameters{},
		executed: map[string]map[suit.Label]bool{},
		trail:    func(Step) {}, record: func(*call, suit.Parameters, error) {}}
}

// section runs the shared sequence of a manifest and then one of its sections, if it has that
// one, and checks that each dependency's same section ran (trust domains §required-checks).
func (x *interpreter) section(n *node, phase suit.Label) error {
	key := n.id.Key()
	if x.executed[key] == nil {
		x.executed[key] = map[suit.Label]bool{}
	}
	x.executed[key][phase] = true
	seq, ok, err := n.section(phase)
	if err != nil {
		return err
	}
	if ok {
		shared, _, err := n.section(suit.LabelCommon)
		if err != nil {
			return err
		}
		if err := x.run(n, phase, suit.LabelCommon, shared); err != nil {
			return err
		}
		if err := x.run(n, phase, phase, seq); err != nil {
			return err
		}
	}
	return x.dependenciesRan(n, phase)
}

func (x *interpreter) dependenciesRan(n *node, phase suit.Label) error {
	for i := range n.comps {
		c := &n.comps[i]
		child := n.children[c.index]
		if child == nil || child.settled || n.ran[c.index][phase] {
			continue
		}
		if _, has, _ := child.section(phase); has {
			f := fail(suit.ReasonOperationFailed,
				"the dependency has this section, and the dependent did not process it: add directive-process-dependency")
			f.Manifest, f.Section, f.Component, f.ComponentIndex = n.path, phase, c.id, c.index
			return f
		}
	}
	return nil
}

// run executes a top-level sequence, from component index 0 and strict order.
func (x *interpreter) run(n *node, phase, label suit.Label, seq suit.Sequence) error {
	f := &frame{n: n, phase: phase, label: label, strict: true, selections: -1}
	if len(n.comps) > 0 {
		f.selected = []*component{&n.comps[0]}
	}
	x.nestedRuns++
	err := x.sequence(f, seq)
	if x.nestedRuns--; x.nestedRuns == 0 {
		x.undo = x.undo[:0]
	}
	if err != nil {
		// An abort in a dependency aborts its dependents too, soft failure or not.
		asFailure(err).soft = false
	}
	return err
}

func (x *interpreter) sequence(f *frame, seq suit.Sequence) error {
	for i := range seq {
		if err := x.command(f, &seq[i]); err != nil {
			return x.locate(f, &seq[i], nil, err)
		}
	}
	return nil
}

// locate puts the place into an error that has none yet.
func (x *interpreter) locate(f *frame, cmd *suit.Command, c *component, err error) *Failure {
	old := asFailure(err)
	if old.Section != 0 {
		return old
	}
	located := *old
	located.Manifest, located.Section, located.Offset, located.Command = f.n.path, f.label, cmd.Offset, cmd.Code
	if c != nil {
		located.Component, located.ComponentIndex = c.id, c.index
	}
	return &located
}

func (x *interpreter) command(f *frame, cmd *suit.Command) error {
	err := x.charge(cost(f, cmd))
	switch cmd.Code {
	case suit.DirSetComponentIndex:
		if err == nil {
			err = x.selectComponents(f, cmd.Index)
		}
		return x.note(f, cmd, nil, err)
	case suit.DirOverrideMultiple:
		if err == nil {
			err = x.overrideMultiple(f, cmd)
		}
		return x.note(f, cmd, nil, err)
	case suit.DirTryEach, suit.DirRunSequence:
		return x.nested(f, cmd, err)
	}
	first := true
	for _, c := range f.selected {
		if cmd.Code == suit.DirProcessDependency && f.all && !c.dependency {
			continue
		}
		if !first {
			err = x.charge(cost(f, cmd))
		}
		first = false
		if err := x.one(f, cmd, c, err); err != nil {
			return x.locate(f, cmd, c, err)
		}
	}
	return err
}

// charge counts n commands against the limits.
func (x *interpreter) charge(n int) error {
	if err := x.ctx.Err(); err != nil {
		return fmt.Errorf("stopped: %w", err)
	}
	if x.commands += n; x.commands > x.limits.Commands {
		return tooManyCommands(x.limits)
	}
	return nil
}

func tooManyCommands(l Limits) error {
	return fmt.Errorf("%w: more than %d commands, each counted for every component that it is for", ErrLimit, l.Commands)
}

// cost is what a command counts against Limits.Commands each time: for one component, or, if it only
// steers, altogether. A small manifest must not be able to ask for more work than that says.
func cost(f *frame, cmd *suit.Command) int {
	switch cmd.Code {
	case suit.DirOverrideMultiple:
		return max(1, len(cmd.Multiple))
	case suit.DirCopyParams:
		return max(1, len(cmd.Copies))
	case suit.DirTryEach, suit.DirRunSequence:
		if f.loop {
			return max(1, len(f.selected))
		}
	}
	return 1
}

// note reports a command that concerns the interpreter alone; c is nil where it is for no component.
func (x *interpreter) note(f *frame, cmd *suit.Command, c *component, err error) error {
	if x.halt != nil {
		if h := x.halt(f, cmd, c); err == nil {
			err = h
		}
	}
	if err != nil {
		err = x.locate(f, cmd, c, err)
	}
	x.record(&call{f: f, n: f.n, c: c, cmd: cmd}, suit.Parameters{}, err)
	x.step(f, cmd, c, err)
	return err
}

// steers tells the commands that the interpreter does from those that the machine applies.
func steers(code suit.CommandCode) bool {
	switch code {
	case suit.DirSetComponentIndex, suit.DirOverrideMultiple, suit.DirTryEach, suit.DirRunSequence,
		suit.DirOverrideParameters, suit.DirSetParameters, suit.DirCopyParams:
		return true
	}
	return false
}

// one executes a command for one component, unless err says that it must not.
func (x *interpreter) one(f *frame, cmd *suit.Command, c *component, err error) error {
	switch cmd.Code {
	case suit.DirOverrideParameters, suit.DirSetParameters:
		if err == nil {
			err = x.assign(f, c, cmd.Parameters, cmd.Code == suit.DirOverrideParameters)
		}
		return x.note(f, cmd, c, err)
	case suit.DirCopyParams:
		if err == nil {
			err = x.copyParameters(f, c, cmd.Copies)
		}
		return x.note(f, cmd, c, err)
	}
	k := &call{f: f, n: f.n, c: c, cmd: cmd, args: x.params[c.paramKey()]}
	if cmd.Code == suit.DirProcessDependency {
		return x.processDependency(k, err)
	}
	if err == nil {
		err = x.order(k)
	}
	var measured suit.Parameters
	if err == nil {
		measured, err = x.m.apply(k)
	}
	if err != nil {
		err = x.locate(f, cmd, c, err)
	}
	x.record(k, measured, err)
	x.step(f, cmd, c, err)
	return err
}

func (x *interpreter) selectComponents(f *frame, arg suit.IndexArg) error {
	if f.selections == 0 {
		return fail(suit.ReasonOperationFailed,
			"set-component-index in a sequence that was issued without strict order (SUIT §6.6)")
	}
	if f.selections > 0 {
		f.selections--
	}
	var chosen []*component
	if arg.All {
		chosen = make([]*component, 0, len(f.n.comps))
		for i := range f.n.comps {
			chosen = append(chosen, &f.n.comps[i])
		}
	}
	for _, index := range arg.Indexes {
		c, err := f.n.at(index)
		if err != nil {
			return err
		}
		chosen = append(chosen, c)
	}
	f.selected, f.all, f.loop = chosen, arg.All, arg.All || arg.List
	return nil
}

// nested runs try-each and run-sequence: once for the selected component, whose selection may
// change inside and stays changed, or once for each of several (SUIT §6.5.1).
func (x *interpreter) nested(f *frame, cmd *suit.Command, err error) error {
	x.step(f, cmd, nil, nil)
	if err == nil && f.depth+1 >= x.limits.Nesting {
		err = fmt.Errorf("%w: command sequences nest deeper than %d", ErrLimit, x.limits.Nesting)
	}
	if x.halt != nil {
		if h := x.halt(f, cmd, nil); err == nil {
			err = h
		}
	}
	if err != nil {
		err = x.locate(f, cmd, nil, err)
	}
	x.record(&call{f: f, n: f.n, cmd: cmd}, suit.Parameters{}, err)
	if err != nil {
		x.step(f, cmd, nil, err)
		return err
	}
	if !f.loop {
		return x.nestedOnce(f, cmd, f)
	}
	for _, c := range f.selected {
		inner := *f
		inner.selected, inner.loop, inner.all = []*component{c}, false, false
		if err := x.nestedOnce(&inner, cmd, f); err != nil {
			return x.locate(f, cmd, c, err)
		}
		f.strict = inner.strict
	}
	return nil
}

func (x *interpreter) nestedOnce(f *frame, cmd *suit.Command, issuer *frame) error {
	if cmd.Code == suit.DirTryEach {
		return x.tryEach(f, cmd)
	}
	return x.runSequence(f, cmd, issuer)
}

// attempt runs a nested sequence. Of one that fails, neither selection nor parameters stay.
func (x *interpreter) attempt(f *frame, inner *frame, seq suit.Sequence) error {
	before := len(x.undo)
	inner.depth++
	if err := x.sequence(inner, seq); err != nil {
		for i := len(x.undo) - 1; i >= before; i-- {
			x.undo[i].params[x.undo[i].key] = x.undo[i].was
		}
		x.undo = x.undo[:before]
		return err
	}
	f.selected, f.loop, f.all = inner.selected, inner.loop, inner.all
	f.strict, f.sources, f.targets, f.selections = inner.strict, inner.sources, inner.targets, inner.selections
	return nil
}

func (x *interpreter) tryEach(f *frame, cmd *suit.Command) error {
	var last error
	for _, seq := range cmd.Sequences {
		soft := true
		inner := *f
		inner.soft = &soft
		err := x.attempt(f, &inner, seq)
		if err == nil {
			return nil
		}
		failure := asFailure(err)
		if !failure.soft {
			return err
		}
		if !soft {
			// The author asked for an abort (SUIT §8.4.8.14).
			failure.soft = false
			return err
		}
		last = err
	}
	x.step(f, cmd, nil, last)
	return last
}

func (x *interpreter) runSequence(f *frame, cmd *suit.Command, issuer *frame) error {
	seq := cmd.Sequences[0]
	soft := false
	inner := *f
	inner.soft = &soft
	if !f.strict {
		inner.strict, inner.sources, inner.targets = true, nil, nil
		inner.selections = 0
		if !issuer.loop {
			if len(seq) == 0 || seq[0].Code != suit.DirSetComponentIndex {
				err := fail(suit.ReasonOperationFailed,
					"without strict order, the sequence must begin with set-component-index (SUIT §6.6)")
				x.step(f, cmd, nil, err)
				return err
			}
			inner.selections = 1
		}
	}
	outer := *f
	err := x.attempt(f, &inner, seq)
	if !outer.strict {
		f.strict, f.sources, f.targets, f.selections = outer.strict, outer.sources, outer.targets, outer.selections
	}
	if err == nil || asFailure(err).soft && soft {
		return nil
	}
	return err
}

func (x *interpreter) processDependency(k *call, err error) error {
	var child *node
	var skip bool
	if err == nil {
		child, skip, err = x.resolve(k)
	}
	if err != nil {
		err = x.locate(k.f, k.cmd, k.c, err)
		x.record(k, suit.Parameters{}, err)
		x.step(k.f, k.cmd, k.c, err)
		return err
	}
	x.step(k.f, k.cmd, k.c, nil)
	k.n.markRan(k.c.index, k.f.phase)
	var measured suit.Parameters
	if skip && child != nil {
		measured.SetDigest(child.digest) // a record with it says that nothing was done
	}
	if !skip && !x.executed[child.id.Key()][k.f.phase] {
		if err := x.section(child, k.f.phase); err != nil {
			return err // and the records say where, inside
		}
	}
	x.record(k, measured, nil)
	return nil
}

func (x *interpreter) resolve(k *call) (*node, bool, error) {
	if !k.c.dependency {
		return nil, false, fail(suit.ReasonOperationFailed, "the component is not a dependency: suit-dependencies does not list it")
	}
	if k.f.label == suit.LabelCommon {
		return nil, false, fail(suit.ReasonOperationFailed, "process-dependency is not permitted in the shared sequence")
	}
	return x.m.enter(k)
}

// order forbids what would be a race without strict order (SUIT §6.6).
func (x *interpreter) order(k *call) error {
	f := k.f
	if f.strict {
		return nil
	}
	if f.sources == nil {
		f.sources, f.targets = map[string]bool{}, map[string]bool{}
	}
	switch k.cmd.Code {
	case suit.DirFetch, suit.DirWrite, suit.DirUnlink:
		f.targets[k.c.key()] = true
	case suit.DirCopy, suit.DirSwap:
		f.targets[k.c.key()] = true
		index, ok := k.args.SourceComponent()
		if !ok {
			break
		}
		source, err := k.n.at(index)
		if err != nil {
			return err
		}
		f.sources[source.key()] = true
	}
	for key := range f.targets {
		if f.sources[key] {
			return fail(suit.ReasonOperationFailed, "a component is both target and source without strict order (SUIT §6.6)")
		}
	}
	return nil
}

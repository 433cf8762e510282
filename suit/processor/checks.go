package processor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-teep/teep/suit"
)

// phases of the procedures, in their order (SUIT §8.4.6, trust domains §6).
var (
	installPhases = []suit.Label{suit.LabelDependencyResolution, suit.LabelPayloadFetch,
		suit.LabelCandidateVerification, suit.LabelInstall}
	invocationPhases = []suit.Label{suit.LabelValidate, suit.LabelLoad, suit.LabelInvoke}
)

// checkManifest makes the checks that come before any command runs: SUIT §6.2, trust domains
// §required-checks and SUIT §9. It looks at all sections, not only at those of the procedure.
// Limits.Commands bounds its work, and ctx its time.
func (p *Processor) checkManifest(ctx context.Context, n *node) error {
	if len(n.comps) > p.cfg.Limits.Components {
		return fail(suit.ReasonComponentUnsupported, "%w: the manifest has %d components, at most %d are accepted",
			ErrLimit, len(n.comps), p.cfg.Limits.Components)
	}
	if len(n.comps) == 0 {
		return fail(suit.ReasonComponentUnsupported, "the manifest names no components: there is nothing that it could act on")
	}
	if err := p.checkComponents(n); err != nil {
		return err
	}
	w := &walker{ctx: ctx, p: p, n: n, identity: map[suit.CommandCode]bool{},
		known: make(map[*component][]ComponentRights, len(n.comps))}
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		s := n.manifest.Section(label)
		if s == nil || !s.Available() {
			continue
		}
		if err := w.section(label, s.Commands); err != nil {
			return err
		}
	}
	if !p.cfg.InsecureAnyDevice && !(w.identity[suit.CondVendorIdentifier] && w.identity[suit.CondClassIdentifier]) {
		return fail(suit.ReasonOperationFailed,
			"the shared sequence checks no vendor and class identifier (SUIT §6.2): add both conditions")
	}
	return w.swapSources()
}

// checkComponents holds the identifiers against the device and against the signer's rights.
func (p *Processor) checkComponents(n *node) error {
	seen := map[string]bool{}
	for i := range n.comps {
		c := &n.comps[i]
		at := func(f *Failure) *Failure {
			f.Manifest, f.Component, f.ComponentIndex = n.path, c.id, c.index
			return f
		}
		switch {
		case seen[c.key()]:
			return at(fail(suit.ReasonComponentUnsupported, "the component is listed twice"))
		case !slices.ContainsFunc(p.cfg.Components, c.id.HasPrefix):
			return at(fail(suit.ReasonComponentUnsupported, "this device has no such component"))
		// What may be kept as a dependency is decided by the dependency's own signature.
		case !c.dependency && len(n.rights.find(c.id)) == 0:
			return at(fail(suit.ReasonComponentUnauthorised, "the signer has no rights to the component"))
		}
		seen[c.key()] = true
	}
	return nil
}

// walker goes through every command of a manifest without running it. It keeps the set of
// components that may be selected at each place, which is never too small.
type walker struct {
	ctx      context.Context
	p        *Processor
	n        *node
	label    suit.Label
	selected []*component
	identity map[suit.CommandCode]bool
	sources  []uint64
	swaps    bool
	// commands is what counts against Limits.Commands.
	commands int
	// all are the components of the manifest, once they were selected; known the grants for those
	// that were asked for.
	all   []*component
	known map[*component][]ComponentRights
}

// charge counts a command before it is looked at: once for each component that it may be for.
func (w *walker) charge(cmd *suit.Command) error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("stopped: %w", err)
	}
	each := max(1, len(w.selected))
	switch cmd.Code {
	case suit.DirSetComponentIndex:
		each = 1
	case suit.DirOverrideMultiple:
		each = max(1, len(cmd.Multiple))
	case suit.DirCopyParams:
		each *= max(1, len(cmd.Copies))
	case suit.DirTryEach:
		each *= max(1, len(cmd.Sequences))
	}
	if w.commands += each; w.commands > w.p.cfg.Limits.Commands {
		return tooManyCommands(w.p.cfg.Limits)
	}
	return nil
}

// grants are the signer's rights to a component.
func (w *walker) grants(c *component) []ComponentRights {
	g, ok := w.known[c]
	if !ok {
		g = w.n.rights.find(c.id)
		w.known[c] = g
	}
	return g
}

func (w *walker) section(label suit.Label, seq suit.Sequence) error {
	w.label = label
	if len(w.n.comps) > 1 && len(seq) > 0 && seq[0].Code != suit.DirSetComponentIndex {
		return w.place(&seq[0], nil, fail(suit.ReasonOperationFailed,
			"the manifest has %d components, so the sequence must begin with set-component-index (SUIT §6.2)", len(w.n.comps)))
	}
	w.selected = []*component{&w.n.comps[0]}
	return w.sequence(seq, false, 1)
}

func (w *walker) place(cmd *suit.Command, c *component, err error) error {
	if err == nil {
		return nil
	}
	old := asFailure(err)
	if old.Section != 0 {
		return old
	}
	f := *old
	f.Manifest, f.Section, f.Offset, f.Command = w.n.path, w.label, cmd.Offset, cmd.Code
	if c != nil {
		f.Component, f.ComponentIndex = c.id, c.index
	}
	return &f
}

func (w *walker) sequence(seq suit.Sequence, nested bool, depth int) error {
	if depth > w.p.cfg.Limits.Nesting {
		return fail(suit.ReasonOperationFailed, "%w: command sequences nest deeper than %d", ErrLimit, w.p.cfg.Limits.Nesting)
	}
	for i := range seq {
		cmd := &seq[i]
		if err := w.charge(cmd); err != nil {
			return w.place(cmd, nil, err)
		}
		if err := w.supported(cmd); err != nil {
			return w.place(cmd, nil, err)
		}
		if err := w.command(cmd, nested, depth); err != nil {
			return w.place(cmd, nil, err)
		}
	}
	return nil
}

func (w *walker) command(cmd *suit.Command, nested bool, depth int) error {
	switch cmd.Code {
	case suit.DirSetComponentIndex:
		return w.selects(cmd.Index)
	case suit.DirOverrideParameters, suit.DirSetParameters:
		return w.parameters(w.selected, cmd.Parameters, nested)
	case suit.DirOverrideMultiple:
		for _, e := range cmd.Multiple {
			if err := w.selects(suit.IndexArg{Indexes: []uint64{e.Index}}); err != nil {
				return err
			}
			if err := w.parameters(w.selected, e.Parameters, nested); err != nil {
				return err
			}
		}
		return nil
	case suit.DirCopyParams:
		return w.copies(cmd)
	case suit.DirTryEach, suit.DirRunSequence:
		return w.nested(cmd, depth)
	}
	for _, c := range w.selected {
		if err := w.permitted(c, cmd.Code); err != nil {
			return w.place(cmd, c, err)
		}
	}
	return nil
}

// nested continues with everything that any of the sequences may have selected.
func (w *walker) nested(cmd *suit.Command, depth int) error {
	before, may := w.selected, map[*component]bool{}
	for _, seq := range cmd.Sequences {
		w.selected = before
		if err := w.sequence(seq, true, depth+1); err != nil {
			return err
		}
		for _, c := range w.selected {
			may[c] = true
		}
	}
	for _, c := range before {
		may[c] = true
	}
	w.selected = slices.SortedFunc(maps.Keys(may), func(a, b *component) int { return a.index - b.index })
	return nil
}

func (w *walker) selects(arg suit.IndexArg) error {
	w.selected = nil
	if arg.All {
		if w.all == nil {
			for i := range w.n.comps {
				w.all = append(w.all, &w.n.comps[i])
			}
		}
		w.selected = w.all
		return nil
	}
	for _, index := range arg.Indexes {
		c, err := w.n.at(index)
		if err != nil {
			return err
		}
		w.selected = append(w.selected, c)
	}
	return nil
}

// supported refuses what this processor, or this platform, cannot do.
func (w *walker) supported(cmd *suit.Command) error {
	if cmd.Code.IsCustom() {
		return fail(suit.ReasonCommandUnsupported, "custom commands are not supported")
	}
	if !w.p.supports(cmd.Code) {
		return fail(suit.ReasonCommandUnsupported, "the platform cannot answer this command")
	}
	switch cmd.Code {
	case suit.DirInvoke:
		if w.label != suit.LabelInvoke {
			return fail(suit.ReasonCommandUnsupported,
				"a component is started in suit-invoke only, because every other section is undone when it fails")
		}
	case suit.CondVendorIdentifier, suit.CondClassIdentifier:
		if w.label == suit.LabelCommon {
			w.identity[cmd.Code] = true
		}
	case suit.DirSwap:
		w.swaps = true
	case suit.DirProcessDependency, suit.DirFetch, suit.DirCopy, suit.DirWrite, suit.DirUnlink, suit.DirWait:
		if w.label == suit.LabelCommon {
			return fail(suit.ReasonCommandUnsupported, "the shared sequence may only set parameters and check (SUIT §5.3.2)")
		}
	}
	return nil
}

// supports tells whether the platform has what a command needs.
func (p *Processor) supports(code suit.CommandCode) bool {
	switch code {
	case suit.CondComponentSlot:
		_, ok := p.cfg.Platform.(Slots)
		return ok
	case suit.CondMinimumBattery, suit.CondUpdateAuthorized, suit.CondVersion, suit.DirWait:
		_, ok := p.cfg.Platform.(Environment)
		return ok
	}
	return true
}

// processorParameters belong to the processor, not to a component.
func processorParameter(l suit.ParameterLabel) bool {
	return l == suit.ParamStrictOrder || l == suit.ParamSoftFailure
}

func (w *walker) parameters(to []*component, p suit.Parameters, nested bool) error {
	if p.Has(suit.ParamSoftFailure) && !nested {
		return fail(suit.ReasonOperationFailed, "soft failure is set outside of try-each and run-sequence (SUIT §8.4.8.14)")
	}
	if index, ok := p.SourceComponent(); ok {
		source, err := w.n.at(index)
		if err != nil {
			return fmt.Errorf("source component: %w", err)
		}
		if source.dependency {
			return fail(suit.ReasonOperationFailed, "source component %d is a dependency", index)
		}
		w.sources = append(w.sources, index)
	}
	if meta, ok := p.ComponentMetadata(); ok && meta.FileType != 0 && meta.FileType != suit.FileRegular {
		return fail(suit.ReasonParameterUnsupported, "component metadata: only regular files are supported")
	}
	return w.labels(to, p.Labels())
}

func (w *walker) labels(to []*component, labels []suit.ParameterLabel) error {
	for _, l := range labels {
		if l < 0 {
			return fail(suit.ReasonParameterUnsupported, "custom parameter %d is not supported", l)
		}
		for _, c := range to {
			if c.dependency || processorParameter(l) || allowsParameter(w.grants(c), l) {
				continue
			}
			f := fail(suit.ReasonComponentUnauthorised, "the signer may not set parameter %s", l)
			f.Component, f.ComponentIndex = c.id, c.index
			return f
		}
	}
	return nil
}

func (w *walker) copies(cmd *suit.Command) error {
	for _, from := range cmd.Copies {
		if _, err := w.n.at(from.Source); err != nil {
			return err
		}
		if err := w.labels(w.selected, from.Labels); err != nil {
			return err
		}
	}
	return nil
}

// permitted holds a command against the rights to one component. For a dependency the rights are
// those of its own signer.
func (w *walker) permitted(c *component, code suit.CommandCode) error {
	if c.dependency || allowsCommand(w.grants(c), code) {
		return nil
	}
	return fail(suit.ReasonComponentUnauthorised, "the signer may not apply %s", code)
}

// swapSources checks that what may be changed by a swap from the other side may be swapped.
func (w *walker) swapSources() error {
	if !w.swaps {
		return nil
	}
	for _, index := range w.sources {
		c, err := w.n.at(index)
		if err != nil {
			return err
		}
		if err := w.permitted(c, suit.DirSwap); err != nil {
			f := asFailure(err)
			f.Manifest, f.Component, f.ComponentIndex = w.n.path, c.id, c.index
			return f
		}
	}
	return nil
}

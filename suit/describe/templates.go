package describe

import (
	"github.com/go-teep/teep/suit"
)

// section collects the commands of one command sequence. Where the manifest has several
// components, it selects one before it is used (SUIT §6.2).
type section struct {
	seq      suit.Sequence
	selected int
	several  bool
}

func (s *section) component(index int) {
	if s.several && s.selected != index {
		s.seq = append(s.seq, suit.SetComponentIndex(uint64(index)))
		s.selected = index
	}
}

func (s *section) override(p suit.Parameters) {
	if p.Len() > 0 {
		s.seq = append(s.seq, suit.OverrideParameters(p))
	}
}

func (s *section) condition(codes ...suit.CommandCode) {
	for _, c := range codes {
		s.seq = append(s.seq, suit.Condition(c, conditionPolicy))
	}
}

func (s *section) directive(code suit.CommandCode) {
	s.seq = append(s.seq, suit.Directive(code, directivePolicy))
}

// generate fills the manifest: lists, templates, and what sequences replaces.
func (b *builder) generate() error {
	common := &b.manifest.Common
	for _, c := range b.components {
		common.Components = append(common.Components, c.id)
	}
	for i, d := range b.dependencies {
		index := uint64(len(b.components) + i)
		common.Components = append(common.Components, d.id)
		common.Dependencies = append(common.Dependencies, suit.Dependency{Index: index, Prefix: d.prefix})
	}
	templates := map[suit.Label]func(*section) error{
		suit.LabelCommon:               b.shared,
		suit.LabelValidate:             b.validate,
		suit.LabelLoad:                 b.load,
		suit.LabelInvoke:               b.invoke,
		suit.LabelDependencyResolution: b.dependencyResolution,
		suit.LabelPayloadFetch:         b.payloadFetch,
		suit.LabelInstall:              b.install,
		suit.LabelUninstall:            b.uninstall,
	}
	for label, template := range templates {
		if _, replaced := b.sequences[label]; replaced {
			continue
		}
		s := section{selected: -1, several: len(common.Components) > 1}
		if err := template(&s); err != nil {
			return err
		}
		b.manifest.Section(label).Commands = s.seq
	}
	for label, seq := range b.sequences {
		b.manifest.Section(label).Commands = seq
	}
	return nil
}

// shared is the compatibility check (SUIT §7.1) with digests and sizes of all payloads.
func (b *builder) shared(s *section) error {
	for i, c := range b.components {
		p := c.identity.parameters()
		c.image.addTo(&p)
		if p.Len() == 0 && len(c.slots) == 0 {
			continue
		}
		s.component(i)
		s.override(p)
		s.condition(c.identity.conditions()...)
		if len(c.slots) > 0 {
			s.seq = append(s.seq, c.tryEachSlot(func(sl slot, p *suit.Parameters) { sl.image.addTo(p) }))
		}
	}
	for i, d := range b.dependencies {
		s.component(len(b.components) + i)
		var p suit.Parameters
		p.SetDigest(d.digest)
		s.override(p)
	}
	return nil
}

func (id identity) parameters() (p suit.Parameters) {
	if id.vendor != nil {
		p.SetVendorID(*id.vendor)
	}
	if id.class != nil {
		p.SetClassID(*id.class)
	}
	if id.device != nil {
		p.SetDeviceID(*id.device)
	}
	return p
}

func (id identity) conditions() (codes []suit.CommandCode) {
	if id.vendor != nil {
		codes = append(codes, suit.CondVendorIdentifier)
	}
	if id.class != nil {
		codes = append(codes, suit.CondClassIdentifier)
	}
	if id.device != nil {
		codes = append(codes, suit.CondDeviceIdentifier)
	}
	return codes
}

func (img *image) addTo(p *suit.Parameters) {
	if img == nil {
		return
	}
	p.SetDigest(img.digest)
	if img.size != nil {
		p.SetSize(*img.size)
	}
}

// tryEachSlot tests each slot and sets parameters for the one that matches (SUIT §7.8).
func (c *component) tryEachSlot(set func(slot, *suit.Parameters)) suit.Command {
	sequences := make([]suit.Sequence, len(c.slots))
	for i, sl := range c.slots {
		var number, p suit.Parameters
		number.SetSlot(sl.number)
		set(sl, &p)
		sequences[i] = suit.Sequence{
			suit.OverrideParameters(number),
			suit.Condition(suit.CondComponentSlot, conditionPolicy),
			suit.OverrideParameters(p),
		}
	}
	return suit.TryEach(sequences...)
}

// process hands a section over to the dependencies that have it, after checking them once more:
// what was checked in another sequence may have been forgotten since (trust domains §6.4).
func (b *builder) process(s *section, label suit.Label) {
	for i, d := range b.dependencies {
		if !d.present(label) {
			continue
		}
		s.component(len(b.components) + i)
		if d.parameters.Len() > 0 && (label == suit.LabelInstall || label == suit.LabelPayloadFetch) {
			s.seq = append(s.seq, suit.SetParameters(d.parameters))
		}
		s.condition(suit.CondDependencyIntegrity)
		s.directive(suit.DirProcessDependency)
	}
}

func (b *builder) dependencyResolution(s *section) error {
	for i, d := range b.dependencies {
		s.component(len(b.components) + i)
		var p suit.Parameters
		p.SetURI(d.uri)
		s.override(p)
		s.directive(suit.DirFetch)
		s.condition(suit.CondDependencyIntegrity)
		s.directive(suit.DirProcessDependency)
	}
	return nil
}

func (b *builder) payloadFetch(s *section) error {
	b.process(s, suit.LabelPayloadFetch)
	return nil
}

func (b *builder) install(s *section) error {
	b.process(s, suit.LabelInstall)
	// What others copy from is installed first.
	for pass := range 2 {
		for i, c := range b.components {
			if (pass == 0) != (c.copyFrom == nil && c.swapWith == nil) {
				continue
			}
			if err := b.installComponent(s, i, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) installComponent(s *section, index int, c *component) error {
	p := suit.Parameters{}
	p.Override(c.metadata)
	if c.info != nil {
		if err := p.SetEncryptionInfo(c.info); err != nil {
			return b.errorf(c.node, "%w", err)
		}
	}
	code := suit.DirFetch
	switch {
	case c.mirrors != nil:
	case c.uri != "":
		p.SetURI(c.uri)
	case c.content != nil:
		p.SetContent(c.content)
		code = suit.DirWrite
	case c.copyFrom != nil, c.swapWith != nil:
		from := c.copyFrom
		if code = suit.DirCopy; from == nil {
			from, code = c.swapWith, suit.DirSwap
		}
		source, err := b.indexOf(c, from)
		if err != nil {
			return err
		}
		p.SetSourceComponent(source)
	case len(c.slots) == 0:
		return nil
	}
	s.component(index)
	s.override(p)
	if len(c.slots) > 0 {
		s.seq = append(s.seq, c.tryEachSlot(func(sl slot, p *suit.Parameters) { p.SetURI(sl.uri) }))
	}
	if c.mirrors != nil {
		s.seq = append(s.seq, c.fetchFromAny())
		return nil
	}
	s.directive(code)
	if c.image != nil || len(c.slots) > 0 {
		s.condition(suit.CondImageMatch)
	}
	return nil
}

// fetchFromAny tries one place after the other, until one has what the digest says. A place that
// cannot be reached, or has something else, fails its sequence only.
func (c *component) fetchFromAny() suit.Command {
	sequences := make([]suit.Sequence, 0, 1+len(c.mirrors))
	for _, uri := range append([]string{c.uri}, c.mirrors...) {
		var p suit.Parameters
		p.SetURI(uri)
		sequences = append(sequences, suit.Sequence{suit.OverrideParameters(p), suit.Directive(suit.DirFetch, directivePolicy),
			suit.Condition(suit.CondImageMatch, conditionPolicy)})
	}
	return suit.TryEach(sequences...)
}

func (b *builder) indexOf(c *component, id suit.ComponentID) (uint64, error) {
	for i, other := range b.components {
		if other.id.Equal(id) {
			if other == c {
				return 0, b.errorf(c.node, "component %v cannot be its own source", id)
			}
			return uint64(i), nil
		}
	}
	return 0, b.errorf(c.node, "no component is called %v: list it in components, so that it can be a source", id)
}

func (b *builder) validate(s *section) error {
	b.process(s, suit.LabelValidate)
	for i, c := range b.components {
		// A component that is filled by load has its content only then; one that is swapped
		// or copied away is not the manifest's concern any more.
		if c.loadFrom != nil || b.isStaging(c) || c.image == nil && len(c.slots) == 0 {
			continue
		}
		s.component(i)
		s.condition(suit.CondImageMatch)
	}
	return nil
}

func (b *builder) isStaging(c *component) bool {
	for _, other := range b.components {
		if other.staging == c {
			return true
		}
	}
	return false
}

// load copies from storage into memory (SUIT §7.7).
func (b *builder) load(s *section) error {
	b.process(s, suit.LabelLoad)
	for i, c := range b.components {
		if c.loadFrom == nil {
			continue
		}
		source, err := b.indexOf(c, c.loadFrom)
		if err != nil {
			return err
		}
		var p suit.Parameters
		p.SetSourceComponent(source)
		s.component(i)
		s.override(p)
		s.directive(suit.DirCopy)
		if c.image != nil {
			s.condition(suit.CondImageMatch)
		}
	}
	return nil
}

func (b *builder) invoke(s *section) error {
	b.process(s, suit.LabelInvoke)
	for i, c := range b.components {
		if !c.invoke {
			continue
		}
		s.component(i)
		if c.invokeArgs != nil {
			var p suit.Parameters
			p.SetInvokeArgs(c.invokeArgs)
			s.override(p)
		}
		s.directive(suit.DirInvoke)
	}
	return nil
}

func (b *builder) uninstall(s *section) error {
	if b.noUninstall {
		return nil
	}
	for i := range len(b.components) + len(b.dependencies) {
		s.component(i)
		s.directive(suit.DirUnlink)
	}
	return nil
}

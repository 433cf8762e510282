package distribute

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/suit"
)

// Identity says which devices a manifest is for. Devices want vendor and class checked (SUIT §6.2).
type Identity struct {
	Vendor suit.VendorID
	Class  suit.UUID
	// Device restricts the manifest to one device; zero for any of the class.
	Device suit.UUID
}

func (i Identity) complete() bool { return !i.Vendor.Namespace().IsZero() && !i.Class.IsZero() }

func (i Identity) parameters() (p suit.Parameters) {
	p.SetVendorID(i.Vendor)
	p.SetClassID(i.Class)
	if !i.Device.IsZero() {
		p.SetDeviceID(i.Device)
	}
	return p
}

func (i Identity) conditions() []suit.Command {
	list := []suit.Command{suit.Condition(suit.CondVendorIdentifier, suit.ReportAll), suit.Condition(suit.CondClassIdentifier, suit.ReportAll)}
	if !i.Device.IsZero() {
		list = append(list, suit.Condition(suit.CondDeviceIdentifier, suit.ReportAll))
	}
	return list
}

// IdentityOf reads the vendor and class that a manifest is for from its shared sequence. The first
// component that states both decides.
func IdentityOf(m *suit.Manifest) (Identity, error) {
	var found Identity
	var vendor, class bool
	m.Common.SharedSequence.Commands.Walk(func(c *suit.Command) bool {
		sets := []suit.Parameters{c.Parameters}
		for _, e := range c.Multiple {
			sets = append(sets, e.Parameters)
		}
		for _, p := range sets {
			if v, ok := p.VendorID(); ok && !vendor {
				found.Vendor, vendor = v, true
			}
			if u, ok := p.ClassID(); ok && !class {
				found.Class, class = u, true
			}
		}
		return !vendor || !class
	})
	if !vendor || !class {
		return Identity{}, errors.New("distribute: the manifest states no vendor and class in its shared sequence: give the Identity")
	}
	return found, nil
}

// target is a manifest that another one depends on.
type target struct {
	envelope *suit.Envelope
	manifest *suit.Manifest
	id       suit.ComponentID
	// uri is where devices find the envelope: outside, or under this key in the dependent.
	uri        string
	integrated bool
}

// integratedKey names a dependency that travels in the envelope of its dependent.
const integratedKey = "#dependency"

func newTarget(e *suit.Envelope, uri string) (*target, error) {
	if e == nil {
		return nil, errors.New("distribute: no envelope to depend on")
	}
	if len(e.AuthBlocks) == 0 {
		return nil, errors.New("distribute: the envelope to depend on is not signed: devices would refuse it")
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return nil, fmt.Errorf("distribute: the envelope to depend on: %w", err)
	}
	if m.ComponentID == nil {
		return nil, errors.New("distribute: the manifest to depend on has no manifest-component-id, so devices would not know where to keep it")
	}
	t := &target{envelope: e, manifest: m, id: m.ComponentID, uri: uri}
	if uri == "" {
		t.uri, t.integrated = integratedKey, true
	}
	return t, nil
}

// draft is a dependent in the making. Its dependency, if any, is the component after its own.
type draft struct {
	manifest   suit.Manifest
	identity   Identity
	own        []suit.ComponentID
	dependency *target
}

func (d *draft) index() uint64 { return uint64(len(d.own)) }

// common lists the components and writes the shared sequence: who it is for, and which version of
// the dependency it means.
func (d *draft) common() {
	c := &d.manifest.Common
	c.Components = d.own
	if d.dependency != nil {
		c.Components = append(c.Components[:len(d.own):len(d.own)], d.dependency.id)
		c.Dependencies = []suit.Dependency{{Index: d.index()}}
	}
	shared := []suit.Command{suit.SetComponentIndex(0), suit.OverrideParameters(d.identity.parameters())}
	shared = append(shared, d.identity.conditions()...)
	if d.dependency != nil {
		var pinned suit.Parameters
		pinned.SetDigest(d.dependency.envelope.Digest)
		shared = append(shared, suit.SetComponentIndex(d.index()), suit.OverrideParameters(pinned))
	}
	c.SharedSequence.Commands = shared
}

// phases are the sections of the procedures in which a dependency may have something to do.
var phases = []suit.Label{suit.LabelDependencyResolution, suit.LabelPayloadFetch, suit.LabelCandidateVerification,
	suit.LabelInstall, suit.LabelValidate, suit.LabelLoad, suit.LabelInvoke}

// process runs the dependency's sections from the same sections of the dependent, which has to have
// every one that the dependency has (trust domains §required-checks). What before returns for a
// section comes before the dependency is processed there.
func (d *draft) process(before func(suit.Label) []suit.Command) {
	if d.dependency == nil {
		return
	}
	var from suit.Parameters
	from.SetURI(d.dependency.uri)
	for _, label := range phases {
		resolves := label == suit.LabelDependencyResolution
		if !resolves && !d.dependency.manifest.Section(label).Present() {
			continue
		}
		cmds := []suit.Command{suit.SetComponentIndex(d.index())}
		if resolves {
			cmds = append(cmds, suit.OverrideParameters(from), suit.Directive(suit.DirFetch, suit.ReportRecordOnFailure))
		}
		cmds = append(cmds, before(label)...)
		d.manifest.Section(label).Commands = append(cmds, suit.Condition(suit.CondDependencyIntegrity, suit.ReportAll),
			suit.Directive(suit.DirProcessDependency, suit.ReportRecordOnFailure))
	}
}

// unlink gives up everything, the dependency last.
func (d *draft) unlink() {
	for i := range d.manifest.Common.IndexCount() {
		d.manifest.Uninstall.Commands = append(d.manifest.Uninstall.Commands,
			suit.SetComponentIndex(uint64(i)), suit.Directive(suit.DirUnlink, suit.ReportRecordOnFailure))
	}
}

func (d *draft) build() (*suit.Envelope, error) {
	b := suit.Builder{Manifest: d.manifest}
	if d.dependency != nil && d.dependency.integrated {
		b.Integrated = map[string][]byte{integratedKey: d.dependency.envelope.Encode()}
	}
	e, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("distribute: %w", err)
	}
	return e, nil
}

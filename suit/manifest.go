package suit

import "slices"

// Manifest is SUIT_Manifest with the members of the trust-domains and update-management texts.
// A parsed manifest shares memory with the envelope it came from and is read only; it is safe
// for concurrent use as long as nobody changes it.
//
//	SUIT_Manifest = {
//	  suit-manifest-version         => 1,
//	  suit-manifest-sequence-number => uint,
//	  suit-common                   => bstr .cbor SUIT_Common,
//	  ? suit-reference-uri          => tstr,
//	  SUIT_Unseverable_Members,
//	  SUIT_Severable_Members_Choice,
//	  * $$SUIT_Manifest_Extensions,
//	}
type Manifest struct {
	// SequenceNumber never goes back for one manifest component identifier (SUIT §8.4.2).
	SequenceNumber uint64
	Common         Common
	// ReferenceURI is where a whole copy of the manifest is found; nil when the manifest names
	// none.
	ReferenceURI *string
	// ComponentID is manifest-component-id, where a root manifest is stored (trust domains
	// §5.2.1); nil when absent.
	ComponentID ComponentID
	// SetVersion is the version of the component set (update management §4.1); nil when absent.
	SetVersion Version

	Validate  Section
	Load      Section
	Invoke    Section
	Uninstall Section

	DependencyResolution  Section
	PayloadFetch          Section
	CandidateVerification Section
	Install               Section

	Text   TextMember
	CoSWID CoSWIDMember

	// Raw is the encoded manifest, without the byte string around it, as it was received; nil
	// for a manifest that is being built.
	Raw []byte
}

// Common is SUIT_Common.
//
//	SUIT_Common = {
//	  ? suit-dependencies    => SUIT_Dependencies,
//	  ? suit-components      => SUIT_Components,
//	  ? suit-shared-sequence => bstr .cbor SUIT_Shared_Sequence,
//	}
type Common struct {
	// Dependencies are ordered by their index, without duplicates.
	Dependencies   []Dependency
	Components     []ComponentID
	SharedSequence Section
}

// Dependency is one entry of SUIT_Dependencies: the component of that index holds an envelope.
//
//	SUIT_Dependencies = { + uint => SUIT_Dependency_Metadata }
//	SUIT_Dependency_Metadata = { ? suit-dependency-prefix => SUIT_Component_Identifier }
//
// Index may lie beyond the components, as it does in an example of the TEEP text: such a
// dependency has no component identifier but its prefix.
type Dependency struct {
	Index uint64
	// Prefix scopes the dependency's components; nil when absent, which is not the same as
	// the empty prefix on the wire.
	Prefix ComponentID
}

// Section is a top-level command sequence. Its zero value is absent.
type Section struct {
	// Commands is nil when the section is absent, or severed and not in the envelope.
	Commands Sequence
	// Severed is the digest that stands for a severable section in the manifest; nil when the
	// section is in the manifest itself. [Builder] sets it.
	Severed *Digest
	// Raw is the encoded sequence as received, without the byte string around it. Offsets of
	// commands count from its start.
	Raw []byte
}

// Present tells whether the manifest has the section, severed or not.
func (s *Section) Present() bool { return s.Commands != nil || s.Severed != nil }

// Available tells whether its commands are at hand.
func (s *Section) Available() bool { return s.Commands != nil }

// TextMember is suit-text. Its zero value is absent.
type TextMember struct {
	Languages Text
	// Severed is the digest that stands for the text in the manifest; nil when it is inline.
	Severed *Digest
	// Raw is the encoded SUIT_Text_Map as received; nil when it is not at hand.
	Raw []byte
}

// CoSWIDMember is suit-coswid: a concise software identification tag (RFC 9393), which is
// well-formed CBOR and carried as it is. Its zero value is absent.
type CoSWIDMember struct {
	Tag     []byte
	Severed *Digest
}

// Section returns a command sequence by its label, or nil if the label is not that of a
// sequence. [LabelCommon] is the shared sequence.
func (m *Manifest) Section(label Label) *Section {
	switch label {
	case LabelCommon:
		return &m.Common.SharedSequence
	case LabelValidate:
		return &m.Validate
	case LabelLoad:
		return &m.Load
	case LabelInvoke:
		return &m.Invoke
	case LabelDependencyResolution:
		return &m.DependencyResolution
	case LabelPayloadFetch:
		return &m.PayloadFetch
	case LabelCandidateVerification:
		return &m.CandidateVerification
	case LabelInstall:
		return &m.Install
	case LabelUninstall:
		return &m.Uninstall
	}
	return nil
}

// SectionLabels lists the labels of command sequences in the order of the map, the shared
// sequence left out.
func SectionLabels() []Label {
	return []Label{LabelValidate, LabelLoad, LabelInvoke, LabelDependencyResolution, LabelPayloadFetch,
		LabelCandidateVerification, LabelInstall, LabelUninstall}
}

// Dependency returns the entry for a component index.
func (c *Common) Dependency(index uint64) (Dependency, bool) {
	i, ok := slices.BinarySearchFunc(c.Dependencies, index, func(d Dependency, index uint64) int {
		return compareUint(d.Index, index)
	})
	if !ok {
		return Dependency{}, false
	}
	return c.Dependencies[i], true
}

// IndexCount is one more than the highest index that commands may select: components, and
// dependencies with indexes beyond them.
func (c *Common) IndexCount() uint64 {
	n := uint64(len(c.Components))
	if k := len(c.Dependencies); k > 0 {
		n = max(n, c.Dependencies[k-1].Index+1)
	}
	return n
}

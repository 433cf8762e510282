package suit

import (
	"fmt"
	"maps"
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Encode encodes the manifest deterministically (RFC 8949 §4.2.1). Members with a Severed digest
// are written as that digest. The result is parsed again before it is returned, so that nothing
// leaves that [ParseManifest] would refuse.
func (m *Manifest) Encode() ([]byte, error) {
	data := m.appendCBOR(nil)
	if _, err := parseManifest(data, nil); err != nil {
		return nil, fmt.Errorf("cannot encode manifest: %w", err)
	}
	return data, nil
}

// pairs collects the members of a map that ascends by label.
type pairs struct {
	n uint64
	b []byte
}

func (p *pairs) key(label int64) { p.n++; p.b = appendInt(p.b, label) }

func (p *pairs) wrapped(label Label, content []byte) {
	p.key(int64(label))
	p.b = appendBytes(p.b, content)
}

// choice writes a severable member: its digest, its content, or nothing.
func (p *pairs) choice(label Label, severed *Digest, content []byte) {
	switch {
	case severed != nil:
		p.key(int64(label))
		p.b = severed.appendCBOR(p.b)
	case content != nil:
		p.wrapped(label, content)
	}
}

func (p *pairs) section(label Label, s *Section) {
	p.choice(label, s.Severed, s.content())
}

// content is the encoded sequence; nil when there is none.
func (s *Section) content() []byte {
	if s.Commands == nil {
		return nil
	}
	return s.Commands.appendCBOR(nil)
}

func (t *TextMember) content() []byte {
	if t.Languages == nil {
		return nil
	}
	return t.Languages.appendCBOR(nil)
}

func (m *Manifest) appendCBOR(b []byte) []byte {
	var p pairs
	p.key(int64(LabelManifestVersion))
	p.b = appendUint(p.b, manifestVersion)
	p.key(int64(LabelSequenceNumber))
	p.b = appendUint(p.b, m.SequenceNumber)
	p.wrapped(LabelCommon, m.Common.appendCBOR(nil))
	if m.ReferenceURI != nil {
		p.key(int64(LabelReferenceURI))
		p.b = appendText(p.b, *m.ReferenceURI)
	}
	if m.ComponentID != nil {
		p.key(int64(LabelManifestComponentID))
		p.b = m.ComponentID.appendCBOR(p.b)
	}
	if m.SetVersion != nil {
		p.wrapped(LabelSetVersion, m.SetVersion.appendCBOR(nil))
	}
	for label := LabelValidate; label <= labelMax; label++ {
		switch label {
		case LabelCoSWID:
			p.choice(label, m.CoSWID.Severed, m.CoSWID.Tag)
		case LabelText:
			p.choice(label, m.Text.Severed, m.Text.content())
		default:
			if s := m.Section(label); s != nil {
				p.section(label, s)
			}
		}
	}
	return append(scan.AppendHead(b, byte(scan.Map), p.n), p.b...)
}

func (c *Common) appendCBOR(b []byte) []byte {
	var p pairs
	if len(c.Dependencies) > 0 {
		p.key(labelDependencies)
		p.b = appendDependencies(p.b, c.Dependencies)
	}
	if len(c.Components) > 0 {
		p.key(labelComponents)
		p.b = scan.AppendHead(p.b, byte(scan.Array), uint64(len(c.Components)))
		for _, id := range c.Components {
			p.b = id.appendCBOR(p.b)
		}
	}
	if c.SharedSequence.Commands != nil {
		p.wrapped(labelSharedSequence, c.SharedSequence.content())
	}
	return append(scan.AppendHead(b, byte(scan.Map), p.n), p.b...)
}

func appendDependencies(b []byte, list []Dependency) []byte {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(x, y Dependency) int { return compareUint(x.Index, y.Index) })
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(sorted)))
	for _, d := range sorted {
		b = appendUint(b, d.Index)
		if d.Prefix == nil {
			b = append(b, 0xa0)
			continue
		}
		b = d.Prefix.appendCBOR(appendInt(append(b, 0xa1), labelDependencyPrefix))
	}
	return b
}

// sortedKeys orders text keys as Core Deterministic Encoding does.
func sortedKeys[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), compareEncodedText)
}

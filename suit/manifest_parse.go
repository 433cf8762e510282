package suit

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit/internal/scan"
)

// ParseManifest parses an encoded manifest that stands alone, with or without tag 1070. Members
// that are severed are then not available. It keeps aliases into data.
//
// Nothing is authenticated here: use [Envelope.Verify] for what comes from outside.
func ParseManifest(data []byte) (*Manifest, error) {
	r := scan.New(data)
	if r.Peek() == scan.Tag {
		tag, err := r.Tag()
		if err == nil && tag != tagManifest {
			err = fmt.Errorf("tag %d: a manifest has tag 1070 or none", tag)
		}
		if err != nil {
			return nil, at(err, "manifest")
		}
		data = data[r.Pos():]
	}
	return parseManifest(data, nil)
}

// members gives the manifest parser what an envelope holds of severed members.
type members interface {
	// severed returns the content of the member and the whole byte string around it.
	severed(Label) (content, item []byte, ok bool)
}

type manifestParser struct {
	m        *Manifest
	envelope members // nil when there is none
	commands int
}

func parseManifest(data []byte, envelope members) (*Manifest, error) {
	m := &Manifest{Raw: data}
	p := manifestParser{m: m, envelope: envelope}
	r := scan.New(data)
	n, err := r.Map()
	if err != nil {
		return nil, at(err, "manifest")
	}
	var seen labelSet
	for range n {
		label, err := seen.read(&r)
		if err != nil {
			return nil, at(at(err, fmt.Sprintf("key %d", label)), "manifest")
		}
		if err := p.member(&r, Label(label)); err != nil {
			return nil, at(err, Label(label).String())
		}
	}
	if err := r.Done(); err != nil {
		return nil, at(err, "manifest")
	}
	if err := p.finish(&seen); err != nil {
		return nil, err
	}
	return m, nil
}

// finish parses what depends on other members and checks that the mandatory ones are there.
func (p *manifestParser) finish(seen *labelSet) error {
	for _, label := range [...]Label{LabelManifestVersion, LabelSequenceNumber, LabelCommon} {
		if seen.small&(1<<label) == 0 {
			return at(errors.New("is missing"), label.String())
		}
	}
	if p.m.Text.Raw == nil {
		return nil
	}
	var err error
	p.m.Text.Languages, err = parseText(p.m.Text.Raw, p.m.Common.Components)
	return at(err, LabelText.String())
}

var errUnknownMember = errors.New("is not a member of any known extension")

func (p *manifestParser) member(r *scan.Reader, label Label) (err error) {
	m := p.m
	switch label {
	case LabelManifestVersion:
		return readManifestVersion(r)
	case LabelSequenceNumber:
		m.SequenceNumber, err = r.Uint()
	case LabelCommon:
		return p.common(r)
	case LabelReferenceURI:
		var uri []byte
		uri, err = r.Text()
		s := string(uri)
		m.ReferenceURI = &s
	case LabelManifestComponentID:
		m.ComponentID, err = readComponentID(r)
	case LabelSetVersion:
		return p.setVersion(r)
	case LabelText:
		m.Text.Raw, m.Text.Severed, err = p.content(r, label)
	case LabelCoSWID:
		return p.coswid(r)
	default:
		section := m.Section(label)
		if section == nil {
			return errUnknownMember
		}
		return p.section(r, section, label)
	}
	return err
}

func readManifestVersion(r *scan.Reader) error {
	v, err := r.Uint()
	if err == nil && v != manifestVersion {
		err = fmt.Errorf("%w (found %d)", ErrVersion, v)
	}
	return err
}

func (p *manifestParser) setVersion(r *scan.Reader) error {
	content, err := r.Bytes()
	if err != nil {
		return err
	}
	inner := scan.New(content)
	if p.m.SetVersion, err = readVersion(&inner); err != nil {
		return err
	}
	return inner.Done()
}

func (p *manifestParser) coswid(r *scan.Reader) (err error) {
	c := &p.m.CoSWID
	if c.Tag, c.Severed, err = p.content(r, LabelCoSWID); err != nil || c.Tag == nil {
		return err
	}
	// A full decode finds duplicate keys as well, wherever they are nested.
	var tag any
	return cbor.Unmarshal(c.Tag, &tag)
}

// content reads a member that is either a byte string or, where it is severable, a digest. The
// content of a severed member comes from the envelope if it is there, and is checked.
func (p *manifestParser) content(r *scan.Reader, label Label) (content []byte, severed *Digest, err error) {
	if r.Peek() != scan.Array || !label.Severable() {
		content, err = r.Bytes()
		if err == nil && p.envelope != nil {
			if _, _, ok := p.envelope.severed(label); ok {
				err = fmt.Errorf("%w: the envelope has a member that the manifest does not sever", ErrSeveredDigest)
			}
		}
		return content, nil, err
	}
	d, err := readDigest(r)
	if err != nil {
		return nil, nil, err
	}
	if p.envelope == nil {
		return nil, &d, nil
	}
	content, item, ok := p.envelope.severed(label)
	if ok && !d.Matches(item) {
		return nil, nil, fault(ReasonUnauthorised, ErrSeveredDigest)
	}
	return content, &d, nil
}

func (p *manifestParser) section(r *scan.Reader, s *Section, label Label) (err error) {
	if s.Raw, s.Severed, err = p.content(r, label); err != nil || s.Raw == nil {
		return err
	}
	return p.sequence(s, label == LabelCommon)
}

func (p *manifestParser) sequence(s *Section, shared bool) (err error) {
	sp := sequenceParser{commands: p.commands, shared: shared}
	s.Commands, err = sp.parse(s.Raw, 0, 1)
	p.commands = sp.commands
	return err
}

func (p *manifestParser) common(r *scan.Reader) error {
	content, err := r.Bytes()
	if err != nil {
		return err
	}
	inner := scan.New(content)
	n, err := inner.Map()
	if err != nil {
		return err
	}
	var seen labelSet
	for range n {
		label, err := seen.read(&inner)
		if err != nil {
			return at(err, fmt.Sprintf("key %d", label))
		}
		if err := p.commonMember(&inner, label); err != nil {
			return err
		}
	}
	return inner.Done()
}

func (p *manifestParser) commonMember(r *scan.Reader, label int64) (err error) {
	c := &p.m.Common
	switch label {
	case labelDependencies:
		c.Dependencies, err = readDependencies(r)
		return at(err, "dependencies")
	case labelComponents:
		c.Components, err = readComponents(r)
		return at(err, "components")
	case labelSharedSequence:
		if c.SharedSequence.Raw, err = r.Bytes(); err == nil {
			err = p.sequence(&c.SharedSequence, true)
		}
		return at(err, "shared-sequence")
	}
	return at(errUnknownMember, fmt.Sprintf("key %d", label))
}

func readComponents(r *scan.Reader) ([]ComponentID, error) {
	n, err := r.Array()
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, errEmpty
	case n > MaxComponents:
		return nil, fault(ReasonComponentUnsupported,
			fmt.Errorf("has %d components, at most %d are accepted", n, MaxComponents))
	}
	list := make([]ComponentID, n)
	for i := range list {
		if list[i], err = readComponentID(r); err != nil {
			return nil, at(err, fmt.Sprintf("[%d]", i))
		}
	}
	return list, nil
}

// maxDependencyIndex is generous: an index beyond the components is unusual in itself.
const maxDependencyIndex = 2 * MaxComponents

func readDependencies(r *scan.Reader) ([]Dependency, error) {
	n, err := r.Map()
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, errEmpty
	case n > MaxComponents:
		return nil, fault(ReasonComponentUnsupported,
			fmt.Errorf("has %d dependencies, at most %d are accepted", n, MaxComponents))
	}
	list := make([]Dependency, n)
	for i := range list {
		// "SUIT_Dependencies MUST be sorted" (trust domains §5.2.2).
		if list[i].Index, err = nextIndex(r, i, func() uint64 { return list[i-1].Index }); err != nil {
			return nil, err
		}
		if list[i].Index > maxDependencyIndex {
			return nil, fault(ReasonComponentUnsupported, fmt.Errorf("component index %d is too large", list[i].Index))
		}
		if list[i].Prefix, err = readDependencyMetadata(r); err != nil {
			return nil, at(err, fmt.Sprintf("[%d]", list[i].Index))
		}
	}
	return list, nil
}

func readDependencyMetadata(r *scan.Reader) (prefix ComponentID, err error) {
	n, err := r.Map()
	if err != nil {
		return nil, err
	}
	var seen labelSet
	for range n {
		label, err := seen.read(r)
		if err != nil {
			return nil, err
		}
		if label != labelDependencyPrefix {
			return nil, at(errUnknownMember, fmt.Sprintf("key %d", label))
		}
		if prefix, err = readComponentID(r); err != nil {
			return nil, at(err, "dependency-prefix")
		}
	}
	return prefix, nil
}

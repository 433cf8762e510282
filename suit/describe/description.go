package describe

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// builder goes from the description to the manifest.
type builder struct {
	o        Options
	hash     cose.Algorithm
	defaults identity

	components   []*component
	dependencies []*dependency
	noUninstall  bool
	sequences    map[suit.Label]suit.Sequence // written out, instead of the templates

	manifest   suit.Manifest
	severable  []suit.Label
	integrated map[string][]byte
	payloads   []Payload
	separate   []EncryptionInfo
	holds      int64 // bytes of payloads that go into the envelope
	untagged   bool
}

func (b *builder) readDescription(root *yaml.Node) error {
	m, err := b.mapping(root, "description", topLevel...)
	if err != nil {
		return err
	}
	if m["sequence-number"] == nil {
		return b.errorf(root, "sequence-number is missing: it must rise with every version of the manifest")
	}
	if m["components"] == nil && m["dependencies"] == nil {
		return b.errorf(root, "components are missing: list what the manifest installs")
	}
	if err := b.readHash(m["digest-algorithm"]); err != nil {
		return err
	}
	if b.defaults, err = b.identity(m, identity{}); err != nil {
		return err
	}
	for _, step := range []struct {
		key  string
		read func(*yaml.Node) error
	}{
		{"manifest-component-id", b.readManifestID},
		{"sequence-number", b.readSequenceNumber},
		{"version", b.readVersion},
		{"components", b.readComponents},
		{"dependencies", b.readDependencies},
		{"reference-uri", b.readReferenceURI},
		{"coswid", b.readCoSWID},
		{"text", b.readText},
		{"severable", b.readSeverable},
		{"uninstall", b.readUninstall},
		{"sequences", b.readSequences},
		{"untagged", b.readUntagged},
	} {
		if n := m[step.key]; n != nil {
			if err := step.read(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) readHash(n *yaml.Node) error {
	b.hash = cose.AlgSHA256
	if n == nil {
		return nil
	}
	alg, ok := hashes[n.Value]
	if !ok {
		return b.unknown(n, "digest-algorithm", hashNames)
	}
	b.hash = alg
	return nil
}

func (b *builder) readManifestID(n *yaml.Node) (err error) {
	b.manifest.ComponentID, err = b.componentID(n, "manifest-component-id")
	return err
}

func (b *builder) readSequenceNumber(n *yaml.Node) (err error) {
	b.manifest.SequenceNumber, err = b.uint(n, "sequence-number")
	return err
}

func (b *builder) readVersion(n *yaml.Node) error {
	s, err := b.text(n, "version")
	if err != nil {
		return err
	}
	if b.manifest.SetVersion, err = suit.ParseVersion(s); err != nil {
		return b.errorf(n, "%w", err)
	}
	return nil
}

func (b *builder) readReferenceURI(n *yaml.Node) error {
	s, err := b.text(n, "reference-uri")
	b.manifest.ReferenceURI = &s
	return err
}

func (b *builder) readCoSWID(n *yaml.Node) error {
	_, value, err := b.choice(n, "coswid", coswidForms...)
	if err != nil {
		return err
	}
	b.manifest.CoSWID.Tag, err = b.file(value)
	return err
}

func (b *builder) readUninstall(n *yaml.Node) error {
	v, err := b.bool(n, "uninstall")
	b.noUninstall = !v
	return err
}

func (b *builder) readUntagged(n *yaml.Node) (err error) {
	b.untagged, err = b.bool(n, "untagged")
	return err
}

func (b *builder) readSeverable(n *yaml.Node) error {
	list, err := b.items(n, "severable")
	if err != nil {
		return err
	}
	for _, item := range list {
		i := slices.IndexFunc(severable, func(l suit.Label) bool { return l.String() == item.Value })
		if i < 0 {
			return b.unknown(item, "severable", labelNames(severable))
		}
		if slices.Contains(b.severable, severable[i]) {
			return b.errorf(item, "%s is listed twice", item.Value)
		}
		b.severable = append(b.severable, severable[i])
	}
	return nil
}

func (b *builder) readSequences(n *yaml.Node) error {
	names := sequenceNames()
	list, err := b.fields(n, "sequences")
	if err != nil {
		return err
	}
	b.sequences = make(map[suit.Label]suit.Sequence, len(list))
	for _, f := range list {
		i := slices.Index(names, f.key.Value)
		if i < 0 {
			return b.unknown(f.key, "sequences", names)
		}
		label := suit.LabelCommon
		if i > 0 {
			label = suit.SectionLabels()[i-1]
		}
		if f.value.Tag == "!!null" {
			b.sequences[label] = nil // the section is left out
			continue
		}
		if b.sequences[label], err = b.sequence(f.value, 1); err != nil {
			return err
		}
	}
	return nil
}

// textKeys are the keys of a language: about the manifest, then about its components.
var textKeys = map[string]suit.TextLabel{
	"description": suit.TextManifestDescription, "update-description": suit.TextUpdateDescription,
	"json-source": suit.TextManifestJSONSource, "yaml-source": suit.TextManifestYAMLSource,
}

var componentTextKeys = map[string]suit.ComponentTextLabel{
	"vendor-name": suit.TextVendorName, "model-name": suit.TextModelName, "vendor-domain": suit.TextVendorDomain,
	"model-info": suit.TextModelInfo, "component-description": suit.TextComponentDescription,
	"component-version": suit.TextComponentVersion, "version-required": suit.TextVersionRequired,
	"current-version": suit.TextCurrentVersion,
}

// readText reads text of the manifest. What is about components counts for each of them, unless
// the component has text of its own.
func (b *builder) readText(n *yaml.Node) error {
	languages, err := b.fields(n, "text")
	if err != nil {
		return err
	}
	if len(languages) == 0 {
		return b.errorf(n, "text is empty: write {en: {description: …}}")
	}
	for _, f := range languages {
		m, err := b.mapping(f.value, "text of language "+f.key.Value, allTextKeys...)
		if err != nil {
			return err
		}
		for key, value := range m {
			s, err := b.text(value, key)
			if err != nil {
				return err
			}
			if label, ok := textKeys[key]; ok {
				b.setText(f.key.Value, label, s)
				continue
			}
			for _, c := range b.components {
				b.setComponentText(f.key.Value, c, componentTextKeys[key], s, false)
			}
		}
	}
	return nil
}

// readComponentText reads the text of one component.
func (b *builder) readComponentText(n *yaml.Node, c *component) error {
	languages, err := b.fields(n, "text")
	if err != nil {
		return err
	}
	for _, f := range languages {
		m, err := b.mapping(f.value, "text of a component", componentTextKeyList()...)
		if err != nil {
			return err
		}
		for key, value := range m {
			s, err := b.text(value, key)
			if err != nil {
				return err
			}
			b.setComponentText(f.key.Value, c, componentTextKeys[key], s, true)
		}
	}
	return nil
}

func (b *builder) language(tag string) suit.LanguageText {
	if b.manifest.Text.Languages == nil {
		b.manifest.Text.Languages = suit.Text{}
	}
	return b.manifest.Text.Languages[tag]
}

func (b *builder) setText(tag string, label suit.TextLabel, s string) {
	l := b.language(tag)
	if l.Manifest == nil {
		l.Manifest = map[suit.TextLabel]string{}
	}
	l.Manifest[label] = s
	b.manifest.Text.Languages[tag] = l
}

func (b *builder) setComponentText(tag string, c *component, label suit.ComponentTextLabel, s string, replace bool) {
	l := b.language(tag)
	i := slices.IndexFunc(l.Components, func(t suit.ComponentText) bool { return t.ID.Equal(c.id) })
	if i < 0 {
		i = len(l.Components)
		l.Components = append(l.Components, suit.ComponentText{ID: c.id, Text: map[suit.ComponentTextLabel]string{}})
	}
	if _, there := l.Components[i].Text[label]; !there || replace {
		l.Components[i].Text[label] = strings.TrimSpace(s)
	}
	b.manifest.Text.Languages[tag] = l
}

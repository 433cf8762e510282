package describe

import (
	"bytes"
	"path"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/suit"
)

// dependency is an envelope that the manifest depends on (trust domains §9.1).
type dependency struct {
	id      suit.ComponentID
	prefix  suit.ComponentID // nil if there is none
	digest  suit.Digest
	uri     string
	present func(suit.Label) bool // does it have the section?
	// parameters are set for the dependency's own use before it is processed, unless it
	// overrides them: the encryption info of its payload, say (trust domains §9.3).
	parameters suit.Parameters
}

func (b *builder) readDependencies(n *yaml.Node) error {
	list, err := b.items(n, "dependencies")
	if err != nil {
		return err
	}
	for _, item := range list {
		d, err := b.readDependency(item)
		if err != nil {
			return err
		}
		b.dependencies = append(b.dependencies, d)
	}
	return nil
}

func (b *builder) readDependency(n *yaml.Node) (*dependency, error) {
	m, err := b.mapping(n, "dependency", dependencyKeys...)
	if err != nil {
		return nil, err
	}
	d := &dependency{present: func(suit.Label) bool { return true }}
	if m["id"] != nil {
		if d.id, err = b.componentID(m["id"], "id"); err != nil {
			return nil, err
		}
	}
	if m["prefix"] != nil {
		if d.prefix, err = b.componentID(m["prefix"], "prefix"); err != nil {
			return nil, err
		}
	}
	if m["uri"] != nil {
		if d.uri, err = b.text(m["uri"], "uri"); err != nil {
			return nil, err
		}
	}
	if m["set-parameters"] != nil {
		if d.parameters, err = b.parameters(m["set-parameters"]); err != nil {
			return nil, err
		}
	}
	integrated := false
	if m["integrated"] != nil {
		if integrated, err = b.bool(m["integrated"], "integrated"); err != nil {
			return nil, err
		}
	}
	if m["file"] != nil {
		err = b.readDependencyFile(d, n, m, integrated)
	} else {
		err = b.statedDependency(d, n, m, integrated)
	}
	if err == nil && d.id == nil {
		err = b.errorf(n, "dependency has no id and its manifest names none: write id: […]")
	}
	return d, err
}

func (b *builder) readDependencyFile(d *dependency, n *yaml.Node, m map[string]*yaml.Node, integrated bool) error {
	if m["digest"] != nil {
		return b.errorf(m["digest"], "file gives the digest already: leave one out")
	}
	data, err := b.file(m["file"])
	if err == nil && integrated {
		err = b.hold(m["file"], m["file"].Value, int64(len(data)))
	}
	if err != nil {
		return err
	}
	e, err := suit.ParseEnvelope(append([]byte{}, data...))
	if err != nil {
		return b.errorf(m["file"], "%q: %w", m["file"].Value, err)
	}
	manifest, err := e.UnverifiedManifest()
	if err != nil {
		return b.errorf(m["file"], "%q: %w", m["file"].Value, err)
	}
	d.digest = e.Digest
	d.present = func(l suit.Label) bool { return manifest.Section(l).Present() }
	if d.id == nil {
		d.id = manifest.ComponentID
	}
	switch {
	case d.uri == "" && integrated:
		d.uri = "#" + path.Base(m["file"].Value)
	case d.uri == "":
		return b.errorf(n, "where does the dependency come from? give uri, or integrated: true")
	}
	p := payloadSource{uri: d.uri, file: m["file"].Value, body: b.held(bytes.Clone(data)), integrated: integrated}
	return b.deliver(n, p)
}

func (b *builder) statedDependency(d *dependency, n *yaml.Node, m map[string]*yaml.Node, integrated bool) (err error) {
	switch {
	case integrated:
		return b.errorf(n, "an integrated dependency needs its file")
	case m["digest"] == nil || d.uri == "":
		return b.errorf(n, "a dependency needs file, or digest (of its manifest) and uri")
	}
	d.digest, err = b.digest(m["digest"])
	return err
}

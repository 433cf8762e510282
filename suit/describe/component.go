package describe

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/suit"
)

// component is one entry of components. Exactly one source says where its content comes from;
// none means that it is only looked at.
type component struct {
	node     *yaml.Node
	id       suit.ComponentID
	identity identity

	image    *image   // the plaintext, for digest and size
	uri      string   // to fetch from
	mirrors  []string // to fetch from instead, when uri is not reachable, in this order
	slots    []slot
	content  []byte     // to write, encrypted or not
	info     []byte     // encryption info of what is fetched or written, if it is in the manifest
	separate *yaml.Node // where the description keeps the encryption info out of the manifest
	staging  *component
	copyFrom suit.ComponentID
	swapWith suit.ComponentID
	loadFrom suit.ComponentID

	invoke     bool
	invokeArgs []byte
	metadata   suit.Parameters
}

// image is what a digest says about content.
type image struct {
	digest suit.Digest
	size   *uint64
}

// slot is one of several places that a component may be in (SUIT §7.8).
type slot struct {
	number uint64
	image  *image
	uri    string
}

func (b *builder) readComponents(n *yaml.Node) error {
	list, err := b.items(n, "components")
	if err != nil {
		return err
	}
	if len(list) > suit.MaxComponents {
		return b.errorf(n, "%d components: a manifest has at most %d", len(list), suit.MaxComponents)
	}
	for _, item := range list {
		c, err := b.readComponent(item)
		if err != nil {
			return err
		}
		for _, other := range b.components {
			if other.id.Equal(c.id) {
				return b.errorf(item, "component %v is described twice", c.id)
			}
		}
		b.components = append(b.components, c)
	}
	if err := b.checkSeparate(); err != nil {
		return err
	}
	// Staging components come after those that the author named, so that indexes in written-out
	// sequences are those of the description.
	for _, c := range b.components[:len(b.components):len(b.components)] {
		if c.staging != nil {
			b.components = append(b.components, c.staging)
		}
	}
	return nil
}

// checkSeparate refuses what would be decrypted with a key that it does not belong to: a device gets one key for a
// manifest from who distributes them (trust domains §template-override-encryption-info).
func (b *builder) checkSeparate() error {
	i := slices.IndexFunc(b.components, func(c *component) bool { return c.separate != nil })
	if i < 0 {
		return nil
	}
	for k, c := range b.components {
		switch {
		case k == i:
		case c.separate != nil:
			return b.errorf(c.separate, "who distributes the keys gives a device one for each manifest, and component %v has info: separate already: "+
				"describe each encrypted payload in a manifest of its own, and one that depends on them (dependencies: [{file: …}])", b.components[i].id)
		case c.info == nil && (c.copyFrom != nil || c.content != nil):
			return b.errorf(c.node, "the key of component %v, which has info: separate, would be used for this one too, because it is copied or written: "+
				"describe it in a manifest of its own, and one that depends on both (dependencies: [{file: …}])", b.components[i].id)
		}
	}
	return nil
}

func (b *builder) readComponent(n *yaml.Node) (*component, error) {
	m, err := b.mapping(n, "component", componentKeys...)
	if err != nil {
		return nil, err
	}
	if m["id"] == nil {
		return nil, b.errorf(n, "component has no id: write id: [hello]")
	}
	c := &component{node: n}
	if c.id, err = b.componentID(m["id"], "id"); err != nil {
		return nil, err
	}
	if c.identity, err = b.identity(m, b.defaults); err != nil {
		return nil, err
	}
	if err := b.readSource(c, n, m); err != nil {
		return nil, err
	}
	if value := m["image"]; value != nil {
		if c.image != nil {
			return nil, b.errorf(value, "image repeats what payload or content say already: leave one out")
		}
		if c.image, err = b.readImage(value); err != nil {
			return nil, err
		}
	}
	if value := m["invoke"]; value != nil {
		if err := b.readInvoke(c, value); err != nil {
			return nil, err
		}
	}
	if value := m["metadata"]; value != nil {
		if err := b.metadataParameter(&c.metadata, value); err != nil {
			return nil, err
		}
	}
	if value := m["text"]; value != nil {
		return c, b.readComponentText(value, c)
	}
	return c, nil
}

func (b *builder) readSource(c *component, n *yaml.Node, m map[string]*yaml.Node) (err error) {
	sources := 0
	for _, key := range []string{"payload", "content", "slots", "copy-from", "swap-with"} {
		if m[key] != nil {
			sources++
		}
	}
	if sources > 1 {
		return b.errorf(n, "component %v has several sources: give one of payload, content, slots, copy-from and swap-with", c.id)
	}
	if value := m["payload"]; value != nil {
		return b.readPayload(c, value)
	}
	if value := m["content"]; value != nil {
		return b.readContent(c, value)
	}
	if value := m["slots"]; value != nil {
		return b.readSlots(c, value)
	}
	for key, dst := range map[string]*suit.ComponentID{"copy-from": &c.copyFrom, "swap-with": &c.swapWith, "load-from": &c.loadFrom} {
		if value := m[key]; value != nil {
			if *dst, err = b.componentID(value, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// readImage reads {file: …} or {digest: …, size: …}: content that comes from elsewhere.
func (b *builder) readImage(n *yaml.Node) (*image, error) {
	m, err := b.mapping(n, "image", imageKeys...)
	if err != nil {
		return nil, err
	}
	if m["file"] != nil {
		content, err := b.payloadFile(m["file"], false)
		if err != nil {
			return nil, err
		}
		if m["digest"] != nil || m["size"] != nil {
			return nil, b.errorf(n, "file gives digest and size already: leave them out")
		}
		return content.image, nil
	}
	return b.statedImage(n, m)
}

func (b *builder) imageOf(data []byte) *image {
	size := uint64(len(data))
	return &image{digest: b.digestOf(data), size: &size}
}

func (b *builder) statedImage(n *yaml.Node, m map[string]*yaml.Node) (*image, error) {
	if m["digest"] == nil {
		return nil, b.errorf(n, "a digest is needed: give file, or digest: {sha-256: …} and size")
	}
	d, err := b.digest(m["digest"])
	if err != nil {
		return nil, err
	}
	img := &image{digest: d}
	if m["size"] != nil {
		size, err := b.uint(m["size"], "size")
		if err != nil {
			return nil, err
		}
		img.size = &size
	}
	return img, nil
}

func (b *builder) readSlots(c *component, n *yaml.Node) error {
	list, err := b.items(n, "slots")
	if err != nil {
		return err
	}
	if len(list) < 2 {
		return b.errorf(n, "slots need at least two entries; for one place use payload")
	}
	for _, item := range list {
		m, err := b.mapping(item, "slot", slotKeys...)
		if err != nil {
			return err
		}
		if m["slot"] == nil {
			return b.errorf(item, "slot has no number: write slot: 0")
		}
		number, err := b.uint(m["slot"], "slot")
		if err != nil {
			return err
		}
		for _, other := range c.slots {
			if other.number == number {
				return b.errorf(item, "slot %d is described twice", number)
			}
		}
		p, err := b.payloadSource(item, m)
		if err != nil {
			return err
		}
		if err := b.deliver(item, p); err != nil {
			return err
		}
		c.slots = append(c.slots, slot{number: number, image: p.image, uri: p.uri})
	}
	return nil
}

// readInvoke reads true or {args: …}.
func (b *builder) readInvoke(c *component, n *yaml.Node) (err error) {
	if n.Kind != yaml.MappingNode {
		c.invoke, err = b.bool(n, "invoke")
		return err
	}
	c.invoke = true
	m, err := b.mapping(n, "invoke", invokeKeys...)
	if err != nil {
		return err
	}
	if m["args"] != nil {
		c.invokeArgs, err = b.bytes(m["args"], "args")
	}
	return err
}

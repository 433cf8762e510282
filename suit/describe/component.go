package describe

import (
	"bytes"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
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
	content  []byte // to write, encrypted or not
	info     []byte // encryption info of what is fetched or written, if it is in the manifest
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

var (
	payloadKeys = []string{"file", "uri", "uris", "integrated", "digest", "size", "encrypt"}
	slotKeys    = []string{"slot", "file", "uri", "integrated", "digest", "size"}
	imageKeys   = []string{"file", "digest", "size"}
	encryptKeys = []string{"to", "algorithm", "info"}
	infoPlaces  = []string{"manifest", "separate"}
)

var componentKeys = []string{"id", "vendor", "class", "device", "payload", "content", "slots", "copy-from",
	"swap-with", "load-from", "image", "invoke", "text", "metadata"}

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
	// Staging components come after those that the author named, so that indexes in written-out
	// sequences are those of the description.
	for _, c := range b.components[:len(b.components):len(b.components)] {
		if c.staging != nil {
			b.components = append(b.components, c.staging)
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
		data, err := b.file(m["file"])
		if err != nil {
			return nil, err
		}
		if m["digest"] != nil || m["size"] != nil {
			return nil, b.errorf(n, "file gives digest and size already: leave them out")
		}
		return b.imageOf(data), nil
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

// readPayload reads {file: …, integrated: true} or {file: …, uri: …}, perhaps encrypted, or
// {digest: …, size: …, uri: …} without the file at hand.
func (b *builder) readPayload(c *component, n *yaml.Node) error {
	m, err := b.mapping(n, "payload", payloadKeys...)
	if err != nil {
		return err
	}
	p, err := b.payloadSource(n, m)
	if err != nil {
		return err
	}
	c.image, c.uri, c.mirrors = p.image, p.uri, p.mirrors
	if value := m["encrypt"]; value != nil {
		if p.data == nil {
			return b.errorf(value, "only a file can be encrypted here: give file")
		}
		if p.data, p.info, err = b.encrypt(c, value, p.data); err != nil {
			return err
		}
		// Decryption happens between two components (firmware encryption §3.2): the ciphertext
		// is fetched into one of its own.
		c.staging = &component{node: n, id: c.id.Join(suit.NewComponentID("encrypted")), identity: c.identity,
			image: b.imageOf(p.data), uri: p.uri, mirrors: p.mirrors}
		c.copyFrom, c.uri, c.mirrors = c.staging.id, "", nil
	}
	return b.deliver(n, p)
}

type payloadSource struct {
	uri, file  string
	mirrors    []string
	data       []byte // nil if not at hand
	info       []byte // nil if not encrypted
	image      *image
	integrated bool
}

func (b *builder) payloadSource(n *yaml.Node, m map[string]*yaml.Node) (p payloadSource, err error) {
	if m["integrated"] != nil {
		if p.integrated, err = b.bool(m["integrated"], "integrated"); err != nil {
			return p, err
		}
	}
	if err = b.readURIs(&p, m); err != nil {
		return p, err
	}
	if m["file"] == nil {
		if p.integrated {
			return p, b.errorf(n, "an integrated payload needs its file")
		}
		p.image, err = b.statedImage(n, m)
	} else {
		if m["digest"] != nil || m["size"] != nil {
			return p, b.errorf(n, "file gives digest and size already: leave them out")
		}
		p.file = m["file"].Value
		if p.data, err = b.file(m["file"]); err == nil {
			p.data = append([]byte{}, p.data...)
			p.image = b.imageOf(p.data)
		}
	}
	if err != nil {
		return p, err
	}
	switch {
	case p.uri == "" && p.integrated:
		p.uri = "#" + path.Base(p.file)
	case p.uri == "":
		return p, b.errorf(n, "where does the payload come from? give uri, or integrated: true")
	}
	return p, nil
}

// readURIs reads uri, or uris: one place after the other where the payload may be.
func (b *builder) readURIs(p *payloadSource, m map[string]*yaml.Node) (err error) {
	if m["uri"] != nil {
		if m["uris"] != nil {
			return b.errorf(m["uris"], "uris repeats uri: list all of them in uris")
		}
		p.uri, err = b.text(m["uri"], "uri")
		return err
	}
	if m["uris"] == nil {
		return nil
	}
	list, err := b.items(m["uris"], "uris")
	if err != nil {
		return err
	}
	if p.integrated {
		return b.errorf(m["uris"], "an integrated payload is in one place: give uri, or nothing")
	}
	for _, item := range list {
		uri, err := b.text(item, "uri")
		if err != nil {
			return err
		}
		if uri == p.uri || slices.Contains(p.mirrors, uri) {
			return b.errorf(item, "%q is listed twice", uri)
		}
		if p.uri == "" {
			p.uri = uri
			continue
		}
		p.mirrors = append(p.mirrors, uri)
	}
	return nil
}

// deliver puts the payload into the envelope or on the list of what has to be served.
func (b *builder) deliver(n *yaml.Node, p payloadSource) error {
	if !p.integrated {
		if p.data != nil {
			b.payloads = append(b.payloads, Payload{URI: p.uri, File: p.file, Content: p.data, Encrypted: p.info != nil})
		}
		return nil
	}
	if other, ok := b.integrated[p.uri]; ok && !bytes.Equal(other, p.data) {
		return b.errorf(n, "two integrated payloads are called %q: give each a uri of its own", p.uri)
	}
	b.integrated[p.uri] = p.data
	return nil
}

// readContent reads data that is part of the manifest itself, such as personalization data.
func (b *builder) readContent(c *component, n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		m, err := b.mapping(n, "content", "text", "hex", "uuid", "file", "encrypt")
		if err != nil {
			return err
		}
		if m["encrypt"] != nil {
			return b.readEncryptedContent(c, n, m["encrypt"])
		}
	}
	data, err := b.bytes(n, "content")
	c.content, c.image = append([]byte{}, data...), b.imageOf(data)
	return err
}

func (b *builder) readEncryptedContent(c *component, n, encrypt *yaml.Node) error {
	plain := *n
	plain.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "encrypt" {
			plain.Content = append(plain.Content, n.Content[i], n.Content[i+1])
		}
	}
	data, err := b.bytes(&plain, "content")
	if err != nil {
		return err
	}
	c.image = b.imageOf(data)
	c.content, _, err = b.encrypt(c, encrypt, data)
	return err
}

// encrypt reads {to: [key files], algorithm: A128GCM, info: manifest} and encrypts data. With info:
// separate, the encryption info stays out of the manifest: to is then who distributes the key, and
// devices get it from a manifest of theirs (trust domains §template-override-encryption-info).
func (b *builder) encrypt(c *component, n *yaml.Node, data []byte) (ciphertext, info []byte, err error) {
	m, err := b.mapping(n, "encrypt", encryptKeys...)
	if err != nil {
		return nil, nil, err
	}
	if m["to"] == nil {
		return nil, nil, b.errorf(n, "encrypt needs recipients: write to: [device.pub]")
	}
	if b.o.Rand == nil {
		return nil, nil, b.errorf(n, "encryption needs a source of randomness, which this program did not give")
	}
	alg := cose.AlgA128GCM
	if value := m["algorithm"]; value != nil {
		if alg, err = cose.ParseAlgorithm(value.Value); err != nil {
			return nil, nil, b.errorf(value, "%w", err)
		}
	}
	list, err := b.items(m["to"], "to")
	if err != nil {
		return nil, nil, err
	}
	recipients := make([]cose.Recipient, len(list))
	for i, item := range list {
		if recipients[i], err = b.recipient(item); err != nil {
			return nil, nil, err
		}
	}
	var out bytes.Buffer
	info, err = suit.EncryptPayload(b.o.Rand, bytes.NewReader(data), &out, alg, recipients...)
	if err != nil {
		return nil, nil, b.errorf(n, "%w", err)
	}
	return out.Bytes(), info, b.placeInfo(c, m["info"], info)
}

// placeInfo puts the encryption info into the manifest, or on the list of what is kept out of it.
func (b *builder) placeInfo(c *component, n *yaml.Node, info []byte) error {
	switch {
	case n == nil || n.Value == infoPlaces[0]:
		c.info = info
	case n.Value == infoPlaces[1]:
		b.separate = append(b.separate, EncryptionInfo{Component: c.id, Info: info})
	default:
		return b.unknown(n, "info", infoPlaces)
	}
	return nil
}

// recipient reads a key file, PEM or COSE_Key.
func (b *builder) recipient(n *yaml.Node) (cose.Recipient, error) {
	data, err := b.file(n)
	if err != nil {
		return nil, err
	}
	key, err := cose.ParsePEM(data)
	if err != nil {
		var second error
		if key, second = cose.ParseKey(data); second != nil {
			return nil, b.errorf(n, "%q is neither a PEM file nor a COSE_Key: %w", n.Value, err)
		}
	}
	r, err := suit.PayloadRecipient(key)
	if err != nil {
		return nil, b.errorf(n, "%w", err)
	}
	return r, nil
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
	m, err := b.mapping(n, "invoke", "args")
	if err != nil {
		return err
	}
	if m["args"] != nil {
		c.invokeArgs, err = b.bytes(m["args"], "args")
	}
	return err
}

package describe

import (
	"bytes"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

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
		if name, ok := ciphertextFile(value); ok {
			p.file = name
		} else if p.body == nil {
			return b.errorf(value, "only a file can be encrypted here: give file, or the ciphertext")
		}
		if p.body, p.info, err = b.encrypt(c, value, p.body, p.integrated); err != nil {
			return err
		}
		// Decryption happens between two components (firmware encryption §3.2): the ciphertext
		// is fetched into one of its own.
		c.staging = &component{node: n, id: c.id.Join(suit.NewComponentID("encrypted")), identity: c.identity,
			image: p.body.image, uri: p.uri, mirrors: p.mirrors}
		c.copyFrom, c.uri, c.mirrors = c.staging.id, "", nil
	}
	return b.deliver(n, p)
}

type payloadSource struct {
	uri, file  string
	mirrors    []string
	body       *body  // nil if not at hand
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
		if p.body, err = b.payloadFile(m["file"], p.integrated && m["encrypt"] == nil); err == nil {
			p.image = p.body.image
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
		if p.body != nil {
			b.payloads = append(b.payloads, Payload{URI: p.uri, File: p.file, Content: p.body.data, Encrypted: p.info != nil,
				Scratch: p.body.scratch, open: p.body.open})
		}
		return nil
	}
	if other, ok := b.integrated[p.uri]; ok && !bytes.Equal(other, p.body.data) {
		return b.errorf(n, "two integrated payloads are called %q: give each a uri of its own", p.uri)
	}
	b.integrated[p.uri] = p.body.data
	return nil
}

// readContent reads data that is part of the manifest itself, such as personalization data.
func (b *builder) readContent(c *component, n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		m, err := b.mapping(n, "content", append(bytesForms[:len(bytesForms):len(bytesForms)], "encrypt")...)
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
	plaintext := b.held(data)
	c.image = plaintext.image
	ciphertext, _, err := b.encrypt(c, encrypt, plaintext, true)
	if err == nil {
		c.content = ciphertext.data
	}
	return err
}

// encrypt reads {to: [key files], algorithm: A128GCM, info: manifest} and encrypts data. With info:
// separate, the encryption info stays out of the manifest: to is then who distributes the key, and
// devices get it from a manifest of theirs (trust domains §template-override-encryption-info).
// {ciphertext: file, encryption-info: file} refers to what was encrypted before. The ciphertext is held in
// memory if hold says so.
func (b *builder) encrypt(c *component, n *yaml.Node, plain *body, hold bool) (ciphertext *body, info []byte, err error) {
	m, err := b.mapping(n, "encrypt", encryptKeys...)
	if err != nil {
		return nil, nil, err
	}
	if m["ciphertext"] != nil {
		ciphertext, err = b.encrypted(c, n, m, hold)
		return ciphertext, nil, err
	}
	if m["encryption-info"] != nil {
		return nil, nil, b.errorf(m["encryption-info"], "encryption-info belongs to a ciphertext: name that file, too")
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
	if ciphertext, info, err = b.encryptBody(n, plain, hold, alg, recipients); err != nil {
		return nil, nil, err
	}
	return ciphertext, info, b.placeInfo(c, m["info"], info)
}

// placeInfo puts the encryption info into the manifest, or on the list of what is kept out of it.
func (b *builder) placeInfo(c *component, n *yaml.Node, info []byte) error {
	switch {
	case n == nil || n.Value == infoPlaces[0]:
		c.info = info
	case n.Value == infoPlaces[1]:
		c.separate = n
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
	if cose.PEMLabel(data).IsSignature() {
		return nil, b.errorf(n, "%q is a signing key, and nothing can be encrypted to it: give the encryption key of a device or a TAM", n.Value)
	}
	r, err := suit.PayloadRecipient(key)
	if err != nil {
		return nil, b.errorf(n, "%w", err)
	}
	return r, nil
}

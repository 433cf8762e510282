package describe

import (
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// identity is what a component's identifier conditions check.
type identity struct {
	vendor *suit.VendorID
	class  *suit.UUID
	device *suit.UUID
}

func (b *builder) uuid(n *yaml.Node) (suit.UUID, error) {
	s, err := b.text(n, "uuid")
	if err != nil {
		return suit.UUID{}, err
	}
	u, err := suit.ParseUUID(s)
	if err != nil {
		return u, b.errorf(n, "%w", err)
	}
	return u, nil
}

// vendor reads {domain: …}, {uuid: …} or {pen: …} (SUIT §8.4.8.2).
func (b *builder) vendor(n *yaml.Node) (*suit.VendorID, error) {
	form, value, err := b.choice(n, "vendor", vendorForms...)
	if err != nil {
		return nil, err
	}
	var v suit.VendorID
	switch form {
	case "domain":
		domain, err := b.text(value, "domain")
		if err != nil {
			return nil, err
		}
		if domain == "" {
			return nil, b.errorf(value, "domain is empty: write the vendor's domain name")
		}
		v.UUID = suit.NewVendorID(domain)
	case "uuid":
		if v.UUID, err = b.uuid(value); err != nil {
			return nil, err
		}
	case "pen":
		number, err := b.uint(value, "pen")
		if err != nil {
			return nil, err
		}
		if number > 1<<32-1 {
			return nil, b.errorf(value, "pen %d is not a private enterprise number: it has at most 32 bits", number)
		}
		v = suit.NewPEN(uint32(number))
	}
	return &v, nil
}

// class reads {name: …}, which needs a vendor, or {uuid: …}.
func (b *builder) class(n *yaml.Node, vendor *suit.VendorID) (*suit.UUID, error) {
	form, value, err := b.choice(n, "class", classForms...)
	if err != nil {
		return nil, err
	}
	if form == "uuid" {
		u, err := b.uuid(value)
		return &u, err
	}
	if vendor == nil {
		return nil, b.errorf(n, "a class by name needs a vendor: its UUID is made of both")
	}
	name, err := b.text(value, "class name")
	if err != nil {
		return nil, err
	}
	u := suit.NewClassID(*vendor, []byte(name))
	return &u, nil
}

// identity reads vendor, class and device of a mapping, with inherited values for what is not
// there.
func (b *builder) identity(m map[string]*yaml.Node, inherited identity) (id identity, err error) {
	id = inherited
	if n := m["vendor"]; n != nil {
		if id.vendor, err = b.vendor(n); err != nil {
			return id, err
		}
	}
	if n := m["class"]; n != nil {
		if id.class, err = b.class(n, id.vendor); err != nil {
			return id, err
		}
	}
	if n := m["device"]; n != nil {
		_, value, err := b.choice(n, "device", deviceForms...)
		if err != nil {
			return id, err
		}
		u, err := b.uuid(value)
		if err != nil {
			return id, err
		}
		id.device = &u
	}
	return id, nil
}

// componentID reads a list of text, {hex: …} or {uuid: …}.
func (b *builder) componentID(n *yaml.Node, what string) (suit.ComponentID, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, b.errorf(n, "%s must be a list of segments such as [hello, manifest], not %s", what, kindOf(n))
	}
	id := suit.ComponentID{}
	for _, c := range n.Content {
		segment, err := b.bytes(c, "segment of "+what)
		if err != nil {
			return nil, err
		}
		id = append(id, segment)
	}
	return id, nil
}

// digest reads {file: …}, {sha-256: hex}, {sha-384: hex} or {sha-512: hex}.
func (b *builder) digest(n *yaml.Node) (suit.Digest, error) {
	form, value, err := b.choice(n, "digest", digestForms...)
	if err != nil {
		return suit.Digest{}, err
	}
	if form == "file" {
		data, err := b.file(value)
		if err != nil {
			return suit.Digest{}, err
		}
		return b.digestOf(data), nil
	}
	sum, err := b.hex(value, form)
	if err != nil {
		return suit.Digest{}, err
	}
	d := suit.Digest{Algorithm: hashes[form], Bytes: sum}
	h, err := d.Hash()
	if err != nil {
		return d, b.errorf(value, "%w", err)
	}
	if len(sum) != h.Size() {
		return d, b.errorf(value, "%s has %d bytes, %d are given", form, h.Size(), len(sum))
	}
	return d, nil
}

var hashes = map[string]cose.Algorithm{
	"sha-256": cose.AlgSHA256, "sha-384": cose.AlgSHA384, "sha-512": cose.AlgSHA512,
}

// digestOf uses the description's hash, which was checked when it was read.
func (b *builder) digestOf(data []byte) suit.Digest {
	d, err := suit.NewDigestWith(b.hash, data)
	if err != nil {
		panic("describe: hash was not checked: " + err.Error())
	}
	return d
}

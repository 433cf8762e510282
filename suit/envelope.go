package suit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Envelope is SUIT_Envelope. [ParseEnvelope] looks at its outside only; what is in the manifest
// becomes visible through [Envelope.Verify], after it was authenticated (SUIT §6.2).
//
// A parsed envelope shares memory with the bytes it was parsed from. Its methods that change it
// (Sign, AddIntegrated, Sever…) are not safe for concurrent use; all others are.
//
//	SUIT_Envelope_Tagged = #6.107(SUIT_Envelope)
//	SUIT_Envelope = {
//	  suit-authentication-wrapper => bstr .cbor SUIT_Authentication,
//	  suit-manifest  => bstr .cbor SUIT_Manifest,
//	  SUIT_Severable_Manifest_Members,
//	  * SUIT_Integrated_Payload,
//	  * $$SUIT_Envelope_Extensions,
//	}
type Envelope struct {
	// Tagged tells whether the envelope carries tag 107; both forms are accepted and written.
	Tagged bool
	// Digest is the digest of the manifest as the authentication wrapper claims it.
	Digest Digest
	// AuthBlocks are the encoded COSE structures of the authentication wrapper.
	AuthBlocks [][]byte
	// ManifestBytes is the encoded manifest without the byte string around it. It is what was
	// received, not authenticated yet.
	ManifestBytes []byte
	// Integrated holds integrated payloads and integrated dependencies by their key, which is
	// the URI that commands name; nil when there are none. Their content is authenticated only
	// by the digests in the manifest.
	Integrated map[string][]byte
	// Delegation is the reserved member 1 as it was received, or nil. No text says what it
	// means: it is carried along and never taken as an authorization.
	Delegation []byte

	digestBytes  []byte // the encoded SUIT_Digest: what signatures cover
	manifestItem []byte // the manifest with the byte string around it: what the digest covers
	members      []severedMember
}

// severedMember is a severable member that the envelope holds.
type severedMember struct {
	label         Label
	content, item []byte // without and with the byte string around it
}

const (
	// MaxAuthBlocks is the number of signatures and MACs in one envelope.
	MaxAuthBlocks = 16
	// MaxIntegrated is the number of integrated payloads and dependencies in one envelope.
	MaxIntegrated = 1024
)

// ParseEnvelope reads the outer structure of an envelope, tagged or not. Nothing inside the
// manifest is looked at. It keeps aliases into data.
func ParseEnvelope(data []byte) (*Envelope, error) {
	e := &Envelope{}
	if err := e.parse(data); err != nil {
		return nil, at(err, "envelope")
	}
	return e, nil
}

func (e *Envelope) parse(data []byte) error {
	r := scan.New(data)
	if r.Peek() == scan.Tag {
		tag, err := r.Tag()
		if err == nil && tag != tagEnvelope {
			err = fmt.Errorf("tag %d: an envelope has tag 107 or none", tag)
		}
		if err != nil {
			return err
		}
		e.Tagged = true
	}
	n, err := r.Map()
	if err != nil {
		return err
	}
	var seen labelSet
	for range n {
		if err := e.parseMember(&r, &seen); err != nil {
			return err
		}
	}
	if err := r.Done(); err != nil {
		return err
	}
	if e.digestBytes == nil {
		return at(errors.New("is missing"), "authentication-wrapper")
	}
	if e.manifestItem == nil {
		return at(errors.New("is missing"), "manifest")
	}
	return nil
}

func (e *Envelope) parseMember(r *scan.Reader, seen *labelSet) error {
	if r.Peek() == scan.Text {
		return e.parseIntegrated(r)
	}
	label, err := seen.read(r)
	if err != nil {
		return at(err, fmt.Sprintf("key %d", label))
	}
	switch l := Label(label); {
	case l == LabelAuthentication:
		if e.manifestItem != nil {
			return errors.New("authentication-wrapper must come before the manifest (SUIT §8.3)")
		}
		return at(e.parseAuthentication(r), "authentication-wrapper")
	case l == LabelManifest:
		e.ManifestBytes, e.manifestItem, err = wrappedItem(r)
		return at(err, "manifest")
	case l == LabelDelegation:
		e.Delegation, err = r.Item()
		return at(err, "delegation")
	case l.Severable():
		m := severedMember{label: l}
		m.content, m.item, err = wrappedItem(r)
		e.members = append(e.members, m)
		return at(err, l.String())
	}
	return at(errUnknownMember, fmt.Sprintf("key %d", label))
}

// wrappedItem reads a byte string and returns it without and with its head.
func wrappedItem(r *scan.Reader) (content, item []byte, err error) {
	start := r.Pos()
	content, err = r.Bytes()
	return content, r.Since(start), err
}

func (e *Envelope) parseIntegrated(r *scan.Reader) error {
	key, err := r.Text()
	if err != nil {
		return at(err, "integrated payload")
	}
	if _, ok := e.Integrated[string(key)]; ok {
		return at(errDuplicate, fmt.Sprintf("%q", key))
	}
	if len(e.Integrated) >= MaxIntegrated {
		return fmt.Errorf("more than %d integrated payloads", MaxIntegrated)
	}
	content, err := r.Bytes()
	if err != nil {
		return at(err, fmt.Sprintf("%q", key))
	}
	if e.Integrated == nil {
		e.Integrated = make(map[string][]byte)
	}
	e.Integrated[string(key)] = content
	return nil
}

// parseAuthentication reads the wrapper, but not the COSE structures in it.
//
//	SUIT_Authentication = [
//	  bstr .cbor SUIT_Digest,
//	  * bstr .cbor SUIT_Authentication_Block
//	]
func (e *Envelope) parseAuthentication(r *scan.Reader) error {
	wrapper, err := r.Bytes()
	if err != nil {
		return err
	}
	inner := scan.New(wrapper)
	n, err := inner.Array()
	if err != nil {
		return err
	}
	if n < 1 || n > 1+MaxAuthBlocks {
		return fmt.Errorf("has %d elements: a digest and up to %d signatures or MACs are accepted", n, MaxAuthBlocks)
	}
	if e.digestBytes, err = inner.Bytes(); err != nil {
		return at(err, "digest")
	}
	if e.Digest, err = parseDigest(e.digestBytes); err != nil {
		return at(err, "digest")
	}
	if n > 1 {
		e.AuthBlocks = make([][]byte, n-1)
	}
	for i := range e.AuthBlocks {
		if e.AuthBlocks[i], err = inner.Bytes(); err != nil {
			return at(err, fmt.Sprintf("[%d]", i+1))
		}
	}
	return inner.Done()
}

func (e *Envelope) severed(label Label) (content, item []byte, ok bool) {
	for i := range e.members {
		if e.members[i].label == label {
			return e.members[i].content, e.members[i].item, true
		}
	}
	return nil, nil, false
}

// Severed lists the severable members that the envelope holds, in the order received.
func (e *Envelope) Severed() []Label {
	labels := make([]Label, len(e.members))
	for i := range e.members {
		labels[i] = e.members[i].label
	}
	return labels
}

// Encode writes the envelope deterministically: what was signed as it was received, members in
// canonical order.
func (e *Envelope) Encode() []byte {
	var p pairs
	if e.Delegation != nil {
		p.key(int64(LabelDelegation))
		p.b = append(p.b, e.Delegation...)
	}
	p.wrapped(LabelAuthentication, e.authentication())
	p.key(int64(LabelManifest))
	p.b = append(p.b, e.manifestItem...)
	for label := LabelCoSWID; label <= labelMax; label++ {
		if _, item, ok := e.severed(label); ok {
			p.key(int64(label))
			p.b = append(p.b, item...)
		}
	}
	for _, key := range sortedKeys(e.Integrated) {
		p.n++
		p.b = appendBytes(appendText(p.b, key), e.Integrated[key])
	}
	var b []byte
	if e.Tagged {
		b = append(b, 0xd8, tagEnvelope)
	}
	return append(scan.AppendHead(b, byte(scan.Map), p.n), p.b...)
}

func (e *Envelope) authentication() []byte {
	b := scan.AppendHead(nil, byte(scan.Array), uint64(1+len(e.AuthBlocks)))
	b = appendBytes(b, e.digestBytes)
	for _, block := range e.AuthBlocks {
		b = appendBytes(b, block)
	}
	return b
}

// AddIntegrated puts a payload, or the encoded envelope of a dependency, into the envelope under
// the URI that commands name. It replaces what was there and leaves signatures valid.
func (e *Envelope) AddIntegrated(uri string, content []byte) error {
	if len(e.Integrated) >= MaxIntegrated {
		return fmt.Errorf("suit: an envelope holds at most %d integrated payloads", MaxIntegrated)
	}
	e.Integrated = maps.Clone(e.Integrated)
	if e.Integrated == nil {
		e.Integrated = make(map[string][]byte)
	}
	e.Integrated[uri] = content
	return nil
}

// RemoveIntegrated drops an integrated payload, which can then be fetched by its URI if that
// resolves. It leaves signatures valid.
func (e *Envelope) RemoveIntegrated(uri string) {
	e.Integrated = maps.Clone(e.Integrated)
	delete(e.Integrated, uri)
}

// Sever drops severable members from the envelope: their digests stay in the manifest, and
// signatures stay valid (SUIT §8.5). Without labels it drops all of them. Members that the
// manifest holds itself cannot be severed without signing anew; [Builder] makes them severable.
func (e *Envelope) Sever(labels ...Label) {
	kept := make([]severedMember, 0, len(e.members))
	for _, m := range e.members {
		drop := len(labels) == 0
		for _, l := range labels {
			drop = drop || l == m.label
		}
		if !drop {
			kept = append(kept, m)
		}
	}
	e.members = kept
}

// Unsever puts a severed member back; content is its encoding without the byte string around it.
// It is checked against the digest in the manifest.
func (e *Envelope) Unsever(label Label, content []byte) error {
	if !label.Severable() {
		return fmt.Errorf("suit: %v is not severable", label)
	}
	changed := *e
	changed.members = nil
	for _, m := range e.members {
		if m.label != label {
			changed.members = append(changed.members, m)
		}
	}
	item := appendBytes(nil, content)
	changed.members = append(changed.members, severedMember{label, item[len(item)-len(content):], item})
	m, err := changed.UnverifiedManifest()
	if err != nil {
		return err
	}
	if !m.refers(label) {
		return fmt.Errorf("suit: the manifest has no digest for %v: there is nothing to put back", label)
	}
	*e = changed
	return nil
}

// Clone returns a copy that shares no memory with the bytes the envelope was parsed from.
func (e *Envelope) Clone() *Envelope {
	c := &Envelope{
		Tagged: e.Tagged, Digest: e.Digest.Clone(), Delegation: bytes.Clone(e.Delegation),
		Integrated: maps.Clone(e.Integrated), digestBytes: bytes.Clone(e.digestBytes),
	}
	c.ManifestBytes, c.manifestItem = cloneWrapped(e.ManifestBytes, e.manifestItem)
	for _, block := range e.AuthBlocks {
		c.AuthBlocks = append(c.AuthBlocks, bytes.Clone(block))
	}
	for key, content := range c.Integrated {
		c.Integrated[key] = bytes.Clone(content)
	}
	for _, m := range e.members {
		m.content, m.item = cloneWrapped(m.content, m.item)
		c.members = append(c.members, m)
	}
	return c
}

// cloneWrapped copies a byte string and its content, which is the end of it, once.
func cloneWrapped(content, item []byte) (newContent, newItem []byte) {
	newItem = bytes.Clone(item)
	return newItem[len(newItem)-len(content):], newItem
}

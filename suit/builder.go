package suit

import (
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/go-teep/teep/cose"
)

// Builder makes an envelope from a manifest. What it makes is deterministic: the same input gives
// the same bytes, signatures aside.
type Builder struct {
	// Manifest is what to encode. Its Severed and Raw members are ignored.
	Manifest Manifest
	// Severable lists members that move to the envelope and leave their digest in the manifest.
	// Members that the manifest does not have are skipped.
	Severable []Label
	// Hash is the algorithm of all digests that are made here; zero means SHA-256.
	Hash cose.Algorithm
	// Integrated are payloads and encoded dependency envelopes by the URI that commands name.
	Integrated map[string][]byte
	// Untagged leaves out tag 107.
	Untagged bool
}

// Build returns the envelope, not signed yet. The manifest given is not changed.
func (b Builder) Build() (*Envelope, error) {
	if b.Hash == 0 {
		b.Hash = cose.AlgSHA256
	}
	e := &Envelope{Tagged: !b.Untagged, Integrated: maps.Clone(b.Integrated)}
	if len(b.Integrated) > MaxIntegrated {
		return nil, fmt.Errorf("suit: %d integrated payloads: an envelope holds at most %d", len(b.Integrated), MaxIntegrated)
	}
	m := b.Manifest
	m.clearSevered()
	for _, label := range b.Severable {
		if err := b.sever(&m, e, label); err != nil {
			return nil, err
		}
	}
	data, err := m.Encode()
	if err != nil {
		return nil, err
	}
	e.manifestItem = appendBytes(nil, data)
	e.ManifestBytes = e.manifestItem[len(e.manifestItem)-len(data):]
	if e.Digest, err = NewDigestWith(b.Hash, e.manifestItem); err != nil {
		return nil, err
	}
	e.digestBytes = e.Digest.appendCBOR(nil)
	// Severed members are parsed too, so that nothing leaves that Verify would refuse.
	if _, err := e.UnverifiedManifest(); err != nil {
		return nil, fmt.Errorf("cannot build envelope: %w", err)
	}
	return e, nil
}

func (m *Manifest) clearSevered() {
	for _, label := range SectionLabels() {
		m.Section(label).Severed = nil
	}
	m.Text.Severed, m.CoSWID.Severed = nil, nil
}

func (b Builder) sever(m *Manifest, e *Envelope, label Label) error {
	if !label.Severable() {
		return fmt.Errorf("suit: %v is not severable; severable are dependency-resolution, payload-fetch, "+
			"candidate-verification, install, text and coswid", label)
	}
	content, severed := m.severable(label)
	if content == nil {
		return nil
	}
	item := appendBytes(nil, content)
	d, err := NewDigestWith(b.Hash, item)
	if err != nil {
		return err
	}
	*severed = &d
	e.members = append(e.members, severedMember{label, item[len(item)-len(content):], item})
	return nil
}

// severable returns the encoded content of a severable member and where its digest goes.
func (m *Manifest) severable(label Label) (content []byte, severed **Digest) {
	switch label {
	case LabelText:
		return m.Text.content(), &m.Text.Severed
	case LabelCoSWID:
		return m.CoSWID.Tag, &m.CoSWID.Severed
	}
	s := m.Section(label)
	return s.content(), &s.Severed
}

// Sign adds a COSE_Sign1 over the digest of the manifest. It first checks that the digest is that
// of the manifest (SUIT §8.3), whoever made it.
func (e *Envelope) Sign(rand io.Reader, signer cose.Signer) error {
	return e.SignWith(rand, signer, cose.SignOptions{})
}

// SignWith is Sign with further header parameters, such as a certificate chain. The options that
// the text fixes (detached payload, tag) are set here.
func (e *Envelope) SignWith(rand io.Reader, signer cose.Signer, o cose.SignOptions) error {
	if err := e.checkSignable(); err != nil {
		return err
	}
	o.Detached, o.Untagged = true, false
	block, err := cose.Sign1(rand, e.digestBytes, signer, o)
	return e.addBlock(block, err)
}

// SignMulti adds one COSE_Sign with several signatures.
func (e *Envelope) SignMulti(rand io.Reader, signers ...cose.Signer) error {
	if err := e.checkSignable(); err != nil {
		return err
	}
	block, err := cose.SignMulti(rand, e.digestBytes, signers, cose.SignOptions{Detached: true})
	return e.addBlock(block, err)
}

// Mac adds a COSE_Mac0 with a shared key.
func (e *Envelope) Mac(key *cose.Key) error {
	if err := e.checkSignable(); err != nil {
		return err
	}
	block, err := cose.Mac0(e.digestBytes, key, cose.SignOptions{Detached: true})
	return e.addBlock(block, err)
}

func (e *Envelope) checkSignable() error {
	if len(e.AuthBlocks) >= MaxAuthBlocks {
		return fmt.Errorf("suit: an envelope holds at most %d signatures", MaxAuthBlocks)
	}
	if e.manifestItem == nil {
		return errors.New("suit: envelope is empty: make it with Builder.Build or ParseEnvelope")
	}
	return e.checkDigest()
}

func (e *Envelope) addBlock(block []byte, err error) error {
	if err != nil {
		return fmt.Errorf("suit: cannot sign envelope: %w", err)
	}
	e.AuthBlocks = append(e.AuthBlocks[:len(e.AuthBlocks):len(e.AuthBlocks)], block)
	return nil
}

// RemoveSignatures drops all authentication blocks, as an intermediary does that signs anew.
func (e *Envelope) RemoveSignatures() { e.AuthBlocks = nil }

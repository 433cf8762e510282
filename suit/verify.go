package suit

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit/internal/scan"
)

// VerifyOptions says what [Envelope.Verify] accepts. Its zero value accepts the secure default of
// package cose: ESP256, ESP384 and Ed25519.
type VerifyOptions struct {
	// Algorithms lists the signature algorithms to accept instead of the default, such as
	// cose.AlgES256 for manifests of older authors.
	Algorithms []cose.Algorithm
	// MACKeys are shared keys, such as a cose.KeySet of symmetric ones. MAC blocks count only
	// if this is set: whoever can check a MAC can also make one.
	MACKeys cose.KeySource
}

// Authenticated is an envelope whose manifest a trusted key authorized.
type Authenticated struct {
	Envelope *Envelope
	Manifest *Manifest
	// Signer is the key of the first block that verified. For a MAC it is the shared key.
	Signer *cose.Key
	// Algorithm is what that block used.
	Algorithm cose.Algorithm
	// Signers are the keys of all blocks that verified, in the order of the blocks.
	Signers []*cose.Key
}

// Verify authenticates the manifest, then parses it: the manifest must have the digest that the
// authentication wrapper claims, and one block of the wrapper at least must verify with a trusted
// key. Severed members that the envelope holds must match the digests in the manifest.
//
// Errors wrap [ErrManifestDigest], [ErrNoAuthentication], [ErrUnauthorized] or are a
// [*ParseError]; [ReasonFor] gives the reason for a SUIT report.
func (e *Envelope) Verify(keys cose.KeySource, o VerifyOptions) (*Authenticated, error) {
	if err := e.checkDigest(); err != nil {
		return nil, err
	}
	a, err := e.authenticate(keys, o)
	if err != nil {
		return nil, err
	}
	if a.Manifest, err = parseManifest(e.ManifestBytes, e); err != nil {
		return nil, err
	}
	return a, e.checkMembers(a.Manifest)
}

// UnverifiedManifest parses the manifest without authenticating it, for tools that show or change
// envelopes. Severed members are checked against their digests.
func (e *Envelope) UnverifiedManifest() (*Manifest, error) {
	m, err := parseManifest(e.ManifestBytes, e)
	if err != nil {
		return nil, err
	}
	return m, e.checkMembers(m)
}

// checkDigest compares the manifest, byte string included, with the claimed digest (SUIT §8.3).
func (e *Envelope) checkDigest() error {
	if !e.Digest.Matches(e.manifestItem) {
		return ErrManifestDigest
	}
	return nil
}

// checkMembers refuses members that no digest in the manifest covers: anyone could have added
// them.
func (e *Envelope) checkMembers(m *Manifest) error {
	for i := range e.members {
		if !m.refers(e.members[i].label) {
			return at(fault(ReasonUnauthorised, fmt.Errorf("%w: the manifest has none", ErrSeveredDigest)),
				e.members[i].label.String())
		}
	}
	return nil
}

// refers tells whether the manifest holds a digest for the member.
func (m *Manifest) refers(label Label) bool {
	switch label {
	case LabelText:
		return m.Text.Severed != nil
	case LabelCoSWID:
		return m.CoSWID.Severed != nil
	}
	s := m.Section(label)
	return s != nil && s.Severed != nil
}

func (e *Envelope) authenticate(keys cose.KeySource, o VerifyOptions) (*Authenticated, error) {
	if len(e.AuthBlocks) == 0 {
		return nil, ErrNoAuthentication
	}
	a := &Authenticated{Envelope: e}
	var failures []error
	for i, block := range e.AuthBlocks {
		key, alg, err := e.verifyBlock(block, keys, o)
		if err != nil {
			failures = append(failures, fmt.Errorf("block %d: %w", i, err))
			continue
		}
		if a.Signer == nil {
			a.Signer, a.Algorithm = key, alg
		}
		a.Signers = append(a.Signers, key)
	}
	if a.Signer == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthorized, errors.Join(failures...))
	}
	return a, nil
}

// Tags of COSE messages (RFC 9052 §2).
const (
	tagMac0  = 17
	tagSign1 = 18
	tagMac   = 97
	tagSign  = 98
)

var errNoMACKeys = errors.New("it is a MAC, and no shared key is configured")

// verifyBlock verifies one block over the encoded SUIT_Digest, its detached payload (SUIT §8.3).
func (e *Envelope) verifyBlock(block []byte, keys cose.KeySource, o VerifyOptions) (*cose.Key, cose.Algorithm, error) {
	r := scan.New(block)
	tag, err := r.Tag()
	if err != nil {
		return nil, 0, fmt.Errorf("authentication block is not a tagged COSE structure: %w", err)
	}
	switch tag {
	case tagSign1, tagSign:
		v, err := cose.Verify(block, keys, cose.VerifyOptions{DetachedPayload: e.digestBytes, Algorithms: o.Algorithms})
		if err != nil {
			return nil, 0, err
		}
		return v.Key, v.Algorithm, nil
	case tagMac0:
		if o.MACKeys == nil {
			return nil, 0, errNoMACKeys
		}
		v, err := cose.VerifyMac0(block, o.MACKeys, cose.VerifyOptions{DetachedPayload: e.digestBytes})
		if err != nil {
			return nil, 0, err
		}
		return v.Key, v.Algorithm, nil
	case tagMac:
		return nil, 0, fault(ReasonCOSEUnsupported, errors.New("COSE_Mac with recipients is not supported: use COSE_Mac0"))
	}
	return nil, 0, fault(ReasonCOSEUnsupported, fmt.Errorf("tag %d is not a COSE signature or MAC", tag))
}

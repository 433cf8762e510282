package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// What a published envelope, or a publisher, can be refused for. The text of an error that wraps one
// of them says what to do.
var (
	// ErrEnvelope says that the upload is not a well-formed SUIT envelope with one root manifest
	// that a TAM can offer.
	ErrEnvelope = errors.New("tam: envelope cannot be published")
	// ErrUnknownSigner says that no publisher's key signed the envelope, or only that of one who
	// was revoked.
	ErrUnknownSigner = errors.New("tam: envelope is not signed by a known publisher")
	// ErrNotYourSigner says that the uploader may only publish for another publisher.
	ErrNotYourSigner = errors.New("tam: envelope is signed by another publisher than the token is for")
	// ErrPrefix says that the publisher may not sign for a component identifier.
	ErrPrefix = errors.New("tam: publisher may not sign for this component identifier")
	// ErrTampered says that a digest does not match: the manifest, a severed member or a payload
	// is not what was signed.
	ErrTampered = errors.New("tam: envelope was changed after it was signed")
	// ErrPublisher says that a publisher cannot be added as described.
	ErrPublisher = errors.New("tam: publisher cannot be added")
)

// Publish checks an envelope as an agent would (signature before parse, signer's rights, digests,
// sequence number), stores it, and offers it to devices from then on. publisher limits whose
// signatures count; empty means any.
func (t *TAM) Publish(ctx context.Context, envelope []byte, publisher string) (*Version, error) {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	signers, err := t.publisherKeys(ctx)
	if err != nil {
		return nil, err
	}
	a, err := e.Verify(signers, suit.VerifyOptions{})
	if err != nil {
		return nil, publishFault(err)
	}
	p, by := signers.origin(a.Signer.Thumbprint())
	if publisher != "" && p.Name != publisher {
		return nil, fmt.Errorf("%w: it is %q's; upload it with a token for that publisher, or for none in particular", ErrNotYourSigner, p.Name)
	}
	v, err := describeVersion(a)
	if err != nil {
		return nil, err
	}
	if err := p.allows(v); err != nil {
		return nil, err
	}
	if err := (inspection{t, signers}).envelope(ctx, a, envelope, v.Manifest, nil); err != nil {
		return nil, err
	}
	v.Publisher, v.Uploaded, v.Size = p.Name, t.clock().UTC(), int64(len(envelope))
	v.Signer, v.Anchor, v.Chain, v.Expires = a.Signer.Thumbprint(), by.anchor, by.chain, by.until.UTC()
	// The blob first: a version that is listed can always be read. One that then turns out not
	// to rise leaves its blob behind, unless another version has the same.
	if v.Envelope, err = t.blobs.Put(ctx, envelope); err != nil {
		return nil, fmt.Errorf("tam: storing an envelope: %w", err)
	}
	if err := t.store.AddVersion(ctx, *v); err != nil {
		if errors.Is(err, ErrSequence) {
			return nil, t.sequenceFault(ctx, v)
		}
		return nil, err
	}
	if err := t.stillStored(ctx, envelope); err != nil {
		return nil, err
	}
	t.log.InfoContext(ctx, "version published", "manifest", v.Manifest.String(), "sequence", v.Sequence, "publisher", p.Name)
	return v, nil
}

// publishFault sorts what Verify found.
func publishFault(err error) error {
	switch {
	case errors.Is(err, suit.ErrManifestDigest), errors.Is(err, suit.ErrSeveredDigest), errors.Is(err, cose.ErrSignature):
		return fmt.Errorf("%w: sign it again: %w", ErrTampered, err)
	case errors.Is(err, suit.ErrUnauthorized), errors.Is(err, suit.ErrNoAuthentication):
		return fmt.Errorf("%w: register the key that signed it as a publisher's, or sign it with one that is: %w", ErrUnknownSigner, err)
	}
	return fmt.Errorf("%w: %w", ErrEnvelope, err)
}

// sequenceFault says which number would have been high enough, and removes the blob if it is new.
func (t *TAM) sequenceFault(ctx context.Context, v *Version) error {
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return err
	}
	m := c.manifest(v.Manifest)
	newest := m.versions[len(m.versions)-1].Sequence
	shared := slices.ContainsFunc(m.versions, func(o Version) bool { return o.Envelope == v.Envelope })
	if !shared {
		if err := t.blobs.Delete(ctx, v.Envelope); err != nil {
			return fmt.Errorf("tam: removing an envelope: %w", err)
		}
	}
	return fmt.Errorf("%w: %v has sequence number %d; the newest published is %d, so use a higher one", ErrSequence, v.Manifest, v.Sequence, newest)
}

// allows checks every identifier of a version against the publisher's prefixes.
func (p *Publisher) allows(v *Version) error {
	check := func(what string, id suit.ComponentID) error {
		if slices.ContainsFunc(p.Prefixes, id.HasPrefix) {
			return nil
		}
		return fmt.Errorf("%w: %s %v is outside of what %q was given (%v); grant it, or choose another identifier",
			ErrPrefix, what, id, p.Name, p.Prefixes)
	}
	if err := check("manifest", v.Manifest); err != nil {
		return err
	}
	for _, c := range v.Components {
		if err := check("component", c.ID); err != nil {
			return err
		}
	}
	return nil
}

// describeVersion takes out of an authenticated manifest what the TAM decides by.
func describeVersion(a *suit.Authenticated) (*Version, error) {
	m := a.Manifest
	v := &Version{Manifest: m.ComponentID, Sequence: m.SequenceNumber, Digest: a.Envelope.Digest.Bytes}
	parameters := componentParameters(m)
	for i, id := range m.Common.Components {
		if _, isDependency := m.Common.Dependency(uint64(i)); isDependency {
			// A dependency's component holds its envelope; its identifier is that of the
			// dependency's manifest (trust domains §5.2.2).
			v.Dependencies = append(v.Dependencies, id)
			if d, ok := parameters[i].digest(); ok {
				v.Pins = append(v.Pins, Pin{Manifest: id, Digest: d.Bytes})
			}
			continue
		}
		c := VersionComponent{ID: id}
		if d, ok := parameters[i].digest(); ok {
			c.Digest = d.Bytes
		}
		c.Size, _ = parameters[i].final.Size()
		v.Components = append(v.Components, c)
	}
	for _, d := range m.Common.Dependencies {
		if d.Index >= uint64(len(m.Common.Components)) && d.Prefix != nil {
			v.Dependencies = append(v.Dependencies, d.Prefix)
		}
	}
	if v.Manifest == nil {
		if len(v.Components) != 1 {
			return nil, fmt.Errorf("%w: the manifest has no manifest-component-id and %d components; set one, so that it can be updated and removed by it", ErrEnvelope, len(v.Components))
		}
		v.Manifest = v.Components[0].ID
	}
	return v, nil
}

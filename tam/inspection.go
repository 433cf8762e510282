package tam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// inspection looks at an upload as an agent would: with the checks that agents' processor makes before it runs
// anything, and with those of payloads against digests, as far as payloads are there and readable. What depends on a
// device, such as its vendor and what it has, nobody can tell here.
type inspection struct {
	tam     *TAM
	signers *signerSet
}

// maxInspected is how deep dependencies within dependencies are looked at: devices go no deeper
// (processor.DefaultLimits).
const maxInspected = 8

// Rights implements [processor.Authority].
func (s *signerSet) Rights(signer *cose.Key) (r processor.Rights, ok bool) {
	p, _ := s.origin(signer.Thumbprint())
	if p == nil {
		return r, false
	}
	for _, prefix := range p.Prefixes {
		r.Components = append(r.Components, processor.ComponentRights{Prefix: prefix})
	}
	return r, true
}

var _ processor.Authority = (*signerSet)(nil)

// level is an envelope that is looked into, within others: what a dependency fetches may lie in what brought it.
type level struct {
	*suit.Authenticated
	depth  int
	used   map[string]bool // by URI
	parent *level
}

func (l *level) find(uri string) (payload []byte, ok bool) {
	for ; l != nil; l = l.parent {
		if payload, ok = l.Envelope.Integrated[uri]; ok {
			l.used[uri] = true
			return payload, true
		}
	}
	return nil, false
}

// envelope inspects an authenticated envelope, which is recorded under id if it does not name itself.
func (i inspection) envelope(ctx context.Context, a *suit.Authenticated, data []byte, id suit.ComponentID, parent *level) error {
	if err := i.manifest(ctx, data, id); err != nil {
		return err
	}
	l := &level{Authenticated: a, used: make(map[string]bool), parent: parent}
	if parent != nil {
		l.depth = parent.depth + 1
	}
	for n, state := range componentParameters(a.Manifest) {
		_, isDependency := a.Manifest.Common.Dependency(uint64(n))
		for _, f := range state.fetches {
			f.isDependency = isDependency
			if err := i.fetched(ctx, l, &f); err != nil {
				return fmt.Errorf("payload %q of component %d: %w", f.uri, n, err)
			}
		}
		if state.neverCompared() && !isDependency {
			return fmt.Errorf("%w: component %v is fetched and never compared with its digest: add condition-image-match", ErrEnvelope, state.id)
		}
	}
	for uri := range a.Envelope.Integrated {
		if !l.used[uri] {
			return fmt.Errorf("%w: payload %q is not used by any command of the manifest; remove it", ErrEnvelope, uri)
		}
	}
	return nil
}

// fetched inspects what a directive fetches.
func (i inspection) fetched(ctx context.Context, l *level, f *fetch) error {
	payload, integrated := l.find(f.uri)
	switch {
	case integrated:
		return i.payload(ctx, l, f, payload)
	case f.uri == "" && !f.maybe:
		return fmt.Errorf("%w: it has no URI to be fetched from", ErrEnvelope)
	case strings.HasPrefix(f.uri, "#") && !f.maybe:
		return fmt.Errorf("%w: the envelope does not have it; put it in", ErrEnvelope)
	}
	name, own := i.tam.payloadName(f.uri)
	if !own || i.tam.payloads == nil {
		return nil
	}
	return i.stored(ctx, l, f, name)
}

// manifest makes the checks of the processor, on a device that has every component and can answer every command.
func (i inspection) manifest(ctx context.Context, data []byte, id suit.ComponentID) error {
	p, err := processor.New(processor.Config{
		Platform: memory.New(processor.Identity{}), Authority: i.signers, Components: []suit.ComponentID{{}},
		ImplicitDependencyIntegrity: true,
	})
	if err != nil {
		return fmt.Errorf("tam: %w", err)
	}
	var f *processor.Failure
	switch err := p.Check(ctx, data, processor.UpdateOptions{ManifestID: id}); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &f) && f.Reason == suit.ReasonComponentUnauthorised:
		return fmt.Errorf("%w: %w", ErrPrefix, err)
	default:
		return fmt.Errorf("%w: devices refuse it: %w", ErrEnvelope, err)
	}
}

// payload compares what is fetched with what the manifest says of it.
func (i inspection) payload(ctx context.Context, l *level, f *fetch, payload []byte) error {
	switch {
	case f.encrypted:
		return nil // the digest is of the plaintext, which only devices see
	case f.isDependency:
		return i.dependency(ctx, l, f, payload)
	case !f.hasDigest:
		return fmt.Errorf("%w: the manifest has no image digest for it; add one", ErrEnvelope)
	case f.otherSize(int64(len(payload))):
		return fmt.Errorf("%w: it has %d bytes and not those of the image size", ErrTampered, len(payload))
	case !f.digest.Matches(payload):
		return fmt.Errorf("%w: it does not match the image digest; put in the payload that was signed", ErrTampered)
	}
	return nil
}

// dependency inspects an envelope that another one brings.
func (i inspection) dependency(ctx context.Context, l *level, f *fetch, data []byte) error {
	if l.depth+1 >= maxInspected {
		return fmt.Errorf("%w: dependencies are nested deeper than %d", ErrEnvelope, maxInspected)
	}
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	a, err := e.Verify(i.signers, suit.VerifyOptions{})
	if err != nil {
		return publishFault(err)
	}
	if f.hasDigest && !f.digest.Equal(e.Digest) {
		return fmt.Errorf("%w: it is another dependency than the one that was signed for", ErrTampered)
	}
	return i.envelope(ctx, a, data, f.component, l)
}

// stored compares what a manifest fetches from this TAM with what it says of it: a device that could not install what
// it is offered would find out too late. What lies elsewhere the TAM does not see.
func (i inspection) stored(ctx context.Context, l *level, f *fetch, name string) error {
	digest, ok := ParsePayloadName(name)
	if !ok {
		return fmt.Errorf("%w: the URI does not end in the SHA-256 of a payload, in 64 lower-case hexadecimal digits; write it so", ErrEnvelope)
	}
	p, err := i.tam.payloads.Open(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: it was not uploaded; do that first, for example with teep publish --payload", ErrEnvelope)
	}
	if err != nil {
		return fmt.Errorf("tam: opening a payload: %w", err)
	}
	defer p.Close() //nolint:errcheck // was only read
	switch {
	case f.encrypted:
		return nil // the digest is of the plaintext, which only devices see
	case f.isDependency:
		if p.Size() > maxDetachedDependency {
			return fmt.Errorf("%w: an envelope of %d bytes is larger than any that is offered", ErrEnvelope, p.Size())
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return fmt.Errorf("tam: reading a payload: %w", err)
		}
		return i.dependency(ctx, l, f, data)
	case !f.hasDigest:
		return fmt.Errorf("%w: the manifest has no image digest for it; add one", ErrEnvelope)
	case f.otherSize(p.Size()):
		return fmt.Errorf("%w: it has %d bytes and not those of the image size", ErrTampered, p.Size())
	}
	h, err := f.digest.Hash()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	// What is stored is read, although its name is a digest too: it may have been damaged, and the
	// manifest's digest may be of another algorithm.
	if _, err := io.Copy(h, p); err != nil {
		return fmt.Errorf("tam: reading a payload: %w", err)
	}
	if !f.digest.MatchesSum(h.Sum(nil)) {
		return fmt.Errorf("%w: what is stored there does not match the image digest; upload the payload that was signed, and name its SHA-256 in the URI", ErrTampered)
	}
	return nil
}

package tam

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Payloads keeps payloads that travel beside their envelope, by the SHA-256 of their bytes. They may be
// larger than memory: no method holds one.
//
// A payload that Put acknowledged survives a crash. Methods are safe for concurrent use, also by several
// processes; what they return is for one goroutine.
type Payloads interface {
	// Put stores what r gives until io.EOF, and returns its digest and its size in bytes. Storing the
	// same bytes again is no error, and mends what was damaged. When r fails, nothing is stored and
	// the error wraps that of r.
	Put(ctx context.Context, r io.Reader) (digest [32]byte, size int64, err error)
	// Open opens a payload; ErrNotFound when there is none. It does not read it all: whoever does
	// compares the digest, as agents do. ctx bounds the reading too. Close it.
	Open(ctx context.Context, digest [32]byte) (Payload, error)
	// Each gives visit every payload that is stored, in no particular order, and ends with its error. One that
	// comes or goes meanwhile may be missing.
	Each(ctx context.Context, visit func(StoredPayload) error) error
	// Delete removes a payload that was stored before the given time, and not since; removing one that does not
	// exist is no error. Who reads it goes on.
	Delete(ctx context.Context, digest [32]byte, before time.Time) error
}

// StoredPayload is a payload as its store knows it.
type StoredPayload struct {
	Digest [32]byte
	Size   int64 // in bytes
	// Stored is when it was stored, or stored again, by the clock of the store.
	Stored time.Time
}

// Payload is one that is open, at its beginning.
type Payload interface {
	io.ReadSeekCloser
	// Size is that of the whole in bytes.
	Size() int64
}

// maxDetachedDependency bounds a dependency's envelope that is looked into, in bytes.
const maxDetachedDependency = 64 << 20

// payloadName is what follows one of the TAM's own payload URIs; own is false for every other URI.
func (t *TAM) payloadName(uri string) (name string, own bool) {
	for _, base := range t.payloadURIs {
		if rest, ok := strings.CutPrefix(uri, strings.TrimSuffix(base, "/")+"/"); ok {
			return rest, true
		}
	}
	return "", false
}

// checkDetached compares the payloads that a manifest fetches from this TAM with the digests that it has for
// them: a device that could not install what it is offered would find out too late. What lies
// elsewhere the TAM does not see.
func (t *TAM) checkDetached(ctx context.Context, a *suit.Authenticated, signers cose.KeySource) error {
	if t.payloads == nil {
		return nil
	}
	for i, state := range componentParameters(a.Manifest) {
		_, isDependency := a.Manifest.Common.Dependency(uint64(i))
		for _, f := range state.fetches {
			if _, integrated := a.Envelope.Integrated[f.uri]; integrated {
				continue
			}
			name, own := t.payloadName(f.uri)
			if !own {
				continue
			}
			if err := t.checkStored(ctx, &f, name, isDependency, signers); err != nil {
				return fmt.Errorf("payload %q of component %d: %w", f.uri, i, err)
			}
		}
	}
	return nil
}

func (t *TAM) checkStored(ctx context.Context, f *fetch, name string, isDependency bool, signers cose.KeySource) error {
	digest, ok := ParsePayloadName(name)
	if !ok {
		return fmt.Errorf("%w: the URI does not end in the SHA-256 of a payload, in 64 lower-case hexadecimal digits; write it so", ErrEnvelope)
	}
	p, err := t.payloads.Open(ctx, digest)
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
	case isDependency:
		if p.Size() > maxDetachedDependency {
			return fmt.Errorf("%w: an envelope of %d bytes is larger than any that is offered", ErrEnvelope, p.Size())
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return fmt.Errorf("tam: reading a payload: %w", err)
		}
		return f.check(data, true, signers)
	case !f.hasDigest:
		return fmt.Errorf("%w: the manifest has no image digest for it; add one", ErrEnvelope)
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

// ParsePayloadName reads the name of a payload in a URI: its SHA-256 in lower-case hexadecimal. There is
// one name for each, so that caches keep it once.
func ParsePayloadName(name string) (digest [32]byte, ok bool) {
	if len(name) != hex.EncodedLen(len(digest)) || strings.ToLower(name) != name {
		return digest, false
	}
	_, err := hex.Decode(digest[:], []byte(name))
	return digest, err == nil
}

package tam

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/suit"
)

// SweepPayloads removes payloads that no version needs, and returns how many went. A payload is needed as long
// as the envelope of a version names it that is not withdrawn, or was withdrawn less than keep ago; one
// that was uploaded less than keep ago is left too, because its envelope may still come.
//
// It may run while others publish: who publishes uploads first, and learns at the end when a payload went in between.
func (t *TAM) SweepPayloads(ctx context.Context, keep time.Duration) (gone int, err error) {
	if t.payloads == nil {
		return 0, nil
	}
	before := t.clock().Add(-keep)
	var old [][32]byte
	err = t.payloads.Each(ctx, func(p StoredPayload) error {
		if p.Stored.Before(before) {
			old = append(old, p.Digest)
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return 0, err
	}
	// What is needed is found out after what is there, so that what is published meanwhile counts.
	needed, err := t.neededPayloads(ctx, before)
	if err != nil {
		return 0, err
	}
	for _, digest := range old {
		if needed[digest] {
			continue
		}
		if err := t.payloads.Delete(ctx, digest, before); err != nil {
			return gone, err
		}
		t.log.InfoContext(ctx, "payload removed, which no version needs", "sha256", hex.EncodeToString(digest[:]))
		gone++
	}
	return gone, nil
}

// PayloadsInUse are the payloads that versions need which are not withdrawn. It reads all their envelopes.
func (t *TAM) PayloadsInUse(ctx context.Context) (map[[32]byte]bool, error) {
	if t.payloads == nil {
		return nil, nil
	}
	return t.neededPayloads(ctx, t.clock())
}

// neededPayloads are the names of payloads in the envelopes of versions that were not withdrawn before a time.
func (t *TAM) neededPayloads(ctx context.Context, withdrawnBefore time.Time) (map[[32]byte]bool, error) {
	needed := make(map[[32]byte]bool)
	for after := (VersionCursor{}); ; {
		page, err := t.store.ListVersions(ctx, after, cataloguePage)
		if err != nil {
			return nil, fmt.Errorf("tam: listing versions: %w", err)
		}
		for _, v := range page {
			after = VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
			if !v.Withdrawn.IsZero() && v.Withdrawn.Before(withdrawnBefore) {
				continue
			}
			envelope, err := t.blobs.Get(ctx, v.Envelope)
			if err != nil {
				return nil, fmt.Errorf("tam: envelope of %v, sequence number %d: %w", v.Manifest, v.Sequence, err)
			}
			if err := t.addNeeded(ctx, needed, envelope); err != nil {
				return nil, err
			}
		}
		if len(page) < cataloguePage {
			return needed, nil
		}
	}
}

// addNeeded adds what an envelope names, and what dependencies name that are payloads themselves. It looks at the
// bytes alone: what might be a name is one, whatever the URI before it was when it was published.
func (t *TAM) addNeeded(ctx context.Context, needed map[[32]byte]bool, envelope []byte) error {
	for todo := [][]byte{envelope}; len(todo) > 0; {
		for _, digest := range payloadNames(todo[0]) {
			if needed[digest] {
				continue
			}
			needed[digest] = true
			dependency, err := t.dependency(ctx, digest)
			if err != nil {
				return err
			}
			if dependency != nil {
				todo = append(todo, dependency)
			}
		}
		todo = todo[1:]
	}
	return nil
}

// dependency returns a payload that is an envelope; nil for any other.
func (t *TAM) dependency(ctx context.Context, digest [32]byte) ([]byte, error) {
	p, err := t.payloads.Open(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tam: opening a payload: %w", err)
	}
	defer p.Close() //nolint:errcheck // was only read
	if p.Size() > maxDetachedDependency {
		return nil, nil
	}
	data, err := io.ReadAll(p)
	if err != nil {
		return nil, fmt.Errorf("tam: reading a payload: %w", err)
	}
	if _, err := suit.ParseEnvelope(data); err != nil {
		return nil, nil //nolint:nilerr // it is no envelope, as most payloads are
	}
	return data, nil
}

// payloadNames finds what might be the name of a payload: a slash and 64 lower-case hexadecimal digits.
func payloadNames(data []byte) (list [][32]byte) {
	const digits = 64
	for {
		i := bytes.IndexByte(data, '/')
		if i < 0 || len(data)-i-1 < digits {
			return list
		}
		data = data[i+1:]
		if digest, ok := ParsePayloadName(string(data[:digits])); ok {
			list = append(list, digest)
		}
	}
}

// stillStored finds out whether a payload of a version went while it was being published.
func (t *TAM) stillStored(ctx context.Context, envelope []byte) error {
	if t.payloads == nil {
		return nil
	}
	for _, base := range t.payloadURIs {
		if !bytes.Contains(envelope, []byte(base)) {
			continue
		}
		for _, digest := range payloadNames(envelope) {
			p, err := t.payloads.Open(ctx, digest)
			if errors.Is(err, ErrNotFound) && bytes.Contains(envelope, fmt.Appendf(nil, "%s/%x", base, digest)) {
				return fmt.Errorf("%w: payload %x was removed while its envelope was published, because no version had needed it for long: upload it again", ErrEnvelope, digest)
			}
			if err == nil {
				p.Close() //nolint:errcheck // was not read
			}
		}
	}
	return nil
}

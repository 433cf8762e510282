package tam

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/suit"
)

// fillUpdate puts the envelopes and removals of a decision into an Update.
func (t *TAM) fillUpdate(ctx context.Context, u *teep.Update, d decision) error {
	for _, s := range d.install {
		data, err := t.envelopes.get(ctx, s.version)
		if err != nil {
			return err
		}
		if s.haveBinary {
			if data, err = withoutPayloads(data); err != nil {
				return fmt.Errorf("tam: stored envelope of %v sequence number %d: %w", s.version.Manifest, s.version.Sequence, err)
			}
		}
		if s.delivery != nil {
			if data, err = t.deliver(s.delivery, data); err != nil {
				return fmt.Errorf("tam: keys and data for %v sequence number %d: %w", s.version.Manifest, s.version.Sequence, err)
			}
		}
		u.Manifests = append(u.Manifests, data)
	}
	for _, id := range d.unlink {
		u.UnneededManifests = append(u.UnneededManifests, teep.ComponentID(id))
	}
	return nil
}

// withoutPayloads drops the integrated payloads, which no signature covers.
func withoutPayloads(data []byte) ([]byte, error) {
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	for uri := range e.Integrated {
		e.RemoveIntegrated(uri)
	}
	return e.Encode(), nil
}

// envelopeCache keeps the envelopes that are being handed out in memory. A fleet asks for the
// same few.
type envelopeCache struct {
	blobs Blobs
	mu    sync.Mutex
	size  int
	data  map[[32]byte][]byte
}

const (
	envelopeCacheBytes = 32 << 20
	// envelopeCacheEntry keeps one large envelope from driving out all others.
	envelopeCacheEntry = envelopeCacheBytes / 4
)

func newEnvelopeCache(b Blobs) *envelopeCache {
	return &envelopeCache{blobs: b, data: make(map[[32]byte][]byte)}
}

func (c *envelopeCache) get(ctx context.Context, v *Version) ([]byte, error) {
	c.mu.Lock()
	data, ok := c.data[v.Envelope]
	c.mu.Unlock()
	if ok {
		return data, nil
	}
	data, err := c.blobs.Get(ctx, v.Envelope)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the envelope of %v sequence number %d: %w", v.Manifest, v.Sequence, err)
	}
	if len(data) > envelopeCacheEntry {
		return data, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for digest, old := range c.data { // any will do: what is in demand comes back
		if c.size+len(data) <= envelopeCacheBytes {
			break
		}
		delete(c.data, digest)
		c.size -= len(old)
	}
	if _, ok := c.data[v.Envelope]; !ok {
		c.data[v.Envelope] = data
		c.size += len(data)
	}
	return data, nil
}

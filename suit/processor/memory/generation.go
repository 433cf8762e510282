package memory

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// blob is content that never changes once made.
type blob struct {
	sum  [sha256.Size]byte
	data []byte
}

func (b *blob) key() string { return string(b.sum[:]) }

// highest remembers a sequence number beyond the life of its manifest.
type highest struct {
	number uint64
	digest suit.Digest
}

// generation is the whole state of the device. A committed one is never changed.
type generation struct {
	content    map[string]*blob
	names      map[string]suit.ComponentID
	parameters map[string]suit.Parameters
	manifests  map[string]processor.ManifestRecord
	highest    map[string]highest
}

func newGeneration() *generation {
	return &generation{
		content:    map[string]*blob{},
		names:      map[string]suit.ComponentID{},
		parameters: map[string]suit.Parameters{},
		manifests:  map[string]processor.ManifestRecord{},
		highest:    map[string]highest{},
	}
}

func (g *generation) clone() *generation {
	return &generation{
		content:    maps.Clone(g.content),
		names:      maps.Clone(g.names),
		parameters: maps.Clone(g.parameters),
		manifests:  maps.Clone(g.manifests),
		highest:    maps.Clone(g.highest),
	}
}

func cloneRecord(r processor.ManifestRecord) processor.ManifestRecord {
	r.ID, r.Prefix = r.ID.Clone(), r.Prefix.Clone()
	r.Envelope, r.Signer = bytes.Clone(r.Envelope), bytes.Clone(r.Signer)
	r.Digest = r.Digest.Clone()
	r.Dependents, r.Components = cloneIDs(r.Dependents), cloneIDs(r.Components)
	r.Dependencies = slices.Clone(r.Dependencies)
	return r
}

func cloneIDs(ids []suit.ComponentID) []suit.ComponentID {
	out := make([]suit.ComponentID, len(ids))
	for i, id := range ids {
		out[i] = id.Clone()
	}
	return out
}

// State is what the device holds, for comparing one moment with another.
type State struct {
	// Content is by ComponentID.String.
	Content map[string][]byte
	// Manifests is by ComponentID.String of the record.
	Manifests map[string]processor.ManifestRecord
	// Highest is the highest sequence number by ComponentID.String.
	Highest map[string]uint64
}

// State returns a copy of what is committed.
func (p *Platform) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Content: map[string][]byte{}, Manifests: map[string]processor.ManifestRecord{}, Highest: map[string]uint64{}}
	for k, b := range p.current.content {
		s.Content[p.current.names[k].String()] = bytes.Clone(b.data)
	}
	for _, r := range p.current.manifests {
		s.Manifests[r.ID.String()] = cloneRecord(r)
	}
	for k, h := range p.current.highest {
		s.Highest[p.current.names[k].String()] = h.number
	}
	return s
}

// Parameters returns what manifests recorded of a component.
func (p *Platform) Parameters(id suit.ComponentID) (suit.Parameters, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.current.parameters[id.Key()]
	return v, ok
}

// Put gives a component content from outside of any manifest, as a factory does.
func (p *Platform) Put(id suit.ComponentID, content []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.current.clone()
	b := newBlob(content)
	p.blobs[b.key()] = b
	g.content[id.Key()], g.names[id.Key()] = b, id.Clone()
	p.current = g
	p.collect()
}

// Lose takes the content of a component away behind everybody's back, as a damaged store does.
func (p *Platform) Lose(id suit.ComponentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.current.clone()
	delete(g.content, id.Key())
	p.current = g
	p.collect()
}

func newBlob(content []byte) *blob {
	return &blob{sum: sha256.Sum256(content), data: bytes.Clone(content)}
}

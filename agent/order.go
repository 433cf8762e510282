package agent

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// candidate is one manifest of an Update.
type candidate struct {
	envelope []byte
	// name is for logs and texts.
	name string
	// fallback is the identifier of a manifest that names none itself: that of its first
	// component.
	fallback suit.ComponentID
	// id is how others refer to it, needs what it refers to.
	id    suit.ComponentID
	needs []suit.ComponentID
}

// inOrder sorts the manifests of an Update so that dependencies come before what depends on them.
// Only manifests that a trusted signer authorized are looked into; what the others say does not
// count, and the processor will say what is wrong with them.
func (a *Agent) inOrder(envelopes [][]byte) []candidate {
	authority := a.trust().SignerKeys()
	candidates := make([]candidate, len(envelopes))
	for i, data := range envelopes {
		c := &candidates[i]
		c.envelope, c.name = data, fmt.Sprintf("manifest %d", i+1)
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			continue
		}
		if verified, err := e.Verify(authority, suit.VerifyOptions{}); err == nil {
			c.describe(verified.Manifest)
		}
	}
	return sortCandidates(candidates)
}

func (c *candidate) describe(m *suit.Manifest) {
	for i, id := range m.Common.Components {
		if _, ok := m.Common.Dependency(uint64(i)); ok {
			c.needs = append(c.needs, id)
		} else if c.fallback == nil {
			c.fallback = id
		}
	}
	c.id = m.ComponentID
	if c.id == nil {
		c.id = c.fallback
	}
	if c.fallback == nil && len(c.needs) > 0 {
		c.fallback = c.needs[0]
	}
	if c.id != nil {
		c.name = c.id.String()
	}
}

// sortCandidates is a stable topological sort. In a circle, which no processor can run, the given
// order stays.
func sortCandidates(in []candidate) []candidate {
	out := make([]candidate, 0, len(in))
	placed := make([]bool, len(in))
	for len(out) < len(in) {
		next := -1
		for i, c := range in {
			if placed[i] {
				continue
			}
			if next < 0 {
				next = i // if all wait for each other
			}
			if !waits(c, i, in, placed) {
				next = i
				break
			}
		}
		placed[next] = true
		out = append(out, in[next])
	}
	return out
}

// waits tells whether a candidate needs another one that was not placed yet.
func waits(c candidate, self int, in []candidate, placed []bool) bool {
	for j, other := range in {
		if j != self && !placed[j] && other.id != nil && slices.ContainsFunc(c.needs, other.id.Equal) {
			return true
		}
	}
	return false
}

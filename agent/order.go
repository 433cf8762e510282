package agent

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// maxInside is how deep dependencies inside of dependencies are looked into for the order.
const maxInside = 2

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
	// named tells that id is the manifest's own word; digest is that of the manifest.
	named  bool
	digest suit.Digest
	// brings are the dependencies that lie inside.
	brings []brought
}

// brought is a manifest that comes with an Update, by itself or inside of another.
type brought struct {
	id     suit.ComponentID
	digest suit.Digest
}

// all are the candidate and what it brings, as far as they name themselves.
func (c *candidate) all() []brought {
	if !c.named {
		return c.brings
	}
	return append([]brought{{c.id, c.digest}}, c.brings...)
}

// integrated lists the dependencies inside of an envelope that a trusted signer authorized, and those inside of them.
func integrated(e *suit.Envelope, authority cose.KeySource, depth int) (all []brought) {
	if depth == 0 {
		return nil
	}
	for _, payload := range e.Integrated {
		inner, err := suit.ParseEnvelope(payload)
		if err != nil {
			continue // a payload of another kind
		}
		if a, err := inner.Verify(authority, suit.VerifyOptions{}); err == nil && a.Manifest.ComponentID != nil {
			all = append(append(all, brought{a.Manifest.ComponentID, inner.Digest}), integrated(inner, authority, depth-1)...)
		}
	}
	return all
}

// inOrder sorts the manifests of an Update so that dependencies come before what depends on them.
// Only manifests that a trusted signer authorized are looked into; what the others say does not
// count, and the processor will say what is wrong with them.
func inOrder(envelopes [][]byte, authority cose.KeySource) []candidate {
	candidates := make([]candidate, len(envelopes))
	for i, data := range envelopes {
		c := &candidates[i]
		c.envelope, c.name = data, fmt.Sprintf("manifest %d", i+1)
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			continue
		}
		if verified, err := e.Verify(authority, suit.VerifyOptions{}); err == nil {
			c.digest = e.Digest
			c.describe(verified.Manifest)
			c.brings = integrated(e, authority, maxInside)
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
	c.id, c.named = m.ComponentID, m.ComponentID != nil
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

// together splits what is in order into what is installed in one step. Manifests go one by one, so
// that one that fails keeps no other away; but a dependency that is installed cannot be replaced
// under its dependents, so where these are to be replaced as well, all of them go together: a
// runtime and the applications that it loads, say. The same goes for a dependency that comes inside of another
// manifest, as what a TAM has keys for does.
func together(in []candidate, record *state.Record) [][]candidate {
	group := make([]int, len(in))
	for i := range in {
		group[i] = i
	}
	for i := range in {
		for _, b := range in[i].all() {
			old, installed := record.Manifests[b.id.Key()]
			if !installed || old.Digest.Equal(b.digest) {
				continue
			}
			for j := range in {
				depends := func(other brought) bool { return slices.ContainsFunc(old.Dependents, other.id.Equal) }
				if j != i && slices.ContainsFunc(in[j].all(), depends) {
					join(group, i, j)
				}
			}
		}
	}
	var out [][]candidate
	for i := range in {
		var members []candidate
		for j := range in {
			if group[j] == i {
				members = append(members, in[j])
			}
		}
		if members != nil {
			out = append(out, members)
		}
	}
	return out
}

// join makes two groups one, under the number of the one that comes first.
func join(group []int, i, j int) {
	a, b := min(group[i], group[j]), max(group[i], group[j])
	for k := range group {
		if group[k] == b {
			group[k] = a
		}
	}
}

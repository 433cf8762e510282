package processor

import (
	"errors"
	"slices"

	"github.com/go-teep/teep/suit"
)

// component is one entry that commands can select.
type component struct {
	index      int
	id         suit.ComponentID
	dependency bool
	// prefix is put before the identifiers of a dependency's components.
	prefix suit.ComponentID
	cached string // of key
	// cachedParam is that of paramKey, where it is another one.
	cachedParam string
	// ordinal is the position among the dependencies, as suit-record-manifest-id counts.
	ordinal uint64
}

func (c *component) key() string {
	if c.cached == "" {
		c.cached = c.id.Key()
	}
	return c.cached
}

// paramKey finds the parameters. Those of a dependency are not those of a component of that identifier:
// a signer may say how to find a dependency without having any right to what is named like it (SUIT §8.3).
func (c *component) paramKey() string {
	if !c.dependency {
		return c.key()
	}
	if c.cachedParam == "" {
		c.cachedParam = "dependency " + c.key()
	}
	return c.cachedParam
}

// node is one manifest in the tree that a procedure works on.
type node struct {
	parent   *node
	slot     *component // of the parent; nil for a root
	path     []uint64
	manifest *suit.Manifest
	envelope *suit.Envelope // nil when a report is explained
	rights   Rights
	signer   []byte // thumbprint
	digest   suit.Digest
	// id is where the manifest is recorded.
	id     suit.ComponentID
	prefix suit.ComponentID
	comps  []component

	children map[int]*node // by component index, after their integrity check
	ran      map[int]map[suit.Label]bool
	// settled says that this very manifest was installed before the run began: what it
	// installs is there, other manifests may rely on it, and nothing of it is done again.
	settled bool
}

// newNode lays out the components of a manifest. A dependency whose index lies beyond the
// components is known by its prefix alone, as in the example of the TEEP protocol; there the
// prefix is where its envelope is kept, not something to put before its components.
func newNode(parent *node, m *suit.Manifest, id, prefix suit.ComponentID) (*node, error) {
	n := &node{
		parent: parent, manifest: m, id: id, prefix: prefix,
		children: map[int]*node{}, ran: map[int]map[suit.Label]bool{},
	}
	for i, c := range m.Common.Components {
		n.comps = append(n.comps, component{index: i, id: prefix.Join(c)})
	}
	for ordinal, d := range m.Common.Dependencies {
		if d.Index < uint64(len(m.Common.Components)) {
			c := &n.comps[d.Index]
			c.dependency, c.ordinal = true, uint64(ordinal)
			c.prefix = prefix.Join(d.Prefix)
			continue
		}
		if d.Index > maxIndex {
			return nil, fail(suit.ReasonComponentUnsupported, "dependency has component index %d, at most %d is accepted", d.Index, maxIndex)
		}
		if len(d.Prefix) == 0 {
			return nil, fail(suit.ReasonComponentUnsupported,
				"dependency %d is not among the components and has no suit-dependency-prefix that says where it is kept", d.Index)
		}
		n.comps = append(n.comps, component{index: int(d.Index), id: prefix.Join(d.Prefix),
			dependency: true, prefix: prefix, ordinal: uint64(ordinal)})
	}
	return n, nil
}

// maxIndex keeps component indexes within int on every platform.
const maxIndex = 1 << 20

func (n *node) at(index uint64) (*component, error) {
	if index < uint64(len(n.comps)) && n.comps[index].index == int(index) {
		return &n.comps[index], nil
	}
	for i := range n.comps {
		if uint64(n.comps[i].index) == index {
			return &n.comps[i], nil
		}
	}
	return nil, fail(suit.ReasonOperationFailed, "component index %d does not exist: the manifest has %d components", index, len(n.comps))
}

// own lists the identifiers of the components that are not dependencies.
func (n *node) own() []suit.ComponentID {
	var ids []suit.ComponentID
	for i := range n.comps {
		if !n.comps[i].dependency {
			ids = append(ids, n.comps[i].id)
		}
	}
	return ids
}

func (n *node) depth() int {
	d := 0
	for p := n.parent; p != nil; p = p.parent {
		d++
	}
	return d
}

// visit walks the tree, dependencies before dependents, each manifest once.
func (n *node) visit(f func(*node) error) error {
	return n.visitOnce(map[string]bool{}, f)
}

func (n *node) visitOnce(seen map[string]bool, f func(*node) error) error {
	if seen[n.id.Key()] {
		return nil
	}
	seen[n.id.Key()] = true
	for i := range n.comps {
		if child := n.children[n.comps[i].index]; child != nil {
			if err := child.visitOnce(seen, f); err != nil {
				return err
			}
		}
	}
	return f(n)
}

// attach makes child the dependency behind a component.
func (n *node) attach(c *component, child *node) {
	child.path = append(slices.Clone(n.path), c.ordinal)
	child.slot = c
	n.children[c.index] = child
}

// section returns the commands of a section; ok is false when the manifest has none.
func (n *node) section(label suit.Label) (seq suit.Sequence, ok bool, err error) {
	s := n.manifest.Section(label)
	if s == nil || !s.Present() {
		return nil, false, nil
	}
	if !s.Available() {
		return nil, true, &Failure{Reason: suit.ReasonOperationFailed, Manifest: n.path, Section: label,
			Err: errSevered}
	}
	return s.Commands, true, nil
}

var errSevered = errors.New("the section was severed and is not in the envelope: send the envelope with it")

func (n *node) markRan(index int, label suit.Label) {
	if n.ran[index] == nil {
		n.ran[index] = map[suit.Label]bool{}
	}
	n.ran[index][label] = true
}

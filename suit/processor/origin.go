package processor

import (
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// origins remembers, for one transaction, where the content of components came from and whether
// anything vouched for it. What came from outside must not be committed before a digest, a
// comparison or an authentication tag did (SUIT §6.3, first design goal).
type origins struct {
	of map[string]*origin
}

// origin describes the current content of one component. Content that the run did not touch has
// none: it was vouched for when it was installed.
type origin struct {
	id      suit.ComponentID
	trusted bool
	// bad says that a check of this very content failed. Only new content heals it.
	bad bool
	// from is what this content was copied or decrypted from, while both are unchanged: a check
	// of the one vouches for the other.
	from *origin
	size int64
	// sums are digests that were computed while the content was written.
	sums map[cose.Algorithm][]byte
}

func newOrigins() *origins { return &origins{of: map[string]*origin{}} }

func (o *origins) set(id suit.ComponentID, n *origin) {
	n.id = id
	o.of[id.Key()] = n
}

func (o *origins) get(id suit.ComponentID) *origin { return o.of[id.Key()] }

// verified marks the content of a component as vouched for, and what it was made of with it.
func (o *origins) verified(id suit.ComponentID) {
	for n := o.get(id); n != nil; n = n.from {
		n.trusted, n.bad = true, false
	}
}

// failed marks content that this run brought and that a check refused.
func (o *origins) failed(id suit.ComponentID) {
	if n := o.get(id); n != nil && !n.trusted {
		n.bad = true
	}
}

// copied gives dst the origin of src.
func (o *origins) copied(dst, src suit.ComponentID) {
	from := o.get(src)
	if from == nil {
		o.set(dst, &origin{trusted: true, size: -1})
		return
	}
	o.set(dst, &origin{trusted: from.trusted, bad: from.bad, from: from, size: from.size, sums: from.sums})
}

func (o *origins) swapped(a, b suit.ComponentID) {
	na, nb := o.get(a), o.get(b)
	for _, n := range []**origin{&na, &nb} {
		if *n == nil {
			*n = &origin{trusted: true, size: -1}
		}
	}
	o.set(a, nb)
	o.set(b, na)
}

func (o *origins) removed(id suit.ComponentID) { delete(o.of, id.Key()) }

// unverified returns a component whose content nothing has vouched for, if there is one.
func (o *origins) unverified() (suit.ComponentID, bool) {
	for _, n := range o.of {
		if !n.trusted || n.bad {
			return n.id, true
		}
	}
	return nil, false
}

// sum returns a digest that is already known.
func (o *origins) sum(id suit.ComponentID, alg cose.Algorithm) (sum []byte, size int64, ok bool) {
	n := o.get(id)
	if n == nil || n.sums[alg] == nil {
		return nil, 0, false
	}
	return n.sums[alg], n.size, true
}

func (n *origin) remember(alg cose.Algorithm, sum []byte) {
	if n.sums == nil {
		n.sums = map[cose.Algorithm][]byte{}
	}
	n.sums[alg] = sum
}

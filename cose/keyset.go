package cose

import (
	"bytes"
	"fmt"
)

// KeySource finds the keys that may have made a signature. It is asked before anything is
// verified: the headers are what the message claims.
type KeySource interface {
	// VerifiersFor returns the trusted keys that fit, best first, or none.
	VerifiersFor(alg Algorithm, h Headers) []Verifier
}

// ReasonedKeySource is a KeySource that can say why it trusts no key for a message. [Verify]
// prefers this method and joins the reason to ErrUnknownSigner.
type ReasonedKeySource interface {
	KeySource
	// VerifiersOrReason is VerifiersFor with the reason for returning none.
	VerifiersOrReason(alg Algorithm, h Headers) ([]Verifier, error)
}

// KeySet is a KeySource of known keys. When a message names a kid, only keys with that kid or
// thumbprint are tried; otherwise all of that algorithm are.
type KeySet []Verifier

// NewKeySet makes a KeySet from public or symmetric keys, each for its own algorithm. A private
// key counts as its public part.
func NewKeySet(keys ...*Key) (KeySet, error) {
	set := make(KeySet, 0, len(keys))
	for i, k := range keys {
		if k == nil {
			return nil, fmt.Errorf("%w: key %d of the set is nil", ErrKey, i)
		}
		v, err := k.Verifier()
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i, err)
		}
		set = append(set, v)
	}
	return set, nil
}

// VerifiersFor implements KeySource.
func (s KeySet) VerifiersFor(alg Algorithm, h Headers) []Verifier {
	kid := h.KeyID()
	var found []Verifier
	for _, v := range s {
		if v.Algorithm().specific() != alg.specific() {
			continue
		}
		if kid == nil || bytes.Equal(kid, v.KeyID()) || isThumbprint(kid, v.Key()) {
			found = append(found, v)
		}
	}
	return found
}

func isThumbprint(kid []byte, k *Key) bool {
	return len(kid) == 32 && k != nil && k.Type() != KeyTypeSymmetric && bytes.Equal(kid, k.Thumbprint())
}

// AnyOf is a KeySource that asks several, in order, and joins what they find.
func AnyOf(sources ...KeySource) KeySource { return anyOf(sources) }

type anyOf []KeySource

func (a anyOf) VerifiersFor(alg Algorithm, h Headers) []Verifier {
	found, _ := a.VerifiersOrReason(alg, h)
	return found
}

// VerifiersOrReason implements ReasonedKeySource.
func (a anyOf) VerifiersOrReason(alg Algorithm, h Headers) (found []Verifier, reason error) {
	for _, s := range a {
		v, err := verifiersFrom(s, alg, h)
		found = append(found, v...)
		if reason == nil {
			reason = err
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, reason
}

func verifiersFrom(s KeySource, alg Algorithm, h Headers) ([]Verifier, error) {
	if s == nil { // no keys are trusted, rather than a crash
		return nil, nil
	}
	if r, ok := s.(ReasonedKeySource); ok {
		return r.VerifiersOrReason(alg, h)
	}
	return s.VerifiersFor(alg, h), nil
}

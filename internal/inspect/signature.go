package inspect

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/go-teep/teep/cose"
)

// SignatureStatus is the outcome of checking one signature or MAC.
type SignatureStatus string

const (
	// SignatureVerified means that a given key verified it.
	SignatureVerified SignatureStatus = "verified"
	// SignatureInvalid means that it does not hold under the given key that it names.
	SignatureInvalid SignatureStatus = "not verified"
	// SignatureUnknown means that none of the given keys is the signer's, as far as one can tell.
	SignatureUnknown SignatureStatus = "unknown signer"
	// SignatureUnchecked means that no key was given, or something that it covers is missing.
	SignatureUnchecked SignatureStatus = "not checked"
)

// Signature is one signature or MAC.
type Signature struct {
	Path      string          `json:"path"`
	Kind      Kind            `json:"kind"`
	Algorithm string          `json:"algorithm"`
	KeyID     string          `json:"kid,omitempty"` // hexadecimal, as the message claims it
	Status    SignatureStatus `json:"status"`
	// Thumbprint is that of the key that verified it (RFC 9679, SHA-256), in hexadecimal. MAC keys
	// have none.
	Thumbprint string `json:"thumbprint,omitempty"`
	// Reason says why it was not verified.
	Reason string `json:"reason,omitempty"`
}

// String is the outcome in one line.
func (s Signature) String() string {
	text := fmt.Sprintf("%s %s: %s", s.Kind.Title(), s.Algorithm, s.Status)
	switch {
	case s.Thumbprint != "":
		text += " by " + s.Thumbprint
	case s.Reason != "":
		text += ": " + s.Reason
	case s.KeyID != "":
		text += ", kid " + s.KeyID
	}
	if s.Path != "" {
		text += " (at " + s.Path + ")"
	}
	return text
}

// signatures checks every signature of a message by itself: of a COSE_Sign one that holds is
// enough for receivers, but people want to know about each.
func (n *inspector) signatures(message *item, kind Kind, path string, x expectation) {
	first := len(n.report.Signatures)
	switch kind {
	case KindMac:
		n.note("RFC 9052 §6.1", path, "COSE_Mac with recipients is not supported: its tag is not checked")
		return
	case KindSign:
		layers(message, 3, func(layer *item, step string) {
			at := under(path, "signatures"+step)
			if !isLayer(layer) || len(layer.kids) != 3 || !layer.kids[2].is(majorBytes) {
				n.error("RFC 9052 §4.1", at, "not a COSE_Signature")
				return
			}
			n.headers(layer, at, true)
			alone := arrayOf(message.kids[0].raw, message.kids[1].raw, message.kids[2].raw, arrayOf(layer.raw))
			n.signature(alone, layer, kind, at, x)
		})
		if len(message.kids[3].kids) == 0 {
			n.error("RFC 9052 §4.1", path, "a COSE_Sign without signatures")
		}
	default:
		n.signature(message.raw, message, kind, path, x)
	}
	n.judge(n.report.Signatures[first:], path, x)
}

// arrayOf encodes an array of encoded items.
func arrayOf(items ...[]byte) []byte {
	b := appendHead(nil, majorArray, uint64(len(items)))
	for _, it := range items {
		b = append(b, it...)
	}
	return b
}

// signature checks one signature; msg is a message that has this signature only.
func (n *inspector) signature(msg []byte, layer *item, kind Kind, path string, x expectation) {
	alg := headerAlgorithm(layer)
	s := Signature{Path: path, Kind: kind, Algorithm: alg.String(), Status: SignatureUnchecked}
	kid := headerOf(layer, cose.LabelKeyID)
	if kid.is(majorBytes) {
		s.KeyID = hex.EncodeToString(kid.content)
	}
	n.size(layer, alg, path)
	switch {
	case len(n.verifiers) == 0:
		s.Reason = "no key was given"
	default:
		n.verify(msg, alg, &s, x)
	}
	n.report.Signatures = append(n.report.Signatures, s)
}

// size checks the length of a signature, which the algorithm fixes.
func (n *inspector) size(layer *item, alg cose.Algorithm, path string) {
	want := map[cose.Algorithm]int{
		cose.AlgESP256: 64, cose.AlgES256: 64, cose.AlgEd25519: 64, cose.AlgESP384: 96, cose.AlgES384: 96,
		cose.AlgMLDSA65: 3309, cose.AlgHMAC256: 32,
	}[alg]
	value := &layer.kids[len(layer.kids)-1]
	if got := len(value.content); want != 0 && value.is(majorBytes) && got != want {
		n.error("RFC 9053 §2", path, "a signature of %d bytes; %v makes %d", got, alg, want)
	}
}

// keysOf offers every given key of an algorithm, whatever kid the message names.
type keysOf cose.KeySet

func (k keysOf) VerifiersFor(alg cose.Algorithm, _ cose.Headers) []cose.Verifier {
	return cose.KeySet(k).VerifiersFor(alg, cose.Headers{})
}

func (n *inspector) verify(msg []byte, alg cose.Algorithm, s *Signature, x expectation) {
	o := cose.VerifyOptions{DetachedPayload: x.payload, Algorithms: []cose.Algorithm{alg}}
	verify := cose.Verify
	if s.Kind == KindMac0 {
		verify = cose.VerifyMac0
	}
	v, err := verify(msg, keysOf(n.verifiers), o)
	claimed, _ := hex.DecodeString(s.KeyID)
	switch {
	case err == nil:
		s.Status = SignatureVerified
		if v.Key.Type() != cose.KeyTypeSymmetric {
			s.Thumbprint = hex.EncodeToString(v.Key.Thumbprint())
		}
		if len(claimed) > 0 && !named(v.Key, claimed) {
			n.note("TEEP §5", s.Path, "the kid is neither the thumbprint nor the kid of the key that verified it: receivers that look keys up by kid do not find it")
		}
	case errors.Is(err, cose.ErrUnknownSigner):
		s.Status, s.Reason = SignatureUnknown, fmt.Sprintf("none of the given keys is for %s", s.Algorithm)
	case errors.Is(err, cose.ErrSignature) && len(claimed) > 0 && n.holds(claimed):
		s.Status, s.Reason = SignatureInvalid, "it names a given key and does not hold under it: the content or the signature was changed"
	case errors.Is(err, cose.ErrSignature) && len(claimed) > 0:
		s.Status, s.Reason = SignatureUnknown, "it names kid "+s.KeyID+", and none of the given keys has that kid or verifies it"
	case errors.Is(err, cose.ErrSignature):
		s.Status, s.Reason = SignatureUnknown, "it names no kid, and none of the given keys verifies it: another key made it, or the content was changed"
	case errors.Is(err, cose.ErrPayload):
		s.Reason = "the payload is detached"
	default:
		s.Status, s.Reason = SignatureInvalid, err.Error()
	}
}

func named(k *cose.Key, kid []byte) bool {
	if bytes.Equal(k.KeyID(), kid) {
		return true
	}
	if k.Type() == cose.KeyTypeSymmetric {
		return false
	}
	for _, hash := range []cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512} {
		if t, err := k.ThumbprintWith(hash); err == nil && bytes.Equal(t, kid) {
			return true
		}
	}
	return false
}

// holds tells whether one of the given keys goes by the kid.
func (n *inspector) holds(kid []byte) bool {
	for _, v := range n.verifiers {
		if named(v.Key(), kid) {
			return true
		}
	}
	return false
}

// judge makes findings of signatures. Once keys are given, what is inspected has to be signed by
// one of them; structures inside may well be signed by others. A signature that is known to be
// wrong is an error everywhere, unless another one of the same message holds. Envelopes are judged
// as a whole: see requireSigner.
func (n *inspector) judge(signatures []Signature, path string, x expectation) {
	if len(n.verifiers) == 0 || len(signatures) == 0 {
		return
	}
	verified := false
	for _, s := range signatures {
		verified = verified || s.Status == SignatureVerified
	}
	for _, s := range signatures {
		switch {
		case s.Status == SignatureInvalid && !verified:
			n.error("RFC 9052 §4.4", s.Path, "the signature is not verified: %s", s.Reason)
		case s.Status == SignatureInvalid:
			n.warn("RFC 9052 §4.4", s.Path, "one of the signatures is not verified: %s", s.Reason)
		case s.Status == SignatureUnknown && x.top && !verified:
			n.error("RFC 9052 §4.4", s.Path, "unknown signer: %s", s.Reason)
		case s.Status == SignatureUnknown && !verified && x.payload == nil:
			n.note("RFC 9052 §4.4", s.Path, "unknown signer: %s", s.Reason)
		}
	}
}

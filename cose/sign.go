package cose

import (
	"fmt"
	"io"
)

// CBOR tags of the message types (RFC 9052 §2).
const (
	TagSign1    = 18
	TagSign     = 98
	TagMac0     = 17
	TagEncrypt0 = 16
	TagEncrypt  = 96
)

// SignOptions are the choices of Sign1, SignMulti and Mac0. The zero value makes a tagged message
// with embedded payload and the key's kid in the unprotected bucket.
type SignOptions struct {
	// ContentType is a uint64 (CoAP Content-Format) or a string (media type), placed in the
	// protected bucket; nil for none.
	ContentType any
	// ExternalAAD is authenticated and not carried in the message.
	ExternalAAD []byte
	// Detached leaves the payload out of the message.
	Detached bool
	// Untagged leaves out the CBOR tag.
	Untagged bool
	// OmitKeyID leaves out the kid.
	OmitKeyID bool
	// Protected and Unprotected are further parameters of the message. They must not repeat what
	// this package sets.
	Protected, Unprotected Header
	// X5Chain are DER certificates, end entity first, placed in the unprotected bucket (the chain
	// is authenticated by its own signatures). Not with SignMulti, nor where the signer is
	// [Certified] and has its own.
	X5Chain [][]byte
}

// bodyHeaders makes the buckets of the message. alg is zero when the body has no algorithm.
func (o SignOptions) bodyHeaders(alg Algorithm, kid []byte) (Headers, error) {
	h := Headers{Protected: o.Protected.clone(), Unprotected: o.Unprotected.clone()}
	set := func(bucket *Header, label int64, value any) error {
		if _, taken := h.Get(label); taken {
			return fmt.Errorf("%w %d is set by this package and was given as a further parameter", ErrHeader, label)
		}
		return bucket.Set(label, value)
	}
	if alg != 0 {
		if err := set(&h.Protected, LabelAlgorithm, alg); err != nil {
			return h, err
		}
	}
	if o.ContentType != nil {
		if err := set(&h.Protected, LabelContentType, o.ContentType); err != nil {
			return h, err
		}
	}
	if kid != nil && !o.OmitKeyID {
		if err := set(&h.Unprotected, LabelKeyID, kid); err != nil {
			return h, err
		}
	}
	if len(o.X5Chain) > 0 {
		if err := h.Unprotected.setX5Chain(o.X5Chain); err != nil {
			return h, err
		}
	}
	return h, h.checkOutgoing()
}

// checkOutgoing keeps this package from making what it would refuse to read.
func (h Headers) checkOutgoing() error {
	for _, bucket := range []Header{h.Protected, h.Unprotected} {
		if err := bucket.checkTypes(); err != nil {
			return err
		}
		if bucket.Len() > MaxHeaderParameters {
			return fmt.Errorf("%w: %w: %d parameters", ErrHeader, ErrTooLarge, bucket.Len())
		}
	}
	if err := h.checkBuckets(); err != nil {
		return err
	}
	labels, err := h.Protected.Critical()
	if err != nil {
		return err
	}
	return h.checkCritical(labels) // the maker understands what it declares critical
}

// Sign1 makes a COSE_Sign1 (RFC 9052 §4.2).
//
//	COSE_Sign1 = [ Headers, payload : bstr / nil, signature : bstr ]
//
// rand is passed to the signer; see there whether it may be nil. The result does not depend on
// anything else, so that a deterministic signer gives the same bytes each time.
func Sign1(rand io.Reader, payload []byte, s Signer, o SignOptions) ([]byte, error) {
	if err := checkSigner(s); err != nil {
		return nil, err
	}
	if chain := chainOf(s); chain != nil {
		if len(o.X5Chain) > 0 {
			return nil, fmt.Errorf("%w x5chain is given in the options and by the signer", ErrHeader)
		}
		o.X5Chain = chain
	}
	h, err := o.bodyHeaders(s.Algorithm(), s.KeyID())
	if err != nil {
		return nil, err
	}
	protected := h.Protected.protectedBytes()
	sig, err := s.Sign(rand, sigStructure("Signature1", protected, nil, o.ExternalAAD, payload))
	if err != nil {
		return nil, err
	}
	msg := o.start(TagSign1, protected, h.Unprotected, payload, len(sig))
	return checkSize(appendBytes(msg, sig))
}

// SignMulti makes a COSE_Sign with one signature by each signer (RFC 9052 §4.1). A verifier needs
// to know only one of them.
//
//	COSE_Sign = [ Headers, payload : bstr / nil, signatures : [+ COSE_Signature] ]
//	COSE_Signature = [ Headers, signature : bstr ]
//
// Algorithm and kid stand in the signatures, everything else of the options in the message.
func SignMulti(rand io.Reader, payload []byte, signers []Signer, o SignOptions) ([]byte, error) {
	if len(signers) == 0 || len(signers) > MaxSigners {
		return nil, fmt.Errorf("%w: %d signers, 1 to %d are possible", ErrMalformed, len(signers), MaxSigners)
	}
	if len(o.X5Chain) > 0 {
		return nil, fmt.Errorf("%w x5chain belongs to one signer and cannot be given for several", ErrHeader)
	}
	h, err := o.bodyHeaders(0, nil)
	if err != nil {
		return nil, err
	}
	body := h.Protected.protectedBytes()
	signatures := appendHead(nil, majorArray, uint64(len(signers)))
	for _, s := range signers {
		if signatures, err = appendSignature(signatures, rand, body, payload, s, o); err != nil {
			return nil, err
		}
	}
	msg := o.start(TagSign, body, h.Unprotected, payload, len(signatures))
	return checkSize(append(msg, signatures...))
}

func appendSignature(dst []byte, rand io.Reader, body, payload []byte, s Signer, o SignOptions) ([]byte, error) {
	if err := checkSigner(s); err != nil {
		return nil, err
	}
	own := SignOptions{OmitKeyID: o.OmitKeyID, X5Chain: chainOf(s)}
	h, err := own.bodyHeaders(s.Algorithm(), s.KeyID())
	if err != nil {
		return nil, err
	}
	protected := h.Protected.protectedBytes()
	sig, err := s.Sign(rand, sigStructure("Signature", body, protected, o.ExternalAAD, payload))
	if err != nil {
		return nil, err
	}
	dst = appendHead(dst, majorArray, 3)
	dst = appendBytes(dst, protected)
	dst = h.Unprotected.appendMap(dst)
	return appendBytes(dst, sig), nil
}

func checkSigner(s Signer) error {
	if s == nil {
		return fmt.Errorf("%w: no signer", ErrKey)
	}
	if !s.Algorithm().IsSignature() {
		return fmt.Errorf("%w %v is not a signature algorithm", ErrAlgorithm, s.Algorithm())
	}
	return nil
}

// start begins a message of four elements with the three that all types share.
func (o SignOptions) start(tag uint64, protected []byte, unprotected Header, payload []byte, tail int) []byte {
	msg := make([]byte, 0, len(protected)+len(payload)+tail+128)
	if !o.Untagged {
		msg = appendHead(msg, majorTag, tag)
	}
	msg = appendHead(msg, majorArray, 4)
	msg = appendBytes(msg, protected)
	msg = unprotected.appendMap(msg)
	return appendOptional(msg, payload, o.Detached)
}

func checkSize(msg []byte) ([]byte, error) {
	if len(msg) > MaxMessageBytes {
		return nil, fmt.Errorf("%w: %w: a message of %d bytes; use a detached payload beyond %d", ErrMalformed, ErrTooLarge, len(msg), MaxMessageBytes)
	}
	return msg, nil
}

// sigStructure is what is signed (RFC 9052 §4.4) or authenticated (§6.3). signProtected is nil
// except in COSE_Sign.
//
//	Sig_structure = [ context : "Signature" / "Signature1", body_protected : empty_or_serialized_map,
//	                  ? sign_protected : empty_or_serialized_map, external_aad : bstr, payload : bstr ]
//	MAC_structure = [ context : "MAC0", protected : empty_or_serialized_map, external_aad : bstr, payload : bstr ]
//
// An encoded empty map counts as a zero-length string (RFC 9052 §4.4 step 1).
func sigStructure(context string, bodyProtected, signProtected, externalAAD, payload []byte) []byte {
	elements := uint64(4)
	if signProtected != nil {
		elements++
	}
	b := make([]byte, 0, len(context)+len(bodyProtected)+len(signProtected)+len(externalAAD)+len(payload)+32)
	b = appendHead(b, majorArray, elements)
	b = appendText(b, context)
	b = appendBytes(b, withoutEmptyMap(bodyProtected))
	if signProtected != nil {
		b = appendBytes(b, withoutEmptyMap(signProtected))
	}
	b = appendBytes(b, externalAAD)
	return appendBytes(b, payload)
}

func withoutEmptyMap(protected []byte) []byte {
	if len(protected) == 1 && protected[0] == majorMap<<5 {
		return nil
	}
	return protected
}

package cose

import (
	"fmt"
	"io"
)

// EncryptOptions are the choices of Encrypt0, Encrypt and WrapContentKey. The zero value makes a
// tagged message with embedded ciphertext and a random IV.
type EncryptOptions struct {
	// ContentType is a uint64 or a string, placed in the protected bucket; nil for none. Ciphers
	// without authentication have no protected bucket, there it is unprotected.
	ContentType any
	// ExternalAAD is authenticated and not carried in the message. It must be empty for ciphers
	// without authentication.
	ExternalAAD []byte
	// Detached leaves the ciphertext out of the message; it is returned beside it.
	Detached bool
	// Untagged leaves out the CBOR tag.
	Untagged bool
	// IV is the IV to use; nil draws a random one. The same key and IV must never encrypt two
	// different contents.
	IV []byte
	// Protected and Unprotected are further parameters of the message.
	Protected, Unprotected Header
}

// body is what COSE_Encrypt0 and COSE_Encrypt have in common on the way out.
type body struct {
	protected   []byte
	unprotected Header
	iv          []byte
}

func (o EncryptOptions) newBody(rand io.Reader, alg Algorithm) (body, error) {
	c, err := alg.content()
	if err != nil {
		return body{}, err
	}
	iv := o.IV
	if iv == nil {
		iv = make([]byte, c.ivBytes)
		if _, err := io.ReadFull(rand, iv); err != nil {
			return body{}, fmt.Errorf("%w: reading randomness: %w", ErrKey, err)
		}
	}
	if len(iv) != c.ivBytes {
		return body{}, fmt.Errorf("%w IV has %d bytes, %v needs %d", ErrHeader, len(iv), alg, c.ivBytes)
	}
	h, err := o.headers(alg, c.aead, iv)
	if err != nil {
		return body{}, err
	}
	return body{protected: h.Protected.protectedBytes(), unprotected: h.Unprotected, iv: iv}, nil
}

// headers places alg where the algorithm wants it: protected for an AEAD, unprotected beside an
// empty protected bucket for a cipher that authenticates nothing (RFC 9459 §4).
func (o EncryptOptions) headers(alg Algorithm, aead bool, iv []byte) (Headers, error) {
	h := Headers{Protected: o.Protected.clone(), Unprotected: o.Unprotected.clone()}
	for _, label := range []int64{LabelAlgorithm, LabelIV, LabelPartialIV} {
		if _, taken := h.Get(label); taken {
			return h, fmt.Errorf("%w %d is set by this package and was given as a further parameter", ErrHeader, label)
		}
	}
	main := &h.Protected
	if !aead {
		if o.Protected.Len() > 0 || len(o.ExternalAAD) > 0 {
			return h, fmt.Errorf("%w: %v authenticates nothing: no protected parameters and no external AAD are possible (RFC 9459)", ErrHeader, alg)
		}
		main = &h.Unprotected
	}
	if err := main.Set(LabelAlgorithm, alg); err != nil {
		return h, err
	}
	if o.ContentType != nil {
		if err := main.Set(LabelContentType, o.ContentType); err != nil {
			return h, err
		}
	}
	if err := h.Unprotected.Set(LabelIV, iv); err != nil {
		return h, err
	}
	return h, h.checkOutgoing()
}

func (o EncryptOptions) start(tag, elements uint64, b body, ciphertext []byte, detached bool) []byte {
	msg := make([]byte, 0, len(b.protected)+len(ciphertext)+256)
	if !o.Untagged {
		msg = appendHead(msg, majorTag, tag)
	}
	msg = appendHead(msg, majorArray, elements)
	msg = appendBytes(msg, b.protected)
	msg = b.unprotected.appendMap(msg)
	return appendOptional(msg, ciphertext, detached)
}

// encStructure is the additional data of an AEAD (RFC 9052 §5.3).
//
//	Enc_structure = [ context : "Encrypt" / "Encrypt0", protected : empty_or_serialized_map, external_aad : bstr ]
func encStructure(context string, protected, externalAAD []byte) []byte {
	b := make([]byte, 0, len(context)+len(protected)+len(externalAAD)+16)
	b = appendText(appendHead(b, majorArray, 3), context)
	b = appendBytes(b, withoutEmptyMap(protected))
	return appendBytes(b, externalAAD)
}

// Encrypt0 makes a COSE_Encrypt0 under a shared content key (RFC 9052 §5.2). detached is the
// ciphertext when EncryptOptions.Detached is set, otherwise nil.
//
//	COSE_Encrypt0 = [ Headers, ciphertext : bstr / nil ]
func Encrypt0(rand io.Reader, plaintext []byte, key *Key, alg Algorithm, o EncryptOptions) (msg, detached []byte, err error) {
	if err := key.fits(alg); err != nil {
		return nil, nil, err
	}
	if err := key.allows(KeyOpEncrypt); err != nil {
		return nil, nil, err
	}
	if _, given := o.Unprotected.Get(LabelKeyID); key.kid != nil && !given {
		o.Unprotected = o.Unprotected.clone()
		if err := o.Unprotected.Set(LabelKeyID, key.kid); err != nil {
			return nil, nil, err
		}
	}
	b, err := o.newBody(rand, alg)
	if err != nil {
		return nil, nil, err
	}
	ciphertext, err := sealContent(alg, key.secret, b.iv, encStructure("Encrypt0", b.protected, o.ExternalAAD), plaintext)
	if err != nil {
		return nil, nil, err
	}
	if o.Detached {
		return o.start(TagEncrypt0, 3, b, nil, true), ciphertext, nil
	}
	msg, err = checkSize(o.start(TagEncrypt0, 3, b, ciphertext, false))
	return msg, nil, err
}

// Encrypt makes a COSE_Encrypt: the plaintext under a fresh content key, and that key wrapped for
// each recipient (RFC 9052 §5.1). detached is the ciphertext when EncryptOptions.Detached is set,
// otherwise nil.
//
//	COSE_Encrypt = [ Headers, ciphertext : bstr / nil, recipients : [+ COSE_recipient] ]
func Encrypt(rand io.Reader, plaintext []byte, alg Algorithm, to []Recipient, o EncryptOptions) (msg, detached []byte, err error) {
	contentKey, iv, err := contentKeyFor(rand, alg, to)
	if err != nil {
		return nil, nil, err
	}
	if o.IV == nil {
		o.IV = iv
	}
	b, err := o.newBody(rand, alg)
	if err != nil {
		return nil, nil, err
	}
	recipients, err := wrapForAll(rand, contentKey, to)
	if err != nil {
		return nil, nil, err
	}
	ciphertext, err := sealContent(alg, contentKey, b.iv, encStructure("Encrypt", b.protected, o.ExternalAAD), plaintext)
	if err != nil {
		return nil, nil, err
	}
	if o.Detached {
		return append(o.start(TagEncrypt, 4, b, nil, true), recipients...), ciphertext, nil
	}
	msg, err = checkSize(append(o.start(TagEncrypt, 4, b, ciphertext, false), recipients...))
	return msg, nil, err
}

// WrapContentKey makes a COSE_Encrypt without ciphertext around a content key that exists already,
// so that a content that was encrypted once reaches further recipients, or is encrypted in a
// stream by [NewContentWriter]. EncryptOptions.IV must be the IV of the content, and the protected
// parameters those that the content was encrypted with.
func WrapContentKey(rand io.Reader, contentKey []byte, alg Algorithm, to []Recipient, o EncryptOptions) ([]byte, error) {
	if _, err := checkContent(alg, contentKey, o.IV); err != nil {
		return nil, err
	}
	b, err := o.newBody(rand, alg)
	if err != nil {
		return nil, err
	}
	recipients, err := wrapForAll(rand, contentKey, to)
	if err != nil {
		return nil, err
	}
	return append(o.start(TagEncrypt, 4, b, nil, true), recipients...), nil
}

func contentKeyFor(rand io.Reader, alg Algorithm, to []Recipient) (contentKey, iv []byte, err error) {
	if contentKey, iv, err = NewContentKey(rand, alg); err != nil {
		return nil, nil, err
	}
	if len(to) == 1 {
		if d, ok := to[0].(directRecipient); ok {
			contentKey, err = d.contentKey()
		}
	}
	return contentKey, iv, err
}

func wrapForAll(rand io.Reader, contentKey []byte, to []Recipient) ([]byte, error) {
	if len(to) == 0 || len(to) > MaxRecipients {
		return nil, fmt.Errorf("%w: %d recipients, 1 to %d are possible", ErrMalformed, len(to), MaxRecipients)
	}
	out := appendHead(nil, majorArray, uint64(len(to)))
	for i, r := range to {
		if _, direct := r.(directRecipient); direct && len(to) > 1 {
			return nil, fmt.Errorf("%w: a direct recipient must be the only one (RFC 9052 §8.5.1)", ErrKey)
		}
		encoded, err := r.WrapKey(rand, contentKey)
		if err != nil {
			return nil, fmt.Errorf("recipient %d: %w", i, err)
		}
		out = append(out, encoded...)
	}
	return out, nil
}

package cose

import (
	"fmt"
)

// Thumbprint is the COSE Key Thumbprint with SHA-256 (RFC 9679): 32 bytes that depend on the public
// part only. The same key gives the same thumbprint, whatever its kid, and with or without its
// private part. The caller must not modify it.
//
// The thumbprint of a symmetric key reveals something about the key; do not publish it.
func (k *Key) Thumbprint() []byte {
	k.thumbOnce.Do(func() {
		h, _ := AlgSHA256.Hash()
		w := h.New()
		w.Write(k.thumbprintInput())
		k.thumb = w.Sum(nil)
	})
	return k.thumb
}

// ThumbprintWith is Thumbprint with another hash: AlgSHA256, AlgSHA384 or AlgSHA512.
func (k *Key) ThumbprintWith(hash Algorithm) ([]byte, error) {
	h, ok := hash.Hash()
	if !ok {
		return nil, fmt.Errorf("%w %v is not a hash; SHA-256, SHA-384 and SHA-512 are supported", ErrAlgorithm, hash)
	}
	w := h.New()
	w.Write(k.thumbprintInput())
	return w.Sum(nil), nil
}

// thumbprintInput is the deterministic encoding of the required parameters of the key type alone
// (RFC 9679 §3, §4).
func (k *Key) thumbprintInput() []byte {
	b := make([]byte, 0, 128)
	switch k.kty {
	case KeyTypeEC2:
		b = appendHead(b, majorMap, 4)
	case KeyTypeOKP, KeyTypeAKP:
		b = appendHead(b, majorMap, 3)
	default:
		b = appendHead(b, majorMap, 2)
	}
	b = appendInt(appendInt(b, keyLabelType), int64(k.kty))
	switch k.kty {
	case KeyTypeEC2:
		b = appendInt(appendInt(b, keyLabelCurve), int64(k.curve))
		b = appendBytes(appendInt(b, keyLabelX), k.x)
		b = appendBytes(appendInt(b, keyLabelY), k.y)
	case KeyTypeOKP:
		b = appendInt(appendInt(b, keyLabelCurve), int64(k.curve))
		b = appendBytes(appendInt(b, keyLabelX), k.x)
	case KeyTypeAKP:
		b = appendInt(appendInt(b, keyLabelAlg), int64(k.alg))
		b = appendBytes(appendInt(b, keyLabelPub), k.opaque)
	case KeyTypeHSSLMS:
		b = appendBytes(appendInt(b, keyLabelPub), k.opaque)
	case KeyTypeSymmetric:
		b = appendBytes(appendInt(b, keyLabelK), k.secret)
	}
	return b
}

package cose

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// Labels of PartyU and PartyV parameters (RFC 9053 §5.2): identity, nonce and other of each.
const (
	labelPartyU int64 = -21
	labelPartyV int64 = -24
)

// kdfContext is what a derived key is bound to (RFC 9053 §5.2).
//
//	COSE_KDF_Context = [
//	    AlgorithmID : int / tstr,
//	    PartyUInfo : [ identity : bstr / nil, nonce : bstr / int / nil, other : bstr / nil ],
//	    PartyVInfo : [ identity : bstr / nil, nonce : bstr / int / nil, other : bstr / nil ],
//	    SuppPubInfo : [ keyDataLength : uint, protected : empty_or_serialized_map, ? other : bstr ],
//	    ? SuppPrivInfo : bstr
//	]
type kdfContext struct {
	wrap      Algorithm // AlgorithmID
	headers   Headers   // of the recipient: party information
	protected []byte    // of the recipient, as received
	other     string    // SuppPubInfo.other, absent when empty
}

func (k kdfContext) encode() []byte {
	b := appendHead(make([]byte, 0, 96+len(k.protected)+len(k.other)), majorArray, 4)
	b = appendInt(b, int64(k.wrap))
	b = k.appendParty(b, labelPartyU)
	b = k.appendParty(b, labelPartyV)
	elements := uint64(2)
	if k.other != "" {
		elements++
	}
	b = appendHead(b, majorArray, elements)
	b = appendInt(b, int64(k.wrap.KeySize())*8)
	b = appendBytes(b, k.protected)
	if k.other != "" {
		b = appendBytes(b, []byte(k.other))
	}
	return b
}

// appendParty appends what the message says about a party, or null three times.
func (k kdfContext) appendParty(b []byte, first int64) []byte {
	b = appendHead(b, majorArray, 3)
	for label := first; label > first-3; label-- {
		if item, ok := k.headers.Get(label); ok {
			b = append(b, item...)
		} else {
			b = append(b, cborNull)
		}
	}
	return b
}

// deriveKEK derives the key encryption key from the shared secret.
func (k kdfContext) deriveKEK(secret []byte) ([]byte, error) {
	var salt []byte
	if _, ok := k.headers.Get(labelSalt); ok {
		salt = k.headers.bucket(labelSalt).byteString(labelSalt)
		if salt == nil || len(salt) > maxSaltBytes {
			return nil, fmt.Errorf("%w salt is not a byte string of 1 to %d bytes", ErrHeader, maxSaltBytes)
		}
	}
	kek, err := hkdf.Key(sha256.New, secret, salt, string(k.encode()), k.wrap.KeySize())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return kek, nil
}

// wrapOf is the key wrap algorithm inside of an ECDH-ES algorithm.
func (a Algorithm) wrapOf() (Algorithm, bool) {
	switch a {
	case AlgECDHESA128KW:
		return AlgA128KW, true
	case AlgECDHESA256KW:
		return AlgA256KW, true
	}
	return 0, false
}

// ecdhPublic returns the key in the form that crypto/ecdh works with.
func (k *Key) ecdhPublic() (*ecdh.PublicKey, error) {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		return p.ECDH()
	case *ecdh.PublicKey:
		return p, nil
	}
	return nil, fmt.Errorf("%w: %v cannot agree on keys; P-256, P-384 and X25519 can", ErrKey, k)
}

func (k *Key) ecdhPrivate() (*ecdh.PrivateKey, error) {
	switch p := k.private.(type) {
	case *ecdsa.PrivateKey:
		return p.ECDH()
	case *ecdh.PrivateKey:
		return p, nil
	}
	return nil, fmt.Errorf("%w: %v is not a private key that can agree on keys", ErrKey, k)
}

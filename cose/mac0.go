package cose

import "fmt"

// Mac0 makes a COSE_Mac0 with HMAC 256/256 (RFC 9052 §6.2). Whoever can check it can make it too.
//
//	COSE_Mac0 = [ Headers, payload : bstr / nil, tag : bstr ]
func Mac0(payload []byte, key *Key, o SignOptions) ([]byte, error) {
	if err := key.fits(AlgHMAC256); err != nil {
		return nil, err
	}
	if err := key.allows(KeyOpMACCreate); err != nil {
		return nil, err
	}
	if len(o.X5Chain) > 0 {
		return nil, fmt.Errorf("%w x5chain has no meaning in a COSE_Mac0", ErrHeader)
	}
	h, err := o.bodyHeaders(AlgHMAC256, key.kid)
	if err != nil {
		return nil, err
	}
	protected := h.Protected.protectedBytes()
	tag := hmac256(key.secret, sigStructure("MAC0", protected, nil, o.ExternalAAD, payload))
	msg := o.start(TagMac0, protected, h.Unprotected, payload, len(tag))
	return checkSize(appendBytes(msg, tag))
}

// VerifyMac0 checks a COSE_Mac0, tagged or untagged. keys are usually a KeySet of symmetric keys.
// VerifyOptions.Algorithms may be left empty.
func VerifyMac0(msg []byte, keys KeySource, o VerifyOptions) (*Verified, error) {
	m, err := parseSigned(msg, TagMac0, 0, "COSE_Mac0")
	if err != nil {
		return nil, err
	}
	allowed := o.Algorithms
	if len(allowed) == 0 {
		allowed = []Algorithm{AlgHMAC256}
	}
	isMAC := func(a Algorithm) bool { return a == AlgHMAC256 }
	return m.verify("MAC0", isMAC, allowed, keys, o)
}

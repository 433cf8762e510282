package cose

import (
	"fmt"

	"github.com/go-teep/teep/cose/hsslms"
)

// HSS/LMS keys (RFC 8778) hold the HSS public key as it is. There is no private form.

func (k *Key) materializeHSSLMS() error {
	if err := hsslms.CheckPublicKey(k.opaque); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

func verifyHSSLMS(public, message, signature []byte) bool {
	return hsslms.Verify(public, message, signature) == nil
}

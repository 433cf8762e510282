package cose

import (
	"bytes"
	"crypto"
	"fmt"

	"filippo.io/mldsa"
)

// ML-DSA-65 uses keys of type AKP, which always name their algorithm; the private key is the seed
// of 32 bytes.

func (k *Key) materializeMLDSA() error {
	if k.alg != AlgMLDSA65 {
		return fmt.Errorf("%w: an AKP key must declare alg, and %v is not supported; ML-DSA-65 (-49) is", ErrKey, k.alg)
	}
	if k.secret != nil {
		private, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), k.secret)
		if err != nil {
			return fmt.Errorf("%w: the seed of an ML-DSA-65 key has %d bytes", ErrKey, mldsa.PrivateKeySize)
		}
		k.private, k.public = private, private.PublicKey()
		derived := private.PublicKey().Bytes()
		if k.opaque != nil && !bytes.Equal(k.opaque, derived) {
			return fmt.Errorf("%w: the private part does not fit the public part", ErrKey)
		}
		k.opaque = derived
		return nil
	}
	public, err := mldsa.NewPublicKey(mldsa.MLDSA65(), k.opaque)
	if err != nil {
		return fmt.Errorf("%w: not an ML-DSA-65 public key (%d bytes)", ErrKey, len(k.opaque))
	}
	k.public = public
	return nil
}

func verifyMLDSA(public crypto.PublicKey, message, signature []byte) bool {
	p, ok := public.(*mldsa.PublicKey)
	return ok && mldsa.Verify(p, message, signature, nil) == nil
}

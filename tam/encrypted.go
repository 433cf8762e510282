package tam

import (
	"errors"

	"github.com/go-teep/teep/cose"
)

// contextEAT is SuppPubInfo.other of the key derivation for Evidence and Attestation Results
// (TEEP §8.2).
const contextEAT = "EAT Encryption"

var errNoDecryptionKey = errors.New("tam: no decryption key is configured (Config.DecryptionKeys)")

// decryptEAT decrypts an attestation payload that an agent encrypted to this TAM.
//
// A128CTR belongs to two of the profiles that a TAM must support and authenticates nothing. That is
// harmless here: the payload is signed inside, and the signature of the TEEP message covers the
// ciphertext.
func (t *TAM) decryptEAT(data []byte) ([]byte, error) {
	decrypt := t.keys.Load().decrypt
	if len(decrypt) == 0 {
		return nil, errNoDecryptionKey
	}
	return cose.Decrypt(data, nil, cose.DecryptKeys(decrypt), cose.DecryptOptions{
		KDFOther: contextEAT,
		Algorithms: []cose.Algorithm{
			cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR,
		},
	})
}

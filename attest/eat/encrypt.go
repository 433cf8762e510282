package eat

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// kdfOther is COSE_KDF_Context.SuppPubInfo.other of an encrypted EAT (TEEP §8.2): it keeps the
// keys apart from those of SUIT reports and payloads.
const kdfOther = "EAT Encryption"

// tagEncrypt is the tag of COSE_Encrypt.
const tagEncrypt = 96

// maxEncryptedBytes leaves room for headers and recipients around the largest token.
const maxEncryptedBytes = MaxTokenBytes + 16<<10

// Encrypt hides a signed token from everyone but the TAM (TEEP §8.2): COSE_Encrypt with the
// ciphertext inside, the content key under ECDH-ES+A128KW. alg is the content encryption of the
// SUIT profile in use; zero means A128GCM. to is the TAM's public ECDH key.
func Encrypt(rand io.Reader, token []byte, to *cose.Key, alg cose.Algorithm) ([]byte, error) {
	if alg == 0 {
		alg = cose.AlgA128GCM
	}
	if to == nil || to.IsPrivate() {
		return nil, errors.New("eat: encrypting takes the recipient's public key")
	}
	msg, _, err := cose.Encrypt(rand, token, alg, []cose.Recipient{cose.ECDHESRecipient(to, kdfOther)}, cose.EncryptOptions{})
	if err != nil {
		return nil, fmt.Errorf("eat: encrypt: %w", err)
	}
	return msg, nil
}

// Decrypt opens what [Encrypt] made, with any of the private keys. Algorithms are the accepted
// content encryptions, none meaning the authenticated ones. A128CTR must be listed; the signature
// inside then authenticates the token, and a caller must check it before anything else.
//
// The error wraps [attest.ErrFormat], and cose.ErrNoKey when the token is for someone else.
func Decrypt(msg []byte, keys cose.DecryptKeys, algorithms ...cose.Algorithm) ([]byte, error) {
	if len(msg) > maxEncryptedBytes {
		return nil, fmt.Errorf("%w: an encrypted token of %d bytes, at most %d are read", attest.ErrFormat, len(msg), maxEncryptedBytes)
	}
	token, err := cose.Decrypt(msg, nil, keys, cose.DecryptOptions{Algorithms: algorithms, KDFOther: kdfOther})
	if err != nil {
		return nil, fmt.Errorf("%w: encrypted token: %w", attest.ErrFormat, err)
	}
	return token, nil
}

// IsEncrypted tells whether a payload is a COSE_Encrypt rather than a signed token: by its tag, or
// by an array of recipients where a COSE_Sign1 has its signature, under headers that name an
// algorithm, which those of a COSE_Sign do not.
func IsEncrypted(payload []byte) bool {
	if len(payload) >= 2 && payload[0] == 0xd8 && payload[1] == tagEncrypt {
		return true
	}
	items, err := parseArray(payload, 4, 4)
	if err != nil || major(items[3]) != 4 {
		return false
	}
	for _, bucket := range [][]byte{unwrapped(items[0]), items[1]} {
		var h cose.Header
		if len(bucket) > 0 && h.UnmarshalCBOR(bucket) == nil && h.Algorithm() != 0 {
			return true
		}
	}
	return false
}

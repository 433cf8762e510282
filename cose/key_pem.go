package cose

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	mldsax509 "filippo.io/mldsa/x509"
)

// ParsePEM reads the first key in a PEM file: a private key as PKCS #8 ("PRIVATE KEY") or SEC 1
// ("EC PRIVATE KEY"), or a public key as PKIX ("PUBLIC KEY"). PEM carries neither kid nor alg; see
// [Key.WithKeyID] and [Key.WithAlgorithm].
func ParsePEM(data []byte) (*Key, error) {
	if len(data) > MaxKeyBytes {
		return nil, fmt.Errorf("%w: %w: a PEM file of %d bytes, at most %d are read", ErrKey, ErrTooLarge, len(data), MaxKeyBytes)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%w: no PEM block with a key; expected \"PRIVATE KEY\", \"EC PRIVATE KEY\" or \"PUBLIC KEY\"", ErrKey)
		}
		switch block.Type {
		case "EC PARAMETERS": // what OpenSSL writes in front of a SEC 1 key
			continue
		case "PRIVATE KEY":
			key, err := mldsax509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: not a PKCS #8 private key of a supported type", ErrKey)
			}
			return NewPrivateKey(key)
		case "EC PRIVATE KEY":
			if block.Headers["Proc-Type"] != "" {
				return nil, errEncryptedPEM()
			}
			key, err := x509.ParseECPrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: not a SEC 1 private key on a supported curve", ErrKey)
			}
			return NewPrivateKey(key)
		case "PUBLIC KEY":
			key, err := mldsax509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: not a PKIX public key of a supported type: %w", ErrKey, err)
			}
			return NewPublicKey(key)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncryptedPEM()
		case "CERTIFICATE":
			return nil, fmt.Errorf("%w: the PEM block is a certificate; give its public key (openssl x509 -pubkey -noout)", ErrKey)
		default:
			return nil, fmt.Errorf("%w: PEM block %q is not supported; convert the key to PKCS #8 (openssl pkcs8 -topk8 -nocrypt)", ErrKey, block.Type)
		}
	}
}

func errEncryptedPEM() error {
	return fmt.Errorf("%w: the private key is encrypted with a passphrase; decrypt it first (openssl pkcs8 -topk8 -nocrypt)", ErrKey)
}

// pemLabel begins the line in front of a PEM block that says what the key is for.
const pemLabel = "COSE alg: "

// LabelPEM puts a line in front of a PEM block that says for which algorithm the key is, because PEM itself
// does not tell a signing key from one for key agreement. Everybody else skips it: it is what RFC 7468 §2
// permits before the boundary.
func LabelPEM(alg Algorithm, block []byte) []byte {
	return append([]byte(pemLabel+alg.String()+"\n"), block...)
}

// PEMLabel is the algorithm that [LabelPEM] named, or zero. It restricts nothing by itself.
func PEMLabel(data []byte) Algorithm {
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "-----BEGIN") {
			break
		}
		if name, ok := strings.CutPrefix(text, pemLabel); ok {
			alg, err := ParseAlgorithm(name)
			if err != nil {
				return 0
			}
			return alg
		}
	}
	return 0
}

// MarshalPEM encodes a private key as PKCS #8 and a public key as PKIX. A symmetric or HSS-LMS key
// has no PEM form; MarshalCBOR encodes every key.
func (k *Key) MarshalPEM() ([]byte, error) {
	block := &pem.Block{Type: "PUBLIC KEY"}
	var err error
	switch {
	case k.private != nil:
		block.Type = "PRIVATE KEY"
		block.Bytes, err = mldsax509.MarshalPKCS8PrivateKey(k.private)
	case k.public != nil:
		block.Bytes, err = mldsax509.MarshalPKIXPublicKey(k.public)
	default:
		return nil, fmt.Errorf("%w: a key of kty %d has no PEM form; use MarshalCBOR", ErrKey, k.kty)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pem.EncodeToMemory(block), nil
}

package cose

import (
	"crypto/aes"
	"crypto/ecdh"
	"fmt"
	"io"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// Recipient wraps content keys for one receiver. Implementations are safe for concurrent use.
type Recipient interface {
	// WrapKey returns the encoded COSE_recipient that carries contentKey to the receiver.
	//
	//	COSE_recipient = [ Headers, ciphertext : bstr / nil, ? recipients : [+ COSE_recipient] ]
	WrapKey(rand io.Reader, contentKey []byte) (coseRecipient []byte, err error)
}

// A128KWRecipient wraps under a shared key of 16 bytes (RFC 9053 §6.2.1). A kid of the key is sent
// along. What is wrong with the key is reported when it is used.
func A128KWRecipient(kek *Key) Recipient { return kwRecipient{alg: AlgA128KW, kek: kek} }

// A256KWRecipient wraps under a shared key of 32 bytes; see [A128KWRecipient].
func A256KWRecipient(kek *Key) Recipient { return kwRecipient{alg: AlgA256KW, kek: kek} }

type kwRecipient struct {
	alg Algorithm
	kek *Key
}

// WrapKey implements Recipient. AES key wrap takes no additional data, so the protected bucket is
// empty and alg unprotected (RFC 9053 §6.2.1).
func (r kwRecipient) WrapKey(_ io.Reader, contentKey []byte) ([]byte, error) {
	if r.kek == nil {
		return nil, fmt.Errorf("%w: no key for %v", ErrKey, r.alg)
	}
	if err := r.kek.fits(r.alg); err != nil {
		return nil, err
	}
	if err := r.kek.allows(KeyOpWrapKey, KeyOpEncrypt); err != nil {
		return nil, err
	}
	wrapped, err := keyWrap(r.kek.secret, contentKey)
	if err != nil {
		return nil, err
	}
	var h Header
	if err := h.Set(LabelAlgorithm, r.alg); err != nil {
		return nil, err
	}
	if r.kek.kid != nil {
		if err := h.Set(LabelKeyID, r.kek.kid); err != nil {
			return nil, err
		}
	}
	return appendRecipient(nil, nil, h, wrapped), nil
}

// DirectRecipient uses the shared key itself as content key (RFC 9053 §6.1.1). It must be the only
// recipient of a message, and [Encrypt] then makes no fresh content key.
func DirectRecipient(key *Key) Recipient { return directRecipient{key: key} }

type directRecipient struct{ key *Key }

// WrapKey implements Recipient. The content key must be the shared key.
func (r directRecipient) WrapKey(_ io.Reader, contentKey []byte) ([]byte, error) {
	secret, err := r.contentKey()
	if err != nil {
		return nil, err
	}
	if string(secret) != string(contentKey) {
		return nil, fmt.Errorf("%w: a direct recipient cannot carry another content key than its own", ErrKey)
	}
	var h Header
	if err := h.Set(LabelAlgorithm, AlgDirect); err != nil {
		return nil, err
	}
	if r.key.kid != nil {
		if err := h.Set(LabelKeyID, r.key.kid); err != nil {
			return nil, err
		}
	}
	return appendRecipient(nil, nil, h, []byte{}), nil
}

func (r directRecipient) contentKey() ([]byte, error) {
	if r.key == nil {
		return nil, fmt.Errorf("%w: no key for a direct recipient", ErrKey)
	}
	if err := r.key.allows(KeyOpEncrypt); err != nil {
		return nil, err
	}
	return r.key.Symmetric()
}

// ECDHESRecipient wraps for the holder of a P-256, P-384 or X25519 key with ECDH-ES+A128KW (-29).
// Restrict the key to AlgECDHESA256KW to get ECDH-ES+A256KW. The kid of the key, or else its
// thumbprint, is sent along.
//
// other is SuppPubInfo.other of the key derivation, which separates one use of the key from
// another: "SUIT Payload Encryption", "SUIT Report Encryption", "EAT Encryption". The receiver must
// use the same.
func ECDHESRecipient(public *Key, other string) Recipient {
	return ecdhRecipient{public: public, other: other}
}

type ecdhRecipient struct {
	public *Key
	other  string
}

// WrapKey implements Recipient (RFC 9053 §6.4).
func (r ecdhRecipient) WrapKey(rand io.Reader, contentKey []byte) ([]byte, error) {
	if r.public == nil {
		return nil, fmt.Errorf("%w: no key for an ECDH-ES recipient", ErrKey)
	}
	alg := AlgECDHESA128KW
	if r.public.alg == AlgECDHESA256KW {
		alg = AlgECDHESA256KW
	}
	if err := r.public.fits(alg); err != nil {
		return nil, err
	}
	public, err := r.public.ecdhPublic()
	if err != nil {
		return nil, err
	}
	ephemeral, err := generateEphemeral(rand, r.public)
	if err != nil {
		return nil, err
	}
	private, err := ephemeral.ecdhPrivate()
	if err != nil {
		return nil, err
	}
	secret, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("%w: key agreement failed", ErrKey)
	}
	return r.seal(alg, ephemeral.Public(), secret, contentKey)
}

func (r ecdhRecipient) seal(alg Algorithm, ephemeral *Key, secret, contentKey []byte) ([]byte, error) {
	var h Headers
	if err := h.Protected.Set(LabelAlgorithm, alg); err != nil {
		return nil, err
	}
	if err := h.Unprotected.Set(labelEphemeralKey, ephemeral); err != nil {
		return nil, err
	}
	if err := h.Unprotected.Set(LabelKeyID, r.public.EffectiveKeyID()); err != nil {
		return nil, err
	}
	protected := h.Protected.protectedBytes()
	wrap, _ := alg.wrapOf()
	kek, err := kdfContext{wrap: wrap, headers: h, protected: protected, other: r.other}.deriveKEK(secret)
	if err != nil {
		return nil, err
	}
	wrapped, err := keyWrap(kek, contentKey)
	if err != nil {
		return nil, err
	}
	return appendRecipient(nil, protected, h.Unprotected, wrapped), nil
}

// generateEphemeral makes a fresh key on the curve of the receiver's key.
func generateEphemeral(rand io.Reader, public *Key) (*Key, error) {
	if public.kty == KeyTypeEC2 {
		return generateEC2(rand, public.curve)
	}
	return generateSecret(rand, &Key{kty: KeyTypeOKP, curve: CurveX25519}, 32)
}

func appendRecipient(dst, protected []byte, unprotected Header, ciphertext []byte) []byte {
	dst = appendHead(dst, majorArray, 3)
	dst = appendBytes(dst, protected)
	dst = unprotected.appendMap(dst)
	return appendBytes(dst, ciphertext)
}

func keyWrap(kek, contentKey []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	wrapped, err := josecipher.KeyWrap(block, contentKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return wrapped, nil
}

// keyUnwrap fails when the KEK is another one: key wrap is authenticated.
func keyUnwrap(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if n := len(wrapped); n%8 != 0 || n < 24 || n > 40 {
		return nil, fmt.Errorf("%w: a wrapped content key of %d bytes; 24 or 40 are possible", ErrMalformed, n)
	}
	contentKey, err := josecipher.KeyUnwrap(block, wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: the content key does not unwrap under this key", ErrDecrypt)
	}
	return contentKey, nil
}

// recipient is a parsed COSE_recipient.
type recipient struct {
	headers   Headers
	protected []byte
	alg       Algorithm
	wrapped   []byte
}

// readRecipient reads one COSE_recipient. Nested recipients are refused: no algorithm here has them.
func (c *cursor) readRecipient() (r recipient, err error) {
	const what = "COSE_recipient"
	if err = c.frame(3, what); err != nil {
		return r, err
	}
	if r.headers, r.protected, err = c.readHeaders(what); err != nil {
		return r, err
	}
	if r.wrapped, _, err = c.optionalBytes("ciphertext"); err != nil {
		return r, err
	}
	if r.alg = r.headers.Protected.Algorithm(); r.alg == 0 {
		r.alg = r.headers.Unprotected.Algorithm()
	}
	return r, nil
}

// check refuses what the algorithm does not allow.
func (r recipient) check(o DecryptOptions) error {
	if err := r.headers.checkCritical(o.Understood); err != nil {
		return err
	}
	switch r.alg {
	case AlgA128KW, AlgA256KW, AlgDirect:
		if len(withoutEmptyMap(r.protected)) != 0 {
			return fmt.Errorf("%w: the protected bucket of a recipient with %v must be empty (RFC 9053 §6)", ErrHeader, r.alg)
		}
		if r.alg == AlgDirect && len(r.wrapped) != 0 {
			return fmt.Errorf("%w: a direct recipient carries a ciphertext (RFC 9053 §6.1)", ErrMalformed)
		}
	case AlgECDHESA128KW, AlgECDHESA256KW:
		if r.headers.Protected.Algorithm() == 0 {
			return fmt.Errorf("%w: alg %v of a recipient is not protected", ErrHeader, r.alg)
		}
	default:
		return fmt.Errorf("%w %v of a recipient is not supported", ErrAlgorithm, r.alg)
	}
	return nil
}

// unwrap tries one key.
func (r recipient) unwrap(k *Key, other string) ([]byte, error) {
	switch r.alg {
	case AlgDirect:
		if err := k.allows(KeyOpDecrypt); err != nil {
			return nil, err
		}
		return k.Symmetric()
	case AlgA128KW, AlgA256KW:
		if err := k.allows(KeyOpUnwrapKey, KeyOpDecrypt); err != nil {
			return nil, err
		}
		return keyUnwrap(k.secret, r.wrapped)
	}
	if err := k.allows(KeyOpDeriveKey, KeyOpDeriveBits); err != nil {
		return nil, err
	}
	private, err := k.ecdhPrivate()
	if err != nil {
		return nil, err
	}
	secret, err := r.agree(k, private.ECDH)
	if err != nil {
		return nil, err
	}
	wrap, _ := r.alg.wrapOf()
	protected := withoutEmptyMap(r.protected)
	kek, err := kdfContext{wrap: wrap, headers: r.headers, protected: protected, other: other}.deriveKEK(secret)
	if err != nil {
		return nil, err
	}
	return keyUnwrap(kek, r.wrapped)
}

// agree computes the shared secret with the ephemeral key of the recipient structure.
func (r recipient) agree(k *Key, exchange func(*ecdh.PublicKey) ([]byte, error)) ([]byte, error) {
	raw, ok := r.headers.Get(labelEphemeralKey)
	if !ok {
		return nil, fmt.Errorf("%w: the ephemeral key (-1) of a recipient is missing", ErrHeader)
	}
	ephemeral, err := ParseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: ephemeral key: %w", ErrHeader, err)
	}
	if ephemeral.kty != k.kty || ephemeral.curve != k.curve {
		return nil, fmt.Errorf("%w: the ephemeral key is on another curve than the receiver's", ErrHeader)
	}
	public, err := ephemeral.ecdhPublic()
	if err != nil {
		return nil, err
	}
	secret, err := exchange(public)
	if err != nil { // X25519 with a point of low order
		return nil, fmt.Errorf("%w: key agreement with the ephemeral key failed", ErrDecrypt)
	}
	return secret, nil
}

package cose

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// tagBytes is the size of the authentication tag of every AEAD here. It ends the ciphertext.
const tagBytes = 16

// contentCipher describes a content encryption algorithm.
type contentCipher struct {
	keyBytes, ivBytes int
	aead              bool
}

func (a Algorithm) content() (contentCipher, error) {
	switch a {
	case AlgA128GCM:
		return contentCipher{16, 12, true}, nil
	case AlgA256GCM:
		return contentCipher{32, 12, true}, nil
	case AlgChaCha20Poly1305:
		return contentCipher{32, 12, true}, nil
	case AlgA128CTR:
		return contentCipher{16, 16, false}, nil
	case AlgA256CTR:
		return contentCipher{32, 16, false}, nil
	}
	return contentCipher{}, fmt.Errorf("%w %v is not a supported content encryption algorithm", ErrAlgorithm, a)
}

// IsAuthenticated tells whether a content encryption algorithm authenticates what it encrypts.
// The CTR algorithms do not, and everything that is not a content encryption algorithm does not.
func (a Algorithm) IsAuthenticated() bool {
	c, err := a.content()
	return err == nil && c.aead
}

// KeySize is the size in bytes of the keys of a content encryption or key wrap algorithm, or zero.
func (a Algorithm) KeySize() int {
	switch a {
	case AlgA128KW:
		return 16
	case AlgA256KW:
		return 32
	}
	c, _ := a.content()
	return c.keyBytes
}

// IVSize is the size in bytes of the IV of a content encryption algorithm, or zero.
func (a Algorithm) IVSize() int {
	c, _ := a.content()
	return c.ivBytes
}

// NewContentKey draws a content key and an IV for alg.
func NewContentKey(rand io.Reader, alg Algorithm) (key, iv []byte, err error) {
	c, err := alg.content()
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, c.keyBytes+c.ivBytes)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, nil, fmt.Errorf("%w: reading randomness: %w", ErrKey, err)
	}
	return b[:c.keyBytes:c.keyBytes], b[c.keyBytes:], nil
}

// checkContent checks key and IV before ciphers that would panic see them.
func checkContent(alg Algorithm, key, iv []byte) (contentCipher, error) {
	c, err := alg.content()
	switch {
	case err != nil:
		return c, err
	case len(key) != c.keyBytes:
		return c, fmt.Errorf("%w: %v needs a content key of %d bytes, not %d", ErrKey, alg, c.keyBytes, len(key))
	case len(iv) != c.ivBytes:
		return c, fmt.Errorf("%w IV has %d bytes, %v needs %d", ErrHeader, len(iv), alg, c.ivBytes)
	}
	return c, nil
}

// newAEAD makes the cipher for an algorithm and key that checkContent accepted.
func newAEAD(alg Algorithm, key []byte) (cipher.AEAD, error) {
	if alg == AlgChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// NewCTR returns the key stream of A128CTR or A256CTR (RFC 9459) from a byte offset into the
// content on, so that a transfer that broke can be continued. It decrypts and encrypts, and
// authenticates nothing: compare the plaintext with a digest that is authenticated.
func NewCTR(alg Algorithm, key, iv []byte, offset int64) (cipher.Stream, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	if c.aead || offset < 0 {
		return nil, fmt.Errorf("%w %v at offset %d is not a counter mode stream", ErrAlgorithm, alg, offset)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	counter := append([]byte(nil), iv...)
	carry := uint64(offset) / aes.BlockSize
	for i := len(counter) - 1; i >= 0 && carry > 0; i-- {
		carry += uint64(counter[i])
		counter[i] = byte(carry)
		carry >>= 8
	}
	stream := cipher.NewCTR(block, counter)
	var skipped [aes.BlockSize]byte
	stream.XORKeyStream(skipped[:offset%aes.BlockSize], skipped[:offset%aes.BlockSize])
	return stream, nil
}

// sealContent encrypts a whole content in memory.
func sealContent(alg Algorithm, key, iv, aad, plaintext []byte) ([]byte, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	if !c.aead {
		return xorContent(alg, key, iv, plaintext)
	}
	aead, err := newAEAD(alg, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return aead.Seal(nil, iv, plaintext, aad), nil
}

// openContent decrypts a whole content in memory.
func openContent(alg Algorithm, key, iv, aad, ciphertext []byte) ([]byte, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	if !c.aead {
		return xorContent(alg, key, iv, ciphertext)
	}
	aead, err := newAEAD(alg, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	plaintext, err := aead.Open(nil, iv, ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: the %v tag does not hold", ErrDecrypt, alg)
	}
	return plaintext, nil
}

func xorContent(alg Algorithm, key, iv, in []byte) ([]byte, error) {
	stream, err := NewCTR(alg, key, iv, 0)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	stream.XORKeyStream(out, in)
	return out, nil
}

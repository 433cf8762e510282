package sandbox

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox/secretmem"
)

// keys implements tee.Keys. It does not change after it was made. Private keys are in secret memory
// and leave it only for as long as a computation with them takes.
type keys struct {
	public     map[tee.KeyUse]*cose.Key
	signers    map[tee.KeyUse]cose.Signer
	decryption []byte // COSE_Key, in secret memory
}

// parseKeys moves the private keys out of encoded, which it may zero.
func parseKeys(encoded map[string][]byte, secrets *secretmem.Page) (*keys, error) {
	k := &keys{public: map[tee.KeyUse]*cose.Key{}, signers: map[tee.KeyUse]cose.Signer{}}
	for _, use := range []tee.KeyUse{tee.KeyAgent, tee.KeyAttestation, tee.KeyReport, tee.KeyEncryption} {
		key, err := cose.ParseKey(encoded[string(use)])
		if err != nil {
			return nil, fmt.Errorf("%w: the %s key: %w", tee.ErrCorrupt, use, err)
		}
		if !key.IsPrivate() {
			return nil, fmt.Errorf("%w: the %s key is not private", tee.ErrCorrupt, use)
		}
		k.public[use] = key.Public()
		if use == tee.KeyEncryption {
			k.decryption, err = secrets.Keep(encoded[string(use)])
		} else {
			k.signers[use], err = newSigner(key, secrets)
		}
		if err != nil {
			return nil, fmt.Errorf("the %s key: %w", use, err)
		}
	}
	return k, nil
}

// newSigner moves a private key into secret memory.
func newSigner(key *cose.Key, secrets *secretmem.Page) (cose.Signer, error) {
	private, err := key.CryptoPrivate()
	if err != nil {
		return nil, err
	}
	s := &signer{}
	var secret []byte
	switch private := private.(type) {
	case *ecdsa.PrivateKey:
		if secret, err = private.Bytes(); err != nil {
			return nil, err
		}
		s.public = &private.PublicKey
		defer wipe(private)
	case ed25519.PrivateKey:
		secret = private.Seed()
		s.public = append(ed25519.PublicKey(nil), private.Public().(ed25519.PublicKey)...)
		defer clear(private)
	default:
		return nil, fmt.Errorf("%w: %T", cose.ErrKey, private)
	}
	if s.secret, err = secrets.Keep(secret); err != nil {
		return nil, err
	}
	return cose.NewSigner(key.Alg(), s)
}

// signer is a crypto.Signer whose key is in secret memory.
type signer struct {
	public crypto.PublicKey
	secret []byte
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer.
func (s *signer) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if public, ok := s.public.(*ecdsa.PublicKey); ok {
		private, err := ecdsa.ParseRawPrivateKey(public.Curve, s.secret)
		if err != nil {
			return nil, fmt.Errorf("sandbox: the key cannot be used; was the TEE closed? %w", err)
		}
		defer wipe(private)
		return private.Sign(rand, digest, o)
	}
	private := ed25519.NewKeyFromSeed(s.secret)
	defer clear(private)
	if !private.Public().(ed25519.PublicKey).Equal(s.public) {
		return nil, fmt.Errorf("sandbox: the key cannot be used: the TEE was closed")
	}
	return private.Sign(rand, digest, o)
}

// wipe zeroes what is in reach of a private key; what the library keeps beside it is garbage.
func wipe(k *ecdsa.PrivateKey) {
	//lint:ignore SA1019 there is no other way to it, and the key is not used any more
	clear(k.D.Bits())
}

// Signer implements tee.Keys.
func (k *keys) Signer(use tee.KeyUse) (cose.Signer, error) {
	s := k.signers[use]
	if s == nil {
		return nil, fmt.Errorf("sandbox: a signer for %q: %w", use, tee.ErrNotExist)
	}
	return s, nil
}

// Decryption implements tee.Keys. Each caller gets a copy, which is garbage when it is dropped.
func (k *keys) Decryption() (*cose.Key, error) {
	key, err := cose.ParseKey(k.decryption)
	if err != nil {
		return nil, fmt.Errorf("sandbox: the encryption key cannot be used; was the TEE closed? %w", err)
	}
	return key, nil
}

// Public implements tee.Keys.
func (k *keys) Public(use tee.KeyUse) (*cose.Key, error) {
	key := k.public[use]
	if key == nil {
		return nil, fmt.Errorf("sandbox: a key for %q: %w", use, tee.ErrNotExist)
	}
	return key, nil
}

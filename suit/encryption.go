package suit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-teep/teep/cose"
)

// payloadKDFOther is SuppPubInfo.other of encrypted payloads (firmware encryption §5.2.4).
const payloadKDFOther = "SUIT Payload Encryption"

// payloadEncryption are the content encryption algorithms for payloads. A128CTR and A256CTR do
// not authenticate: a payload that uses them is covered by a digest (firmware encryption §7).
var payloadEncryption = []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305,
	cose.AlgA128CTR, cose.AlgA256CTR}

// PayloadRecipient is the recipient that fits a key: ECDH-ES+A128KW for a public or private
// elliptic curve key (or its 256-bit variant if the key is restricted to it), A128KW or A256KW
// for a symmetric key of that size.
func PayloadRecipient(key *cose.Key) (cose.Recipient, error) {
	if key.SignsOnly() {
		return nil, errors.New("suit: this key signs, and nothing can be encrypted to it: give the encryption key, " +
			"such as 'teep key generate --alg ECDH-ES+A128KW' makes, and agents attest")
	}
	switch key.Type() {
	case cose.KeyTypeEC2, cose.KeyTypeOKP:
		return cose.ECDHESRecipient(key.Public(), payloadKDFOther), nil
	case cose.KeyTypeSymmetric:
		switch key.Alg() {
		case cose.AlgA256KW:
			return cose.A256KWRecipient(key), nil
		case cose.AlgA128KW:
			return cose.A128KWRecipient(key), nil
		}
		return symmetricRecipient(key)
	}
	return nil, errors.New("suit: payloads can be encrypted to elliptic curve and to symmetric keys only")
}

func symmetricRecipient(key *cose.Key) (cose.Recipient, error) {
	secret, err := key.Symmetric()
	if err != nil {
		return nil, fmt.Errorf("suit: %w", err)
	}
	switch len(secret) {
	case 16:
		return cose.A128KWRecipient(key), nil
	case 32:
		return cose.A256KWRecipient(key), nil
	}
	return nil, fmt.Errorf("suit: key encryption key has %d bytes: 16 (A128KW) or 32 (A256KW) are needed", len(secret))
}

// EncryptPayload encrypts plaintext with a new content key, writes the ciphertext to dst, and
// returns the SUIT_Encryption_Info for the recipients (firmware encryption §4, §6): tagged, with
// detached ciphertext. It works in constant memory.
//
//	SUIT_Encryption_Info = #6.96(COSE_Encrypt)
func EncryptPayload(rand io.Reader, plaintext io.Reader, dst io.Writer, alg cose.Algorithm, recipients ...cose.Recipient) (encryptionInfo []byte, err error) {
	key, info, err := NewPayloadKey(rand, alg, recipients...)
	if err != nil {
		return nil, err
	}
	if err := key.Encrypt(plaintext, dst); err != nil {
		return nil, err
	}
	return info, nil
}

// PayloadKey is the content key of one payload. It encrypts that payload once, and can be wrapped
// for further recipients at any time, as a TAM does that gives each device its own encryption
// info (trust domains §9.3). It is for one goroutine.
type PayloadKey struct {
	alg          cose.Algorithm
	key, iv, aad []byte
	used         bool
}

// NewPayloadKey draws a content key and an IV, and wraps the key for the recipients.
func NewPayloadKey(rand io.Reader, alg cose.Algorithm, recipients ...cose.Recipient) (*PayloadKey, []byte, error) {
	if !slices.Contains(payloadEncryption, alg) {
		return nil, nil, fmt.Errorf("suit: %w: %v does not encrypt payloads: use A128GCM, ChaCha20/Poly1305, A128CTR or A256CTR",
			cose.ErrAlgorithm, alg)
	}
	key, iv, err := cose.NewContentKey(rand, alg)
	if err != nil {
		return nil, nil, fmt.Errorf("suit: cannot draw content key: %w", err)
	}
	p := &PayloadKey{alg: alg, key: key, iv: iv}
	info, err := p.EncryptionInfo(rand, recipients...)
	return p, info, err
}

// RecoverPayloadKey unwraps the content key of an encryption info in order to wrap it for others.
// It does not encrypt anything any more: a content key is for one payload.
func RecoverPayloadKey(encryptionInfo []byte, keys cose.DecryptKeys) (*PayloadKey, error) {
	m, key, err := contentKey(encryptionInfo, keys)
	if err != nil {
		return nil, err
	}
	return &PayloadKey{alg: m.Algorithm(), key: key, iv: m.IV(), aad: m.AAD(nil), used: true}, nil
}

// Algorithm is the content encryption algorithm.
func (p *PayloadKey) Algorithm() cose.Algorithm { return p.alg }

// EncryptionInfo wraps the content key for recipients.
func (p *PayloadKey) EncryptionInfo(rand io.Reader, recipients ...cose.Recipient) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("suit: name at least one recipient to encrypt to")
	}
	info, err := cose.WrapContentKey(rand, p.key, p.alg, recipients, cose.EncryptOptions{IV: p.iv})
	if err != nil {
		return nil, fmt.Errorf("suit: cannot wrap content key: %w", err)
	}
	m, err := cose.ParseEncrypt(info)
	if err != nil {
		return nil, fmt.Errorf("suit: cannot wrap content key: %w", err)
	}
	switch aad := m.AAD(nil); {
	case p.aad == nil:
		p.aad = aad
	case p.alg.IsAuthenticated() && !bytes.Equal(p.aad, aad):
		return nil, errors.New("suit: payload was encrypted with protected headers of its own: encrypt it anew for further recipients")
	}
	return info, nil
}

// Encrypt encrypts the payload. It fails when called again: the same key and IV must never
// encrypt two payloads.
func (p *PayloadKey) Encrypt(plaintext io.Reader, dst io.Writer) error {
	if p.used {
		return errors.New("suit: content key was used already: draw a new one for each payload")
	}
	p.used = true
	w, err := cose.NewContentWriter(p.alg, p.key, p.iv, p.aad, dst)
	if err == nil {
		_, err = io.Copy(w, plaintext)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("suit: cannot encrypt payload: %w", err)
	}
	return nil
}

// DecryptPayload returns a reader of the plaintext of an encrypted payload, of which size bytes
// lie in src, tag included.
//
// For A128GCM, A256GCM and ChaCha20-Poly1305 nothing is readable before the tag of the whole
// payload held: DecryptPayload itself fails otherwise. For A128CTR and A256CTR nothing is
// authenticated here: the caller compares the plaintext, or beforehand the ciphertext, with a
// digest of the manifest before it lets anyone use it (firmware encryption §7).
//
// Errors wrap those of package cose: ErrNoKey, ErrDecrypt, ErrAlgorithm.
func DecryptPayload(encryptionInfo []byte, keys cose.DecryptKeys, src io.ReaderAt, size int64) (io.Reader, error) {
	m, key, err := contentKey(encryptionInfo, keys)
	if err != nil {
		return nil, err
	}
	r, err := cose.NewContentReader(m.Algorithm(), key, m.IV(), m.AAD(nil), src, size)
	if err != nil {
		return nil, fmt.Errorf("suit: cannot decrypt payload: %w", err)
	}
	return r, nil
}

func contentKey(info []byte, keys cose.DecryptKeys) (*cose.EncryptMessage, []byte, error) {
	m, err := cose.ParseEncrypt(info)
	if err != nil {
		return nil, nil, at(fault(ReasonCOSEUnsupported, err), "encryption-info")
	}
	if !m.Detached {
		return nil, nil, at(fault(ReasonCOSEUnsupported,
			errors.New("carries ciphertext: payloads of manifests are detached")), "encryption-info")
	}
	key, err := m.ContentKey(keys, cose.DecryptOptions{Algorithms: payloadEncryption, KDFOther: payloadKDFOther})
	if err != nil {
		return nil, nil, fmt.Errorf("suit: cannot unwrap content key: %w", err)
	}
	return m, key, nil
}

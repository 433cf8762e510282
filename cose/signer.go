package cose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Signer makes signatures with one key and one algorithm. Implementations are safe for concurrent
// use.
type Signer interface {
	// Algorithm is written into the protected header.
	Algorithm() Algorithm
	// KeyID is written into the kid header; nil for none.
	KeyID() []byte
	// Public is the public part of the key.
	Public() *Key
	// Sign signs the whole Sig_structure, unhashed, and returns the signature in the form that
	// COSE uses (r and s of fixed size for ECDSA).
	Sign(rand io.Reader, toBeSigned []byte) ([]byte, error)
}

// Verifier checks signatures of one key and one algorithm. Implementations are safe for concurrent
// use.
type Verifier interface {
	// Algorithm is the fully specified algorithm, or the one the verifier was made for.
	Algorithm() Algorithm
	// KeyID is the kid under which the key is known; nil for none.
	KeyID() []byte
	// Key is the public key, or the symmetric key of a MAC.
	Key() *Key
	// Verify returns ErrSignature when the signature does not hold.
	Verify(toBeSigned, sig []byte) error
}

// NewSigner makes a Signer from any crypto.Signer, for example one in a PKCS #11 token or a key
// service. Its kid is the thumbprint of the public key.
func NewSigner(alg Algorithm, s crypto.Signer) (Signer, error) {
	if s == nil {
		return nil, fmt.Errorf("%w: no signer", ErrKey)
	}
	public, err := NewPublicKey(s.Public())
	if err != nil {
		return nil, err
	}
	return newSigner(alg, s, public)
}

func newSigner(alg Algorithm, s crypto.Signer, public *Key) (Signer, error) {
	if !alg.IsSignature() {
		return nil, fmt.Errorf("%w %v is not a signature algorithm", ErrAlgorithm, alg)
	}
	if err := public.fits(alg); err != nil {
		return nil, err
	}
	return &keySigner{alg: alg, signer: s, public: public, kid: public.EffectiveKeyID()}, nil
}

type keySigner struct {
	alg    Algorithm
	signer crypto.Signer
	public *Key
	kid    []byte
}

func (s *keySigner) Algorithm() Algorithm { return s.alg }
func (s *keySigner) KeyID() []byte        { return s.kid }
func (s *keySigner) Public() *Key         { return s.public }

func (s *keySigner) Sign(rand io.Reader, toBeSigned []byte) ([]byte, error) {
	var sig []byte
	var err error
	switch s.alg.specific() {
	case AlgESP256:
		sig, err = signECDSA(rand, s.signer, crypto.SHA256, toBeSigned, 32)
	case AlgESP384:
		sig, err = signECDSA(rand, s.signer, crypto.SHA384, toBeSigned, 48)
	default: // Ed25519 and ML-DSA sign the message itself
		sig, err = s.signer.Sign(rand, toBeSigned, crypto.Hash(0))
	}
	if err != nil {
		return nil, fmt.Errorf("cose: signing with %v: %w", s.alg, err)
	}
	return sig, nil
}

// signECDSA converts the ASN.1 signature of crypto.Signer to r || s (RFC 9053 §2.1).
func signECDSA(rand io.Reader, s crypto.Signer, hash crypto.Hash, toBeSigned []byte, size int) ([]byte, error) {
	w := hash.New()
	w.Write(toBeSigned)
	der, err := s.Sign(rand, w.Sum(nil), hash)
	if err != nil {
		return nil, err
	}
	var r, t []byte
	input, inner := cryptobyte.String(der), cryptobyte.String{}
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() ||
		!inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&t) || !inner.Empty() ||
		len(r) > size || len(t) > size {
		return nil, fmt.Errorf("%w: the signer returned something else than an ASN.1 ECDSA signature", ErrKey)
	}
	sig := make([]byte, 2*size)
	copy(sig[size-len(r):size], r)
	copy(sig[2*size-len(t):], t)
	return sig, nil
}

// NewVerifier makes a Verifier from a public key of the standard library.
func NewVerifier(alg Algorithm, public crypto.PublicKey) (Verifier, error) {
	k, err := NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return k.VerifierFor(alg)
}

// Signer makes a Signer for the algorithm of the key, with the key's kid or else its thumbprint.
func (k *Key) Signer() (Signer, error) { return k.SignerFor(k.Alg()) }

// SignerFor makes a Signer for another algorithm that fits the key.
func (k *Key) SignerFor(alg Algorithm) (Signer, error) {
	s, ok := k.private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %v cannot sign; a private signature key is needed", ErrKey, k)
	}
	if err := k.allows(KeyOpSign); err != nil {
		return nil, err
	}
	return newSigner(alg, s, k.Public())
}

// Verifier makes a Verifier for the algorithm of the key; HMAC 256/256 for a symmetric key that
// declares none.
func (k *Key) Verifier() (Verifier, error) {
	alg := k.Alg()
	if alg == 0 && k.kty == KeyTypeSymmetric {
		alg = AlgHMAC256
	}
	return k.VerifierFor(alg)
}

// VerifierFor makes a Verifier for another algorithm that fits the key.
func (k *Key) VerifierFor(alg Algorithm) (Verifier, error) {
	if !alg.IsSignature() && alg != AlgHMAC256 {
		return nil, fmt.Errorf("%w %v is neither a signature nor a MAC algorithm", ErrAlgorithm, alg)
	}
	if err := k.fits(alg); err != nil {
		return nil, err
	}
	if k.kty == KeyTypeSymmetric {
		if err := k.allows(KeyOpMACVerify); err != nil {
			return nil, err
		}
		return &keyVerifier{alg: alg, key: k, kid: k.kid}, nil
	}
	if k.private == nil { // key_ops of a private key speak of its private part
		if err := k.allows(KeyOpVerify); err != nil {
			return nil, err
		}
	}
	public := k.Public()
	return &keyVerifier{alg: alg, key: public, kid: public.EffectiveKeyID()}, nil
}

type keyVerifier struct {
	alg Algorithm
	key *Key
	kid []byte
}

func (v *keyVerifier) Algorithm() Algorithm { return v.alg }
func (v *keyVerifier) KeyID() []byte        { return v.kid }
func (v *keyVerifier) Key() *Key            { return v.key }

func (v *keyVerifier) Verify(toBeSigned, sig []byte) error {
	ok := false
	switch v.alg.specific() {
	case AlgESP256:
		ok = verifyECDSA(v.key.public, crypto.SHA256, toBeSigned, sig, 32)
	case AlgESP384:
		ok = verifyECDSA(v.key.public, crypto.SHA384, toBeSigned, sig, 48)
	case AlgEd25519:
		public, is := v.key.public.(ed25519.PublicKey)
		ok = is && ed25519.Verify(public, toBeSigned, sig)
	case AlgMLDSA65:
		ok = verifyMLDSA(v.key.public, toBeSigned, sig)
	case AlgHSSLMS:
		ok = verifyHSSLMS(v.key.opaque, toBeSigned, sig)
	case AlgHMAC256:
		ok = subtle.ConstantTimeCompare(hmac256(v.key.secret, toBeSigned), sig) == 1
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

func hmac256(secret, message []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write(message)
	return m.Sum(nil)
}

// verifyECDSA converts r || s of exactly the right size to ASN.1, which is the only form that the
// standard library verifies without big integers.
func verifyECDSA(public crypto.PublicKey, hash crypto.Hash, toBeSigned, sig []byte, size int) bool {
	p, ok := public.(*ecdsa.PublicKey)
	if !ok || len(sig) != 2*size {
		return false
	}
	w := hash.New()
	w.Write(toBeSigned)
	var digest [64]byte
	der := make([]byte, 0, 2*size+9)
	der = append(der, 0x30, 0)
	der = appendASN1Integer(der, sig[:size])
	der = appendASN1Integer(der, sig[size:])
	der[1] = byte(len(der) - 2) // below 128 for both curves
	return ecdsa.VerifyASN1(p, w.Sum(digest[:0]), der)
}

func appendASN1Integer(dst, n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	if n[0]&0x80 != 0 {
		return append(append(dst, 0x02, byte(len(n)+1), 0), n...)
	}
	return append(append(dst, 0x02, byte(len(n))), n...)
}

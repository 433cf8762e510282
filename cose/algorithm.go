package cose

import (
	"crypto"
	"fmt"
	"strconv"
)

// Algorithm is a COSE algorithm identifier as registered with IANA. Zero means none.
type Algorithm int64

// Signature algorithms.
const (
	// AlgESP256 is ECDSA with P-256 and SHA-256, fully specified (RFC 9864).
	AlgESP256 Algorithm = -9
	// AlgESP384 is ECDSA with P-384 and SHA-384, fully specified (RFC 9864).
	AlgESP384 Algorithm = -51
	// AlgEd25519 is EdDSA with Ed25519, fully specified (RFC 9864).
	AlgEd25519 Algorithm = -19
	// AlgES256 is ECDSA with SHA-256 of older peers (RFC 9053 §2.1). Only P-256 keys are used with it.
	AlgES256 Algorithm = -7
	// AlgES384 is ECDSA with SHA-384 of older peers (RFC 9053 §2.1). Only P-384 keys are used with it.
	AlgES384 Algorithm = -35
	// AlgEdDSA is EdDSA of older peers (RFC 9053 §2.2). Only Ed25519 keys are used with it.
	AlgEdDSA Algorithm = -8
	// AlgHSSLMS is the hash-based HSS/LMS signature (RFC 8778). Verification only.
	AlgHSSLMS Algorithm = -46
	// AlgMLDSA65 is ML-DSA-65 (FIPS 204) with AKP keys.
	AlgMLDSA65 Algorithm = -49
)

// Message authentication.
const (
	// AlgHMAC256 is HMAC with SHA-256 and an untruncated tag of 32 bytes (RFC 9053 §3.1).
	AlgHMAC256 Algorithm = 5
)

// Content encryption.
const (
	// AlgA128GCM is AES-GCM with a 128-bit key (RFC 9053 §4.1).
	AlgA128GCM Algorithm = 1
	// AlgA256GCM is AES-GCM with a 256-bit key (RFC 9053 §4.1).
	AlgA256GCM Algorithm = 3
	// AlgChaCha20Poly1305 is ChaCha20-Poly1305 with a 256-bit key (RFC 9053 §4.3).
	AlgChaCha20Poly1305 Algorithm = 24
	// AlgA128CTR is AES-CTR with a 128-bit key (RFC 9459). It does not authenticate anything.
	AlgA128CTR Algorithm = -65534
	// AlgA256CTR is AES-CTR with a 256-bit key (RFC 9459). It does not authenticate anything.
	AlgA256CTR Algorithm = -65532
)

// Content key distribution.
const (
	// AlgDirect uses the shared key itself as content key (RFC 9053 §6.1.1).
	AlgDirect Algorithm = -6
	// AlgA128KW is AES key wrap with a 128-bit key (RFC 9053 §6.2.1).
	AlgA128KW Algorithm = -3
	// AlgA256KW is AES key wrap with a 256-bit key (RFC 9053 §6.2.1).
	AlgA256KW Algorithm = -5
	// AlgECDHESA128KW is ephemeral-static ECDH, HKDF with SHA-256 and A128KW (RFC 9053 §6.4).
	AlgECDHESA128KW Algorithm = -29
	// AlgECDHESA256KW is ephemeral-static ECDH, HKDF with SHA-256 and A256KW (RFC 9053 §6.4).
	AlgECDHESA256KW Algorithm = -31
)

// Hash algorithms (RFC 9054).
const (
	AlgSHA256 Algorithm = -16
	AlgSHA384 Algorithm = -43
	AlgSHA512 Algorithm = -44
)

// String returns the name in the IANA registry, or the number of an algorithm that this package
// does not know.
func (a Algorithm) String() string {
	for _, n := range algorithmNames {
		if n.alg == a {
			return n.name
		}
	}
	return strconv.FormatInt(int64(a), 10)
}

// ParseAlgorithm is the inverse of [Algorithm.String] for the algorithms of this package.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, n := range algorithmNames {
		if n.name == name {
			return n.alg, nil
		}
	}
	return 0, fmt.Errorf("%w: no algorithm is named %q; names are those of the IANA COSE registry, such as ESP256 or A128GCM", ErrAlgorithm, name)
}

var algorithmNames = [...]struct {
	alg  Algorithm
	name string
}{
	{AlgESP256, "ESP256"}, {AlgESP384, "ESP384"}, {AlgEd25519, "Ed25519"},
	{AlgES256, "ES256"}, {AlgES384, "ES384"}, {AlgEdDSA, "EdDSA"},
	{AlgHSSLMS, "HSS-LMS"}, {AlgMLDSA65, "ML-DSA-65"},
	{AlgHMAC256, "HMAC 256/256"},
	{AlgA128GCM, "A128GCM"}, {AlgA256GCM, "A256GCM"}, {AlgChaCha20Poly1305, "ChaCha20/Poly1305"},
	{AlgA128CTR, "A128CTR"}, {AlgA256CTR, "A256CTR"},
	{AlgDirect, "direct"}, {AlgA128KW, "A128KW"}, {AlgA256KW, "A256KW"},
	{AlgECDHESA128KW, "ECDH-ES+A128KW"}, {AlgECDHESA256KW, "ECDH-ES+A256KW"},
	{AlgSHA256, "SHA-256"}, {AlgSHA384, "SHA-384"}, {AlgSHA512, "SHA-512"},
}

// Hash returns the hash function of a hash algorithm, or false for any other algorithm.
func (a Algorithm) Hash() (crypto.Hash, bool) {
	switch a {
	case AlgSHA256:
		return crypto.SHA256, true
	case AlgSHA384:
		return crypto.SHA384, true
	case AlgSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// specific maps the polymorphic algorithms of older peers to the fully specified algorithm that
// this package performs for them (RFC 9864 §2). A key serves both names; which names are accepted
// in messages is for VerifyOptions.Algorithms to say.
func (a Algorithm) specific() Algorithm {
	switch a {
	case AlgES256:
		return AlgESP256
	case AlgES384:
		return AlgESP384
	case AlgEdDSA:
		return AlgEd25519
	}
	return a
}

// IsSignature tells whether the algorithm may stand in a COSE_Sign1 or COSE_Sign.
func (a Algorithm) IsSignature() bool {
	switch a.specific() {
	case AlgESP256, AlgESP384, AlgEd25519, AlgHSSLMS, AlgMLDSA65:
		return true
	}
	return false
}

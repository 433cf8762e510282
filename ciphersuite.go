package teep

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-teep/teep/cose"
)

// COSE message types that an operation may name: the CBOR tag, which is also the value that
// RFC 9052 §2 gives for the "cose-type" parameter.
const (
	COSESign1 uint64 = 18
	COSESign  uint64 = 98
)

// Operation is one step of composing a message (TEEP §8.1).
//
//	teep-operation-sign1-esp256 = [ cose-sign1, cose-alg-esp256 ]
type Operation struct {
	_         struct{} `cbor:",toarray"`
	COSEType  uint64
	Algorithm cose.Algorithm
}

// CipherSuite is an ordered set of operations.
//
//	teep-cipher-suite-sign1-esp256 = [ teep-operation-sign1-esp256 ]
type CipherSuite []Operation

// CipherSuiteSign1 is the suite of a single signature with alg.
func CipherSuiteSign1(alg cose.Algorithm) CipherSuite {
	return CipherSuite{{COSEType: COSESign1, Algorithm: alg}}
}

// CipherSuiteSign1ESP256 is one of the two suites that every TAM supports (TEEP §8.1).
func CipherSuiteSign1ESP256() CipherSuite { return CipherSuiteSign1(cose.AlgESP256) }

// CipherSuiteSign1Ed25519 is the other suite that every TAM supports (TEEP §8.1).
func CipherSuiteSign1Ed25519() CipherSuite { return CipherSuiteSign1(cose.AlgEd25519) }

// CipherSuiteSign1ESP384 is a further suite; the text allows any algorithm of the registry.
func CipherSuiteSign1ESP384() CipherSuite { return CipherSuiteSign1(cose.AlgESP384) }

// MandatoryCipherSuites are the suites that every TAM supports, and of which every agent supports
// one at least (TEEP §8.1).
func MandatoryCipherSuites() []CipherSuite {
	return []CipherSuite{CipherSuiteSign1ESP256(), CipherSuiteSign1Ed25519()}
}

// Equal tells whether both are the same operations in the same order.
func (s CipherSuite) Equal(t CipherSuite) bool { return slices.Equal(s, t) }

// Sign1Algorithm returns the algorithm of a suite that is one COSE_Sign1 operation, which is the
// only kind that [Protect] produces.
func (s CipherSuite) Sign1Algorithm() (cose.Algorithm, bool) {
	if len(s) != 1 || s[0].COSEType != COSESign1 {
		return 0, false
	}
	return s[0].Algorithm, true
}

// String returns the operations in diagnostic notation, such as "[[18, -9]]".
func (s CipherSuite) String() string {
	ops := make([]string, len(s))
	for i, op := range s {
		ops[i] = fmt.Sprintf("[%d, %d]", op.COSEType, int64(op.Algorithm))
	}
	return "[" + strings.Join(ops, ", ") + "]"
}

// SUITProfile is a set of algorithms for SUIT Reports and EATs (TEEP §8.2, SUIT MTI §3).
//
//	suit-sha256-esp256-ecdh-a128ctr = [-16, -9, -29, -65534]
type SUITProfile struct {
	_           struct{} `cbor:",toarray"`
	Digest      cose.Algorithm
	Auth        cose.Algorithm
	KeyExchange cose.Algorithm
	Encryption  cose.Algorithm
}

// The four profiles that every TAM supports (TEEP §8.2).

// SUITProfileESP256A128CTR is suit-sha256-esp256-ecdh-a128ctr.
func SUITProfileESP256A128CTR() SUITProfile {
	return profile(cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128CTR)
}

// SUITProfileEd25519A128CTR is suit-sha256-ed25519-ecdh-a128ctr.
func SUITProfileEd25519A128CTR() SUITProfile {
	return profile(cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgA128CTR)
}

// SUITProfileESP256A128GCM is suit-sha256-esp256-ecdh-a128gcm.
func SUITProfileESP256A128GCM() SUITProfile {
	return profile(cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128GCM)
}

// SUITProfileEd25519ChaCha20Poly1305 is suit-sha256-ed25519-ecdh-chacha-poly.
func SUITProfileEd25519ChaCha20Poly1305() SUITProfile {
	return profile(cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgChaCha20Poly1305)
}

// Two more of SUIT MTI that TEEP does not ask for.

// SUITProfileHMACA128CTR is suit-sha256-hmac-a128kw-a128ctr.
func SUITProfileHMACA128CTR() SUITProfile {
	return profile(cose.AlgHMAC256, cose.AlgA128KW, cose.AlgA128CTR)
}

// SUITProfileHSSLMSA256CTR is suit-sha256-hsslms-a256kw-a256ctr.
func SUITProfileHSSLMSA256CTR() SUITProfile {
	return profile(cose.AlgHSSLMS, cose.AlgA256KW, cose.AlgA256CTR)
}

func profile(auth, kex, enc cose.Algorithm) SUITProfile {
	return SUITProfile{Digest: cose.AlgSHA256, Auth: auth, KeyExchange: kex, Encryption: enc}
}

// MandatorySUITProfiles are the four profiles that every TAM supports, and of which every agent
// supports one at least (TEEP §8.2), in the order of the text.
func MandatorySUITProfiles() []SUITProfile {
	return []SUITProfile{
		SUITProfileESP256A128CTR(),
		SUITProfileEd25519A128CTR(),
		SUITProfileESP256A128GCM(),
		SUITProfileEd25519ChaCha20Poly1305(),
	}
}

// String returns the profile's name in SUIT MTI, or its numbers when it has none.
func (p SUITProfile) String() string {
	switch p {
	case SUITProfileESP256A128CTR():
		return "suit-sha256-esp256-ecdh-a128ctr"
	case SUITProfileEd25519A128CTR():
		return "suit-sha256-ed25519-ecdh-a128ctr"
	case SUITProfileESP256A128GCM():
		return "suit-sha256-esp256-ecdh-a128gcm"
	case SUITProfileEd25519ChaCha20Poly1305():
		return "suit-sha256-ed25519-ecdh-chacha-poly"
	case SUITProfileHMACA128CTR():
		return "suit-sha256-hmac-a128kw-a128ctr"
	case SUITProfileHSSLMSA256CTR():
		return "suit-sha256-hsslms-a256kw-a256ctr"
	}
	return fmt.Sprintf("[%d, %d, %d, %d]", int64(p.Digest), int64(p.Auth), int64(p.KeyExchange), int64(p.Encryption))
}

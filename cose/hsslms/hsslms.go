// Package hsslms verifies hash-based HSS/LMS signatures (RFC 8554).
//
// Use [Verify]. There is nothing that signs: a signer has to keep state that must never be rolled
// back, which belongs into dedicated hardware.
//
// Supported are the parameter sets of RFC 8554, that is SHA-256 with 32-byte hashes: trees of
// height 5 to 25 and Winternitz parameters 1 to 8, in up to eight levels. The 24-byte and SHAKE256
// sets of NIST SP 800-208 are not.
package hsslms

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrPublicKey says that bytes are not an HSS public key of a supported parameter set.
	ErrPublicKey = errors.New("hsslms: not a supported HSS public key")
	// ErrSignature says that a signature does not hold.
	ErrSignature = errors.New("hsslms: signature verification failed")
)

const (
	hashBytes   = sha256.Size // n and m of RFC 8554
	idBytes     = 16          // I
	lmsKeyBytes = 4 + 4 + idBytes + hashBytes
	// PublicKeySize is the size of an HSS public key in bytes.
	PublicKeySize = 4 + lmsKeyBytes

	maxLevels = 8

	// Domain separation (RFC 8554 §7.1).
	dPBLK = 0x8080
	dMESG = 0x8181
	dLEAF = 0x8282
	dINTR = 0x8383
)

// otsSet is an LM-OTS parameter set (RFC 8554 §4.1).
type otsSet struct {
	w  uint // bits of a digit
	p  int  // number of chains
	ls uint // left shift of the checksum
}

func otsSetOf(typecode uint32) (otsSet, bool) {
	switch typecode {
	case 1:
		return otsSet{w: 1, p: 265, ls: 7}, true
	case 2:
		return otsSet{w: 2, p: 133, ls: 6}, true
	case 3:
		return otsSet{w: 4, p: 67, ls: 4}, true
	case 4:
		return otsSet{w: 8, p: 34, ls: 0}, true
	}
	return otsSet{}, false
}

// heightOf is the height of the trees of an LMS parameter set (RFC 8554 §5.1).
func heightOf(typecode uint32) (int, bool) {
	if typecode < 5 || typecode > 9 {
		return 0, false
	}
	return 5 * int(typecode-4), true
}

// lmsKey is the public key of one tree (RFC 8554 §5.3).
type lmsKey struct {
	lmsType, otsType uint32
	ots              otsSet
	height           int
	id               []byte // I
	root             []byte // T[1]
}

func parseLMSKey(b []byte) (k lmsKey, ok bool) {
	if len(b) != lmsKeyBytes {
		return k, false
	}
	k.lmsType, k.otsType = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	k.id, k.root = b[8:8+idBytes], b[8+idBytes:]
	var lmsOK, otsOK bool
	k.height, lmsOK = heightOf(k.lmsType)
	k.ots, otsOK = otsSetOf(k.otsType)
	return k, lmsOK && otsOK
}

// signatureBytes is the size of a signature under the key (RFC 8554 §5.4).
func (k lmsKey) signatureBytes() int {
	return 4 + 4 + hashBytes + k.ots.p*hashBytes + 4 + k.height*hashBytes
}

// CheckPublicKey tells whether publicKey is an HSS public key of a supported parameter set.
func CheckPublicKey(publicKey []byte) error {
	_, _, err := parsePublicKey(publicKey)
	return err
}

func parsePublicKey(b []byte) (levels int, top lmsKey, err error) {
	if len(b) != PublicKeySize {
		return 0, top, fmt.Errorf("%w: %d bytes, not %d", ErrPublicKey, len(b), PublicKeySize)
	}
	n := binary.BigEndian.Uint32(b)
	top, ok := parseLMSKey(b[4:])
	if !ok || n < 1 || n > maxLevels {
		return 0, top, fmt.Errorf("%w: unsupported parameters", ErrPublicKey)
	}
	return int(n), top, nil
}

// Verify checks a signature over message under an HSS public key (RFC 8554 §6.3). It returns nil,
// ErrPublicKey or ErrSignature.
func Verify(publicKey, message, signature []byte) error {
	levels, key, err := parsePublicKey(publicKey)
	if err != nil {
		return err
	}
	if len(signature) < 4 || binary.BigEndian.Uint32(signature) != uint32(levels-1) {
		return ErrSignature
	}
	rest := signature[4:]
	for range levels - 1 { // each tree signs the public key of the one below
		n := key.signatureBytes()
		if len(rest) < n+lmsKeyBytes {
			return ErrSignature
		}
		signed := rest[n : n+lmsKeyBytes]
		below, ok := parseLMSKey(signed)
		if !ok || !key.verify(signed, rest[:n]) {
			return ErrSignature
		}
		key, rest = below, rest[n+lmsKeyBytes:]
	}
	if len(rest) != key.signatureBytes() || !key.verify(message, rest) {
		return ErrSignature
	}
	return nil
}

// verify computes the root that a signature leads to (RFC 8554 §5.4.2, algorithm 6a). The caller
// made sure of the size.
func (k lmsKey) verify(message, sig []byte) bool {
	q := binary.BigEndian.Uint32(sig)
	ots := sig[4 : 8+hashBytes+k.ots.p*hashBytes]
	tail := sig[4+len(ots):]
	if binary.BigEndian.Uint32(ots) != k.otsType || binary.BigEndian.Uint32(tail) != k.lmsType || uint64(q) >= 1<<k.height {
		return false
	}
	node := uint32(1)<<k.height + q
	h := k.hash(node, dLEAF, k.otsCandidate(q, message, ots[4:4+hashBytes], ots[4+hashBytes:]))
	for path := tail[4:]; node > 1; node, path = node/2, path[hashBytes:] {
		sibling := path[:hashBytes]
		if node%2 == 1 {
			h = k.hash(node/2, dINTR, sibling, h)
		} else {
			h = k.hash(node/2, dINTR, h, sibling)
		}
	}
	return bytes.Equal(h, k.root)
}

// hash is H(I || u32str(number) || u16str(domain) || parts).
func (k lmsKey) hash(number uint32, domain uint16, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write(k.prefix(number, domain))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (k lmsKey) prefix(number uint32, domain uint16) []byte {
	b := append(make([]byte, 0, idBytes+6), k.id...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, number), domain)
}

// otsCandidate computes the one-time public key that a signature leads to (RFC 8554 §4.6,
// algorithm 4b).
func (k lmsKey) otsCandidate(q uint32, message, randomizer, y []byte) []byte {
	digest := k.hash(q, dMESG, randomizer, message)
	digits := binary.BigEndian.AppendUint16(digest, k.ots.checksum(digest))
	last := 1<<k.ots.w - 1
	chains := sha256.New()
	chains.Write(k.prefix(q, dPBLK))
	block := make([]byte, idBytes+4+2+1+hashBytes)
	for i := range k.ots.p {
		copy(block, k.prefix(q, uint16(i)))
		value := block[idBytes+7:]
		copy(value, y[i*hashBytes:])
		for j := k.ots.digit(digits, i); j < last; j++ {
			block[idBytes+6] = byte(j)
			sum := sha256.Sum256(block)
			copy(value, sum[:])
		}
		chains.Write(value)
	}
	return chains.Sum(nil)
}

// digit is coef(S, i, w) of RFC 8554 §3.1.3.
func (o otsSet) digit(s []byte, i int) int {
	perByte := 8 / int(o.w)
	shift := 8 - o.w*uint(i%perByte+1)
	return int(s[i/perByte]>>shift) & (1<<o.w - 1)
}

// checksum is Cksm(S) of RFC 8554 §4.4.
func (o otsSet) checksum(digest []byte) uint16 {
	sum := 0
	for i := range len(digest) * 8 / int(o.w) {
		sum += 1<<o.w - 1 - o.digit(digest, i)
	}
	return uint16(sum << o.ls)
}

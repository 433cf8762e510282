package cose

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// maxGCMContent is what the 32-bit block counter of AES-GCM covers (NIST SP 800-38D §5.2.1.1).
const maxGCMContent = (1<<32 - 2) * 16

// gcmAEAD is AES-GCM with its two halves apart, so that content of any size is opened in constant
// memory. The key stream is AES-CTR. The hash is not offered by any library, but the AEAD gives it
// away: GCM is linear in what it hashes, so sealing nothing with n blocks as additional data, and
// the same with n zero blocks, differ by
//
//	lin(X1 … Xn) = X1·H^(n+1) ⊕ X2·H^n ⊕ … ⊕ Xn·H²
//
// in which the mask and the length of GCM have cancelled out. That is the hash of GCM, times H. A
// running value z, to which a chunk of n blocks is appended, becomes z·H^n ⊕ lin(chunk): the same
// as lin of the chunk with z added to its second block. In the end z is S·H², where S is what the
// tag was made of; and since multiplication with H² is one to one, the tag holds if and only if
// lin(tag ⊕ mask) is the same.
type gcmAEAD struct {
	cipher.Stream
	gcm    cipher.AEAD
	mask   [aes.BlockSize]byte // E(J0), SP 800-38D §7.1
	buffer []byte              // not hashed yet
	zeros  []byte
	blank  map[int][]byte // seal of so many zero bytes
	z      [aes.BlockSize]byte
	aad    uint64
	length uint64
}

func newGCMStream(key, iv, aad []byte) (*gcmAEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	counter := append(append(make([]byte, 0, aes.BlockSize), iv...), 0, 0, 0, 1)
	g := &gcmAEAD{gcm: gcm, buffer: make([]byte, 0, streamChunk), zeros: make([]byte, streamChunk),
		blank: map[int][]byte{}, aad: uint64(len(aad))}
	block.Encrypt(g.mask[:], counter)
	counter[aes.BlockSize-1] = 2
	g.Stream = cipher.NewCTR(block, counter)
	g.hash(aad)
	g.pad()
	return g, nil
}

func (g *gcmAEAD) authenticate(ciphertext []byte) {
	g.length += uint64(len(ciphertext))
	g.hash(ciphertext)
}

func (g *gcmAEAD) hash(data []byte) {
	for len(data) > 0 {
		n := min(len(data), cap(g.buffer)-len(g.buffer))
		g.buffer = append(g.buffer, data[:n]...)
		if data = data[n:]; len(g.buffer) == cap(g.buffer) {
			g.fold()
		}
	}
}

func (g *gcmAEAD) pad() { g.hash(g.zeros[:-len(g.buffer)&(aes.BlockSize-1)]) }

// fold takes the buffer, of two blocks at least, into z.
func (g *gcmAEAD) fold() {
	second := g.buffer[aes.BlockSize : 2*aes.BlockSize]
	subtle.XORBytes(second, second, g.z[:])
	g.z = g.lin(g.buffer)
	g.buffer = g.buffer[:0]
}

func (g *gcmAEAD) lin(blocks []byte) (out [aes.BlockSize]byte) {
	// The nonce does not matter, and nothing of this leaves: it is in both seals.
	nonce := make([]byte, g.gcm.NonceSize())
	blank := g.blank[len(blocks)]
	if blank == nil {
		blank = g.gcm.Seal(nil, nonce, nil, g.zeros[:len(blocks)])
		g.blank[len(blocks)] = blank
	}
	var tag [tagBytes]byte
	subtle.XORBytes(out[:], g.gcm.Seal(tag[:0], nonce, nil, blocks), blank)
	return out
}

// end takes in what is left and the lengths: z is then S·H².
func (g *gcmAEAD) end() {
	g.pad()
	var last [2 * aes.BlockSize]byte // the lengths, and a zero block for one more power of H
	binary.BigEndian.PutUint64(last[:], g.aad*8)
	binary.BigEndian.PutUint64(last[8:], g.length*8)
	// Both in one piece, because a fold needs two blocks.
	if len(g.buffer)+len(last) > cap(g.buffer) {
		g.fold()
	}
	g.hash(last[:])
	if len(g.buffer) > 0 {
		g.fold()
	}
}

// verify ends the content and compares its tag, in constant time.
func (g *gcmAEAD) verify(tag []byte) bool {
	g.end()
	return g.holds(tag)
}

func (g *gcmAEAD) holds(tag []byte) bool {
	var want [aes.BlockSize]byte
	subtle.XORBytes(want[:], tag, g.mask[:])
	want = g.lin(want[:])
	return subtle.ConstantTimeCompare(want[:], g.z[:]) == 1
}

// tag ends the content and makes its tag.
func (g *gcmAEAD) tag() ([]byte, error) {
	g.end()
	var equations [128]equation
	for bit := range 128 {
		var unit [aes.BlockSize]byte
		unit[bit/8] = 0x80 >> (bit % 8)
		image := g.lin(unit[:])
		for i := range equations {
			equations[i].set(bit, bitOf(image[:], i))
		}
	}
	for i := range equations {
		equations[i].value = bitOf(g.z[:], i)
	}
	solve(&equations)
	var s [aes.BlockSize]byte
	for i := range equations {
		s[i/8] |= byte(equations[i].value) << (7 - i%8)
	}
	subtle.XORBytes(s[:], s[:], g.mask[:])
	if !g.holds(s[:]) { // H is zero, which happens to one key in 2^128
		return nil, fmt.Errorf("%w: this content key makes no tag: draw another", ErrKey)
	}
	return s[:], nil
}

// equation is a sum of some of 128 bits that are sought, and its value.
type equation struct {
	of    [2]uint64
	value uint64
}

func bitOf(b []byte, i int) uint64 { return uint64(b[i/8]>>(7-i%8)) & 1 }

func (e *equation) set(i int, bit uint64) { e.of[i/64] |= bit << (i % 64) }

func (e *equation) has(i int) uint64 { return e.of[i/64] >> (i % 64) & 1 }

// add adds other if bit is 1, in the same time as if it is 0: the coefficients are secret.
func (e *equation) add(other *equation, bit uint64) {
	mask := -bit
	e.of[0] ^= other.of[0] & mask
	e.of[1] ^= other.of[1] & mask
	e.value ^= other.value & mask
}

// solve leaves of each equation one bit, that of its index, if that is possible.
func solve(equations *[128]equation) {
	for i := range equations {
		pivot := &equations[i]
		for j := i + 1; j < len(equations); j++ {
			pivot.add(&equations[j], 1^pivot.has(i))
		}
		for j := range equations {
			if j != i {
				equations[j].add(pivot, equations[j].has(i))
			}
		}
	}
}

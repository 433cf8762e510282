package cose

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/crypto/chacha20"
	//lint:ignore SA1019 The construction is the one of RFC 8439 §2.8, composed here because
	// chacha20poly1305 has no streaming form; the one-time key is derived as it demands.
	"golang.org/x/crypto/poly1305"
)

// chachaAEAD is ChaCha20-Poly1305 (RFC 8439 §2.8) with its two halves apart.
type chachaAEAD struct {
	key, iv []byte
	// stream is the key stream at position, in bytes of content.
	stream   *chacha20.Cipher
	position uint64
	mac      *poly1305.MAC
	aad      int
	length   uint64
}

func newChaCha(key, iv, aad []byte) (*chachaAEAD, error) {
	stream, err := chacha20.NewUnauthenticatedCipher(key, iv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var once [32]byte // RFC 8439 §2.6: block 0 gives the one-time key, content starts at block 1
	stream.XORKeyStream(once[:], once[:])
	stream.SetCounter(1)
	c := &chachaAEAD{key: bytes.Clone(key), iv: bytes.Clone(iv), stream: stream, mac: poly1305.New(&once), aad: len(aad)}
	c.mac.Write(aad)
	c.pad(uint64(len(aad)))
	return c, nil
}

const (
	// chachaShare is the least that is worth a goroutine of its own, in bytes; a multiple of 64.
	chachaShare = 64 << 10
	// maxChaChaShares bounds the goroutines.
	maxChaChaShares = 4
)

// XORKeyStream implements cipher.Stream. The library's streaming ChaCha20 has no assembly on most
// machines and is what an installation waits for; but any part of the key stream can be made by itself, so
// that all processors share the work on a large piece.
func (c *chachaAEAD) XORKeyStream(dst, src []byte) {
	shares := min(runtime.GOMAXPROCS(0), maxChaChaShares, len(src)/chachaShare)
	if shares < 2 || c.position%64 != 0 {
		c.stream.XORKeyStream(dst, src)
		c.position += uint64(len(src))
		return
	}
	var running sync.WaitGroup
	size := len(src) / shares &^ 63
	for i := range shares {
		stream, from, to := c.stream, i*size, (i+1)*size
		if i > 0 {
			stream = c.at(c.position + uint64(from))
		}
		if i == shares-1 {
			to = len(src)
			c.stream, c.position = stream, c.position+uint64(to)
			stream.XORKeyStream(dst[from:to], src[from:to])
			break
		}
		running.Go(func() { stream.XORKeyStream(dst[from:to], src[from:to]) })
	}
	running.Wait()
}

// at is the key stream from a whole block on.
func (c *chachaAEAD) at(position uint64) *chacha20.Cipher {
	stream, err := chacha20.NewUnauthenticatedCipher(c.key, c.iv)
	if err != nil {
		panic(err) // newChaCha made one of the same
	}
	stream.SetCounter(uint32(1 + position/64)) // contentLimit keeps it below 1<<32
	return stream
}

func (c *chachaAEAD) pad(n uint64) {
	var zeros [16]byte
	if n %= 16; n != 0 {
		c.mac.Write(zeros[n:])
	}
}

func (c *chachaAEAD) authenticate(ciphertext []byte) {
	c.mac.Write(ciphertext)
	c.length += uint64(len(ciphertext))
}

func (c *chachaAEAD) sum() []byte {
	c.pad(c.length)
	var lengths [16]byte
	binary.LittleEndian.PutUint64(lengths[:8], uint64(c.aad))
	binary.LittleEndian.PutUint64(lengths[8:], c.length)
	c.mac.Write(lengths[:])
	return c.mac.Sum(nil)
}

func (c *chachaAEAD) verify(tag []byte) bool { return subtle.ConstantTimeCompare(c.sum(), tag) == 1 }

func (c *chachaAEAD) tag() ([]byte, error) { return c.sum(), nil }

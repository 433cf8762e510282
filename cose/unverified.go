package cose

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// NewUnverifiedContentReader decrypts the ciphertext in src, tag included, in one pass and constant
// memory. What it yields is not authenticated while it is read: io.EOF says that the tag held, and
// every other error that everything read so far must be thrown away (ErrDecrypt: the tag did not
// hold). It is for destinations that nobody sees before they are complete, such as a file that gets
// its name afterwards; all others take [NewContentReader].
//
// A128CTR and A256CTR authenticate nothing: there io.EOF is the end of src and says no more.
//
// key and iv come from [EncryptMessage.ContentKey] and [EncryptMessage.IV], aad is
// [EncryptMessage.AAD]. The reader is not safe for concurrent use.
func NewUnverifiedContentReader(alg Algorithm, key, iv, aad []byte, src io.Reader) (io.Reader, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	if !c.aead {
		stream, err := NewCTR(alg, key, iv, 0)
		if err != nil {
			return nil, err
		}
		return &cipher.StreamReader{S: stream, R: src}, nil
	}
	a, err := newStreamAEAD(alg, key, iv, aad)
	if err != nil {
		return nil, err
	}
	return &onePassReader{aead: a, alg: alg, src: src, buffer: make([]byte, 0, streamChunk+tagBytes)}, nil
}

// onePassReader holds the last bytes back, because they may be the tag.
type onePassReader struct {
	aead   streamAEAD
	alg    Algorithm
	src    io.Reader
	buffer []byte // ciphertext, perhaps with the tag
	ready  []byte // plaintext at the start of buffer
	held   []byte // what follows it, not decrypted yet
	total  int64
	err    error
}

// Read implements io.Reader.
func (r *onePassReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.next()
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// next decrypts what can be: all but the last bytes. Its error comes after what is ready.
func (r *onePassReader) next() error {
	r.buffer = append(r.buffer[:0], r.held...)
	n, err := io.ReadFull(r.src, r.buffer[len(r.buffer):cap(r.buffer)])
	r.buffer = r.buffer[:len(r.buffer)+n]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if len(r.buffer) < tagBytes {
		return fmt.Errorf("%w: a ciphertext of %d bytes is too short for %v", ErrDecrypt, len(r.buffer), r.alg)
	}
	ciphertext := r.buffer[:len(r.buffer)-tagBytes]
	r.held = r.buffer[len(ciphertext):]
	if r.total += int64(len(ciphertext)); r.total > contentLimit(r.alg) {
		return errCounter(r.alg)
	}
	r.aead.authenticate(ciphertext)
	if err != nil {
		// The end: nothing more of it is decrypted if the tag does not hold.
		if !r.aead.verify(r.held) {
			return errTag(r.alg)
		}
		err = io.EOF
	}
	r.aead.XORKeyStream(ciphertext, ciphertext)
	r.ready = ciphertext
	return err
}

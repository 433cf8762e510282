package cose

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20"
	//lint:ignore SA1019 The construction is the one of RFC 8439 §2.8, composed here because
	// chacha20poly1305 has no streaming form; the one-time key is derived as it demands.
	"golang.org/x/crypto/poly1305"
)

// streamChunk is how much content is held in memory at a time.
const streamChunk = 256 << 10

// maxChaChaContent is what the 32-bit block counter of RFC 8439 §2.8 covers.
const maxChaChaContent = (1<<32 - 2) * 64

// NewContentReader decrypts size bytes of ciphertext, tag included, that lie in src.
//
// For an AEAD nothing can be read before the tag of the whole ciphertext held: NewContentReader
// itself returns ErrDecrypt when it does not.
//
//   - ChaCha20-Poly1305 and AES-GCM go over src twice, in constant memory: once to check the tag,
//     and again to decrypt what is read. A digest of each chunk is kept from the first pass (32
//     bytes for 256 KiB), so content that changes in between is ErrDecrypt and not plaintext.
//   - A128CTR and A256CTR stream in constant memory and authenticate nothing: compare what was
//     read with an authenticated digest before using it.
//
// What has a destination that nobody sees before it is complete goes faster through
// [NewUnverifiedContentReader], in one pass.
//
// key and iv come from [EncryptMessage.ContentKey] and [EncryptMessage.IV], aad is
// [EncryptMessage.AAD]. The reader is not safe for concurrent use.
func NewContentReader(alg Algorithm, key, iv, aad []byte, src io.ReaderAt, size int64) (io.Reader, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	if size < 0 || c.aead && size < tagBytes {
		return nil, fmt.Errorf("%w: a ciphertext of %d bytes is too short for %v", ErrDecrypt, size, alg)
	}
	if !c.aead {
		stream, err := NewCTR(alg, key, iv, 0)
		if err != nil {
			return nil, err
		}
		return &cipher.StreamReader{S: stream, R: &exactReader{r: io.NewSectionReader(src, 0, size), left: size}}, nil
	}
	a, err := newStreamAEAD(alg, key, iv, aad)
	if err != nil {
		return nil, err
	}
	return newTwoPassReader(a, alg, src, size-tagBytes)
}

// streamAEAD is an AEAD with its two halves apart: the key stream, and the tag over the ciphertext.
type streamAEAD interface {
	cipher.Stream
	authenticate(ciphertext []byte)
	// verify ends the content and compares its tag, in constant time. It is called once.
	verify(tag []byte) bool
}

func newStreamAEAD(alg Algorithm, key, iv, aad []byte) (streamAEAD, error) {
	if alg == AlgChaCha20Poly1305 {
		return newChaCha(key, iv, aad)
	}
	return newGCMStream(key, iv, aad)
}

// contentLimit is how many bytes the block counter of an AEAD covers.
func contentLimit(alg Algorithm) int64 {
	if alg == AlgChaCha20Poly1305 {
		return maxChaChaContent
	}
	return maxGCMContent
}

func errCounter(alg Algorithm) error {
	return fmt.Errorf("%w: %w: %v ends at %d bytes", ErrMalformed, ErrTooLarge, alg, contentLimit(alg))
}

func errTag(alg Algorithm) error {
	return fmt.Errorf("%w: the %v tag does not hold", ErrDecrypt, alg)
}

// exactReader turns an early end of the source into io.ErrUnexpectedEOF.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func errBuffered(alg Algorithm) error {
	return fmt.Errorf("%w: %w: %v encrypts up to %d bytes here, because its tag cannot be made as a stream (decrypting has no such limit); use ChaCha20-Poly1305, or a CTR algorithm with a digest", ErrMalformed, ErrTooLarge, alg, MaxBufferedContent)
}

// readFullAt fills p. io.ReaderAt may return io.EOF together with the last bytes.
func readFullAt(src io.ReaderAt, p []byte, offset int64) error {
	n, err := src.ReadAt(p, offset)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("cose: reading ciphertext: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("cose: reading ciphertext: %w", err)
}

// chachaAEAD is ChaCha20-Poly1305 (RFC 8439 §2.8) with its two halves apart.
type chachaAEAD struct {
	*chacha20.Cipher
	mac    *poly1305.MAC
	aad    int
	length uint64
}

func newChaCha(key, iv, aad []byte) (*chachaAEAD, error) {
	stream, err := chacha20.NewUnauthenticatedCipher(key, iv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var once [32]byte // RFC 8439 §2.6: block 0 gives the one-time key, content starts at block 1
	stream.XORKeyStream(once[:], once[:])
	stream.SetCounter(1)
	c := &chachaAEAD{Cipher: stream, mac: poly1305.New(&once), aad: len(aad)}
	c.mac.Write(aad)
	c.pad(uint64(len(aad)))
	return c, nil
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

func (c *chachaAEAD) tag() []byte {
	c.pad(c.length)
	var lengths [16]byte
	binary.LittleEndian.PutUint64(lengths[:8], uint64(c.aad))
	binary.LittleEndian.PutUint64(lengths[8:], c.length)
	c.mac.Write(lengths[:])
	return c.mac.Sum(nil)
}

func (c *chachaAEAD) verify(tag []byte) bool { return subtle.ConstantTimeCompare(c.tag(), tag) == 1 }

// twoPassReader decrypts content whose tag held, chunk by chunk.
type twoPassReader struct {
	stream  cipher.Stream
	src     io.ReaderAt
	size    int64
	offset  int64               // of the next chunk
	digests [][sha256.Size]byte // of each chunk, from the pass that checked the tag
	buffer  []byte
	ready   []byte // plaintext in buffer that was not read yet
}

func newTwoPassReader(a streamAEAD, alg Algorithm, src io.ReaderAt, size int64) (io.Reader, error) {
	if size > contentLimit(alg) {
		return nil, errCounter(alg)
	}
	r := &twoPassReader{stream: a, src: src, size: size, buffer: make([]byte, min(size, streamChunk))}
	r.digests = make([][sha256.Size]byte, 0, (size+streamChunk-1)/streamChunk)
	for ; r.offset < size; r.offset += streamChunk {
		chunk := r.buffer[:min(size-r.offset, streamChunk)]
		if err := readFullAt(src, chunk, r.offset); err != nil {
			return nil, err
		}
		a.authenticate(chunk)
		r.digests = append(r.digests, sha256.Sum256(chunk))
	}
	var tag [tagBytes]byte
	if err := readFullAt(src, tag[:], size); err != nil {
		return nil, err
	}
	if !a.verify(tag[:]) {
		return nil, errTag(alg)
	}
	r.offset = 0
	return r, nil
}

// Read implements io.Reader.
func (r *twoPassReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.ready) == 0 {
		if r.offset >= r.size {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

func (r *twoPassReader) next() error {
	chunk := r.buffer[:min(r.size-r.offset, streamChunk)]
	if err := readFullAt(r.src, chunk, r.offset); err != nil {
		return err
	}
	if sha256.Sum256(chunk) != r.digests[r.offset/streamChunk] {
		return fmt.Errorf("%w: the ciphertext changed after its tag was checked", ErrDecrypt)
	}
	r.stream.XORKeyStream(chunk, chunk)
	r.ready, r.offset = chunk, r.offset+streamChunk
	return nil
}

// NewContentWriter encrypts what is written to it and writes the ciphertext to dst. Close completes
// it, with the tag for an AEAD, and does not close dst. ChaCha20-Poly1305 and the CTR algorithms
// work in constant memory; AES-GCM holds up to [MaxBufferedContent] and writes in Close.
//
// key and iv come from [NewContentKey] and must not encrypt anything else. [WrapContentKey] makes
// the message that carries key and IV to the recipients; aad is [EncryptMessage.AAD] of it. The
// writer is not safe for concurrent use.
func NewContentWriter(alg Algorithm, key, iv, aad []byte, dst io.Writer) (io.WriteCloser, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	w := &contentWriter{dst: dst}
	switch {
	case !c.aead:
		w.stream, err = NewCTR(alg, key, iv, 0)
	case alg == AlgChaCha20Poly1305:
		if w.chacha, err = newChaCha(key, iv, aad); err == nil {
			w.stream = w.chacha
		}
	default:
		w.alg, w.iv, w.aad = alg, bytes.Clone(iv), bytes.Clone(aad)
		w.gcm, err = newAEAD(alg, key)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// contentWriter has a stream (CTR, ChaCha20) or an AEAD that wants everything at once (GCM).
type contentWriter struct {
	dst    io.Writer
	stream cipher.Stream
	chacha *chachaAEAD // with stream, when there is a tag
	buffer []byte

	alg     Algorithm
	gcm     cipher.AEAD
	iv, aad []byte

	failed error // of the destination, or "closed"
}

var errWriterClosed = errors.New("cose: write to a closed content writer")

// Write implements io.Writer.
func (w *contentWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	if w.gcm != nil {
		if len(w.buffer)+len(p) > MaxBufferedContent {
			w.failed = errBuffered(w.alg)
			return 0, w.failed
		}
		w.buffer = append(w.buffer, p...)
		return len(p), nil
	}
	for done := 0; done < len(p); {
		n, err := w.writeChunk(p[done:min(len(p), done+streamChunk)])
		if done += n; err != nil {
			w.failed = err
			return done, err
		}
	}
	return len(p), nil
}

func (w *contentWriter) writeChunk(p []byte) (int, error) {
	if w.chacha != nil && w.chacha.length+uint64(len(p)) > maxChaChaContent {
		return 0, errCounter(AlgChaCha20Poly1305)
	}
	if cap(w.buffer) < len(p) {
		w.buffer = make([]byte, len(p))
	}
	chunk := w.buffer[:len(p)]
	w.stream.XORKeyStream(chunk, p)
	if w.chacha != nil {
		w.chacha.authenticate(chunk)
	}
	n, err := w.dst.Write(chunk)
	if err == nil && n < len(chunk) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Close implements io.Closer. After an error of Write it returns that error and writes no tag.
func (w *contentWriter) Close() error {
	if w.failed != nil {
		if errors.Is(w.failed, errWriterClosed) {
			return nil
		}
		return w.failed
	}
	w.failed = errWriterClosed
	var err error
	switch {
	case w.gcm != nil:
		_, err = w.dst.Write(w.gcm.Seal(w.buffer[:0], w.iv, w.buffer, w.aad))
		w.buffer = nil
	case w.chacha != nil:
		_, err = w.dst.Write(w.chacha.tag())
	}
	if err != nil {
		w.failed = err
	}
	return err
}

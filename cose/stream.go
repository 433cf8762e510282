package cose

import (
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	// tag ends the content that was encrypted. It is called once, and not after verify.
	tag() ([]byte, error)
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

// NewContentWriter encrypts what is written to it and writes the ciphertext to dst, in constant memory.
// Close completes it, with the tag for an AEAD, and does not close dst.
//
// key and iv come from [NewContentKey] and must not encrypt anything else. [WrapContentKey] makes
// the message that carries key and IV to the recipients; aad is [EncryptMessage.AAD] of it. The
// writer is not safe for concurrent use.
func NewContentWriter(alg Algorithm, key, iv, aad []byte, dst io.Writer) (io.WriteCloser, error) {
	c, err := checkContent(alg, key, iv)
	if err != nil {
		return nil, err
	}
	w := &contentWriter{alg: alg, dst: dst}
	if !c.aead {
		w.stream, err = NewCTR(alg, key, iv, 0)
	} else if w.aead, err = newStreamAEAD(alg, key, iv, aad); err == nil {
		w.stream = w.aead
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

type contentWriter struct {
	alg    Algorithm
	dst    io.Writer
	stream cipher.Stream
	aead   streamAEAD // is stream, when there is a tag
	length int64
	buffer []byte
	failed error // of the destination, or "closed"
}

var errWriterClosed = errors.New("cose: write to a closed content writer")

// Write implements io.Writer.
func (w *contentWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
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
	if w.length += int64(len(p)); w.aead != nil && w.length > contentLimit(w.alg) {
		return 0, errCounter(w.alg)
	}
	if cap(w.buffer) < len(p) {
		w.buffer = make([]byte, len(p))
	}
	chunk := w.buffer[:len(p)]
	w.stream.XORKeyStream(chunk, p)
	if w.aead != nil {
		w.aead.authenticate(chunk)
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
	if w.aead == nil {
		return nil
	}
	tag, err := w.aead.tag()
	if err == nil {
		_, err = w.dst.Write(tag)
	}
	if err != nil {
		w.failed = err
	}
	return err
}

package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/go-teep/teep/tee"
)

// The layout of a sealed file; doc.go explains it.
const (
	magic       = "TEEPSEA1"
	saltSize    = 32
	headerSize  = len(magic) + saltSize
	chunkSize   = 64 << 10
	batchSize   = 8 * chunkSize
	tagSize     = 16
	sealedChunk = chunkSize + tagSize
	trailerSize = sha256.Size + 8 + tagSize

	flagMore    = 0
	flagLast    = 1
	flagTrailer = 2
)

// purpose is what a file is for. It goes into the file's key, so that one kind of file cannot
// stand in for another.
type purpose struct{ kind, label string }

// errSecretGone says that the owner of the sealing secret has zeroed it.
var errSecretGone = errors.New("seal: the sealing secret is gone: the TEE was closed")

func (p purpose) aead(secret, salt []byte) (cipher.AEAD, error) {
	if !slices.ContainsFunc(secret, func(b byte) bool { return b != 0 }) {
		return nil, errSecretGone
	}
	key, err := hkdf.Key(sha256.New, secret, salt, "go-teep seal 1\x00"+p.kind+"\x00"+p.label, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(index uint64, flag byte) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:11], index)
	n[11] = flag
	return n
}

// sealer encrypts one file. It works on batches of chunks: one write for each, because small
// writes at odd offsets cost twice as much. While one batch is filled, those before are hashed in
// one lane and encrypted and written in another: for a large payload each of these costs about
// the same, and neither waits for the other.
type sealer struct {
	w     io.Writer
	aead  cipher.AEAD
	hash  hash.Hash
	salt  []byte
	plain []byte // the batch being filled, up to batchSize
	size  int64
	err   error // sticky: a file with a gap is never finished

	// flight are the batches before it, the oldest first; spare is what came back of them.
	flight []*batch
	spare  []byte

	// What belongs to the lane that encrypts.
	out   []byte // what is to be written next
	index uint64 // of the next chunk
}

// batch is full and on its way.
type batch struct {
	plain          []byte
	hashed, sealed chan struct{} // closed when done
	err            error         // of this batch or one before it, once sealed
}

// inFlight is how many batches may be on their way, so that the lanes need not keep in step.
const inFlight = 2

func newSealer(w io.Writer, rand io.Reader, secret []byte, p purpose) (*sealer, error) {
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return nil, fmt.Errorf("seal: no randomness for a file's key: %w", err)
	}
	aead, err := p.aead(secret, salt)
	if err != nil {
		return nil, err
	}
	return &sealer{w: w, aead: aead, hash: sha256.New(), salt: salt, out: append([]byte(magic), salt...)}, nil
}

func (s *sealer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 && s.err == nil {
		// A full batch waits until it is known that its last chunk is not the file's.
		if len(s.plain) == batchSize {
			if s.begin(); s.err != nil {
				break
			}
		}
		n := min(len(p), batchSize-len(s.plain))
		s.plain = append(s.plain, p[:n]...)
		p, written = p[n:], written+n
		s.size += int64(n)
	}
	return written, s.err
}

// begin sends the batch on its way, and makes room for the next one.
func (s *sealer) begin() {
	b := &batch{plain: s.plain, hashed: make(chan struct{}), sealed: make(chan struct{})}
	var before *batch
	if n := len(s.flight); n > 0 {
		before = s.flight[n-1]
	}
	go func() {
		defer close(b.hashed)
		if before != nil {
			<-before.hashed
		}
		s.hash.Write(b.plain)
	}()
	go func() {
		defer close(b.sealed)
		if before != nil {
			<-before.sealed
			b.err = before.err
		}
		if b.err == nil {
			s.encrypt(b.plain, flagMore)
			b.err = s.emit()
		}
	}()
	s.flight = append(s.flight, b)
	if len(s.flight) > inFlight {
		s.land()
	}
	if s.plain, s.spare = s.spare, nil; s.plain == nil {
		s.plain = make([]byte, 0, batchSize)
	}
}

// land waits for the oldest batch.
func (s *sealer) land() {
	b := s.flight[0]
	<-b.hashed
	<-b.sealed
	s.flight, s.spare = s.flight[1:], b.plain[:0]
	if s.err == nil {
		s.err = b.err
	}
}

// settle waits until all batches are written.
func (s *sealer) settle() {
	for len(s.flight) > 0 {
		s.land()
	}
}

// encrypt appends the chunks of a batch to what is to be written; the last one has the flag.
func (s *sealer) encrypt(batch []byte, flag byte) {
	for rest := batch; len(rest) > 0 || s.index == 0; {
		chunk := rest[:min(chunkSize, len(rest))]
		rest = rest[len(chunk):]
		f := byte(flagMore)
		if len(rest) == 0 {
			f = flag
		}
		s.out = s.aead.Seal(s.out, nonce(s.index, f), chunk, nil)
		s.index++
	}
}

func (s *sealer) emit() error {
	n, err := s.w.Write(s.out)
	if err == nil && n < len(s.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("seal: write: %w", err)
	}
	s.out = s.out[:0]
	return nil
}

// finish writes the rest, together with the trailer, and returns the digest of the plaintext.
func (s *sealer) finish() (digest [32]byte, err error) {
	if s.settle(); s.err != nil {
		return digest, s.err
	}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		s.hash.Write(s.plain)
	}()
	s.encrypt(s.plain, flagLast)
	<-hashed
	s.hash.Sum(digest[:0])
	trailer := binary.BigEndian.AppendUint64(digest[:], uint64(s.size))
	s.out = s.aead.Seal(s.out, nonce(s.index, flagTrailer), trailer, nil)
	if s.err = s.emit(); s.err != nil {
		return [32]byte{}, s.err
	}
	s.err = errors.New("seal: file is finished")
	return digest, nil
}

// opener decrypts one file. It keeps the chunk that it read last.
type opener struct {
	file   ReadFile
	aead   cipher.AEAD
	digest [32]byte
	size   int64
	chunks int64

	mu     sync.Mutex
	cached int64 // index of the chunk in plain, -1 for none
	plain  []byte
	sealed []byte
	offset int64 // of Read
	closed bool
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", tee.ErrCorrupt, what) }

// newOpener takes over file and closes it on error. wantSalt, if not nil, is the salt that the
// file must have.
func newOpener(file ReadFile, secret []byte, p purpose, wantSalt []byte) (o *opener, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	length, err := file.Size()
	if err != nil {
		return nil, err
	}
	if length < int64(headerSize+tagSize+trailerSize) {
		return nil, corrupt("file is too short")
	}
	header := make([]byte, headerSize)
	if err := readFull(file, header, 0); err != nil {
		return nil, err
	}
	salt := header[len(magic):]
	if string(header[:len(magic)]) != magic {
		return nil, corrupt("not a sealed file of this version")
	}
	if wantSalt != nil && string(salt) != string(wantSalt) {
		return nil, corrupt("file is not the one that was written here")
	}
	aead, err := p.aead(secret, salt)
	if err != nil {
		return nil, err
	}
	body := length - int64(headerSize+trailerSize)
	o = &opener{file: file, aead: aead, cached: -1, chunks: (body + sealedChunk - 1) / sealedChunk}
	if err := o.readTrailer(length, body); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *opener) readTrailer(length, body int64) error {
	sealed := make([]byte, trailerSize)
	if err := readFull(o.file, sealed, length-int64(trailerSize)); err != nil {
		return err
	}
	plain, err := o.aead.Open(sealed[:0], nonce(uint64(o.chunks), flagTrailer), sealed, nil)
	if err != nil {
		return corrupt("trailer does not authenticate")
	}
	copy(o.digest[:], plain)
	o.size = int64(binary.BigEndian.Uint64(plain[sha256.Size:]))
	if o.size+o.chunks*tagSize != body {
		return corrupt("file does not have its length")
	}
	return nil
}

// readFull reads all of b; a file that ends before is corrupt, not short.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return corrupt("file is truncated")
	}
	return fmt.Errorf("seal: read: %w", err)
}

// Size implements tee.Blob.
func (o *opener) Size() int64 { return o.size }

// ReadAt implements tee.Blob. It is safe for concurrent use.
func (o *opener) ReadAt(p []byte, off int64) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.readAt(p, off)
}

func (o *opener) readAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("seal: read at a negative offset")
	}
	if o.closed {
		return 0, errors.New("seal: blob is closed")
	}
	for n < len(p) {
		if off >= o.size {
			return n, io.EOF
		}
		if err := o.load(off / chunkSize); err != nil {
			return n, err
		}
		c := copy(p[n:], o.plain[off%chunkSize:])
		n, off = n+c, off+int64(c)
	}
	return n, nil
}

// load decrypts the chunk with an index into o.plain.
func (o *opener) load(index int64) error {
	if o.cached == index {
		return nil
	}
	length, flag := sealedChunk, byte(flagMore)
	if index == o.chunks-1 {
		length, flag = int(o.size-index*chunkSize)+tagSize, flagLast
	}
	if o.sealed == nil {
		o.sealed = make([]byte, min(sealedChunk, o.size+tagSize))
	}
	o.cached = -1
	sealed := o.sealed[:length]
	if err := readFull(o.file, sealed, int64(headerSize)+index*sealedChunk); err != nil {
		return err
	}
	plain, err := o.aead.Open(sealed[:0], nonce(uint64(index), flag), sealed, nil)
	if err != nil {
		return corrupt(fmt.Sprintf("chunk %d does not authenticate", index))
	}
	o.plain, o.cached = plain, index
	return nil
}

// Read implements tee.Blob.
func (o *opener) Read(p []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err = o.readAt(p, o.offset)
	o.offset += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Close implements tee.Blob.
func (o *opener) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	clear(o.plain)
	return o.file.Close()
}

// readAll returns the whole plaintext of a file that was authenticated to be small enough.
// The digest in the trailer is redundant here; an empty file still has its one chunk checked.
func (o *opener) readAll(limit int64) ([]byte, error) {
	if o.size > limit {
		return nil, fmt.Errorf("%w: sealed item of %d bytes, limit %d", tee.ErrQuota, o.size, limit)
	}
	if o.size == 0 {
		return []byte{}, o.load(0)
	}
	b := make([]byte, o.size)
	_, err := o.ReadAt(b, 0)
	return b, err
}

package processor

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// chunk is how much of a payload is in memory at a time, in bytes.
const chunk = 256 << 10

// kdfOther is SuppPubInfo.other of the key agreement (firmware encryption §context-information).
const kdfOther = "SUIT Payload Encryption"

// store streams src into the component: decrypted if there is encryption info, bounded by
// image-size, hashed on the way. What is stored is trusted only if an authentication tag held: of
// what is under an AEAD nothing is committed, and so visible, before the end of the ciphertext
// (firmware encryption §payload-integrity-validation).
func (r *run) store(k *call, src io.Reader, info []byte) (*origin, error) {
	if info == nil {
		return r.receive(k, src)
	}
	open, err := r.unwrap(info)
	if err != nil {
		return nil, err
	}
	plaintext, err := cose.NewUnverifiedContentReader(open.alg, open.key, open.iv, open.aad, src)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	o, err := r.receive(k, plaintext)
	if err != nil {
		return nil, err
	}
	o.trusted = open.alg.IsAuthenticated()
	return o, nil
}

// contentKey is an unwrapped content-encryption key and what belongs to it.
type contentKey struct {
	alg          cose.Algorithm
	key, iv, aad []byte
}

// reader decrypts size bytes; of a ciphertext with a tag, only after that held.
func (c contentKey) reader(src io.ReaderAt, size int64) (io.Reader, error) {
	return cose.NewContentReader(c.alg, c.key, c.iv, c.aad, src, size)
}

func (r *run) unwrap(info []byte) (contentKey, error) {
	m, err := cose.ParseEncrypt(info)
	if err != nil {
		return contentKey{}, fmt.Errorf("encryption info: %w", err)
	}
	keys := r.p.cfg.Platform.Keys()
	key, err := m.ContentKey(keys, cose.DecryptOptions{
		Algorithms: r.p.cfg.ContentAlgorithms, KDFOther: kdfOther})
	if errors.Is(err, cose.ErrNoKey) || errors.Is(err, cose.ErrDecrypt) {
		if len(keys) == 0 {
			return contentKey{}, fmt.Errorf("encryption info: %w: %w", errKeyless, err)
		}
		return contentKey{}, fmt.Errorf("encryption info: %w: %w", errNotForUs, err)
	}
	if err != nil {
		return contentKey{}, fmt.Errorf("encryption info: %w", err)
	}
	return contentKey{alg: m.Algorithm(), key: key, iv: m.IV(), aad: m.AAD(nil)}, nil
}

// Why a payload cannot be opened, and what to do about it.
var (
	errKeyless  = errors.New("the device has no key that decrypts payloads: give it one, and encrypt the payload to that")
	errNotForUs = errors.New("the payload is not encrypted to a key of this device: encrypt it to the device's public key, " +
		"or let who distributes keys wrap the content key for it")
	errNoInfo = errors.New("if that is a ciphertext, no suit-parameter-encryption-info came for it: " +
		"the device needs the manifest that has its content key, from who distributes keys")
)

// tagSize is the length of an authentication tag, by which such a ciphertext is longer, in bytes.
const tagSize = 16

var errSize = errors.New("the payload has another size than it should")

// receive writes src into new content of the component.
func (r *run) receive(k *call, src io.Reader) (*origin, error) {
	limit, exact := r.p.cfg.Limits.Payload, false
	if size, ok := k.args.Size(); ok {
		if size > uint64(limit) {
			return nil, fmt.Errorf("%w: image-size is %d, at most %d bytes are accepted", ErrLimit, size, limit)
		}
		limit, exact = int64(size), true
	}
	alg := cose.AlgSHA256
	if d, ok := k.args.Digest(); ok {
		alg = d.Algorithm
	}
	sum, err := suit.Digest{Algorithm: alg}.Hash()
	if err != nil {
		return nil, err
	}
	w, err := r.tx.Create(k.c.id)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	digester, _ := w.(Digester)
	if digester != nil && digester.Digest().Algorithm == alg {
		sum = nil // it hashes for both
	}
	n, err := r.pump(w, sum, src, limit)
	if exact && (n > limit || err == nil && n < limit) {
		err = fmt.Errorf("%w: %d bytes or more came, image-size says %d", errSize, n, limit)
	}
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	if err := w.Commit(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	o := &origin{size: n}
	if sum != nil {
		o.remember(alg, sum.Sum(nil))
	} else if d := digester.Digest(); len(d.Bytes) > 0 {
		o.remember(alg, d.Bytes)
	}
	r.origin.set(k.c.id, o)
	return o, nil
}

// pump copies at most limit bytes and fails when there are more. It hashes beside writing, because
// for a large payload the two cost about the same.
func (r *run) pump(w io.Writer, sum hash.Hash, src io.Reader, limit int64) (int64, error) {
	buf := r.buffer()
	var total int64
	for {
		n, readErr := src.Read(buf)
		if total += int64(n); total > limit {
			return total, fmt.Errorf("%w: the payload is longer than %d bytes", ErrLimit, limit)
		}
		if r.stored += int64(n); r.stored > r.p.cfg.Limits.Total {
			return total, fmt.Errorf("%w: this run has stored %d bytes", ErrLimit, r.p.cfg.Limits.Total)
		}
		if n > 0 {
			if err := writeHashed(w, sum, buf[:n]); err != nil {
				return total, fmt.Errorf("store: %w", err)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
		if err := r.ctx.Err(); err != nil {
			return total, fmt.Errorf("stopped: %w", err)
		}
	}
}

// writeHashed writes and hashes data; sum may be nil.
func writeHashed(w io.Writer, sum hash.Hash, data []byte) error {
	hashed := make(chan struct{})
	if sum == nil {
		close(hashed)
	} else {
		go func() {
			defer close(hashed)
			sum.Write(data)
		}()
	}
	n, err := w.Write(data)
	<-hashed
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

func (r *run) buffer() []byte {
	if r.buf == nil {
		r.buf = make([]byte, chunk)
	}
	return r.buf
}

// digest measures a component with the algorithm of want: from what was hashed while it was
// written in this run, or by reading it.
func (r *run) digest(id suit.ComponentID, want suit.Digest) (suit.Digest, int64, error) {
	if sum, size, ok := r.origin.sum(id, want.Algorithm); ok {
		return suit.Digest{Algorithm: want.Algorithm, Bytes: sum}, size, nil
	}
	h, err := want.Hash()
	if err != nil {
		return suit.Digest{}, 0, err
	}
	content, err := r.tx.Content(id)
	if err != nil {
		return suit.Digest{}, 0, err
	}
	defer func() { _ = content.Close() }()
	n, err := io.CopyBuffer(h, contextReader{r.ctx, content}, r.buffer())
	if err != nil {
		return suit.Digest{}, 0, fmt.Errorf("read component: %w", err)
	}
	if n != content.Size() {
		return suit.Digest{}, 0, fmt.Errorf("read component: %d of %d bytes", n, content.Size())
	}
	return suit.Digest{Algorithm: want.Algorithm, Bytes: h.Sum(nil)}, n, nil
}

// contextReader ends when the run is over.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// encryptionInfo is that of the component, or else the one that a dependent set on the
// dependency as a whole (trust domains §template-override-encryption-info), unless the
// envelope of the dependency itself was decrypted with it.
func (r *run) encryptionInfo(k *call) ([]byte, bool) {
	if info, ok := k.args.EncryptionInfo(); ok {
		return info, true
	}
	for n := k.n; n.parent != nil; n = n.parent {
		key := n.slot.key()
		if info, ok := r.x.params[n.slot.paramKey()].EncryptionInfo(); ok && string(info) != r.consumed[key] {
			return info, true
		}
	}
	return nil, false
}

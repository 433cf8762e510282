package describe

import (
	"bytes"
	"io"
	"io/fs"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Scratch is a place for content that is made while a manifest is built. It must be readable as soon as
// everything was written.
type Scratch interface {
	io.Writer
	Open() (io.ReadCloser, error)
}

// OpenFromFS makes a [Options.OpenFile] that opens files below a directory.
func OpenFromFS(fsys fs.FS) func(name string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) { return fsys.Open(name) }
}

// body is the content of a payload, in memory or not.
type body struct {
	data    []byte // nil if it is not held
	open    func() (io.ReadCloser, error)
	scratch Scratch // where it is, if it was made here and is not held
	image   *image
}

func (b *builder) held(data []byte) *body {
	return &body{data: data, image: b.imageOf(data),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// payloadFile reads a file, and holds it in memory where it goes into the envelope. Of any other it
// keeps digest and size.
func (b *builder) payloadFile(n *yaml.Node, hold bool) (*body, error) {
	if b.o.OpenFile == nil {
		data, err := b.file(n)
		if err != nil {
			return nil, err
		}
		if hold {
			if err := b.hold(n, n.Value, int64(len(data))); err != nil {
				return nil, err
			}
		}
		return b.held(append([]byte{}, data...)), nil
	}
	name, err := b.text(n, "file")
	if err != nil {
		return nil, err
	}
	if hold {
		return b.readHeld(n, name)
	}
	content := &body{open: func() (io.ReadCloser, error) { return b.o.OpenFile(name) }}
	m := b.measure()
	if err := content.copyTo(m); err != nil {
		return nil, b.errorf(n, "cannot read file %q: %w", name, err)
	}
	content.image = m.image()
	return content, nil
}

// readHeld reads a payload that goes into the envelope, and no more than that may be.
func (b *builder) readHeld(n *yaml.Node, name string) (*body, error) {
	r, err := b.o.OpenFile(name)
	if err != nil {
		return nil, b.errorf(n, "cannot read file %q: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	var from io.Reader = r
	if left, bounded := b.mayHold(); bounded {
		from = io.LimitReader(r, left+1)
	}
	data, err := io.ReadAll(from)
	if err != nil {
		return nil, b.errorf(n, "cannot read file %q: %w", name, err)
	}
	if err := b.hold(n, n.Value, int64(len(data))); err != nil {
		return nil, err
	}
	return b.held(data), nil
}

// mayHold is how much more may go into the envelope.
func (b *builder) mayHold() (left int64, bounded bool) {
	limit := b.o.MaxIntegrated
	if limit == 0 {
		limit = DefaultMaxIntegrated
	}
	return limit - b.holds, limit > 0
}

// hold counts what goes into the envelope.
func (b *builder) hold(n *yaml.Node, name string, size int64) error {
	if left, bounded := b.mayHold(); bounded && size > left {
		return b.errorf(n, "with %s the payloads in the envelope have more than %d bytes, which are held in memory wherever it is read: "+
			"have devices fetch it (uri: … instead of integrated: true), or allow more (teep suit create --max-integrated)", name, left+b.holds)
	}
	b.holds += size
	return nil
}

func (c *body) copyTo(w io.Writer) error {
	r, err := c.open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.Copy(w, r)
	return err
}

// encryptBody encrypts content, into memory if hold says so, or else into a scratch file.
func (b *builder) encryptBody(n *yaml.Node, plain *body, hold bool, alg cose.Algorithm, to []cose.Recipient) (*body, []byte, error) {
	r, err := plain.open()
	if err != nil {
		return nil, nil, b.errorf(n, "%w", err)
	}
	defer func() { _ = r.Close() }()
	if hold {
		if err := b.hold(n, "the ciphertext", int64(*plain.image.size)+tagSize); err != nil {
			return nil, nil, err
		}
	}
	if hold || b.o.CreateScratch == nil {
		var out bytes.Buffer
		info, err := suit.EncryptPayload(b.o.Rand, r, &out, alg, to...)
		if err != nil {
			return nil, nil, b.errorf(n, "%w", err)
		}
		return b.held(out.Bytes()), info, nil
	}
	scratch, err := b.o.CreateScratch()
	if err != nil {
		return nil, nil, b.errorf(n, "%w", err)
	}
	m, again := b.measure(), b.measure()
	info, err := suit.EncryptPayload(b.o.Rand, io.TeeReader(r, again), io.MultiWriter(scratch, m), alg, to...)
	if err != nil {
		return nil, nil, b.errorf(n, "%w", err)
	}
	if !again.image().digest.Equal(plain.image.digest) {
		return nil, nil, b.errorf(n, "the payload changed while it was read: try again")
	}
	return &body{open: scratch.Open, scratch: scratch, image: m.image()}, info, nil
}

// meter takes digest and size of what is written to it.
type meter struct {
	io.Writer
	sum  func() suit.Digest
	size uint64
}

func (b *builder) measure() *meter {
	d := suit.Digest{Algorithm: b.hash}
	h, err := d.Hash()
	if err != nil {
		panic("describe: hash was not checked: " + err.Error())
	}
	return &meter{Writer: h, sum: func() suit.Digest { return suit.Digest{Algorithm: d.Algorithm, Bytes: h.Sum(nil)} }}
}

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	m.size += uint64(len(p))
	return m.Writer.Write(p)
}

func (m *meter) image() *image {
	size := m.size
	return &image{digest: m.sum(), size: &size}
}

package bench

import (
	"context"
	"crypto/rand"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
)

// device is a platform whose content lies in the sealed store of the sandbox, on disk, and whose
// manifest records are in memory: what is measured is payloads.
type device struct {
	*memory.Platform
	store   tee.Store
	content map[string][32]byte
	// source is what every URI yields.
	source func() io.Reader
}

func newDevice(b *testing.B) *device {
	b.Helper()
	measurement := make([]byte, 32)
	t, err := sandbox.Open(b.Context(), sandbox.Config{Dir: filepath.Join(b.TempDir(), "tee"), Rand: rand.Reader, Now: time.Now,
		Measure: func() ([]byte, error) { return measurement, nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := t.Close(); err != nil {
			b.Error(err)
		}
	})
	return &device{
		Platform: memory.New(processor.Identity{Vendor: vendor, Class: class}),
		store:    t.Store(), content: map[string][32]byte{},
	}
}

// Begin implements processor.Platform.
func (d *device) Begin(ctx context.Context) (processor.Tx, error) {
	inner, err := d.Platform.Begin(ctx)
	return &sealedTx{Tx: inner, d: d, staged: map[string][32]byte{}}, err
}

// Fetch implements processor.Platform.
func (d *device) Fetch(_ context.Context, _ string, _ []byte, offset int64) (io.ReadCloser, error) {
	r := d.source()
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

// sealedTx keeps content as blobs, and names them in the store's state record when it commits.
type sealedTx struct {
	processor.Tx
	d      *device
	staged map[string][32]byte
}

func (t *sealedTx) blob(id suit.ComponentID) ([32]byte, bool) {
	if sum, ok := t.staged[id.Key()]; ok {
		return sum, true
	}
	sum, ok := t.d.content[id.Key()]
	return sum, ok
}

func (t *sealedTx) Content(id suit.ComponentID) (processor.Content, error) {
	sum, ok := t.blob(id)
	if !ok {
		return nil, processor.ErrNotExist
	}
	return t.d.store.OpenBlob(sum)
}

func (t *sealedTx) Create(id suit.ComponentID) (processor.Writer, error) {
	w, err := t.d.store.CreateBlob()
	return &sealedWriter{BlobWriter: w, t: t, key: id.Key(), digest: suit.Digest{Algorithm: cose.AlgSHA256}}, err
}

// Adopt always says no: every run shall pay for its payload.
func (t *sealedTx) Adopt(suit.ComponentID, suit.Digest) error { return processor.ErrNotExist }

func (t *sealedTx) Commit() error {
	_, generation, err := t.d.store.LoadRecord()
	if err != nil {
		return err
	}
	var record []byte
	for key, sum := range t.staged {
		t.d.content[key] = sum
	}
	for _, sum := range t.d.content {
		record = append(record, sum[:]...)
	}
	if err := t.d.store.ReplaceRecord(generation, record); err != nil {
		return err
	}
	return t.Tx.Commit()
}

type sealedWriter struct {
	tee.BlobWriter
	t      *sealedTx
	key    string
	digest suit.Digest
}

func (w *sealedWriter) Commit() error {
	sum, _, err := w.BlobWriter.Commit()
	w.digest.Bytes = sum[:]
	w.t.staged[w.key] = sum
	return err
}

// Digest implements processor.Digester: the store names blobs by their digest anyway.
func (w *sealedWriter) Digest() suit.Digest { return w.digest }

// forget empties the device, so that the next run starts from nothing.
func (d *device) forget(b *testing.B) {
	b.Helper()
	clear(d.content)
	if err := d.store.Sweep(func([32]byte) bool { return false }); err != nil {
		b.Fatal(err)
	}
}

// pattern yields size bytes without effort: that of a copy in memory.
type pattern struct {
	chunk []byte
	left  int64
	at    int
}

func newPattern(size int64) *pattern {
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i * 7 >> 3)
	}
	return &pattern{chunk: chunk, left: size}
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.left)], p.chunk[p.at:])
	p.at = (p.at + n) % len(p.chunk)
	p.left -= int64(n)
	return n, nil
}

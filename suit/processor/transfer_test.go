package processor_test

import (
	"context"
	"crypto/sha256"
	"hash"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// hashingDisk is a device whose writers hash what they store, with SHA-256.
type hashingDisk struct {
	processor.Platform
	asked int  // for a digest after Commit
	wrong bool // the digest is not that of the content
}

func (d *hashingDisk) Begin(ctx context.Context) (processor.Tx, error) {
	tx, err := d.Platform.Begin(ctx)
	return hashingTx{tx, d}, err
}

type hashingTx struct {
	processor.Tx
	d *hashingDisk
}

func (t hashingTx) Create(id suit.ComponentID) (processor.Writer, error) {
	w, err := t.Tx.Create(id)
	return &hashingWriter{Writer: w, d: t.d, sum: sha256.New()}, err
}

type hashingWriter struct {
	processor.Writer
	d         *hashingDisk
	sum       hash.Hash
	committed bool
}

func (w *hashingWriter) Write(b []byte) (int, error) {
	w.sum.Write(b)
	return w.Writer.Write(b)
}

func (w *hashingWriter) Commit() error {
	w.committed = true
	if w.d.wrong {
		w.sum.Write([]byte("!"))
	}
	return w.Writer.Commit()
}

func (w *hashingWriter) Digest() suit.Digest {
	d := suit.Digest{Algorithm: cose.AlgSHA256}
	if w.committed {
		w.d.asked++
		d.Bytes = w.sum.Sum(nil)
	}
	return d
}

// A writer that hashes spares the processor the same work, where the algorithm is the one that the
// manifest asks for.
func TestDigestOfTheWriterCounts(t *testing.T) {
	for _, c := range []struct {
		alg   cose.Algorithm
		wrong bool
		asked int
		ok    bool
	}{
		{cose.AlgSHA256, false, 1, true},
		{cose.AlgSHA256, true, 1, false},
		{cose.AlgSHA384, true, 0, true}, // the processor hashes by itself
	} {
		disk := &hashingDisk{wrong: c.wrong}
		l := newLab(t, func(l *lab) { disk.Platform, l.cfg.Platform = l.device, disk })
		l.device.Serve("u", []byte("payload"))
		sum, err := suit.NewDigestWith(c.alg, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		d := one(1, idA, appA, "payload", "u")
		d.Common.SharedSequence.Commands[0] = override(func(p *suit.Parameters) { identity(p); p.SetDigest(sum) })
		d.Validate = suit.Section{}
		if _, err := l.update(l.sign(d)); (err == nil) != c.ok || disk.asked != c.asked {
			t.Errorf("%+v: %v, the digest was used %d times", c, err, disk.asked)
		}
	}
}

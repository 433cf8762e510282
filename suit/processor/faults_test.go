package processor_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

var errFlipped = errors.New("sealed data is corrupt")

// weakDisk is a device whose disk has faults. Its zero value has none.
type weakDisk struct {
	processor.Platform
	// room is how many bytes fit, short how many of them the first write takes without saying
	// that it did not take all; negative is no limit.
	room, short int
	sync        error // what a writer's Commit returns
	read        error // what reading content returns
	flip        bool  // content reads as something else, and nobody notices
}

func (d *weakDisk) Begin(ctx context.Context) (processor.Tx, error) {
	tx, err := d.Platform.Begin(ctx)
	return weakTx{tx, d}, err
}

type weakTx struct {
	processor.Tx
	d *weakDisk
}

func (t weakTx) HighestDigest(id suit.ComponentID) (suit.Digest, error) {
	return t.Tx.(processor.SequenceDigest).HighestDigest(id)
}

func (t weakTx) Create(id suit.ComponentID) (processor.Writer, error) {
	w, err := t.Tx.Create(id)
	return weakWriter{w, t.d}, err
}

func (t weakTx) Content(id suit.ComponentID) (processor.Content, error) {
	c, err := t.Tx.Content(id)
	return weakContent{c, t.d}, err
}

type weakWriter struct {
	processor.Writer
	d *weakDisk
}

func (w weakWriter) Write(b []byte) (int, error) {
	if w.d.short >= 0 && w.d.short < len(b) {
		return w.Writer.Write(b[:w.d.short])
	}
	if w.d.room >= 0 {
		if w.d.room < len(b) {
			return 0, syscall.ENOSPC
		}
		w.d.room -= len(b)
	}
	return w.Writer.Write(b)
}

func (w weakWriter) Commit() error {
	if w.d.sync != nil {
		return w.d.sync
	}
	return w.Writer.Commit()
}

type weakContent struct {
	processor.Content
	d *weakDisk
}

func (c weakContent) Read(b []byte) (int, error) {
	if c.d.read != nil {
		return 0, c.d.read
	}
	n, err := c.Content.Read(b)
	if c.d.flip && n > 0 {
		b[n/2] ^= 0x10
	}
	return n, err
}

// transfers are the ways in which content gets onto the device.
func transfers(l *lab, kek *cose.Key) map[string]draft {
	const size = 600_000 // several writes
	payload := strings.Repeat("0123456789", size/10)
	plain := one(1, idA, appA, payload, "plain")
	l.device.Serve("plain", []byte(payload))
	list := map[string]draft{"fetch": plain}
	for _, alg := range []cose.Algorithm{cose.AlgA128CTR, cose.AlgA128GCM, cose.AlgChaCha20Poly1305} {
		ciphertext, info := l.encrypt(alg, kek, payload)
		l.device.Serve(alg.String(), ciphertext)
		encrypted := override(func(p *suit.Parameters) {
			if err := p.SetEncryptionInfo(info); err != nil {
				l.t.Fatal(err)
			}
		})
		d := one(1, idA, appA, payload, alg.String())
		d.Install.Commands = append([]suit.Command{encrypted}, d.Install.Commands...)
		list["fetch of "+alg.String()] = d
		d = many(1, idA, appA, appB)
		d.Install = section(suit.SetComponentIndex(1), uri(alg.String()), dir(suit.DirFetch),
			suit.SetComponentIndex(0), override(image(payload)), source(1), encrypted, dir(suit.DirCopy), cond(suit.CondImageMatch))
		list["copy of "+alg.String()] = d
	}
	written := one(1, idA, appA, payload, "")
	written.Install = section(content(payload), dir(suit.DirWrite), cond(suit.CondImageMatch))
	list["write"] = written
	return list
}

// Whatever the disk does, the failure says so, nothing changed, and the same manifest goes through
// once the disk is well again.
func TestDiskFaultsWhileInstalling(t *testing.T) {
	kek := cose.NewSymmetricKey([]byte("0123456789abcdef"))
	for name := range transfers(newLab(t), kek) {
		for fault, c := range map[string]struct {
			set  func(d *weakDisk)
			want error
		}{
			"disk full at once":  {func(d *weakDisk) { d.room = 0 }, syscall.ENOSPC},
			"disk full later":    {func(d *weakDisk) { d.room = 300_000 }, syscall.ENOSPC},
			"short write":        {func(d *weakDisk) { d.short = 1000 }, io.ErrShortWrite},
			"nothing is written": {func(d *weakDisk) { d.short = 0 }, io.ErrShortWrite},
			"sync fails":         {func(d *weakDisk) { d.sync = syscall.EIO }, syscall.EIO},
		} {
			t.Run(name+", "+fault, func(t *testing.T) {
				disk := &weakDisk{room: -1, short: -1}
				l := newLab(t, func(l *lab) {
					l.device.DecryptKeys = cose.DecryptKeys{kek}
					disk.Platform, l.cfg.Platform = l.device, disk
				})
				envelope := l.sign(transfers(l, kek)[name])
				l.device.Put(appA, []byte("old"))
				c.set(disk)
				f := l.refuse(envelope, suit.ReasonOperationFailed)
				if !errors.Is(f, c.want) || f.Section != suit.LabelInstall || f.Component == nil {
					t.Errorf("the failure does not say what and where: %v", f)
				}
				l.wants(appA, "old")
				*disk = weakDisk{Platform: l.device, room: -1, short: -1}
				l.mustUpdate(envelope)
			})
		}
	}
}

// Content that turned bad is reported and never used: it does not validate, it is not started, it
// is not copied from, and the manifest repairs it when it is applied again.
func TestDamagedContentIsNotUsed(t *testing.T) {
	for fault, c := range map[string]struct {
		set    func(d *weakDisk)
		reason suit.Reason
		is     error
	}{
		"read error":    {func(d *weakDisk) { d.read = errFlipped }, suit.ReasonOperationFailed, errFlipped},
		"a flipped bit": {func(d *weakDisk) { d.flip = true }, suit.ReasonConditionFailed, nil},
	} {
		t.Run(fault, func(t *testing.T) {
			disk := &weakDisk{room: -1, short: -1}
			l := newLab(t, func(l *lab) { disk.Platform, l.cfg.Platform = l.device, disk })
			started := 0
			l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { started++; return nil }
			l.device.Serve("u", bytes.Repeat([]byte("x"), 10_000))
			envelope := l.sign(one(1, idA, appA, strings.Repeat("x", 10_000), "u"))
			l.mustUpdate(envelope)
			c.set(disk)
			for name, run := range map[string]func() (*suit.Report, error){
				"validate": func() (*suit.Report, error) { return l.p.Validate(t.Context(), idA, processor.Options{}) },
				"invoke":   func() (*suit.Report, error) { return l.p.Invoke(t.Context(), idA, processor.Options{}) },
			} {
				report, err := run()
				l.checkReport(report, err)
				var f *processor.Failure
				if !errors.As(err, &f) || f.Reason != c.reason || f.Section != suit.LabelValidate || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if started != 0 {
				t.Error("it was started")
			}
			d := many(1, suit.NewComponentID("app", "copy.suit"), appB, appA)
			d.Install = section(suit.SetComponentIndex(1), override(image(strings.Repeat("x", 10_000))), cond(suit.CondImageMatch),
				suit.SetComponentIndex(0), source(1), dir(suit.DirCopy))
			l.refuse(l.sign(d), c.reason)
			disk.read, disk.flip = nil, false
			if _, err := l.p.Invoke(t.Context(), idA, processor.Options{}); err != nil || started != 1 {
				t.Errorf("well again: started %d times, %v", started, err)
			}
		})
	}
}

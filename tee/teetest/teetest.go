// Package teetest is the suite that every implementation of [tee.TEE] passes. It holds an
// implementation to each sentence of package tee's comments.
//
//	func TestConformance(t *testing.T) {
//		teetest.Run(t, func(t *testing.T) teetest.Device {
//			dir := t.TempDir()
//			return teetest.Device{
//				Start: func() (tee.TEE, error) { return mytee.Open(dir) },
//				Stop:  func(e tee.TEE) error { return e.(*mytee.TEE).Close() },
//				Dir:   dir,
//			}
//		})
//	}
package teetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-teep/teep/tee"
)

// Device is one device, with state that its TEE keeps from one start to the next.
type Device struct {
	// Start starts the TEE. At most one of the device runs at a time.
	Start func() (tee.TEE, error)
	// Stop ends it in good order.
	Stop func(tee.TEE) error
	// Kill ends it as loss of power does; nil if that cannot be simulated.
	Kill func(tee.TEE)
	// Dir is the folder with the sealed files, as someone outside the TEE gets at it; "" if
	// nobody does.
	Dir string
	// DiskInMemory says that sealed files take this process's memory, which is then not measured.
	DiskInMemory bool
	// Slow says that the processor is emulated: what is large is less so, and what is tried in many places
	// is tried in fewer.
	Slow bool
}

// Run runs the suite. newDevice makes a fresh device that was never started.
func Run(t *testing.T, newDevice func(t *testing.T) Device) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"Identity", testIdentity},
		{"Keys", testKeys},
		{"KeysOfTwoDevices", func(t *testing.T, b *bench) { testTwoDevices(t, b, newBench(t, newDevice(t))) }},
		{"Record", testRecord},
		{"RecordIsCompareAndSwap", testRecordRace},
		{"Blobs", testBlobs},
		{"BlobMemory", testBlobMemory},
		{"Sweep", testSweep},
		{"AppData", testAppData},
		{"NothingReadable", testNothingReadable},
		{"Tampering", testTampering},
		{"Check", testCheck},
		{"Invoke", testInvoke},
		{"ApplicationStorage", testApplicationStorage},
		{"Personalization", testPersonalization},
		{"HostileApplications", testHostile},
		{"ApplicationsAreApart", testApart},
		{"ConcurrentSessions", testConcurrentSessions},
		{"Reactor", testReactor},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, newBench(t, newDevice(t))) })
	}
}

// bench is a device with its TEE running.
type bench struct {
	device Device
	tee    tee.TEE
}

func newBench(t *testing.T, d Device) *bench {
	t.Helper()
	b := &bench{device: d}
	b.start(t)
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *bench) start(t *testing.T) {
	t.Helper()
	var err error
	if b.tee, err = b.device.Start(); err != nil {
		t.Fatalf("start the TEE: %v", err)
	}
}

func (b *bench) stop(t *testing.T) {
	t.Helper()
	if b.tee == nil {
		return
	}
	running := b.tee
	b.tee = nil
	if err := b.device.Stop(running); err != nil {
		t.Fatalf("stop the TEE: %v", err)
	}
}

// restart starts the TEE again: after loss of power if that can be had.
func (b *bench) restart(t *testing.T) {
	t.Helper()
	if b.device.Kill != nil {
		running := b.tee
		b.tee = nil
		b.device.Kill(running)
	} else {
		b.stop(t)
	}
	b.start(t)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Fatalf("%s: error is %v, want %v", what, err, wanted)
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 13 >> 4)
	}
	return p
}

func (b *bench) put(t *testing.T, content []byte) [32]byte {
	t.Helper()
	w, err := b.tee.Store().CreateBlob()
	must(t, err)
	_, err = w.Write(content)
	must(t, err)
	digest, size, err := w.Commit()
	must(t, err)
	if size != int64(len(content)) {
		t.Fatalf("committed %d bytes of %d", size, len(content))
	}
	return digest
}

func (b *bench) read(digest [32]byte) ([]byte, error) {
	blob, err := b.tee.Store().OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(blob)
	return content, errors.Join(err, blob.Close())
}

// code is a program as a Blob.
type code struct{ *bytes.Reader }

func (code) Close() error { return nil }

func blobOf(b []byte) tee.Blob { return code{bytes.NewReader(b)} }

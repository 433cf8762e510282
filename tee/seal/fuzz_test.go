package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// FuzzFilesFromOutsideAreNeverUsed puts arbitrary bytes in the place of each kind of file. What
// is read afterwards is what was written, or an error.
func FuzzFilesFromOutsideAreNeverUsed(f *testing.F) {
	origin := crashfs.New()
	s, err := seal.Open(seal.Config{Disk: origin, Secret: secret(), Rand: rand.Reader})
	if err != nil {
		f.Fatal(err)
	}
	content := pattern(70_000)
	digest, err := putBlob(s, content)
	if err = errors.Join(err, s.ReplaceRecord(0, []byte("record"))); err != nil {
		f.Fatal(err)
	}
	files := origin.Files()
	for i, name := range files {
		was := origin.Read(name)
		f.Add(uint8(i), was)
		f.Add(uint8(i), was[:len(was)-1])
		f.Add(uint8(i), was[:min(len(was), 100)])
		f.Add(uint8(i), []byte{})
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		disk := origin.Clone()
		disk.Tamper(files[int(which)%len(files)], append([]byte{}, b...))
		s, err := seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader})
		if err != nil {
			if !errors.Is(err, tee.ErrCorrupt) {
				t.Fatalf("open: %v", err)
			}
			return
		}
		if record, gen, err := s.LoadRecord(); err == nil && (string(record) != "record" || gen != 1) {
			t.Fatalf("record %q of generation %d was used", record, gen)
		} else if err != nil && !errors.Is(err, tee.ErrCorrupt) {
			t.Fatalf("record: %v", err)
		}
		got, err := readBlob(s, digest)
		if err == nil && !bytes.Equal(got, content) {
			t.Fatal("changed content was used")
		}
		if err != nil && !errors.Is(err, tee.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("blob: %v", err)
		}
	})
}

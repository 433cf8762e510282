package seal_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

func openVersion(disk seal.Disk, c *counter, version uint64) (*seal.Store, error) {
	return seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader, Counter: c, Version: version})
}

// TestOlderProgram: what a newer program has opened, an older one does not open again, whatever it says
// about records in between.
func TestOlderProgram(t *testing.T) {
	disk, c := crashfs.New(), &counter{}
	s, err := openVersion(disk, c, 0)
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	for _, version := range []uint64{2, 2, 7} {
		s, err = openVersion(disk, c, version)
		must(t, err)
		before := disk.Clone()
		_, err = openVersion(before, &counter{value: c.value}, version-1)
		wantErr(t, err, seal.ErrOlder)
		_, err = openVersion(before, &counter{value: c.value}, 0)
		wantErr(t, err, seal.ErrOlder)
	}
	record, generation, err := s.LoadRecord()
	if err != nil || string(record) != "one" {
		t.Fatalf("%q, %v", record, err)
	}
	must(t, s.ReplaceRecord(generation, []byte("two")))
	_, err = openVersion(disk, c, 6)
	wantErr(t, err, seal.ErrOlder)
	_, err = openVersion(disk, c, 7)
	must(t, err)
}

// TestOlderProgramWithOlderFolder: the folder from before the update does not help it, where there is
// a counter.
func TestOlderProgramWithOlderFolder(t *testing.T) {
	disk, c := crashfs.New(), &counter{}
	_, err := openVersion(disk, c, 1)
	must(t, err)
	older := disk.Clone()
	_, err = openVersion(disk, c, 2)
	must(t, err)
	_, err = openVersion(older, c, 1)
	wantErr(t, err, tee.ErrRollback)
}

// TestCrashWhileTheVersionRises leaves the old or the new version, and a store that opens.
func TestCrashWhileTheVersionRises(t *testing.T) {
	for step := 1; ; step++ {
		disk, c := crashfs.New(), &counter{}
		s, err := openVersion(disk, c, 1)
		must(t, err)
		must(t, s.ReplaceRecord(0, []byte("one")))
		disk.CrashAt(step)
		_, err = openVersion(disk, c, 2)
		if !disk.Crashed() {
			must(t, err)
			if step < 5 {
				t.Fatalf("an update takes only %d steps", step)
			}
			return
		}
		after := disk.Restart(crashfs.LoseUnsynced)
		if _, err = openVersion(after.Clone(), &counter{value: c.value}, 1); err != nil && !errors.Is(err, seal.ErrOlder) {
			t.Fatalf("step %d: the old version: %v", step, err)
		}
		s, err = openVersion(after, c, 2)
		if err != nil {
			t.Fatalf("step %d: the new version: %v", step, err)
		}
		if record, _, err := s.LoadRecord(); err != nil || string(record) != "one" {
			t.Fatalf("step %d: %q, %v", step, record, err)
		}
	}
}

package seal_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// counter is a monotonic counter that can fail.
type counter struct {
	value uint64
	fail  error
}

func (c *counter) Value() (uint64, error) { return c.value, nil }
func (c *counter) Increment() error {
	if c.fail != nil {
		return c.fail
	}
	c.value++
	return nil
}

func openCounted(disk seal.Disk, c *counter) (*seal.Store, error) {
	return seal.Open(seal.Config{Disk: disk, Secret: secret(), Rand: rand.Reader, Counter: c})
}

func TestRollbackOfTheWholeFolder(t *testing.T) {
	disk, c := crashfs.New(), &counter{value: 41}
	s, err := openCounted(disk, c)
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	older := disk.Clone()
	must(t, s.ReplaceRecord(1, []byte("two")))
	if v, err := s.CounterValue(); err != nil || v != c.value {
		t.Fatalf("counter value %d, %v", v, err)
	}
	_, err = openCounted(older, c)
	wantErr(t, err, tee.ErrRollback)
	_, err = open(disk.Clone())
	wantErr(t, err, tee.ErrRollback)
	ahead := &counter{value: c.value - 2}
	_, err = openCounted(disk.Clone(), ahead)
	wantErr(t, err, tee.ErrRollback)
	s, err = openCounted(disk, c)
	must(t, err)
	if rec, _, err := s.LoadRecord(); err != nil || string(rec) != "two" {
		t.Fatalf("%q, %v", rec, err)
	}
}

func TestCounterThatFails(t *testing.T) {
	disk, c := crashfs.New(), &counter{}
	s, err := openCounted(disk, c)
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	c.fail = errors.New("counter is worn out")
	wantErr(t, s.ReplaceRecord(1, []byte("two")), c.fail)
	c.fail = nil
	// Restarted now, the store takes the root that is one ahead and moves the counter.
	s, err = openCounted(disk.Clone(), &counter{value: c.value})
	must(t, err)
	if rec, _, err := s.LoadRecord(); err != nil || string(rec) != "one" {
		t.Fatalf("failed change is in force: %q, %v", rec, err)
	}
}

func TestCrashAtEveryStepWithCounter(t *testing.T) {
	for step := 1; ; step++ {
		disk, c := crashfs.New(), &counter{}
		s, err := openCounted(disk, c)
		must(t, err)
		must(t, s.ReplaceRecord(0, []byte("one")))
		disk.CrashAt(step)
		acked := s.ReplaceRecord(1, []byte("two")) == nil
		if !disk.Crashed() {
			break
		}
		s, err = openCounted(disk.Restart(crashfs.LoseUnsynced), c)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if _, gen, err := s.LoadRecord(); err != nil || gen < 1 || acked && gen != 2 {
			t.Fatalf("step %d: generation %d, acknowledged %v, %v", step, gen, acked, err)
		}
	}
}

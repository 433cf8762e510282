package seal_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// installAndRun is what an agent does to a store: two payloads, the record that names them, data
// of an application, an update of the record, and the sweep. It reports what was acknowledged.
type acknowledged struct {
	generation uint64
	record     []byte
	blobs      map[string][32]byte
	app        string // "", then "1", then "2", then "" after removal
}

func installAndRun(disk seal.Disk) (ack acknowledged, err error) {
	ack.blobs = map[string][32]byte{}
	s, err := open(disk)
	if err != nil {
		return ack, err
	}
	for _, content := range []string{"payload one", "payload two"} {
		d, err := putBlob(s, []byte(content))
		if err != nil {
			return ack, err
		}
		ack.blobs[content] = d
	}
	for i, step := range []string{"record one", "app 1", "record two", "app 2", "sweep", "remove", "record three"} {
		if err := ack.apply(s, step); err != nil {
			return ack, fmt.Errorf("%d %s: %w", i, step, err)
		}
	}
	return ack, nil
}

func (ack *acknowledged) apply(s *seal.Store, step string) error {
	a := s.AppData([]byte("app"))
	switch step {
	case "app 1", "app 2":
		if err := a.Apply(map[string][]byte{"value": []byte(step[4:])}); err != nil {
			return err
		}
		ack.app = step[4:]
	case "sweep":
		one := ack.blobs["payload one"]
		return s.Sweep(func(d [32]byte) bool { return d == one })
	case "remove":
		if err := a.Remove(); err != nil {
			return err
		}
		ack.app = ""
	default:
		if err := s.ReplaceRecord(ack.generation, []byte(step)); err != nil {
			return err
		}
		ack.generation++
		ack.record = []byte(step)
	}
	return nil
}

// check finds the acknowledged state, or the one that was on its way.
func (ack acknowledged) check(s *seal.Store) error {
	rec, gen, err := s.LoadRecord()
	if err != nil {
		return err
	}
	if gen != ack.generation && gen != ack.generation+1 {
		return fmt.Errorf("generation %d, acknowledged %d", gen, ack.generation)
	}
	want := []string{"", "record one", "record two", "record three"}[gen]
	if string(rec) != want {
		return fmt.Errorf("generation %d holds %q", gen, rec)
	}
	values, err := s.AppData([]byte("app")).Load()
	if err != nil {
		return err
	}
	next := map[string]string{"": "1", "1": "2", "2": ""}[ack.app]
	if got := string(values["value"]); got != ack.app && got != next {
		return fmt.Errorf("application data %q, acknowledged %q", got, ack.app)
	}
	content := "payload one"
	if d, ok := ack.blobs[content]; ok {
		if got, err := readBlob(s, d); err != nil || string(got) != content {
			return fmt.Errorf("acknowledged blob: %q, %w", got, err)
		}
	}
	return nil
}

func TestCrashAtEveryStep(t *testing.T) {
	clean := crashfs.New()
	if _, err := installAndRun(clean); err != nil {
		t.Fatal(err)
	}
	steps := clean.Steps()
	if steps < 50 {
		t.Fatalf("only %d steps: the scenario does not do what it should", steps)
	}
	for _, survival := range []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced, crashfs.KeepSome} {
		for step := 1; step <= steps; step++ {
			for seed := range uint64(2) {
				if survival != crashfs.KeepSome && seed > 0 {
					break
				}
				disk := crashfs.NewSeeded(seed)
				disk.CrashAt(step)
				ack, err := installAndRun(disk)
				if disk.Crashed() != (err != nil) && !errors.Is(err, crashfs.ErrCrashed) {
					// A step whose failure is tolerated (tidying up) may be the last one.
					if err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
				}
				crashTwice(t, disk, ack, survival, step)
			}
		}
	}
}

// crashTwice restarts, crashes again in the middle of the recovery, restarts, and checks.
func crashTwice(t *testing.T, disk *crashfs.Disk, ack acknowledged, survival crashfs.Survival, step int) {
	t.Helper()
	disk = disk.Restart(survival)
	disk.CrashAt(1 + step%9)
	if _, err := open(disk); err != nil && !errors.Is(err, crashfs.ErrCrashed) {
		t.Fatalf("survival %d, step %d: reopen: %v", survival, step, err)
	}
	s, err := open(disk.Restart(survival))
	if err != nil {
		t.Fatalf("survival %d, step %d: reopen after a second crash: %v", survival, step, err)
	}
	if err := ack.check(s); err != nil {
		t.Fatalf("survival %d, step %d: %v", survival, step, err)
	}
	_, gen, _ := s.LoadRecord()
	if err := s.ReplaceRecord(gen, []byte("goes on")); err != nil {
		t.Fatalf("survival %d, step %d: the store does not go on: %v", survival, step, err)
	}
}

// TestFailureAtEveryStep lets each step fail once, as a full or dying disk does. The failed call
// must not have changed anything, and the same scenario must then complete.
func TestFailureAtEveryStep(t *testing.T) {
	clean := crashfs.New()
	if _, err := installAndRun(clean); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for step := 1; step <= clean.Steps(); step++ {
			disk := crashfs.New()
			disk.Inject(func(n int, _ crashfs.Op, _ string) error {
				if n == step {
					return fault
				}
				return nil
			})
			ack, err := installAndRun(disk)
			if err != nil && !errors.Is(err, fault) {
				t.Fatalf("step %d: %v is not the disk's error", step, err)
			}
			disk.Inject(nil)
			exactly(t, disk.Clone(), ack, step)
			exactly(t, disk.Restart(crashfs.LoseUnsynced), ack, step)
		}
	}
}

// TestShortWriteAtEveryStep lets each write take half of its bytes without an error.
func TestShortWriteAtEveryStep(t *testing.T) {
	for n := 1; ; n++ {
		disk, seen := crashfs.New(), 0
		disk.Inject(func(_ int, op crashfs.Op, _ string) error {
			if op != crashfs.OpWrite {
				return nil
			}
			if seen++; seen == n {
				return crashfs.ErrShortWrite
			}
			return nil
		})
		ack, err := installAndRun(disk)
		if seen < n {
			break
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Fatalf("write %d was short: %v", n, err)
		}
		disk.Inject(nil)
		exactly(t, disk.Restart(crashfs.LoseUnsynced), ack, n)
	}
}

// exactly finds the acknowledged state and nothing newer: a failed call did not happen.
func exactly(t *testing.T, disk *crashfs.Disk, ack acknowledged, step int) {
	t.Helper()
	s, err := open(disk)
	if err != nil {
		t.Fatalf("step %d: reopen: %v", step, err)
	}
	if _, gen, err := s.LoadRecord(); err != nil || gen != ack.generation {
		t.Fatalf("step %d: generation %d, acknowledged %d, %v", step, gen, ack.generation, err)
	}
	if err := ack.check(s); err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
}

func TestFullDiskForGood(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	must(t, s.ReplaceRecord(0, []byte("old")))
	disk.Inject(func(_ int, op crashfs.Op, _ string) error {
		if op == crashfs.OpWrite || op == crashfs.OpCreate {
			return syscall.ENOSPC
		}
		return nil
	})
	if _, err := putBlob(s, pattern(100000)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("blob on a full disk: %v", err)
	}
	wantErr(t, s.ReplaceRecord(1, []byte("new")), syscall.ENOSPC)
	wantErr(t, s.AppData([]byte("a")).Apply(map[string][]byte{"k": {1}}), syscall.ENOSPC)
	if rec, gen, err := s.LoadRecord(); err != nil || gen != 1 || string(rec) != "old" {
		t.Fatalf("record on a full disk: %q, %d, %v", rec, gen, err)
	}
	disk.Inject(nil)
	must(t, s.ReplaceRecord(1, []byte("new")))
}

// TestFsyncOfFolderFailsForGood: the commit is in doubt and the old root cannot be put back; the
// store says so, keeps serving the old state, and heals when the disk does.
func TestFsyncOfFolderFailsForGood(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	must(t, s.ReplaceRecord(0, []byte("old")))
	disk.Inject(func(_ int, op crashfs.Op, name string) error {
		if op == crashfs.OpSyncDir && name == "." {
			return syscall.EIO
		}
		return nil
	})
	wantErr(t, s.ReplaceRecord(1, []byte("new")), syscall.EIO)
	if rec, _, err := s.LoadRecord(); err != nil || string(rec) != "old" {
		t.Fatalf("%q, %v", rec, err)
	}
	for _, survival := range []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced, crashfs.KeepSome} {
		c := disk.Clone()
		c.Inject(nil)
		if _, err := open(c.Restart(survival)); err != nil {
			t.Fatal(err)
		}
	}
	disk.Inject(nil)
	must(t, s.ReplaceRecord(1, []byte("newer")))
	s = mustOpen(t, disk.Restart(crashfs.LoseUnsynced))
	if rec, gen, err := s.LoadRecord(); err != nil || gen != 2 || string(rec) != "newer" {
		t.Fatalf("%q, %d, %v", rec, gen, err)
	}
}

// TestBlobWhoseNameIsNotDurable: a record must not name a blob that loss of power takes away.
func TestBlobWhoseNameIsNotDurable(t *testing.T) {
	disk := crashfs.New()
	s := mustOpen(t, disk)
	disk.Inject(func(_ int, op crashfs.Op, name string) error {
		if op == crashfs.OpSyncDir && name == "blobs" {
			return syscall.EIO
		}
		return nil
	})
	if _, err := putBlob(s, []byte("payload")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("commit: %v", err)
	}
	wantErr(t, s.ReplaceRecord(0, []byte("names the blob")), syscall.EIO)
	disk.Inject(nil)
	must(t, s.ReplaceRecord(0, []byte("names the blob")))
	after := disk.Restart(crashfs.LoseUnsynced)
	s = mustOpen(t, after)
	if err := s.Sweep(func([32]byte) bool { return true }); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range after.Files() {
		if len(f) > 6 && f[:6] == "blobs/" {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d blobs survived, want 1", n)
	}
}

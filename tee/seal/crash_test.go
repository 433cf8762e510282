package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/go-teep/teep/tee"
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
	if steps < 60 {
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

// --- what someone outside the TEE can do to the folder

func populated(t *testing.T) (*crashfs.Disk, acknowledged) {
	t.Helper()
	disk := crashfs.New()
	s := mustOpen(t, disk)
	ack := acknowledged{blobs: map[string][32]byte{}}
	ack.blobs["payload one"] = mustBlob(t, s, []byte("payload one"))
	ack.blobs["large"] = mustBlob(t, s, pattern(150000))
	must(t, s.PutItem("keys", []byte("keys")))
	for _, step := range []string{"record one", "app 1"} {
		must(t, ack.apply(s, step))
	}
	return disk, ack
}

// readEverything returns the first error of opening the store and reading all that is in it.
func readEverything(disk seal.Disk, ack acknowledged) error {
	s, err := open(disk)
	if err != nil {
		return err
	}
	if err := ack.check(s); err != nil {
		return err
	}
	if _, gen, _ := s.LoadRecord(); gen != ack.generation {
		return fmt.Errorf("generation %d instead of %d was used", gen, ack.generation)
	}
	if values, _ := s.AppData([]byte("app")).Load(); string(values["value"]) != ack.app {
		return fmt.Errorf("application data %q instead of %q were used", values["value"], ack.app)
	}
	if b, err := s.Item("keys"); err != nil || string(b) != "keys" {
		return fmt.Errorf("keys: %q, %w", b, err)
	}
	large, err := readBlob(s, ack.blobs["large"])
	if err != nil {
		return err
	}
	if !bytes.Equal(large, pattern(150000)) {
		return errors.New("changed content was used")
	}
	return nil
}

func TestFlippedBitInEveryFile(t *testing.T) {
	disk, ack := populated(t)
	must(t, readEverything(disk.Clone(), ack))
	for _, name := range disk.Files() {
		content := disk.Read(name)
		stride := max(1, len(content)/200)
		for i := 0; i < len(content); i += stride {
			c := disk.Clone()
			changed := bytes.Clone(content)
			changed[i] ^= 1 << (i % 8)
			c.Tamper(name, changed)
			if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) {
				t.Fatalf("%s, byte %d of %d flipped: %v", name, i, len(content), err)
			}
		}
	}
}

func TestTruncatedExtendedAndMissingFiles(t *testing.T) {
	disk, ack := populated(t)
	for _, name := range disk.Files() {
		content := disk.Read(name)
		for _, n := range []int{0, 1, 40, len(content) / 2, len(content) - 1, len(content) - 16, len(content) - 56} {
			c := disk.Clone()
			c.Tamper(name, content[:max(0, n)])
			if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) {
				t.Fatalf("%s cut to %d of %d: %v", name, n, len(content), err)
			}
		}
		c := disk.Clone()
		c.Tamper(name, append(bytes.Clone(content), 0))
		if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) {
			t.Fatalf("%s extended: %v", name, err)
		}
		c = disk.Clone()
		c.Tamper(name, nil)
		if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) && !errors.Is(err, tee.ErrNotExist) {
			t.Fatalf("%s removed: %v", name, err)
		}
	}
}

func TestSwappedFiles(t *testing.T) {
	disk, ack := populated(t)
	files := disk.Files()
	for i, a := range files {
		for _, b := range files[i+1:] {
			c := disk.Clone()
			c.Tamper(a, disk.Read(b))
			c.Tamper(b, disk.Read(a))
			if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) {
				t.Fatalf("%s and %s swapped: %v", a, b, err)
			}
		}
	}
}

// TestOlderCopyOfOneFile puts every single file of an earlier moment back, beside or over what is
// there now, with the file that replaced it still there or not.
func TestOlderCopyOfOneFile(t *testing.T) {
	changes := map[string]func(s *seal.Store, ack *acknowledged) error{
		"record":      func(s *seal.Store, ack *acknowledged) error { return ack.apply(s, "record two") },
		"app":         func(s *seal.Store, ack *acknowledged) error { return ack.apply(s, "app 2") },
		"app removed": func(s *seal.Store, ack *acknowledged) error { return ack.apply(s, "remove") },
		"another app": func(s *seal.Store, _ *acknowledged) error {
			return s.AppData([]byte("other")).Apply(map[string][]byte{"k": {1}})
		},
		"several": func(s *seal.Store, ack *acknowledged) error {
			return errors.Join(ack.apply(s, "record two"), ack.apply(s, "app 2"), ack.apply(s, "record three"))
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			disk, ack := populated(t)
			older := disk.Clone()
			must(t, change(mustOpen(t, disk), &ack))
			must(t, readEverything(disk.Clone(), ack))
			for _, file := range older.Files() {
				if bytes.Equal(older.Read(file), disk.Read(file)) {
					continue
				}
				c := disk.Clone()
				c.Tamper(file, older.Read(file))
				// Found, or without any effect; never used.
				if err := readEverything(c, ack); err != nil && !errors.Is(err, tee.ErrCorrupt) {
					t.Fatalf("older %s put back: %v", file, err)
				}
				if file == "root" {
					if err := readEverything(c, ack); !errors.Is(err, tee.ErrCorrupt) {
						t.Fatalf("older root put back: %v", err)
					}
				}
			}
		})
	}
}

func TestForeignSecret(t *testing.T) {
	disk, _ := populated(t)
	other := bytes.Repeat([]byte{8}, 32)
	if _, err := seal.Open(seal.Config{Disk: disk, Secret: other, Rand: rand.Reader}); !errors.Is(err, tee.ErrCorrupt) {
		t.Fatalf("opened with another secret: %v", err)
	}
}

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

func TestStrangeFilesAreLeftAlone(t *testing.T) {
	disk, ack := populated(t)
	disk.Tamper("items/README", []byte("hello"))
	must(t, readEverything(disk, ack))
	if disk.Read("items/README") == nil {
		t.Fatal("a file that is not the store's was removed")
	}
	if _, err := disk.Open("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

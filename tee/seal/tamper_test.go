package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// populated is a store with something of everything.
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

package snpkey_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	labi "github.com/google/go-sev-guest/client/linuxabi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	sevtest "github.com/google/go-sev-guest/testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/tee/snpkey"
)

// machine is a guest device whose processor derives one key for measurement and policy.
func machine(t *testing.T, key []byte) *sevtest.Device {
	t.Helper()
	const measurementAndPolicy = 1<<3 | 1<<0
	d := &sevtest.Device{
		Keys:       map[string][]byte{sevtest.DerivedKeyRequestToString(&labi.SnpDerivedKeyReqABI{GuestFieldSelect: measurementAndPolicy}): key},
		SevProduct: &sevsnp.SevProduct{Name: sevsnp.SevProduct_SEV_PRODUCT_MILAN},
	}
	if err := d.Open("/dev/sev-guest"); err != nil {
		t.Fatal(err)
	}
	return d
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func open(t *testing.T, disk seal.Disk, k []byte) ([]byte, error) {
	t.Helper()
	secret, counter, err := (&snpkey.Source{Device: machine(t, k)}).Open(disk, rand.Reader)
	if counter != nil {
		t.Error("there is a counter")
	}
	return secret, err
}

func mustOpen(t *testing.T, disk seal.Disk, k []byte) []byte {
	t.Helper()
	secret, err := open(t, disk, k)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestSecret(t *testing.T) {
	disk := crashfs.New()
	first := mustOpen(t, disk, key(1))
	disk = disk.Restart(crashfs.LoseUnsynced)
	if !bytes.Equal(first, mustOpen(t, disk, key(1))) || len(first) < 32 {
		t.Error("the secret changed, or is short")
	}
	if bytes.Equal(first, mustOpen(t, disk, key(2))) {
		t.Error("another image, or another processor, gets the same secret")
	}
	if bytes.Equal(first, mustOpen(t, crashfs.New(), key(1))) {
		t.Error("two states have one secret")
	}
	if bytes.Equal(first, key(1)) {
		t.Error("the derived key is used as it is")
	}
}

func TestAnotherMachineCannotOpenTheStore(t *testing.T) {
	disk := crashfs.New()
	s, err := seal.Open(seal.Config{Disk: disk, Secret: mustOpen(t, disk, key(1)), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReplaceRecord(0, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(seal.Config{Disk: disk, Secret: mustOpen(t, disk, key(2)), Rand: rand.Reader}); !errors.Is(err, tee.ErrCorrupt) {
		t.Errorf("another image opens the state: %v", err)
	}
	if err := disk.Remove("snp-salt"); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, disk, key(1)); !errors.Is(err, tee.ErrCorrupt) {
		t.Errorf("a new salt beside old state: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	if _, _, err := (&snpkey.Source{}).Open(crashfs.New(), rand.Reader); err == nil {
		t.Error("opened without a device")
	}
	if _, err := open(t, crashfs.New(), make([]byte, 32)); err == nil {
		t.Error("a key of zeros was taken")
	}
	if _, _, err := (&snpkey.Source{Device: &sevtest.Device{}}).Open(crashfs.New(), rand.Reader); err == nil {
		t.Error("opened though the processor derives nothing")
	}
	if _, _, err := (&snpkey.Source{Device: machine(t, key(1))}).Open(crashfs.New(), bytes.NewReader(nil)); err == nil {
		t.Error("opened without randomness")
	}
	disk := crashfs.New()
	f, err := disk.Create("snp-salt")
	if err == nil {
		_, err = f.Write([]byte("short"))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, disk, key(1)); !errors.Is(err, tee.ErrCorrupt) {
		t.Errorf("a salt of another size: %v", err)
	}
}

func TestCrashAtFirstStart(t *testing.T) {
	for step := 1; ; step++ {
		disk := crashfs.New()
		disk.CrashAt(step)
		first, err := open(t, disk, key(1))
		if !disk.Crashed() {
			break
		}
		again := mustOpen(t, disk.Restart(crashfs.LoseUnsynced), key(1))
		if err == nil && !bytes.Equal(first, again) {
			t.Fatalf("step %d: the secret that was given out is lost", step)
		}
	}
}

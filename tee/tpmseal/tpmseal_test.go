package tpmseal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/attest/tpm/tpmtest"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/tee/tpmseal"
)

// debugPCR can be reset without starting the TPM again.
const debugPCR = 16

var maker *tpmtest.Maker

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tpmseal-")
	if err == nil {
		maker, err = tpmtest.NewMaker(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func chip(t *testing.T) transport.TPM {
	t.Helper()
	tpmtest.Require(t)
	return maker.Manufacture(t)
}

func source(chip transport.TPM) *tpmseal.Source {
	return &tpmseal.Source{TPM: chip, PCRs: []int{0, 4, debugPCR}}
}

// store opens the store as a TEE does.
func store(disk seal.Disk, s *tpmseal.Source) (*seal.Store, error) {
	secret, counter, err := s.Open(disk, rand.Reader)
	if err != nil {
		return nil, err
	}
	return seal.Open(seal.Config{Disk: disk, Secret: secret, Rand: rand.Reader, Counter: counter})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func extend(t *testing.T, chip transport.TPM) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: debugPCR, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{7}, 32)}}},
	}.Execute(chip)
	must(t, err)
}

func reset(t *testing.T, chip transport.TPM) {
	t.Helper()
	_, err := tpm2.PCRReset{PCRHandle: tpm2.AuthHandle{Handle: debugPCR, Auth: tpm2.PasswordAuth(nil)}}.Execute(chip)
	must(t, err)
}

func TestSealedToWhatBooted(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	s, err := store(disk, source(chip))
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	extend(t, chip)
	_, err = store(disk, source(chip))
	wantErr(t, err, tpmseal.ErrMeasurement)
	// Not by naming other PCRs either: those of the first start count.
	_, err = store(disk, &tpmseal.Source{TPM: chip, PCRs: []int{0}})
	wantErr(t, err, tpmseal.ErrMeasurement)
	reset(t, chip)
	s, err = store(disk, source(chip))
	must(t, err)
	if record, _, err := s.LoadRecord(); err != nil || string(record) != "one" {
		t.Fatalf("%q, %v", record, err)
	}
}

func TestSecretIsTheSameAndNobodyElses(t *testing.T) {
	a, disk := chip(t), crashfs.New()
	first, c, err := source(a).Open(disk, rand.Reader)
	must(t, err)
	second, _, err := source(a).Open(disk, rand.Reader)
	must(t, err)
	if !bytes.Equal(first, second) || len(first) < 32 {
		t.Error("the secret changed, or is short")
	}
	before, err := c.Value()
	must(t, err)
	must(t, c.Increment())
	if after, err := c.Value(); err != nil || after != before+1 {
		t.Errorf("%d after %d, %v", after, before, err)
	}
	other, _, err := source(a).Open(crashfs.New(), rand.Reader)
	must(t, err)
	if bytes.Equal(first, other) {
		t.Error("two states have one secret")
	}
	content := readAll(t, disk, "tpm-sealed-key")
	if bytes.Contains(content, first) || bytes.Contains(content, first[:16]) {
		t.Error("the secret is on the disk")
	}
	if w := strings.Join(source(a).Weaknesses(), " "); !strings.Contains(w, "TPM") {
		t.Errorf("weaknesses: %q", w)
	}
}

func readAll(t *testing.T, disk seal.Disk, name string) []byte {
	t.Helper()
	f, err := disk.Open(name)
	must(t, err)
	size, err := f.Size()
	must(t, err)
	content := make([]byte, size)
	_, err = f.ReadAt(content, 0)
	must(t, err)
	must(t, f.Close())
	return content
}

func TestAnotherTPM(t *testing.T) {
	a, disk := chip(t), crashfs.New()
	s, err := store(disk, source(a))
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	_, err = store(disk.Clone(), source(chip(t)))
	wantErr(t, err, tpmseal.ErrTPM)
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(a)
	must(t, err)
	_, err = store(disk, source(a))
	wantErr(t, err, tpmseal.ErrTPM)
	wantErr(t, err, tee.ErrCorrupt)
	// Begun anew, it works.
	_, err = store(crashfs.New(), source(a))
	must(t, err)
}

func TestRollbackOfTheWholeDisk(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	empty := disk.Clone()
	s, err := store(disk, source(chip))
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	older := disk.Clone()
	must(t, s.ReplaceRecord(1, []byte("two")))
	_, err = store(older.Clone(), source(chip))
	wantErr(t, err, tee.ErrRollback)
	s, err = store(disk.Clone(), source(chip))
	must(t, err)
	if record, _, err := s.LoadRecord(); err != nil || string(record) != "two" {
		t.Fatalf("%q, %v", record, err)
	}
	// The counter that is made for an empty disk does not fit the old state.
	_, err = store(empty, source(chip))
	must(t, err)
	for name, d := range map[string]*crashfs.Disk{"older": older, "newest": disk} {
		if _, err = store(d.Clone(), source(chip)); !errors.Is(err, tee.ErrRollback) {
			t.Errorf("%s state with another counter: %v", name, err)
		}
	}
}

// undefine removes the counter, as the owner of the TPM can.
func undefine(t *testing.T, chip transport.TPM) {
	t.Helper()
	read, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(tpmseal.DefaultIndex)}.Execute(chip)
	must(t, err)
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpmseal.DefaultIndex, Name: read.NVName},
	}.Execute(chip)
	must(t, err)
}

// define puts an index of an attacker's, who owns the TPM, in the counter's place.
func define(t *testing.T, chip transport.TPM, kind tpm2.TPMNT, auth []byte) {
	t.Helper()
	undefine(t, chip)
	public := tpm2.TPMSNVPublic{
		NVIndex: tpmseal.DefaultIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: kind},
	}
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		Auth:       tpm2.TPM2BAuth{Buffer: auth}, PublicInfo: tpm2.New2B(public),
	}.Execute(chip)
	must(t, err)
	name, err := tpm2.NVName(&public)
	must(t, err)
	at := tpm2.AuthHandle{Handle: tpmseal.DefaultIndex, Name: *name, Auth: tpm2.PasswordAuth(auth)}
	index := tpm2.NamedHandle{Handle: tpmseal.DefaultIndex, Name: *name}
	if kind == tpm2.TPMNTCounter {
		_, err = tpm2.NVIncrement{AuthHandle: at, NVIndex: index}.Execute(chip)
	} else {
		_, err = tpm2.NVWrite{AuthHandle: at, NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: []byte{0, 0, 0, 0, 0, 0, 0, 2}}}.Execute(chip)
	}
	must(t, err)
}

const removed = tpm2.TPMNT(255)

func TestCounterOfSomebodyElse(t *testing.T) {
	for name, kind := range map[string]tpm2.TPMNT{"removed": removed, "counter": tpm2.TPMNTCounter, "writable": tpm2.TPMNTOrdinary} {
		t.Run(name, func(t *testing.T) {
			chip, disk := chip(t), crashfs.New()
			s, err := store(disk, source(chip))
			must(t, err)
			must(t, s.ReplaceRecord(0, []byte("one")))
			if kind == removed {
				undefine(t, chip)
			} else {
				define(t, chip, kind, []byte("known"))
			}
			_, err = store(disk.Clone(), source(chip))
			wantErr(t, err, tee.ErrRollback)
			// It keeps nobody from beginning anew.
			_, err = store(crashfs.New(), source(chip))
			must(t, err)
		})
	}
}

func TestDamagedFile(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	_, err := store(disk, source(chip))
	must(t, err)
	content := readAll(t, disk, "tpm-sealed-key")
	for what, changed := range map[string][]byte{
		"empty": {}, "shorter": content[:len(content)-1], "longer": append(bytes.Clone(content), 0), "flipped": flip(content, len(content)-20),
		"public flipped": flip(content, 20),
	} {
		other := disk.Clone()
		must(t, other.Remove("tpm-sealed-key"))
		f, err := other.Create("tpm-sealed-key")
		must(t, err)
		_, err = f.Write(changed)
		must(t, errors.Join(err, f.Sync(), f.Close()))
		if _, err := store(other, source(chip)); !errors.Is(err, tee.ErrCorrupt) && !errors.Is(err, tpmseal.ErrMeasurement) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, disk.Remove("tpm-sealed-key"))
	_, err = store(disk, source(chip))
	wantErr(t, err, tee.ErrCorrupt)
	if _, err := disk.Open("tpm-sealed-key"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new secret was made beside old state")
	}
}

func flip(b []byte, at int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}

func TestIncomplete(t *testing.T) {
	for name, s := range map[string]*tpmseal.Source{"no TPM": {PCRs: []int{0}}, "no PCRs": {TPM: nowhere{}}, "dead TPM": {TPM: nowhere{}, PCRs: []int{0}}} {
		if _, _, err := s.Open(crashfs.New(), rand.Reader); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type nowhere struct{}

func (nowhere) Send([]byte) ([]byte, error) { return nil, errGone }

var errGone = errors.New("the TPM is gone")

// TestCrashAtEveryStep crashes at every step on the disk: the next start is never refused, and never
// shows an older state than what was acknowledged.
func TestCrashAtEveryStep(t *testing.T) {
	chip := chip(t)
	for _, survival := range []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced} {
		for step := 1; ; step++ {
			disk := crashfs.New()
			disk.CrashAt(step)
			acknowledged := live(disk, chip)
			if !disk.Crashed() {
				if step < 20 {
					t.Fatalf("a first start takes only %d steps", step)
				}
				break
			}
			checkAfter(t, fmt.Sprintf("step %d", step), disk.Restart(survival), chip, acknowledged)
		}
	}
}

// live is a first start and a change; it returns the newest generation that was acknowledged.
func live(disk seal.Disk, chip transport.TPM) (acknowledged uint64) {
	s, err := store(disk, source(chip))
	for generation := uint64(0); err == nil && generation < 2; generation++ {
		if err = s.ReplaceRecord(generation, []byte{byte(generation + 1)}); err == nil {
			acknowledged = generation + 1
		}
	}
	return acknowledged
}

func checkAfter(t *testing.T, when string, disk seal.Disk, chip transport.TPM, acknowledged uint64) {
	t.Helper()
	s, err := store(disk, source(chip))
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	record, generation, err := s.LoadRecord()
	if err != nil || generation < acknowledged || generation > 0 && !bytes.Equal(record, []byte{byte(generation)}) {
		t.Fatalf("%s: generation %d with record %x, acknowledged was %d: %v", when, generation, record, acknowledged, err)
	}
	if err := s.ReplaceRecord(generation, []byte("goes on")); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
}

// cutOff is a TPM whose power goes at a command: before it is carried out, or after.
type cutOff struct {
	transport.TPM
	left  int
	after bool
}

func (c *cutOff) Send(command []byte) ([]byte, error) {
	c.left--
	switch {
	case c.left > 0:
		return c.TPM.Send(command)
	case c.left == 0 && c.after:
		if _, err := c.TPM.Send(command); err != nil {
			return nil, err
		}
	}
	return nil, errGone
}

// TestCrashAtEveryCommand is the same with the crash between TEE and TPM: in particular between the
// counter that has counted and the TEE that knows it.
func TestCrashAtEveryCommand(t *testing.T) {
	chip := chip(t)
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			disk, cut := crashfs.New(), &cutOff{TPM: chip, left: n, after: after}
			acknowledged := live(disk, cut)
			if cut.left > 0 {
				if acknowledged != 2 || n < 20 {
					t.Fatalf("%d commands, %d acknowledged", n, acknowledged)
				}
				break
			}
			flushAll(t, chip)
			checkAfter(t, fmt.Sprintf("command %d, after %v", n, after), disk.Restart(crashfs.LoseUnsynced), chip, acknowledged)
		}
	}
}

// flushAll empties the TPM's memory, as a start of the machine does.
func flushAll(t *testing.T, chip transport.TPM) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // transient objects, sessions
		got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(chip)
		must(t, err)
		handles, err := got.CapabilityData.Data.Handles()
		must(t, err)
		for _, h := range handles.Handle {
			_, err := tpm2.FlushContext{FlushHandle: h}.Execute(chip)
			must(t, err)
		}
	}
}

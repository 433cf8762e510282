package tpmseal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/tee/tpmseal"
)

func approver(t *testing.T, alg cose.Algorithm) (*cose.Key, cose.Signer) {
	t.Helper()
	key, err := cose.GenerateKey(rand.Reader, alg)
	must(t, err)
	signer, err := key.Signer()
	must(t, err)
	return key.Public(), signer
}

// booted are the PCRs of source, as they are.
func booted(t *testing.T, chip transport.TPM) map[int][sha256.Size]byte {
	t.Helper()
	values := map[int][sha256.Size]byte{}
	for _, pcr := range source(chip).PCRs {
		bitmap := make([]byte, 3)
		bitmap[pcr/8] |= 1 << (pcr % 8)
		read, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}}.Execute(chip)
		must(t, err)
		values[pcr] = [sha256.Size]byte(read.PCRValues.Digests[0].Buffer)
	}
	return values
}

func approve(t *testing.T, signer cose.Signer, boots ...map[int][sha256.Size]byte) []byte {
	t.Helper()
	file, err := tpmseal.Approve(rand.Reader, signer, boots...)
	must(t, err)
	return file
}

// openAs opens the store as an agent of a version, with what lies beside its image.
func openAs(disk seal.Disk, chip transport.TPM, key *cose.Key, approvals []byte, version uint64) (*seal.Store, error) {
	s := source(chip)
	s.Approver, s.Approvals = key, approvals
	secret, counter, err := s.Open(disk, rand.Reader)
	if err != nil {
		return nil, err
	}
	return seal.Open(seal.Config{Disk: disk, Secret: secret, Rand: rand.Reader, Counter: counter, Version: version})
}

// TestApprovedUpdate: an image that the vendor approved opens the state of the one before, the counter
// counts on, and the older image is refused from then on.
func TestApprovedUpdate(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	key, signer := approver(t, cose.AlgESP256)
	s, err := openAs(disk, chip, key, nil, 1)
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	before, err := s.CounterValue()
	must(t, err)
	older := disk.Clone()

	extend(t, chip) // the update boots
	_, err = openAs(disk, chip, key, nil, 2)
	wantErr(t, err, tpmseal.ErrMeasurement)
	approvals := approve(t, signer, map[int][sha256.Size]byte{7: {1}}, booted(t, chip))
	// Behind the file there may be the rest of a block.
	s, err = openAs(disk, chip, key, append(bytes.Clone(approvals), make([]byte, 512)...), 2)
	must(t, err)
	record, generation, err := s.LoadRecord()
	if err != nil || string(record) != "one" {
		t.Fatalf("%q, %v", record, err)
	}
	must(t, s.ReplaceRecord(generation, []byte("two")))
	if after, err := s.CounterValue(); err != nil || after <= before {
		t.Errorf("the counter is at %d and was at %d, %v", after, before, err)
	}
	_, err = openAs(older, chip, key, approvals, 2)
	wantErr(t, err, tee.ErrRollback)
	// It needs its approval every time: the state stays sealed to the first boot and the approver.
	_, err = openAs(disk, chip, key, nil, 2)
	wantErr(t, err, tpmseal.ErrMeasurement)

	reset(t, chip) // the first image boots again
	_, err = openAs(disk, chip, key, nil, 1)
	wantErr(t, err, seal.ErrOlder)
	_, err = openAs(disk, chip, key, approvals, 0)
	wantErr(t, err, seal.ErrOlder)
	// An image that is built of the first one's parts with the newer version number is another one for
	// the TPM; here, only the number is.
	s, err = openAs(disk, chip, key, nil, 2)
	must(t, err)
	if record, _, err := s.LoadRecord(); err != nil || string(record) != "two" {
		t.Fatalf("%q, %v", record, err)
	}
}

// TestNotApproved: nothing but a signature of the approver that the state names, for exactly what
// booted, opens the state to another boot.
func TestNotApproved(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	key, signer := approver(t, cose.AlgESP256)
	strangerKey, stranger := approver(t, cose.AlgESP256)
	first := booted(t, chip)
	s, err := openAs(disk, chip, key, nil, 0)
	must(t, err)
	must(t, s.ReplaceRecord(0, []byte("one")))
	extend(t, chip)
	now := booted(t, chip)
	fewer, other := map[int][sha256.Size]byte{0: now[0]}, map[int][sha256.Size]byte{0: now[0], 4: now[4], debugPCR: {1}}
	good := approve(t, signer, now)
	refused := func(what string, key *cose.Key, file []byte) {
		t.Helper()
		if _, err := openAs(disk.Clone(), chip, key, file, 0); !errors.Is(err, tpmseal.ErrMeasurement) && !errors.Is(err, tpmseal.ErrApproval) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("nothing", key, nil)
	refused("another signer", key, approve(t, stranger, now))
	refused("another signer, whom the image names", strangerKey, approve(t, stranger, now))
	refused("for the first boot", key, approve(t, signer, first))
	refused("for fewer PCRs", key, approve(t, signer, fewer))
	refused("for another value", key, approve(t, signer, other))
	refused("text", key, []byte("approved!"))
	refused("something behind it", key, append(bytes.Clone(good), 1))
	refused("too long", key, append(bytes.Clone(good), make([]byte, tpmseal.MaxApprovalsBytes)...))
	for at := 3; at < len(good); at += 12 { // TestApprovalMutations has the rest, without a TPM
		refused(fmt.Sprintf("flipped at %d", at), key, flip(good, at))
	}
	if _, err := openAs(disk.Clone(), chip, key, good, 0); err != nil {
		t.Errorf("the good one: %v", err)
	}
	// An image without an approver in it opens it too, if it is approved: the state has the say.
	if _, err := openAs(disk.Clone(), chip, nil, good, 0); err != nil {
		t.Errorf("the good one, no approver in the image: %v", err)
	}
}

// TestApproverIsSealed: the host cannot put another approver into the file, nor make a state that was
// begun without one have one.
func TestApproverIsSealed(t *testing.T) {
	chip := chip(t)
	key, _ := approver(t, cose.AlgESP256)
	strangerKey, stranger := approver(t, cose.AlgESP256)
	for name, at := range map[string]*cose.Key{"with an approver": key, "without": nil} {
		disk := crashfs.New()
		_, err := openAs(disk, chip, at, nil, 0)
		must(t, err)
		var file []any
		must(t, cbor.Unmarshal(readAll(t, disk, "tpm-sealed-key"), &file))
		extend(t, chip)
		now := booted(t, chip)
		public, err := strangerKey.CryptoPublic()
		must(t, err)
		point, err := public.(interface{ Bytes() ([]byte, error) }).Bytes()
		must(t, err)
		firsts := [][]byte{make([]byte, 32)}
		if at != nil {
			firsts = append(firsts, file[5].([]byte))
		}
		for _, first := range firsts {
			forged := append([]any{2}, file[1], file[2], file[3], file[4], first, point[1:])
			content, err := cbor.Marshal(forged)
			must(t, err)
			other := disk.Clone()
			must(t, other.Remove("tpm-sealed-key"))
			f, err := other.Create("tpm-sealed-key")
			must(t, err)
			_, err = f.Write(content)
			must(t, errors.Join(err, f.Sync(), f.Close()))
			if _, err := openAs(other, chip, key, approve(t, stranger, now), 0); !errors.Is(err, tpmseal.ErrMeasurement) && !errors.Is(err, tee.ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
		reset(t, chip)
	}
}

// TestNoApproverLater: a state that was begun without an approver opens for its first boot only.
func TestNoApproverLater(t *testing.T) {
	chip, disk := chip(t), crashfs.New()
	key, signer := approver(t, cose.AlgESP256)
	_, err := openAs(disk, chip, nil, nil, 0)
	must(t, err)
	_, err = openAs(disk, chip, key, nil, 0)
	must(t, err)
	extend(t, chip)
	_, err = openAs(disk, chip, key, approve(t, signer, booted(t, chip)), 0)
	wantErr(t, err, tpmseal.ErrMeasurement)
}

func TestApproveRefuses(t *testing.T) {
	_, signer := approver(t, cose.AlgESP256)
	_, ed := approver(t, cose.AlgEd25519)
	_, p384 := approver(t, cose.AlgESP384)
	boot := map[int][sha256.Size]byte{0: {}}
	many := make([]map[int][sha256.Size]byte, 65)
	for i := range many {
		many[i] = boot
	}
	for name, tc := range map[string]struct {
		signer cose.Signer
		boots  []map[int][sha256.Size]byte
	}{
		"no boot": {signer, nil}, "no PCRs": {signer, []map[int][sha256.Size]byte{{}}}, "PCR 24": {signer, []map[int][sha256.Size]byte{{24: {}}}},
		"PCR -1": {signer, []map[int][sha256.Size]byte{{-1: {}}}}, "Ed25519": {ed, many[:1]}, "P-384": {p384, many[:1]}, "too many": {signer, many},
	} {
		if file, err := tpmseal.Approve(rand.Reader, tc.signer, tc.boots...); !errors.Is(err, tpmseal.ErrApproval) || file != nil {
			t.Errorf("%s: %x, %v", name, file, err)
		}
	}
	chip := chip(t)
	edKey, _ := approver(t, cose.AlgEd25519)
	disk := crashfs.New()
	_, err := openAs(disk, chip, edKey, nil, 0)
	wantErr(t, err, tpmseal.ErrApproval)
	if begun, err := seal.HasStore(disk); err != nil || begun {
		t.Errorf("a state was begun with an approver that cannot approve: %v", err)
	}
}

// TestCrashAtEveryStepOfAnUpdate: the first start of an approved update is cut short at every step on the
// disk. The next one goes on, with what was there.
func TestCrashAtEveryStepOfAnUpdate(t *testing.T) {
	chip := chip(t)
	key, signer := approver(t, cose.AlgESP256)
	for step := 1; ; step++ {
		disk := crashfs.New()
		s, err := openAs(disk, chip, key, nil, 1)
		must(t, err)
		must(t, s.ReplaceRecord(0, []byte("one")))
		extend(t, chip)
		approvals := approve(t, signer, booted(t, chip))
		disk.CrashAt(step)
		_, err = openAs(disk, chip, key, approvals, 2)
		crashed := disk.Crashed()
		if !crashed {
			must(t, err)
		}
		s, err = openAs(disk.Restart(crashfs.LoseUnsynced), chip, key, approvals, 2)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if record, _, err := s.LoadRecord(); err != nil || string(record) != "one" {
			t.Fatalf("step %d: %q, %v", step, record, err)
		}
		reset(t, chip)
		if !crashed {
			return
		}
	}
}

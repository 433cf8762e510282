package tpmseal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
)

// FuzzKeyFile: whatever the host makes of the file is refused as damaged, or is one that would be
// written as it is.
func FuzzKeyFile(f *testing.F) {
	first := firstKey{Version: 1, PCRs: []int{0, 4}, Index: DefaultIndex, Public: []byte("public"), Private: []byte("private")}
	approved := sealedKey{Version: 2, PCRs: []int{0}, Index: 1, First: make([]byte, 32), Approver: make([]byte, 64)}
	for _, v := range []any{first, approved, sealedKey{Version: 1, PCRs: []int{0}}, sealedKey{Version: 2, PCRs: []int{24}}, []int{1}, nil} {
		data, err := cbor.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKey(data)
		if err != nil {
			if k != nil || !errors.Is(err, tee.ErrCorrupt) {
				t.Fatalf("%v, %v", k, err)
			}
			return
		}
		if k.Version == 2 && len(k.Approver) != 64 || k.Version == 1 && k.Approver != nil {
			t.Fatalf("version %d with an approver of %d bytes", k.Version, len(k.Approver))
		}
		selection(k.PCRs) // indexes a bitmap
		if k.Approver != nil {
			if _, _, err := eitherPolicy(k.First, k.Approver); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestApprovalMutations cuts approvals at, and flips each bit of, every position: what is left of a changed
// one is either not read, or signs something else than before.
func TestApprovalMutations(t *testing.T) {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	good, err := Approve(rand.Reader, signer, map[int][sha256.Size]byte{0: {1}, 9: {2}})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := key.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	holds := func(data []byte) bool {
		all, err := parseApprovals(data)
		return err == nil && len(all) == 1 && verifier.Verify(approvedMessage(all[0].Policy), all[0].Signature) == nil
	}
	if !holds(good) {
		t.Fatal("the good one does not verify")
	}
	for at := range good {
		if holds(good[:at]) {
			t.Errorf("cut at %d: verifies", at)
		}
		for bit := range 8 {
			flipped := bytes.Clone(good)
			flipped[at] ^= 1 << bit
			if holds(flipped) {
				t.Errorf("bit %d of byte %d flipped: verifies", bit, at)
			}
		}
	}
}

// FuzzApprovals: what is accepted is of the sizes that a TPM can be given, and encodes to itself.
func FuzzApprovals(f *testing.F) {
	good, err := cbor.Marshal(approvals{Version: 1, All: []approval{{Policy: make([]byte, 32), Signature: make([]byte, 64)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(bytes.Clone(good), 0, 0, 0))
	f.Add(append(bytes.Clone(good), 0, 1))
	f.Add([]byte{0xf6})
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseApprovals(data)
		if err != nil {
			if all != nil || !errors.Is(err, ErrApproval) {
				t.Fatalf("%v, %v", all, err)
			}
			return
		}
		again, err := cbor.Marshal(approvals{Version: 1, All: all})
		if err != nil {
			t.Fatal(err)
		}
		if reread, err := parseApprovals(again); err != nil || len(reread) != len(all) {
			t.Fatalf("%d approvals became %d, %v", len(all), len(reread), err)
		}
	})
}

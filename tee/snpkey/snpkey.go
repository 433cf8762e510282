// Package snpkey seals the state of a TEE under a key that AMD's security processor derives for a
// confidential virtual machine (SEV-SNP Firmware ABI §7.2, MSG_KEY_REQ): from the chip, the launch
// measurement of the machine and its policy. Another image gets another key, and so does the same one
// on another processor.
//
//	device, err := client.OpenDevice() // /dev/sev-guest
//	source := &snpkey.Source{Device: device}
//	t, err := sandbox.Open(ctx, sandbox.Config{Keys: source, …})
//
// The derived key is not used as it is: it goes through HKDF with a random salt beside the store, so
// that two states never have one secret. There is no counter: rollback of the whole store is not found.
// The key is derived from the chip's versioned endorsement key (VCEK), and so changes when the
// processor's firmware is updated: the state is sealed anew by installing again.
//
// It was tried with a stand-in for the device; it has not run on such a processor yet.
package snpkey

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/go-sev-guest/client"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
)

// Source is a seal.KeySource.
type Source struct {
	// Device is the guest's way to the security processor. It stays the caller's.
	Device client.Device
}

var _ seal.KeySource = (*Source)(nil)

const (
	saltFile = "snp-salt"
	saltTemp = "snp-salt.tmp"
	saltSize = 32
)

// Weaknesses implements seal.KeySource.
func (s *Source) Weaknesses() []string {
	return []string{"sealing key derived by the processor: every machine of this image and policy on this processor can open the state"}
}

// Open implements seal.KeySource. There is no counter.
func (s *Source) Open(disk seal.Disk, rand io.Reader) ([]byte, seal.MonotonicCounter, error) {
	if s.Device == nil {
		return nil, nil, errors.New("snpkey: there is no guest device")
	}
	salt, err := readSalt(disk)
	if errors.Is(err, fs.ErrNotExist) {
		salt, err = makeSalt(disk, rand)
	}
	if err != nil {
		return nil, nil, err
	}
	derived, err := client.GetDerivedKeyAcknowledgingItsLimitations(s.Device, &client.SnpDerivedKeyReq{
		UseVCEK: true, GuestFieldSelect: client.GuestFieldSelect{Measurement: true, GuestPolicy: true},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("snpkey: the processor derives no key: %w", err)
	}
	defer clear(derived.Data[:])
	if derived.Status != 0 || bytes.Equal(derived.Data[:], make([]byte, len(derived.Data))) {
		return nil, nil, fmt.Errorf("snpkey: the processor derives no key: status %#x", derived.Status)
	}
	secret, err := hkdf.Key(sha256.New, derived.Data[:], salt, "go-teep snpkey 1\x00sealing", 32)
	return secret, nil, err
}

func readSalt(disk seal.Disk) ([]byte, error) {
	f, err := disk.Open(saltFile)
	if err != nil {
		return nil, err
	}
	b := make([]byte, saltSize+1)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("snpkey: read the salt: %w", err)
	}
	if n != saltSize {
		return nil, fmt.Errorf("%w: the file %s has another size than %d bytes: restore it from a backup, or empty the disk to begin anew with a new identity", tee.ErrCorrupt, saltFile, saltSize)
	}
	return b[:n], nil
}

// makeSalt makes a new salt, unless there is state that another one has sealed.
func makeSalt(disk seal.Disk, rand io.Reader) ([]byte, error) {
	begun, err := seal.HasStore(disk)
	if err != nil {
		return nil, err
	}
	if begun {
		return nil, fmt.Errorf("%w: the file %s is missing but there is sealed state: restore it from a backup, or empty the disk to begin anew with a new identity", tee.ErrCorrupt, saltFile)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return nil, fmt.Errorf("snpkey: make a salt: no randomness: %w", err)
	}
	if err := disk.Remove(saltTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := disk.Create(saltTemp)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(salt); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := disk.Rename(saltTemp, saltFile); err != nil {
		return nil, err
	}
	return salt, disk.SyncDir(".")
}

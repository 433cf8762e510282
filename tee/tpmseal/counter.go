package tpmseal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
)

const counterSize = 8

// counter is an NV index of type counter, in use.
type counter struct {
	chip transport.TPM
	auth []byte
	mu   sync.Mutex // reading and counting are two commands of a session each
	at   tpm2.NamedHandle
}

var _ seal.MonotonicCounter = (*counter)(nil)

// counterPublic is the counter as it is made. Its data are read and counted up with its authorization
// value alone; wrong values lock nothing.
func counterPublic(index uint32) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: counterSize,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTCounter},
	}
}

// openCounter finds the counter, or makes it as long as no store was begun with it.
func openCounter(chip transport.TPM, root *root, index uint32, auth []byte, begun bool) (*counter, error) {
	c := &counter{chip: chip, auth: auth, at: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index)}}
	written, err := c.find()
	if err == nil && written {
		_, err = c.Value()
	}
	switch {
	case err == nil && written:
		return c, nil
	case err != nil && !errors.Is(err, errNotOurs) && !errors.Is(err, errNoIndex):
		return nil, err
	case begun:
		// Whoever owns the TPM can remove the counter, and did.
		if err == nil {
			err = errNotCounted
		}
		return nil, fmt.Errorf("%w: the TPM's counter %#x is not the one that the state is bound to: %w", tee.ErrRollback, index, err)
	}
	if !errors.Is(err, errNoIndex) {
		// A state that is gone left it behind, or a start that was cut short. What was bound to it
		// cannot come back: the counter that is made here is another.
		if err := c.remove(); err != nil {
			return nil, err
		}
	}
	if err := c.define(root, index); err != nil {
		return nil, err
	}
	// The first count is above every count that this TPM has seen.
	if err := c.Increment(); err != nil {
		return nil, err
	}
	return c, nil
}

var (
	errNoIndex    = errors.New("there is no such index")
	errNotOurs    = errors.New("it is somebody else's")
	errNotCounted = errors.New("it was made again since")
)

// find looks at the index: whether it is there, and is a counter as made here.
func (c *counter) find() (written bool, err error) {
	read, err := tpm2.NVReadPublic{NVIndex: c.at.Handle}.Execute(c.chip)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return false, errNoIndex
	}
	if err != nil {
		return false, fmt.Errorf("tpmseal: look for the counter %#x: %w", c.at.Handle, err)
	}
	have, err := read.NVPublic.Contents()
	if err != nil {
		return false, fmt.Errorf("tpmseal: counter %#x: %w", c.at.Handle, err)
	}
	written = have.Attributes.Written
	want := counterPublic(uint32(c.at.Handle))
	want.Attributes.Written = written
	name, err := tpm2.NVName(&want)
	if err != nil {
		return false, fmt.Errorf("tpmseal: counter %#x: %w", c.at.Handle, err)
	}
	// The name that commands are authorized for is computed here, so that an index of another kind in
	// the counter's place is of no use.
	c.at.Name = *name
	if string(name.Buffer) != string(read.NVName.Buffer) {
		return written, errNotOurs
	}
	return written, nil
}

func (c *counter) define(root *root, index uint32) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, append(root.encrypted(true), tpm2.Auth(nil))...)},
		Auth:       tpm2.TPM2BAuth{Buffer: c.auth},
		PublicInfo: tpm2.New2B(counterPublic(index)),
	}.Execute(c.chip)
	if err != nil {
		return fmt.Errorf("tpmseal: make the counter %#x, as the owner of the TPM: %w", index, err)
	}
	_, err = c.find()
	return err
}

// remove removes the index, whatever it is.
func (c *counter) remove() error {
	read, err := tpm2.NVReadPublic{NVIndex: c.at.Handle}.Execute(c.chip)
	if err == nil {
		_, err = tpm2.NVUndefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: c.at.Handle, Name: read.NVName},
		}.Execute(c.chip)
	}
	if err != nil {
		return fmt.Errorf("tpmseal: remove the counter %#x that an earlier state left, as the owner of the TPM: %w", c.at.Handle, err)
	}
	return nil
}

// authorized is the index with a session that proves knowledge of the authorization value, and in which
// the TPM proves the same with its answer.
func (c *counter) authorized() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: c.at.Handle, Name: c.at.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Auth(c.auth))}
}

// Value implements seal.MonotonicCounter.
func (c *counter) Value() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read, err := tpm2.NVRead{AuthHandle: c.authorized(), NVIndex: c.at, Size: counterSize}.Execute(c.chip)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return 0, errNotOurs
	}
	if err != nil {
		return 0, fmt.Errorf("tpmseal: read the counter %#x: %w", c.at.Handle, err)
	}
	if len(read.Data.Buffer) != counterSize {
		return 0, fmt.Errorf("tpmseal: read the counter %#x: %d bytes", c.at.Handle, len(read.Data.Buffer))
	}
	return binary.BigEndian.Uint64(read.Data.Buffer), nil
}

// Increment implements seal.MonotonicCounter.
func (c *counter) Increment() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := (tpm2.NVIncrement{AuthHandle: c.authorized(), NVIndex: c.at}).Execute(c.chip); err != nil {
		return fmt.Errorf("tpmseal: count up %#x: %w", c.at.Handle, err)
	}
	// The first time changes the index's attributes, and so its name.
	if written, err := c.find(); err != nil || !written {
		return fmt.Errorf("tpmseal: the counter %#x changed while it was used: %w", c.at.Handle, errors.Join(err, errNotOurs))
	}
	return nil
}

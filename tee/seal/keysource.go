package seal

import "io"

// KeySource is what the protection of a store comes from: what the hardware of the TEE keeps for it,
// a TPM for one, or a file where there is nothing better.
type KeySource interface {
	// Open returns the sealing secret, at least 32 bytes, the same at every start of the same TEE and
	// at none of another; and the monotonic counter, nil where there is none. At the first start it
	// makes them. What it has to keep outside the hardware it keeps in disk, under names of its own.
	// The caller zeroes the secret. Errors are tee.ErrCorrupt and tee.ErrRollback where they apply.
	Open(disk Disk, rand io.Reader) (secret []byte, counter MonotonicCounter, err error)
	// Weaknesses says in words, for the Evidence, what the secret is not protected against.
	Weaknesses() []string
}

// HasStore tells whether there is a store on a disk: a KeySource that finds a store and not what
// sealed it does not begin anew.
func HasStore(disk Disk) (bool, error) {
	names, err := disk.List(".")
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if name == rootFile {
			return true, nil
		}
	}
	return false, nil
}

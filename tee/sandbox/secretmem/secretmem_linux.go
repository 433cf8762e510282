package secretmem

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// New makes a page, as well protected as the kernel allows. If that is not at all, the page is
// usable and of KindPlain, and the error says why; without a page there is no memory.
func New() (*Page, error) {
	size := os.Getpagesize()
	memory, err := secretMemory(size)
	if err == nil {
		return &Page{memory: memory, kind: KindSecret}, nil
	}
	memory, mapErr := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if mapErr != nil {
		return nil, fmt.Errorf("secretmem: no memory: %w", mapErr)
	}
	p := &Page{memory: memory, kind: KindLocked}
	// Dumps are off for the whole process; this is for kernels that dump all the same.
	_ = unix.Madvise(memory, unix.MADV_DONTDUMP)
	if lockErr := unix.Mlock(memory); lockErr != nil {
		p.kind = KindPlain
		return p, fmt.Errorf("memfd_secret: %w; mlock: %w", err, lockErr)
	}
	return p, nil
}

func secretMemory(size int) ([]byte, error) {
	fd, err := unix.MemfdSecret(unix.FD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// release gives the memory back and leaves zeros that can only be read in its place, so that
// whoever still has a slice of it neither crashes nor reads what comes there next.
func release(memory []byte, kind Kind) error {
	at := unsafe.Pointer(unsafe.SliceData(memory))
	if kind == KindLocked {
		if err := unix.Munlock(memory); err != nil {
			return err
		}
	}
	_, err := unix.MmapPtr(-1, 0, at, uintptr(len(memory)), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED)
	return err
}

//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/go-teep/teep/tee/seal"
)

// lockFile holds no data; whoever has it locked owns the folder.
const lockFile = "lock"

// ErrInUse says that another process, or another TEE in this one, uses the folder.
var ErrInUse = errors.New("sandbox: the folder is in use")

// claimFolder makes or checks the TEE's folder and takes its lock.
func claimFolder(dir string) (disk seal.Disk, release func() error, err error) {
	if dir == "" {
		return nil, nil, errors.New("sandbox: no folder is configured")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("sandbox: make the folder: %w", err)
	}
	if err := checkPrivate(dir); err != nil {
		return nil, nil, err
	}
	folder, err := seal.OpenFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, nil, errors.Join(err, folder.Close())
	}
	if err := checkFiles(dir); err != nil {
		return nil, nil, errors.Join(err, lock.Close(), folder.Close())
	}
	return folder, func() error { return errors.Join(folder.Close(), lock.Close()) }, nil
}

// checkFiles refuses a device secret that others could have read.
func checkFiles(dir string) error {
	name := dir + "/" + secretFile
	if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return checkPrivate(name)
}

// checkPrivate refuses what belongs to somebody else or is open to anybody else.
func checkPrivate(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("sandbox: %s is a symbolic link: name what it points to", name)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("sandbox: %s belongs to user %d and this process runs as %d: chown it, or run as its owner", name, st.Uid, os.Geteuid())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("sandbox: %s is open to other users (mode %04o): nobody can tell who has read it; if that is harmless, close it with chmod go= %s", name, perm, name)
	}
	return nil
}

func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir+"/"+lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sandbox: lock the folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: another agent runs on %s; stop it, or give this one a folder of its own", ErrInUse, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

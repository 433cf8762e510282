//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/go-teep/teep/tee/seal"
)

// lockFile holds no data; whoever has it locked owns the folder.
const lockFile = "lock"

// ErrInUse says that another process, or another TEE in this one, uses the folder.
var ErrInUse = errors.New("sandbox: the folder is in use")

// claimFolder makes or checks the TEE's folder and takes its lock, unless it is held already.
func claimFolder(dir string, held *os.File) (disk seal.Disk, release func() error, err error) {
	if dir == "" {
		return nil, nil, errors.New("sandbox: no folder is configured")
	}
	if err := makeFolder(dir); err != nil {
		return nil, nil, err
	}
	if err := checkPrivate(dir, os.Geteuid()); err != nil {
		return nil, nil, err
	}
	folder, err := seal.OpenFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	unlock := func() error { return nil }
	if held == nil {
		lock, err := takeLock(dir)
		if err != nil {
			return nil, nil, errors.Join(err, folder.Close())
		}
		unlock = lock.Close
	}
	if err := checkFiles(dir); err != nil {
		return nil, nil, errors.Join(err, unlock(), folder.Close())
	}
	return folder, func() error { return errors.Join(folder.Close(), unlock()) }, nil
}

func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("sandbox: make the folder: %w", err)
	}
	return nil
}

// Prepare makes or checks the folder of a TEE that is to run as user uid, and takes its lock. A
// launcher that is root gives a folder of root's to that user. An agent that was just killed may
// hold the lock for a moment: Prepare waits up to patience for it.
func Prepare(dir string, uid, gid int, patience time.Duration) (lock *os.File, err error) {
	if dir == "" {
		return nil, errors.New("sandbox: no folder is configured")
	}
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	owner := uid
	mine := os.Geteuid() == 0 && uid != 0 && belongsTo(dir, 0)
	if mine {
		owner = 0
	}
	if err := checkPrivate(dir, owner); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		lock, err = takeLock(dir)
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			break
		}
	}
	if err == nil && mine {
		if err = giveAway(dir, uid, gid); err != nil {
			err = errors.Join(err, lock.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return lock, nil
}

func belongsTo(name string, uid int) bool {
	info, err := os.Lstat(name)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// giveAway changes the owner of everything in a folder and of the folder itself last: until then
// nobody but root can put anything in it, and a change that was interrupted is begun again.
func giveAway(dir string, uid, gid int) error {
	var names []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("sandbox: give the folder to user %d: %w", uid, err)
	}
	for _, name := range slices.Backward(names) {
		if err := os.Lchown(name, uid, gid); err != nil {
			return fmt.Errorf("sandbox: give the folder to user %d: %w", uid, err)
		}
	}
	return nil
}

// checkFiles refuses a device secret that others could have read.
func checkFiles(dir string) error {
	name := dir + "/" + secretFile
	if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return checkPrivate(name, os.Geteuid())
}

// checkPrivate refuses what belongs to somebody else or is open to anybody else.
func checkPrivate(name string, uid int) error {
	info, err := os.Lstat(name)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("sandbox: %s is a symbolic link: name what it points to", name)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
		return fmt.Errorf("sandbox: %s belongs to user %d and the TEE runs as %d: chown it, or run as its owner", name, st.Uid, uid)
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

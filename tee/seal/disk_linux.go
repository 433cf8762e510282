package seal

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback starts writing a part of a file to the disk and does not wait for it. It makes
// nothing durable, Sync does; so what it could not do does not matter.
func beginWriteback(f *os.File, offset, size int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, size, unix.SYNC_FILE_RANGE_WRITE)
}

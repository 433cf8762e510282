package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// Disk is the folder that a store lives in, reduced to what the store does with it, so that a test
// can stand in at every step; crashfs does. Names are slash-separated and relative. Errors satisfy
// errors.Is with fs.ErrNotExist and fs.ErrExist where they apply.
//
// Nothing is assumed durable that was not synced: the content of a file by WriteFile.Sync, its
// name by SyncDir of the folder that holds it. Rename replaces atomically.
// Implementations are safe for concurrent use.
type Disk interface {
	// Create makes a new file; fs.ErrExist if there is one already.
	Create(name string) (WriteFile, error)
	Open(name string) (ReadFile, error)
	// Rename moves a file within its folder, replacing what has the new name.
	Rename(from, to string) error
	Remove(name string) error
	// Mkdir makes a folder; it is no error if there is one.
	Mkdir(name string) error
	// List returns the names in a folder, "." for the store's own, in no particular order.
	List(dir string) ([]string, error)
	// SyncDir makes creations, renames and removals in a folder durable.
	SyncDir(dir string) error
}

// WriteFile is a new file being written from its beginning to its end.
type WriteFile interface {
	io.Writer
	// Sync makes what was written durable. After an error nothing may be assumed of it.
	Sync() error
	Close() error
}

// ReadFile is a file open for reading. ReadAt is safe for concurrent use.
type ReadFile interface {
	io.ReaderAt
	Size() (int64, error)
	Close() error
}

// Folder is a Disk on a folder of the operating system. It cannot be led outside by symbolic links.
type Folder struct{ root *os.Root }

// OpenFolder opens an existing folder. The caller has checked its owner and permissions.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("seal: open the store's folder: %w", err)
	}
	return &Folder{root: root}, nil
}

// Close releases the folder. Open files stay usable.
func (f *Folder) Close() error { return f.root.Close() }

// Create implements Disk. Files are readable by their owner alone.
func (f *Folder) Create(name string) (WriteFile, error) {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &writeFile{File: file}, nil
}

// writeFile has the system begin to write to the disk while there is more to come, so that Sync has
// little left to wait for.
type writeFile struct {
	*os.File
	written, begun int64
}

// writeback is how much is written to the disk at a time.
const writeback = 8 << 20

func (f *writeFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += int64(n)
	if f.written-f.begun >= writeback {
		beginWriteback(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, err
}

// Open implements Disk.
func (f *Folder) Open(name string) (ReadFile, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("seal: %s is not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return readFile{file}, nil
}

type readFile struct{ *os.File }

func (f readFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Rename implements Disk.
func (f *Folder) Rename(from, to string) error {
	if path.Dir(from) != path.Dir(to) {
		return fmt.Errorf("seal: rename %s to %s: not the same folder", from, to)
	}
	return f.root.Rename(from, to)
}

// Remove implements Disk.
func (f *Folder) Remove(name string) error { return f.root.Remove(name) }

// Mkdir implements Disk.
func (f *Folder) Mkdir(name string) error {
	err := f.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// List implements Disk.
func (f *Folder) List(dir string) ([]string, error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// SyncDir implements Disk.
func (f *Folder) SyncDir(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package image

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// file is one entry of the initramfs.
type file struct {
	name    string // from the root, without a slash before it
	mode    uint32 // permissions
	content []byte
}

// File types in the mode of an entry (Linux, Documentation/driver-api/early-userspace/buffer-format).
const (
	modeFolder  = 0o040000
	modeRegular = 0o100000
)

// maxInitramfs bounds all contents together: a machine unpacks them into its memory.
const maxInitramfs = 256 << 20

// writeInitramfs writes the files and the folders above them as a gzip-compressed cpio archive in
// the "newc" format. The same files give the same bytes: sorted by name, owned by root, at the
// beginning of time, numbered in order.
func writeInitramfs(w io.Writer, files []file) error {
	entries, err := withFolders(files)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	archive := &cpioWriter{w: z}
	for _, e := range entries {
		archive.entry(e)
	}
	archive.entry(file{name: "TRAILER!!!"})
	archive.pad(512)
	if archive.err != nil {
		return fmt.Errorf("image: initramfs: %w", archive.err)
	}
	return z.Close()
}

// withFolders sorts the files and puts every folder before what is in it.
func withFolders(files []file) ([]file, error) {
	all := map[string]file{}
	size := 0
	for _, f := range files {
		f.name = strings.TrimPrefix(path.Clean("/"+f.name), "/")
		if f.name == "" {
			return nil, fmt.Errorf("image: a file without a name")
		}
		if old, twice := all[f.name]; twice && !bytes.Equal(old.content, f.content) {
			return nil, fmt.Errorf("image: two files would be /%s in the image: rename one", f.name)
		}
		if size += len(f.content); size > maxInitramfs {
			return nil, fmt.Errorf("image: more than %d MiB of files", maxInitramfs>>20)
		}
		f.mode = modeRegular | f.mode&0o777
		all[f.name] = f
	}
	for name := range all {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if f, is := all[dir]; is && f.mode&modeRegular == modeRegular {
				return nil, fmt.Errorf("image: /%s would be a file and a folder", dir)
			}
			all[dir] = file{name: dir, mode: modeFolder | 0o755}
		}
	}
	entries := make([]file, 0, len(all))
	for _, f := range all {
		entries = append(entries, f)
	}
	// "a" sorts before "a/b".
	slices.SortFunc(entries, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// cpioWriter keeps the first error.
type cpioWriter struct {
	w    io.Writer
	at   int64
	inos uint32
	err  error
}

func (c *cpioWriter) write(p []byte) {
	if c.err == nil {
		var n int
		n, c.err = c.w.Write(p)
		c.at += int64(n)
	}
}

func (c *cpioWriter) pad(to int64) {
	if odd := c.at % to; odd != 0 {
		c.write(make([]byte, to-odd))
	}
}

// entry writes a header of 110 characters, the name with a zero byte, and the content, each padded
// to four bytes.
func (c *cpioWriter) entry(f file) {
	c.inos++
	links := 1
	if f.mode&modeFolder == modeFolder {
		links = 2
	}
	// magic, then 13 numbers of 8 hexadecimal digits: inode, mode, uid, gid, links, mtime, size,
	// device (major, minor), its own device number (major, minor), length of the name, checksum.
	c.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inos, f.mode, 0, 0, links, 0, len(f.content), 0, 0, 0, 0, len(f.name)+1, 0))
	c.write(append([]byte(f.name), 0))
	c.pad(4)
	c.write(f.content)
	c.pad(4)
}

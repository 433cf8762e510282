package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-teep/teep/tee"
)

const (
	maxOpenFiles = 256
	maxFiles     = 4096
	maxPathBytes = 255
)

// node is one file. It stays usable through open descriptors after its name is gone.
type node struct {
	ino    uint64
	data   []byte
	shared bool     // data is the caller's: copy before writing
	blob   tee.Blob // a read-only file that is not in memory
	open   int      // descriptors of it
	gone   bool     // it has no name any longer
}

func (n *node) size() int64 {
	if n.blob != nil {
		return n.blob.Size()
	}
	return int64(len(n.data))
}

// volume is the files below one mount point during one invocation. /data is a volume that loads
// the application's sealed storage when it is first touched and tells afterwards what changed.
type volume struct {
	load     func() (map[string][]byte, error) // nil: nothing to load
	quota    int64                             // bytes in all files
	readOnly bool
	mtime    int64 // of everything, nanoseconds since 1970

	before map[string][]byte // as loaded, nil before
	files  map[string]*node
	dirs   map[string]bool // made by mkdir; others exist because files are in them
	used   int64
	ino    uint64
	opened int

	full  bool  // a limit was reached
	fault error // what was below the volume failed
}

func newVolume(data tee.AppData, quota int64, mtime int64) *volume {
	v := &volume{quota: quota, mtime: mtime, files: map[string]*node{}, dirs: map[string]bool{}}
	if data == nil {
		v.readOnly = true
	} else {
		v.load = data.Load
	}
	return v
}

// newReadOnlyVolume serves blobs by name. A name that is no path is an error.
func newReadOnlyVolume(blobs map[string]tee.Blob, mtime int64) (*volume, error) {
	v := &volume{readOnly: true, mtime: mtime, files: map[string]*node{}, dirs: map[string]bool{}}
	for name, b := range blobs {
		if !validName(name) {
			return nil, fmt.Errorf("wasm: personalization %q: the name is not a relative path of at most %d bytes", name, maxPathBytes)
		}
		v.add(name, &node{blob: b})
	}
	for name := range blobs {
		if v.isDir(name) {
			return nil, fmt.Errorf("wasm: personalization %q is a file and a folder", name)
		}
	}
	return v, nil
}

func validName(p string) bool {
	return p != "." && fs.ValidPath(p) && len(p) <= maxPathBytes && utf8.ValidString(p) && !strings.ContainsRune(p, 0)
}

func (v *volume) add(name string, n *node) {
	v.ino++
	n.ino = v.ino
	v.files[name] = n
}

// ensure loads the volume at its first use.
func (v *volume) ensure() bool {
	if v.load == nil {
		return v.fault == nil
	}
	values, err := v.load()
	v.load = nil
	if err != nil {
		v.fault = err
		return false
	}
	v.before = values
	for name, value := range values {
		v.add(name, &node{data: value, shared: true})
		v.used += int64(len(value))
	}
	return true
}

func (v *volume) isDir(name string) bool {
	if name == "." || v.dirs[name] {
		return true
	}
	for f := range v.files {
		if strings.HasPrefix(f, name+"/") {
			return true
		}
	}
	for d := range v.dirs {
		if strings.HasPrefix(d, name+"/") {
			return true
		}
	}
	return false
}

// reserve counts delta more bytes, or refuses and remembers that a limit was reached.
func (v *volume) reserve(delta int64) bool {
	if delta > 0 && v.used+delta > v.quota {
		v.full = true
		return false
	}
	v.used += delta
	return true
}

// resize makes a file size bytes long, its content writable.
func (v *volume) resize(n *node, size int64) bool {
	// Checked before any arithmetic: size comes from the application.
	if size > v.quota {
		v.full = true
		return false
	}
	if !v.reserve(size - int64(len(n.data))) {
		return false
	}
	switch {
	case n.shared:
		data := make([]byte, size)
		copy(data, n.data)
		n.data, n.shared = data, false
	case size <= int64(len(n.data)):
		clear(n.data[size:])
		n.data = n.data[:size]
	default:
		n.data = slices.Grow(n.data, int(size)-len(n.data))[:size]
	}
	return true
}

func (v *volume) readAt(n *node, p []byte, off int64) (int, error) {
	if n.blob != nil {
		k, err := n.blob.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) {
			v.fault = err
			return k, err
		}
		return k, nil
	}
	if off >= int64(len(n.data)) {
		return 0, nil
	}
	return copy(p, n.data[off:]), nil
}

// children lists a folder: the names directly in it, folders with a slash behind.
func (v *volume) children(dir string) []string {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	seen := map[string]bool{}
	collect := func(name string, isDir bool) {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || rest == "" {
			return
		}
		first, _, deeper := strings.Cut(rest, "/")
		if deeper || isDir {
			first += "/"
		}
		seen[first] = true
	}
	for f := range v.files {
		collect(f, false)
	}
	for d := range v.dirs {
		collect(d, true)
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// unlinked takes a file's name away. What it holds counts until nobody has it open: a program that keeps
// the descriptor goes on to use the memory, and can change how much.
func (v *volume) unlinked(name string) {
	if n := v.files[name]; n != nil {
		delete(v.files, name)
		n.gone = true
		v.forget(n)
	}
}

// forget gives back what a file used that nobody can reach any longer.
func (v *volume) forget(n *node) {
	if n.gone && n.open == 0 {
		v.used -= int64(len(n.data))
	}
}

// rename moves a file, or a folder with what is in it.
func (v *volume) rename(from, to string) {
	if n := v.files[from]; n != nil {
		v.unlinked(to)
		delete(v.files, from)
		v.files[to] = n
		return
	}
	delete(v.dirs, from)
	v.dirs[to] = true
	for f, n := range v.files {
		if rest, ok := strings.CutPrefix(f, from+"/"); ok {
			delete(v.files, f)
			v.files[path.Join(to, rest)] = n
		}
	}
	for d := range v.dirs {
		if rest, ok := strings.CutPrefix(d, from+"/"); ok {
			delete(v.dirs, d)
			v.dirs[path.Join(to, rest)] = true
		}
	}
}

// changes is what AppData.Apply needs to make the storage what the volume holds.
func (v *volume) changes() map[string][]byte {
	if v.before == nil {
		return nil
	}
	changes := map[string][]byte{}
	for name, n := range v.files {
		if old, had := v.before[name]; !had || !bytes.Equal(old, n.data) {
			changes[name] = append([]byte{}, n.data...)
		}
	}
	for name := range v.before {
		if v.files[name] == nil {
			changes[name] = nil
		}
	}
	return changes
}

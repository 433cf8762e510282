package wasm

import (
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	wasys "github.com/tetratelabs/wazero/sys"
)

// mount shows a volume to an application as a file system. A reactor keeps its mount from one
// invocation to the next while the volume changes.
type mount struct {
	sys.UnimplementedFS
	volume *volume
}

// resolve cleans a path. WASI has refused what leads outside; that is checked here once more,
// because an open folder's name and a path are joined without looking.
func (m *mount) resolve(p string) (string, sys.Errno) {
	if m.volume == nil || !m.volume.ensure() {
		return "", sys.EIO
	}
	p = path.Clean(strings.TrimPrefix(p, "/"))
	if p == "" {
		p = "."
	}
	if p == "." {
		return p, 0
	}
	if len(p) > maxPathBytes {
		return "", sys.ENAMETOOLONG
	}
	if !validName(p) {
		return "", sys.EPERM
	}
	return p, 0
}

// OpenFile implements sys.FS.
func (m *mount) OpenFile(name string, flag sys.Oflag, _ fs.FileMode) (sys.File, sys.Errno) {
	trailing := strings.HasSuffix(name, "/")
	name, errno := m.resolve(name)
	if errno != 0 {
		return nil, errno
	}
	v := m.volume
	if v.opened >= maxOpenFiles {
		v.full = true
		return nil, sys.EBADF
	}
	n := v.files[name]
	writing := flag&(sys.O_RDWR|sys.O_WRONLY) != 0
	switch {
	case n == nil && v.isDir(name):
		if flag&sys.O_CREAT != 0 && flag&sys.O_EXCL != 0 {
			return nil, sys.EEXIST
		}
		if writing {
			return nil, sys.EISDIR
		}
		v.opened++
		return &openDir{mount: m, volume: v, name: name}, 0
	case n != nil && (flag&sys.O_DIRECTORY != 0 || trailing):
		return nil, sys.ENOTDIR
	case n != nil && flag&sys.O_CREAT != 0 && flag&sys.O_EXCL != 0:
		return nil, sys.EEXIST
	case n == nil && flag&sys.O_CREAT == 0:
		return nil, sys.ENOENT
	}
	if v.readOnly && (writing || n == nil || flag&sys.O_TRUNC != 0) {
		return nil, sys.EROFS
	}
	if n == nil {
		if errno := v.create(name); errno != 0 {
			return nil, errno
		}
		n = v.files[name]
	} else if flag&sys.O_TRUNC != 0 && !v.resize(n, 0) {
		return nil, sys.EIO
	}
	v.opened++
	n.open++
	return &openFile{mount: m, volume: v, node: n, append: flag&sys.O_APPEND != 0, write: writing}, 0
}

// create makes an empty file in a folder that exists.
func (v *volume) create(name string) sys.Errno {
	dir := path.Dir(name)
	if v.files[dir] != nil {
		return sys.ENOTDIR
	}
	if !v.isDir(dir) {
		return sys.ENOENT
	}
	if len(v.files) >= maxFiles {
		v.full = true
		return sys.EIO
	}
	v.keepParent(name)
	v.add(name, &node{})
	return 0
}

// keepParent remembers the folder of a file, so that it does not vanish with its last file while
// the application still works in it.
func (v *volume) keepParent(name string) {
	if dir := path.Dir(name); dir != "." {
		v.dirs[dir] = true
	}
}

// Stat implements sys.FS.
func (m *mount) Stat(name string) (wasys.Stat_t, sys.Errno) {
	name, errno := m.resolve(name)
	if errno != 0 {
		return wasys.Stat_t{}, errno
	}
	if n := m.volume.files[name]; n != nil {
		return m.volume.fileStat(n), 0
	}
	if m.volume.isDir(name) {
		return m.volume.dirStat(), 0
	}
	return wasys.Stat_t{}, sys.ENOENT
}

// Lstat implements sys.FS. There are no symbolic links.
func (m *mount) Lstat(name string) (wasys.Stat_t, sys.Errno) { return m.Stat(name) }

func (v *volume) fileStat(n *node) wasys.Stat_t {
	return wasys.Stat_t{Ino: n.ino, Mode: 0o600, Nlink: 1, Size: n.size(), Atim: v.mtime, Mtim: v.mtime, Ctim: v.mtime}
}

func (v *volume) dirStat() wasys.Stat_t {
	return wasys.Stat_t{Mode: fs.ModeDir | 0o700, Nlink: 1, Atim: v.mtime, Mtim: v.mtime, Ctim: v.mtime}
}

// change resolves the path of an operation that changes the volume.
func (m *mount) change(name string) (string, sys.Errno) {
	name, errno := m.resolve(name)
	if errno == 0 && m.volume.readOnly {
		errno = sys.EROFS
	}
	if errno == 0 && name == "." {
		errno = sys.EPERM
	}
	return name, errno
}

// Mkdir implements sys.FS.
func (m *mount) Mkdir(name string, _ fs.FileMode) sys.Errno {
	name, errno := m.change(name)
	if errno != 0 {
		return errno
	}
	v := m.volume
	switch {
	case v.files[name] != nil || v.isDir(name):
		return sys.EEXIST
	case !v.isDir(path.Dir(name)):
		return sys.ENOENT
	case len(v.dirs) >= maxFiles:
		v.full = true
		return sys.EIO
	}
	v.keepParent(name)
	v.dirs[name] = true
	return 0
}

// Rmdir implements sys.FS.
func (m *mount) Rmdir(name string) sys.Errno {
	name, errno := m.change(name)
	if errno != 0 {
		return errno
	}
	v := m.volume
	switch {
	case v.files[name] != nil:
		return sys.ENOTDIR
	case !v.isDir(name):
		return sys.ENOENT
	case len(v.children(name)) > 0:
		return sys.ENOTEMPTY
	}
	v.keepParent(name)
	delete(v.dirs, name)
	return 0
}

// Unlink implements sys.FS.
func (m *mount) Unlink(name string) sys.Errno {
	name, errno := m.change(name)
	if errno != 0 {
		return errno
	}
	v := m.volume
	if v.files[name] == nil {
		if v.isDir(name) {
			return sys.EISDIR
		}
		return sys.ENOENT
	}
	v.keepParent(name)
	v.unlinked(name)
	return 0
}

// Rename implements sys.FS.
func (m *mount) Rename(from, to string) sys.Errno {
	from, errno := m.change(from)
	if errno != 0 {
		return errno
	}
	to, errno = m.change(to)
	if errno != 0 {
		return errno
	}
	v := m.volume
	fromDir := v.files[from] == nil
	switch {
	case fromDir && !v.isDir(from):
		return sys.ENOENT
	case from == to:
		return 0
	case !v.isDir(path.Dir(to)):
		return sys.ENOENT
	case !fromDir && v.isDir(to):
		return sys.EISDIR
	case fromDir && v.files[to] != nil:
		return sys.ENOTDIR
	case fromDir && (strings.HasPrefix(to, from+"/") || v.tooLong(from, to)):
		return sys.EINVAL
	case fromDir && len(v.children(to)) > 0:
		return sys.ENOTEMPTY
	}
	v.keepParent(from)
	v.keepParent(to)
	v.rename(from, to)
	return 0
}

// tooLong tells whether a file below from would have too long a name below to.
func (v *volume) tooLong(from, to string) bool {
	for f := range v.files {
		if strings.HasPrefix(f, from+"/") && len(f)-len(from)+len(to) > maxPathBytes {
			return true
		}
	}
	return false
}

// Utimens implements sys.FS. Times are not kept.
func (m *mount) Utimens(name string, _, _ int64) sys.Errno {
	_, errno := m.Stat(name)
	return errno
}

// Chmod implements sys.FS. Permissions are not kept.
func (m *mount) Chmod(name string, _ fs.FileMode) sys.Errno {
	_, errno := m.Stat(name)
	return errno
}

// fileOffset is int64 under another name: vet takes every Seek(int64, int) for io.Seeker's, which
// sys.File's is not.
type fileOffset = int64

// openFile is a descriptor of a file.
type openFile struct {
	sys.UnimplementedFile
	mount  *mount
	volume *volume
	node   *node
	offset int64
	append bool
	write  bool
	closed bool
}

// gone tells that the descriptor was closed, or is of an earlier invocation.
func (f *openFile) gone() bool { return f.closed || f.mount.volume != f.volume }

func (f *openFile) Dev() (uint64, sys.Errno)        { return 0, 0 }
func (f *openFile) Ino() (wasys.Inode, sys.Errno)   { return f.node.ino, 0 }
func (f *openFile) IsDir() (bool, sys.Errno)        { return false, 0 }
func (f *openFile) IsAppend() bool                  { return f.append }
func (f *openFile) SetAppend(enable bool) sys.Errno { f.append = enable; return 0 }
func (f *openFile) Utimens(_, _ int64) sys.Errno    { return 0 }

func (f *openFile) Stat() (wasys.Stat_t, sys.Errno) {
	if f.gone() {
		return wasys.Stat_t{}, sys.EBADF
	}
	return f.volume.fileStat(f.node), 0
}

func (f *openFile) Read(p []byte) (int, sys.Errno) {
	n, errno := f.Pread(p, f.offset)
	f.offset += int64(n)
	return n, errno
}

func (f *openFile) Pread(p []byte, off int64) (int, sys.Errno) {
	if f.gone() {
		return 0, sys.EBADF
	}
	if off < 0 {
		return 0, sys.EINVAL
	}
	n, err := f.volume.readAt(f.node, p, off)
	if err != nil {
		return n, sys.EIO
	}
	return n, 0
}

func (f *openFile) Seek(offset fileOffset, whence int) (int64, sys.Errno) {
	if f.gone() {
		return 0, sys.EBADF
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.node.size()
	default:
		return 0, sys.EINVAL
	}
	if offset < 0 {
		return 0, sys.EINVAL
	}
	f.offset = offset
	return offset, 0
}

func (f *openFile) Write(p []byte) (int, sys.Errno) {
	off := f.offset
	if f.append {
		off = f.node.size()
	}
	n, errno := f.Pwrite(p, off)
	if errno == 0 {
		f.offset = off + int64(n)
	}
	return n, errno
}

func (f *openFile) Pwrite(p []byte, off int64) (int, sys.Errno) {
	if f.gone() || !f.write {
		return 0, sys.EBADF
	}
	if off < 0 {
		return 0, sys.EINVAL
	}
	end := off + int64(len(p))
	if end < off {
		f.volume.full = true
		return 0, sys.EIO
	}
	if !f.volume.resize(f.node, max(end, int64(len(f.node.data)))) {
		return 0, sys.EIO
	}
	return copy(f.node.data[off:], p), 0
}

func (f *openFile) Truncate(size int64) sys.Errno {
	if f.gone() || !f.write {
		return sys.EBADF
	}
	if size < 0 {
		return sys.EINVAL
	}
	if !f.volume.resize(f.node, size) {
		return sys.EIO
	}
	return 0
}

func (f *openFile) Close() sys.Errno {
	if !f.closed {
		f.closed = true
		f.volume.opened--
		f.node.open--
		f.volume.forget(f.node)
	}
	return 0
}

// openDir is a descriptor of a folder.
type openDir struct {
	sys.DirFile
	mount  *mount
	volume *volume
	name   string
	names  []string // what Readdir has not returned yet, once it began
	begun  bool
	closed bool
}

// now is the volume to look into: the root of a mount is opened once and outlives invocations.
func (d *openDir) now() *volume {
	if d.closed || d.mount.volume == nil || d.name != "." && d.mount.volume != d.volume || !d.mount.volume.ensure() {
		return nil
	}
	return d.mount.volume
}

func (d *openDir) Dev() (uint64, sys.Errno)      { return 0, 0 }
func (d *openDir) Ino() (wasys.Inode, sys.Errno) { return 0, 0 }
func (d *openDir) Sync() sys.Errno               { return 0 }
func (d *openDir) Datasync() sys.Errno           { return 0 }
func (d *openDir) Utimens(_, _ int64) sys.Errno  { return 0 }

func (d *openDir) Stat() (wasys.Stat_t, sys.Errno) {
	v := d.now()
	if v == nil {
		return wasys.Stat_t{}, sys.EBADF
	}
	return v.dirStat(), 0
}

// Seek implements sys.File: to the beginning, to read the folder again.
func (d *openDir) Seek(offset fileOffset, whence int) (int64, sys.Errno) {
	if offset != 0 || whence != io.SeekStart {
		return 0, sys.EINVAL
	}
	d.begun = false
	return 0, 0
}

func (d *openDir) Readdir(n int) ([]sys.Dirent, sys.Errno) {
	v := d.now()
	if v == nil {
		return nil, sys.EBADF
	}
	if !d.begun {
		d.names, d.begun = v.children(d.name), true
	}
	if n < 0 || n > len(d.names) {
		n = len(d.names)
	}
	entries := make([]sys.Dirent, 0, n)
	for _, name := range d.names[:n] {
		base, isDir := strings.CutSuffix(name, "/")
		e := sys.Dirent{Name: base}
		if isDir {
			e.Type = fs.ModeDir
		} else if f := v.files[path.Join(d.name, base)]; f != nil {
			e.Ino = f.ino
		}
		entries = append(entries, e)
	}
	d.names = d.names[n:]
	return entries, 0
}

func (d *openDir) Close() sys.Errno {
	if !d.closed {
		d.closed = true
		d.volume.opened--
	}
	return 0
}

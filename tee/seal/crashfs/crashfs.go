// Package crashfs simulates the disk under a sealed store: it counts the steps that change state,
// fails or crashes at any of them, and after a crash keeps only what a real disk would have to
// keep. It is support for tests of everything that lives on a [seal.Disk].
//
//	for step := 1; ; step++ {
//		disk := crashfs.New()
//		disk.CrashAt(step)
//		err := scenario(disk)              // fails with ErrCrashed at the step
//		if !disk.Crashed() { break }       // the scenario has fewer steps: all were swept
//		checkAndComplete(disk.Restart(crashfs.LoseUnsynced))
//	}
//
// Create, Write, Sync, Rename, Remove, Mkdir and SyncDir are steps; reading is not.
package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"

	"github.com/go-teep/teep/tee/seal"
)

// ErrCrashed is the error of every call after the crash.
var ErrCrashed = errors.New("crashfs: the machine crashed")

// ErrShortWrite, returned by what Inject was given, makes a write take half of its bytes and say
// nothing else about it.
var ErrShortWrite = errors.New("crashfs: a short write")

// Op names a step.
type Op string

// The steps.
const (
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpMkdir   Op = "mkdir"
	OpSyncDir Op = "syncdir"
)

// Survival says what a crash leaves of changes that were not synced.
type Survival int

const (
	// LoseUnsynced keeps only what was synced: loss of power with the worst cache.
	LoseUnsynced Survival = iota
	// KeepUnsynced keeps everything: the process was killed, the machine was not.
	KeepUnsynced
	// KeepSome keeps each unsynced change to a folder or not, and of unsynced content a
	// beginning with garbage behind it, drawn from the disk's seed.
	KeepSome
)

// inode is the content of a file. data[:synced] is durable; files are only appended to.
type inode struct {
	data   []byte
	synced int
	broken bool // a sync failed: what was unsynced then never becomes durable
}

// dirChange is one unsynced change to a folder: name now means node, or nothing if nil; gone is a
// second name that vanishes in the same step (rename).
type dirChange struct {
	name string
	node *inode
	gone string
}

type folder struct {
	now     map[string]*inode
	durable map[string]*inode
	pending []dirChange
}

func newFolder() *folder { return &folder{now: map[string]*inode{}, durable: map[string]*inode{}} }

func (f *folder) change(c dirChange) {
	c.apply(f.now)
	f.pending = append(f.pending, c)
}

func (c dirChange) apply(to map[string]*inode) {
	if c.gone != "" {
		delete(to, c.gone)
	}
	if c.node == nil {
		delete(to, c.name)
	} else {
		to[c.name] = c.node
	}
}

// Disk is the simulated disk; it implements seal.Disk. Safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	dirs    map[string]*folder
	step    int
	crashAt int
	crashed bool
	inject  func(step int, op Op, name string) error
	rng     *rand.Rand
}

var _ seal.Disk = (*Disk)(nil)

// New returns an empty disk.
func New() *Disk { return NewSeeded(1) }

// NewSeeded returns an empty disk; the seed decides what KeepSome keeps.
func NewSeeded(seed uint64) *Disk {
	return &Disk{dirs: map[string]*folder{".": newFolder()}, rng: rand.New(rand.NewPCG(seed, 0))}
}

// CrashAt makes the step with this number, counted from 1 and from now, the last one: a write is
// half done, anything else is not. 0 means never.
func (d *Disk) CrashAt(step int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step, d.crashAt = 0, step
}

// Inject asks f before each step; an error of f is the step's failure. A write that fails has
// written half. nil stops it. f must not call the Disk.
func (d *Disk) Inject(f func(step int, op Op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inject = f
}

// Crashed tells whether the crash has happened; Steps, how many steps since New or CrashAt.
func (d *Disk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed
}

// Steps tells how many steps there were since New or CrashAt.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.step
}

// Crash crashes now.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
}

// Restart returns the disk as it is after the crash. The old Disk stays crashed.
func (d *Disk) Restart(s Survival) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
	next := NewSeeded(d.rng.Uint64())
	delete(next.dirs, ".")
	copies := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(d.dirs)) {
		f, g := d.dirs[name], newFolder()
		left := f.survivors(s, d.rng)
		for _, n := range slices.Sorted(maps.Keys(left)) {
			node := left[n]
			if copies[node] == nil {
				data := node.survivor(s, d.rng)
				copies[node] = &inode{data: data, synced: len(data)}
			}
			g.now[n], g.durable[n] = copies[node], copies[node]
		}
		next.dirs[name] = g
	}
	return next
}

func (f *folder) survivors(s Survival, rng *rand.Rand) map[string]*inode {
	switch s {
	case KeepUnsynced:
		return f.now
	case LoseUnsynced:
		return f.durable
	}
	left := maps.Clone(f.durable)
	for _, c := range f.pending {
		if rng.IntN(2) == 0 {
			c.apply(left)
		}
	}
	return left
}

func (n *inode) survivor(s Survival, rng *rand.Rand) []byte {
	switch s {
	case KeepUnsynced:
		return bytes.Clone(n.data)
	case LoseUnsynced:
		return bytes.Clone(n.data[:n.synced])
	}
	kept := n.synced + rng.IntN(len(n.data)-n.synced+1)
	data := bytes.Clone(n.data[:kept])
	if kept < len(n.data) && rng.IntN(2) == 0 {
		// The size reached the disk, the content did not.
		data = append(data, make([]byte, len(n.data)-kept)...)
	}
	return data
}

// begin counts a step and decides its fate. The caller holds d.mu.
func (d *Disk) begin(op Op, name string) error {
	if d.crashed {
		return ErrCrashed
	}
	d.step++
	if d.step == d.crashAt {
		d.crashed = true
		return ErrCrashed
	}
	if d.inject != nil {
		return d.inject(d.step, op, name)
	}
	return nil
}

func (d *Disk) folder(name string) (*folder, error) {
	f := d.dirs[name]
	if f == nil {
		return nil, fmt.Errorf("crashfs: folder %s: %w", name, fs.ErrNotExist)
	}
	return f, nil
}

// Create implements seal.Disk.
func (d *Disk) Create(name string) (seal.WriteFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(OpCreate, name); err != nil {
		return nil, err
	}
	f, err := d.folder(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if f.now[path.Base(name)] != nil {
		return nil, fmt.Errorf("crashfs: create %s: %w", name, fs.ErrExist)
	}
	node := &inode{}
	f.change(dirChange{name: path.Base(name), node: node})
	return &file{disk: d, node: node, name: name}, nil
}

// Open implements seal.Disk.
func (d *Disk) Open(name string) (seal.ReadFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return nil, ErrCrashed
	}
	f, err := d.folder(path.Dir(name))
	if err != nil {
		return nil, err
	}
	node := f.now[path.Base(name)]
	if node == nil {
		return nil, fmt.Errorf("crashfs: open %s: %w", name, fs.ErrNotExist)
	}
	return &file{disk: d, node: node, name: name}, nil
}

// Rename implements seal.Disk.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(OpRename, from); err != nil {
		return err
	}
	if path.Dir(from) != path.Dir(to) {
		return errors.New("crashfs: rename to another folder")
	}
	f, err := d.folder(path.Dir(from))
	if err != nil {
		return err
	}
	node := f.now[path.Base(from)]
	if node == nil {
		return fmt.Errorf("crashfs: rename %s: %w", from, fs.ErrNotExist)
	}
	f.change(dirChange{name: path.Base(to), node: node, gone: path.Base(from)})
	return nil
}

// Remove implements seal.Disk.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(OpRemove, name); err != nil {
		return err
	}
	f, err := d.folder(path.Dir(name))
	if err != nil {
		return err
	}
	if f.now[path.Base(name)] == nil {
		return fmt.Errorf("crashfs: remove %s: %w", name, fs.ErrNotExist)
	}
	f.change(dirChange{name: path.Base(name)})
	return nil
}

// Mkdir implements seal.Disk. Folders are durable at once.
func (d *Disk) Mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(OpMkdir, name); err != nil {
		return err
	}
	if d.dirs[name] == nil {
		d.dirs[name] = newFolder()
	}
	return nil
}

// List implements seal.Disk. Folders are not listed.
func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return nil, ErrCrashed
	}
	f, err := d.folder(dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(f.now)), nil
}

// SyncDir implements seal.Disk.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(OpSyncDir, dir); err != nil {
		return err
	}
	f, err := d.folder(dir)
	if err != nil {
		return err
	}
	f.durable, f.pending = maps.Clone(f.now), nil
	return nil
}

// Files returns the names of all files, with their folders.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for dir, f := range d.dirs {
		for n := range f.now {
			names = append(names, path.Join(dir, n))
		}
	}
	slices.Sort(names)
	return names
}

// Read returns a copy of a file's content, nil if there is no such file.
func (d *Disk) Read(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.dirs[path.Dir(name)]; f != nil && f.now[path.Base(name)] != nil {
		return append([]byte{}, f.now[path.Base(name)].data...)
	}
	return nil
}

// Tamper changes a file behind the store's back, as someone outside the TEE can: content replaces
// it, nil removes it. It is durable and no step.
func (d *Disk) Tamper(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.dirs[path.Dir(name)]
	if f == nil {
		f = newFolder()
		d.dirs[path.Dir(name)] = f
	}
	var node *inode
	if content != nil {
		node = &inode{data: bytes.Clone(content), synced: len(content)}
	}
	c := dirChange{name: path.Base(name), node: node}
	c.apply(f.now)
	c.apply(f.durable)
}

// Clone returns an independent copy of the disk as it is now, everything in it durable.
func (d *Disk) Clone() *Disk {
	next := New()
	for _, name := range d.Files() {
		next.Tamper(name, d.Read(name))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.dirs {
		if next.dirs[name] == nil {
			next.dirs[name] = newFolder()
		}
	}
	return next
}

type file struct {
	disk *Disk
	node *inode
	name string
}

func (f *file) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.crashed {
		return 0, ErrCrashed
	}
	if err := f.disk.begin(OpWrite, f.name); err != nil {
		half := len(p) / 2
		f.node.data = append(f.node.data, p[:half]...)
		if errors.Is(err, ErrShortWrite) {
			err = nil
		}
		return half, err
	}
	f.node.data = append(f.node.data, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.begin(OpSync, f.name); err != nil {
		f.node.broken = true
		return err
	}
	if !f.node.broken {
		f.node.synced = len(f.node.data)
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.crashed {
		return 0, ErrCrashed
	}
	return bytes.NewReader(f.node.data).ReadAt(p, off)
}

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *file) Close() error { return nil }

var (
	_ io.Writer   = (*file)(nil)
	_ io.ReaderAt = (*file)(nil)
)

package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
)

const (
	rootFile  = "root"
	rootTemp  = "root.tmp"
	itemsDir  = "items"
	blobsDir  = "blobs"
	newSuffix = ".new"
	tmpSuffix = ".tmp"

	maxItems     = 60_000 // internal/cbor takes arrays of 65,536
	maxRootBytes = 16 << 20
)

var rootPurpose = purpose{kind: "root"}

func itemPurpose(name string) purpose { return purpose{kind: "item", label: name} }

// root is the table of items.
//
//	root = { 1: counter: uint, 2: generation: uint, 3: [* [name: tstr, salt: bstr .size 32]],
//	         4: [* obsolete salt: bstr .size 32], ? 5: version: uint }
type root struct {
	// Counter is the value of the monotonic counter once this root is in force, 0 without one.
	Counter uint64 `cbor:"1,keyasint"`
	// Generation is the state record's.
	Generation uint64   `cbor:"2,keyasint"`
	Items      []item   `cbor:"3,keyasint"`
	Obsolete   [][]byte `cbor:"4,keyasint"`
	// Version is that of the newest program that has opened the store.
	Version uint64 `cbor:"5,keyasint,omitempty"`
}

type item struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Salt []byte
}

func (r root) salt(name string) []byte {
	for _, it := range r.Items {
		if it.Name == name {
			return it.Salt
		}
	}
	return nil
}

// with returns r with an item's salt replaced, or the item removed if salt is nil, and what that
// makes obsolete. Files that an earlier root named obsolete are gone durably when this root
// comes into force, because commit syncs their folder first.
func (r root) with(name string, salt []byte) root {
	next := root{Generation: r.Generation, Version: r.Version}
	for _, it := range r.Items {
		if it.Name == name {
			next.Obsolete = append(next.Obsolete, it.Salt)
			continue
		}
		next.Items = append(next.Items, it)
	}
	if salt != nil {
		next.Items = append(next.Items, item{Name: name, Salt: salt})
	}
	return next
}

// errUncertain marks errors after which the new root may or may not be in force.
var errUncertain = errors.New("could not be made durable")

// change makes content the value of an item (nil: removes it) and generation the record's.
// The caller holds s.mu.
func (s *Store) change(name string, content []byte, generation uint64) error {
	if len(s.root.Items) >= maxItems {
		return fmt.Errorf("%w: %d sealed items", tee.ErrQuota, maxItems)
	}
	var salt []byte
	var file string
	if content != nil {
		var err error
		if salt, file, err = s.writeItem(name, content); err != nil {
			return err
		}
	}
	next := s.root.with(name, salt)
	next.Generation = generation
	// What could not be removed yet stays explained.
	for _, old := range s.root.Obsolete {
		if _, kept := s.fileOf[obsoleteKey(old)]; kept {
			next.Obsolete = append(next.Obsolete, old)
		}
	}
	if err := s.commit(next); err != nil {
		s.undo(file, err)
		return err
	}
	s.settle(name, salt, file)
	return nil
}

func obsoleteKey(salt []byte) string { return "obsolete/" + hex.EncodeToString(salt) }

// undo drops the file of a change that failed. If the new root may be in force, it first puts
// the old one into force again.
func (s *Store) undo(file string, cause error) {
	if file != "" {
		s.orphans = append(s.orphans, file)
	}
	if errors.Is(cause, errUncertain) {
		old := s.root
		if err := s.commit(old); err != nil {
			s.log.Error("sealed store: a failed change could not be undone yet", "error", err)
			return
		}
	}
	s.removeOrphans()
}

// settle tidies up after a commit. What fails here is done at the next start.
func (s *Store) settle(name string, salt []byte, file string) {
	if old, ok := s.fileOf[name]; ok {
		if err := s.disk.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("sealed store: an obsolete item stays until later", "error", err)
			for _, salt := range s.root.Obsolete {
				if strings.Contains(old, hex.EncodeToString(salt)) {
					s.fileOf[obsoleteKey(salt)] = old
				}
			}
		}
		delete(s.fileOf, name)
	}
	if salt != nil {
		s.fileOf[name] = s.finalName(file)
	}
	s.removeOrphans()
}

// finalName renames an item whose root is in force, and returns the name that it has then.
func (s *Store) finalName(file string) string {
	final := strings.TrimSuffix(file, newSuffix)
	if err := s.disk.Rename(file, final); err != nil {
		s.log.Warn("sealed store: an item keeps its temporary name until later", "error", err)
		return file
	}
	return final
}

func (s *Store) removeOrphans() {
	for _, file := range s.orphans {
		if err := s.disk.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("sealed store: the rest of a failed change stays until the next start", "error", err)
		}
	}
	s.orphans = nil
}

// writeItem writes a new item file, durable but for its name.
func (s *Store) writeItem(name string, content []byte) (salt []byte, file string, err error) {
	// The salt is drawn before the file has a name, because the name comes from it.
	salt = make([]byte, saltSize)
	if _, err := io.ReadFull(s.rand, salt); err != nil {
		return nil, "", fmt.Errorf("no randomness: %w", err)
	}
	file = itemsDir + "/" + hex.EncodeToString(salt) + newSuffix
	if err := s.writeFile(file, itemPurpose(name), bytes.NewReader(salt), content); err != nil {
		return nil, "", err
	}
	return salt, file, nil
}

// writeFile seals content into a new file and syncs it; after an error there is no such file.
func (s *Store) writeFile(name string, p purpose, rand io.Reader, content []byte) error {
	f, err := s.disk.Create(name)
	if err != nil {
		return err
	}
	err = func() error {
		w, err := newSealer(f, rand, s.secret, p)
		if err != nil {
			return err
		}
		defer w.settle() // nothing is written to a closed file
		if _, err := w.Write(content); err != nil {
			return err
		}
		if _, err := w.finish(); err != nil {
			return err
		}
		return f.Sync()
	}()
	if err = errors.Join(err, f.Close()); err != nil {
		if rmErr := s.disk.Remove(name); rmErr != nil {
			s.log.Warn("sealed store: the rest of a failed write stays until the next start", "error", rmErr)
		}
		return err
	}
	return nil
}

// commit puts a root into force. Errors that leave that open are errUncertain. The caller holds s.mu.
func (s *Store) commit(next root) error {
	next.Counter = 0
	if s.counter != nil {
		value, err := s.counter.Value()
		if err != nil {
			return fmt.Errorf("read the monotonic counter: %w", err)
		}
		next.Counter = value + 1
	}
	slices.SortFunc(next.Items, func(a, b item) int { return strings.Compare(a.Name, b.Name) })
	content, err := cbor.Marshal(next)
	if err != nil {
		return err
	}
	if err := s.disk.SyncDir(itemsDir); err != nil {
		return err
	}
	if err := s.disk.Remove(rootTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.writeFile(rootTemp, rootPurpose, s.rand, content); err != nil {
		return err
	}
	if err := s.disk.Rename(rootTemp, rootFile); err != nil {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	if err := s.disk.SyncDir("."); err != nil {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	if s.counter != nil {
		// From here on the root before this one is refused.
		if err := s.counter.Increment(); err != nil {
			return fmt.Errorf("%w: increment the monotonic counter: %w", errUncertain, err)
		}
	}
	s.root = next
	return nil
}

func (s *Store) readItem(name string, limit int64) ([]byte, error) {
	salt := s.root.salt(name)
	if salt == nil {
		return nil, tee.ErrNotExist
	}
	f, err := s.disk.Open(s.fileOf[name])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corrupt("the file of a sealed item is missing")
	}
	if err != nil {
		return nil, err
	}
	o, err := newOpener(f, s.secret, itemPurpose(name), salt)
	if err != nil {
		return nil, err
	}
	b, err := o.readAll(limit)
	return b, errors.Join(err, o.Close())
}

// itemFiles is the content of the items folder.
type itemFiles map[string]string // salt in hex → file

func (s *Store) listItems() (final, fresh itemFiles, err error) {
	names, err := s.disk.List(itemsDir)
	if err != nil {
		return nil, nil, err
	}
	final, fresh = itemFiles{}, itemFiles{}
	for _, n := range names {
		id := strings.TrimSuffix(n, newSuffix)
		if b, err := hex.DecodeString(id); err != nil || len(b) != saltSize {
			s.log.Warn("sealed store: a file that is not the store's is left alone", "folder", itemsDir)
			continue
		}
		if id == n {
			final[id] = itemsDir + "/" + n
		} else {
			fresh[id] = itemsDir + "/" + n
		}
	}
	return final, fresh, nil
}

// reconcile compares the items folder with the root: it finishes a commit, undoes what was not
// committed, and finds a root or an item that was exchanged.
func (s *Store) reconcile() error {
	final, fresh, err := s.listItems()
	if err != nil {
		return err
	}
	for _, it := range s.root.Items {
		id := hex.EncodeToString(it.Salt)
		switch {
		case final[id] != "":
			s.fileOf[it.Name] = final[id]
		case fresh[id] != "":
			s.fileOf[it.Name] = s.finalName(fresh[id])
		default:
			return corrupt("the file of a sealed item is missing, or the root is an older one")
		}
		delete(final, id)
		delete(fresh, id)
	}
	for _, salt := range s.root.Obsolete {
		if file := final[hex.EncodeToString(salt)]; file != "" {
			delete(final, hex.EncodeToString(salt))
			s.fileOf[obsoleteKey(salt)] = file
		}
	}
	if len(final) > 0 {
		return corrupt("there is a sealed item that the root does not know: the root is an older one, or the item was put back")
	}
	s.orphans = append(s.orphans, slices.Collect(maps.Values(fresh))...)
	slices.Sort(s.orphans)
	s.removeOrphans()
	for _, salt := range s.root.Obsolete {
		key := obsoleteKey(salt)
		if file := s.fileOf[key]; file != "" && s.disk.Remove(file) == nil {
			delete(s.fileOf, key)
		}
	}
	return nil
}

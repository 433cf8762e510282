package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-teep/teep/tee"
)

var blobPurpose = purpose{kind: "blob"}

func (s *Store) blobFile(digest [32]byte) string {
	return blobsDir + "/" + s.hiddenName("blob", digest[:])
}

// blobWriter seals one blob into a temporary file.
type blobWriter struct {
	store *Store
	name  string // within blobsDir
	file  WriteFile
	*sealer
	done bool
}

// CreateBlob implements tee.Store. The writer holds about 2 MiB of memory for a large blob.
func (s *Store) CreateBlob() (tee.BlobWriter, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(s.rand, id); err != nil {
		return nil, fmt.Errorf("seal: create a blob: no randomness: %w", err)
	}
	w := &blobWriter{store: s, name: hex.EncodeToString(id) + tmpSuffix}
	s.setLive(w.name, true)
	var err error
	if w.file, err = s.disk.Create(blobsDir + "/" + w.name); err != nil {
		s.setLive(w.name, false)
		return nil, fmt.Errorf("seal: create a blob: %w", err)
	}
	if w.sealer, err = newSealer(w.file, s.rand, s.secret, blobPurpose); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

func (w *blobWriter) Commit() (digest [32]byte, size int64, err error) {
	if w.done {
		return digest, 0, errors.New("seal: blob was committed or aborted before")
	}
	if digest, err = w.finish(); err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		return digest, 0, errors.Join(fmt.Errorf("seal: commit a blob: %w", err), w.Abort())
	}
	w.done = true
	defer w.store.setLive(w.name, false)
	if err := w.file.Close(); err != nil {
		return digest, 0, errors.Join(fmt.Errorf("seal: commit a blob: %w", err), w.remove())
	}
	if err := w.store.publish(w.name, digest); err != nil {
		return digest, 0, fmt.Errorf("seal: commit a blob: %w", err)
	}
	return digest, w.size, nil
}

// publish gives a finished blob its name. Content that exists already is replaced by itself: that
// costs nothing and repairs a copy that was damaged.
func (s *Store) publish(temp string, digest [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.disk.Rename(blobsDir+"/"+temp, s.blobFile(digest)); err != nil {
		if rmErr := s.disk.Remove(blobsDir + "/" + temp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
		return err
	}
	if err := s.disk.SyncDir(blobsDir); err != nil {
		s.blobsUnsynced = true
		return err
	}
	return nil
}

// Abort implements tee.BlobWriter.
func (w *blobWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	if w.sealer != nil {
		w.settle() // nothing is written to a closed file
	}
	defer w.store.setLive(w.name, false)
	return errors.Join(w.file.Close(), w.remove())
}

func (w *blobWriter) remove() error {
	err := w.store.disk.Remove(blobsDir + "/" + w.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seal: discard a blob: %w", err)
	}
	return nil
}

// OpenBlob implements tee.Store.
func (s *Store) OpenBlob(digest [32]byte) (tee.Blob, error) {
	o, err := s.openBlob(s.blobFile(digest))
	if err == nil && o.digest != digest {
		err = errors.Join(corrupt("blob has another blob's name"), o.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("seal: open blob %x…: %w", digest[:4], err)
	}
	return o, nil
}

func (s *Store) openBlob(file string) (*opener, error) {
	f, err := s.disk.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tee.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return newOpener(f, s.secret, blobPurpose, nil)
}

// StatBlob implements tee.Store. The size is authenticated, the content is when it is read.
func (s *Store) StatBlob(digest [32]byte) (int64, error) {
	b, err := s.OpenBlob(digest)
	if err != nil {
		return 0, err
	}
	return b.Size(), b.Close()
}

// Sweep implements tee.Store. A blob that no longer authenticates is removed too: nobody can
// ever read it, and its content can be fetched again.
func (s *Store) Sweep(keep func(sha256 [32]byte) bool) error {
	if err := s.dropUnfinishedBlobs(); err != nil {
		return fmt.Errorf("seal: sweep: %w", err)
	}
	names, err := s.disk.List(blobsDir)
	if err != nil {
		return fmt.Errorf("seal: sweep: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		if strings.HasSuffix(n, tmpSuffix) {
			continue
		}
		if err := s.sweepBlob(blobsDir+"/"+n, keep); err != nil {
			return fmt.Errorf("seal: sweep: %w", err)
		}
	}
	if err := s.disk.SyncDir(blobsDir); err != nil {
		return fmt.Errorf("seal: sweep: %w", err)
	}
	return nil
}

func (s *Store) sweepBlob(file string, keep func([32]byte) bool) error {
	o, err := s.openBlob(file)
	switch {
	case errors.Is(err, tee.ErrNotExist):
		return nil
	case errors.Is(err, tee.ErrCorrupt):
		s.log.Warn("sealed store: a blob that was damaged from outside is removed", "error", err)
	case err != nil:
		return err
	default:
		digest := o.digest
		if err := o.Close(); err != nil {
			return err
		}
		if file == s.blobFile(digest) && keep(digest) {
			return nil
		}
	}
	if err := s.disk.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) isLive(name string) bool {
	s.liveMu.Lock()
	defer s.liveMu.Unlock()
	return s.live[name]
}

func (s *Store) setLive(name string, live bool) {
	s.liveMu.Lock()
	defer s.liveMu.Unlock()
	if live {
		s.live[name] = true
	} else {
		delete(s.live, name)
	}
}

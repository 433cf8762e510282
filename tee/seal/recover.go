package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
)

// recover brings the store from whatever a crash left to the state that was last in force.
func (s *Store) recover() error {
	for _, dir := range []string{itemsDir, blobsDir} {
		if err := s.disk.Mkdir(dir); err != nil {
			return err
		}
	}
	f, err := s.disk.Open(rootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.begin()
	}
	if err != nil {
		return err
	}
	if err := s.loadRoot(f); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if s.root.Version > s.version {
		return fmt.Errorf("%w: it is version %d, this one %d: start the newer one", ErrOlder, s.root.Version, s.version)
	}
	if err := s.reconcile(); err != nil {
		return err
	}
	if err := s.dropUnfinishedBlobs(); err != nil {
		return err
	}
	// After a crash of this process alone, names that the file system still holds in memory look
	// durable and are not. What was read here is acted upon, so it must stay.
	for _, dir := range []string{blobsDir, itemsDir, "."} {
		if err := s.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := s.checkCounter(); err != nil {
		return err
	}
	if s.root.Version == s.version {
		return nil
	}
	next := s.root
	next.Version = s.version
	return s.commit(next)
}

// begin makes a new store. A folder that has sealed files but no root is not a new one.
func (s *Store) begin() error {
	for _, dir := range []string{itemsDir, blobsDir} {
		names, err := s.disk.List(dir)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return corrupt("the root is missing but sealed files are there: restore the folder, or empty it to begin anew")
		}
	}
	if err := s.disk.SyncDir("."); err != nil {
		return err
	}
	return s.commit(root{Version: s.version})
}

func (s *Store) loadRoot(f ReadFile) error {
	o, err := newOpener(f, s.secret, rootPurpose, nil)
	if err != nil {
		return err
	}
	content, err := o.readAll(maxRootBytes)
	if err = errors.Join(err, o.Close()); err != nil {
		return err
	}
	if err := cbor.Unmarshal(content, &s.root); err != nil {
		return fmt.Errorf("%w: %w", tee.ErrCorrupt, err)
	}
	return nil
}

// checkCounter holds the root against the counter. A root that is one ahead was written just
// before a crash kept the counter from following; none was acknowledged after it.
func (s *Store) checkCounter() error {
	if s.counter == nil {
		if s.root.Counter != 0 {
			return fmt.Errorf("%w: the store is bound to a monotonic counter and none was given", tee.ErrRollback)
		}
		return nil
	}
	value, err := s.counter.Value()
	if err != nil {
		return fmt.Errorf("read the monotonic counter: %w", err)
	}
	switch s.root.Counter {
	case value:
		return nil
	case value + 1:
		return s.counter.Increment()
	}
	return fmt.Errorf("%w: the folder is of count %d, the monotonic counter is at %d", tee.ErrRollback, s.root.Counter, value)
}

func (s *Store) dropUnfinishedBlobs() error {
	names, err := s.disk.List(blobsDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.HasSuffix(n, tmpSuffix) || s.isLive(n) {
			continue
		}
		if err := s.disk.Remove(blobsDir + "/" + n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

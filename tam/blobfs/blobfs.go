// Package blobfs keeps a TAM's envelopes as files in one local folder, and its payloads in another, named
// by the SHA-256 of their content.
//
// A file appears under its name only once it is whole and on disk. Nothing outside the folder is
// ever touched: all access goes through an os.Root.
package blobfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-teep/teep/tam"
)

// Store implements [tam.Blobs].
type Store struct {
	root *os.Root
}

// partial marks files that are being written. One that is older than partialAge was left by a crash.
const (
	partial    = ".part"
	partialAge = time.Hour
)

var _ tam.Blobs = (*Store)(nil)

// Open opens the store in a folder, creating the folder when it does not exist.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blobfs: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blobfs: %w", err)
	}
	s := &Store{root: root}
	if err := s.sweep(time.Now().Add(-partialAge)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// sweep removes what crashes left over.
func (s *Store) sweep(before time.Time) error {
	left, err := fs.Glob(s.root.FS(), "*"+partial)
	if err != nil {
		return fmt.Errorf("blobfs: %w", err)
	}
	for _, file := range left {
		if st, err := s.root.Stat(file); err == nil && st.ModTime().Before(before) {
			if err := s.remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close releases the folder.
func (s *Store) Close() error { return s.root.Close() }

// failed marks what the folder answers: it may be full, or away with the machine that has it, and come back.
func failed(err error) error { return tam.Unavailable(fmt.Errorf("blobfs: %w", err)) }

func name(digest [32]byte) string { return hex.EncodeToString(digest[:]) }

// Put implements [tam.Blobs].
func (s *Store) Put(_ context.Context, data []byte) ([32]byte, error) {
	digest := sha256.Sum256(data)
	// A file that was damaged is replaced.
	if old, err := s.root.ReadFile(name(digest)); err == nil && bytes.Equal(old, data) {
		return digest, nil
	}
	// Others may be writing the same bytes, in this process and in others.
	temporary := name(digest) + "." + rand.Text() + partial
	if err := s.write(temporary, data); err != nil {
		return digest, errors.Join(failed(err), s.remove(temporary))
	}
	if err := s.root.Rename(temporary, name(digest)); err != nil {
		return digest, errors.Join(failed(err), s.remove(temporary))
	}
	return digest, s.syncFolder()
}

func (s *Store) write(file string, data []byte) error {
	f, err := s.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes the new name durable.
func (s *Store) syncFolder() error {
	d, err := s.root.Open(".")
	if err != nil {
		return failed(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return failed(err)
	}
	return nil
}

func (s *Store) remove(file string) error {
	if err := s.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	return nil
}

// Get implements [tam.Blobs].
func (s *Store) Get(_ context.Context, digest [32]byte) ([]byte, error) {
	data, err := s.root.ReadFile(name(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tam.ErrNotFound
	}
	if err != nil {
		return nil, failed(err)
	}
	if sha256.Sum256(data) != digest {
		return nil, fmt.Errorf("blobfs: file %s was changed on disk: restore it, or publish that version's envelope again", name(digest))
	}
	return data, nil
}

// Delete implements [tam.Blobs].
func (s *Store) Delete(_ context.Context, digest [32]byte) error { return s.remove(name(digest)) }

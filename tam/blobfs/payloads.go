package blobfs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/go-teep/teep/tam"
)

// Payloads implements [tam.Payloads]. Its folder is another than that of envelopes: what is in it is for
// everyone.
type Payloads struct {
	folder *Store
}

var _ tam.Payloads = (*Payloads)(nil)

// OpenPayloads opens the payloads in a folder, creating the folder when it does not exist.
func OpenPayloads(dir string) (*Payloads, error) {
	folder, err := Open(dir)
	if err != nil {
		return nil, err
	}
	return &Payloads{folder}, nil
}

// Close releases the folder. Payloads that are open stay so.
func (p *Payloads) Close() error { return p.folder.Close() }

// Put implements [tam.Payloads]. It needs free space for the payload even if that is stored already.
func (p *Payloads) Put(ctx context.Context, r io.Reader) (digest [32]byte, size int64, err error) {
	temporary := rand.Text() + partial
	from := &reader{ctx: ctx, r: r}
	digest, size, err = p.write(temporary, from)
	if err == nil {
		err = p.folder.root.Rename(temporary, name(digest))
	}
	if err != nil {
		err = fmt.Errorf("blobfs: storing a payload: %w", err)
		if from.err == nil {
			err = tam.Unavailable(err) // it was not r: the folder is full, or away
		}
		return [32]byte{}, 0, errors.Join(err, p.folder.remove(temporary))
	}
	return digest, size, p.folder.syncFolder()
}

func (p *Payloads) write(file string, r io.Reader) (digest [32]byte, size int64, err error) {
	f, err := p.folder.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return digest, 0, err
	}
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, h), r)
	if err == nil {
		err = f.Sync()
	}
	h.Sum(digest[:0])
	return digest, size, errors.Join(err, f.Close())
}

// reader ends with a context.
type reader struct {
	ctx context.Context
	r   io.Reader
	err error // that it ended with, beside io.EOF
}

func (r *reader) Read(p []byte) (n int, err error) {
	if err = r.ctx.Err(); err == nil {
		n, err = r.r.Read(p)
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// Open implements [tam.Payloads].
func (p *Payloads) Open(_ context.Context, digest [32]byte) (tam.Payload, error) {
	f, err := p.folder.root.Open(name(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tam.ErrNotFound
	}
	if err != nil {
		return nil, failed(err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name(digest))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("blobfs: %w", err), f.Close())
	}
	return &payload{f, st.Size()}, nil
}

// Each implements [tam.Payloads].
func (p *Payloads) Each(ctx context.Context, visit func(tam.StoredPayload) error) error {
	folder, err := p.folder.root.Open(".")
	if err != nil {
		return failed(err)
	}
	defer folder.Close() //nolint:errcheck // was only read
	for {
		entries, err := folder.ReadDir(1000)
		if err != nil && err != io.EOF {
			return failed(err)
		}
		for _, e := range entries {
			digest, ok := tam.ParsePayloadName(e.Name())
			if !ok {
				continue // one that is being stored
			}
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return failed(err)
			}
			if err := visit(tam.StoredPayload{Digest: digest, Size: st.Size(), Stored: st.ModTime()}); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err == io.EOF || len(entries) == 0 {
			return nil
		}
	}
}

// Delete implements [tam.Payloads].
func (p *Payloads) Delete(_ context.Context, digest [32]byte, before time.Time) error {
	st, err := p.folder.root.Stat(name(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed(err)
	}
	if !st.ModTime().Before(before) {
		return nil
	}
	return p.folder.remove(name(digest))
}

// payload is an open file.
type payload struct {
	*os.File
	size int64
}

// Size implements [tam.Payload].
func (p *payload) Size() int64 { return p.size }

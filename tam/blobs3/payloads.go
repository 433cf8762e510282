package blobs3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/go-teep/teep/tam"
)

// Payloads implements [tam.Payloads].
type Payloads struct {
	bucket
}

var _ tam.Payloads = (*Payloads)(nil)

// Payloads are those in the same bucket.
func (s *Store) Payloads() *Payloads {
	return &Payloads{bucket{s.client, s.name, path.Join(path.Dir(s.prefix), "payloads"), s.spool}}
}

// Put implements [tam.Payloads]. An object has its name from the beginning, and that of a payload is known at
// its end: until then it is a file in the spool, which needs space for it.
func (p *Payloads) Put(ctx context.Context, r io.Reader) (digest [32]byte, size int64, err error) {
	f, err := os.CreateTemp(p.spool, "teep-payload-")
	if err != nil {
		return digest, 0, fmt.Errorf("blobs3: storing a payload: %w", err)
	}
	// Without a name it goes with the process, whatever becomes of that.
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return digest, 0, fmt.Errorf("blobs3: storing a payload: %w", err)
	}
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), r); err != nil {
		return digest, 0, fmt.Errorf("blobs3: storing a payload: %w", err)
	}
	h.Sum(digest[:0])
	return digest, size, p.put(ctx, digest, io.NewSectionReader(f, 0, size), size)
}

// Open implements [tam.Payloads]. Each Seek that is read after makes one request, for a range.
func (p *Payloads) Open(ctx context.Context, digest [32]byte) (tam.Payload, error) {
	o, err := p.client.GetObject(ctx, p.name, p.object(digest), minio.GetObjectOptions{})
	if err != nil {
		return nil, fault(ctx, err)
	}
	st, err := o.Stat()
	if err != nil {
		o.Close() //nolint:errcheck // was not read
		return nil, fault(ctx, err)
	}
	return &payload{o, st.Size}, nil
}

// Each implements [tam.Payloads].
func (p *Payloads) Each(ctx context.Context, visit func(tam.StoredPayload) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing when visit does
	defer cancel()
	for o := range p.client.ListObjects(ctx, p.name, minio.ListObjectsOptions{Prefix: p.prefix + "/"}) {
		if o.Err != nil {
			return fault(ctx, o.Err)
		}
		digest, ok := tam.ParsePayloadName(path.Base(o.Key))
		if !ok {
			continue // not of this program
		}
		if err := visit(tam.StoredPayload{Digest: digest, Size: o.Size, Stored: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements [tam.Payloads].
func (p *Payloads) Delete(ctx context.Context, digest [32]byte, before time.Time) error {
	st, err := p.client.StatObject(ctx, p.name, p.object(digest), minio.StatObjectOptions{})
	if err == nil && !st.LastModified.Before(before) {
		return nil
	}
	if err == nil {
		err = p.client.RemoveObject(ctx, p.name, p.object(digest), minio.RemoveObjectOptions{})
	}
	if err = fault(ctx, err); errors.Is(err, tam.ErrNotFound) {
		return nil
	}
	return err
}

// payload is an open object.
type payload struct {
	*minio.Object
	size int64
}

// Read implements io.Reader. What fails on the way is said as the contract has it.
func (p *payload) Read(b []byte) (int, error) {
	n, err := p.Object.Read(b)
	if err != nil && err != io.EOF {
		err = fault(context.Background(), err)
	}
	return n, err
}

// Size implements [tam.Payload].
func (p *payload) Size() int64 { return p.size }

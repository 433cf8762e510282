package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/api"
)

// detached is a payload that is uploaded beside its envelope.
type detached struct {
	path   string
	digest [sha256.Size]byte
	size   int64
}

// uploadPayloads uploads files that the manifest of an envelope fetches from the TAM. All are looked at before
// the first is sent: one that the manifest does not name would lie there for nothing.
func uploadPayloads(ctx context.Context, client *api.Client, name string, envelope []byte, paths []string, progress io.Writer) error {
	if len(paths) == 0 {
		return nil
	}
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m, err := e.UnverifiedManifest() // the TAM verifies it
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	files := make([]detached, len(paths))
	for i, path := range paths {
		if files[i], err = hashFile(path); err != nil {
			return err
		}
		if sum := hex.EncodeToString(files[i].digest[:]); !setsURI(m, func(uri string) bool { return strings.HasSuffix(uri, "/"+sum) }) {
			return fmt.Errorf("%s: no command of the manifest of %s names a URI that ends in /%s, which is the SHA-256 of the file: "+
				"nothing would ever fetch it; put that URI into the manifest, or publish without --payload", path, name, sum)
		}
	}
	for _, f := range files {
		if err := f.upload(ctx, client, m, progress); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

func hashFile(path string) (detached, error) {
	d := detached{path: path}
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	h := sha256.New()
	if d.size, err = io.Copy(h, f); err != nil {
		return d, err
	}
	h.Sum(d.digest[:0])
	return d, nil
}

func (d *detached) upload(ctx context.Context, client *api.Client, m *suit.Manifest, progress io.Writer) error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grew meanwhile is refused for its digest, not for its length.
	stored, err := client.UploadPayload(ctx, &meter{r: io.LimitReader(f, d.size), path: d.path, total: d.size, to: progress, now: time.Now, last: time.Now()}, d.size, d.digest)
	if err != nil {
		return err
	}
	if !setsURI(m, func(uri string) bool { return uri == stored.URI }) {
		_, err := fmt.Fprintf(progress, "warning: the manifest does not name %s, where the TAM serves %s: devices fetch it elsewhere\n", plain(stored.URI), d.path)
		return err
	}
	return nil
}

// meter says how far an upload is, every few seconds.
type meter struct {
	r           io.Reader
	path        string
	done, total int64
	to          io.Writer
	now         func() time.Time
	last        time.Time
}

const meterInterval = 2 * time.Second

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if now := m.now(); now.Sub(m.last) >= meterInterval {
		m.last = now
		if _, e := fmt.Fprintf(m.to, "%s: %d of %d bytes\n", m.path, m.done, m.total); e != nil && err == nil {
			err = e
		}
	}
	return n, err
}

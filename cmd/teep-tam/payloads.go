package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
)

// payloadsConfig says where payloads that lie beside their envelopes are served.
type payloadsConfig struct {
	// Path is where teep.listen serves them; empty: it serves none, and takes no uploads.
	Path string `yaml:"path"`
	// URI is where devices reach the path, if that is another host than teep.uri's: that of a CDN.
	URI string `yaml:"uri"`
	// MaxBytes bounds an upload; 0 means 1 GiB.
	MaxBytes int64 `yaml:"max-bytes"`
	// Concurrent bounds the downloads under way; 0 means 512.
	Concurrent int `yaml:"concurrent"`
	// MaxTotalBytes bounds all that are stored together; 0 means no bound. A tenant has its own.
	MaxTotalBytes int64 `yaml:"max-total-bytes"`
	// KeepUnneeded is how long one is kept that no version needs; 0 means a week.
	KeepUnneeded time.Duration `yaml:"keep-unneeded"`
}

const (
	defaultKeepUnneeded = 7 * 24 * time.Hour
	// payloadSweep is how often those go that no version needs. Every replica looks.
	payloadSweep = time.Hour
)

// sweep removes payloads that no version needs, until ctx ends.
func (p *payloadsConfig) sweep(ctx context.Context, t *tam.TAM, log *slog.Logger) error {
	keep := p.KeepUnneeded
	if keep == 0 {
		keep = defaultKeepUnneeded
	}
	tick := time.NewTicker(min(payloadSweep, keep))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := t.SweepPayloads(ctx, keep); err != nil && ctx.Err() == nil {
			log.Error("sweep of payloads", "err", err)
		}
	}
}

// elsewhere tells whether p differs from o only in what a tenant may have of its own.
func (p payloadsConfig) elsewhere(o payloadsConfig) bool {
	p.MaxTotalBytes = o.MaxTotalBytes
	return p == o
}

func (p *payloadsConfig) check() error {
	switch {
	case p.Path == "" && !p.elsewhere(payloadsConfig{}):
		return errors.New("payloads.path is missing: without it no payloads are served")
	case p.MaxTotalBytes < 0:
		return errors.New("payloads.max-total-bytes is negative")
	case p.Path == "":
		return nil
	case !plainPath.MatchString(p.Path) || strings.HasSuffix(p.Path, "/"):
		return fmt.Errorf("payloads.path %q is no plain path: write a slash and then letters, digits, and - . _ ~ /, such as /payloads", p.Path)
	case p.MaxBytes < 0, p.Concurrent < 0:
		return errors.New("payloads: a limit is negative")
	case p.KeepUnneeded < 0, p.KeepUnneeded > 0 && p.KeepUnneeded < time.Second:
		return errors.New("payloads.keep-unneeded is less than a second: an upload would be gone before its envelope is published")
	case p.URI == "":
		return nil
	}
	u, err := url.Parse(p.URI)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("payloads.uri %q is no place for payloads: write a URI such as https://cdn.example/payloads", p.URI)
	}
	return nil
}

// payloadURI is what the URIs of payloads begin with.
func (c *configuration) payloadURI() string {
	if c.Payloads.URI != "" {
		return c.Payloads.URI
	}
	u, err := url.Parse(c.uri())
	if err != nil {
		return c.Payloads.Path // teep.uri is none: agents do not reach the TAM either
	}
	return u.Scheme + "://" + u.Host + c.Payloads.Path
}

// blobStores are where envelopes and, if the TAM serves them, payloads are.
type blobStores struct {
	envelopes tam.Blobs
	payloads  tam.Payloads // nil: it serves none
	closers   []io.Closer
}

func (b *blobStores) close() {
	for _, c := range b.closers {
		c.Close() //nolint:errcheck // nothing is being written any more
	}
}

// payloadFolder is that of the payloads within the folder of the envelopes.
const payloadFolder = "payloads"

// blobPlaces are where envelopes and payloads are, the same for each way of writing it.
func (c *configuration) blobPlaces() []string {
	if isS3(c.Blobs) {
		b, err := c.bucket()
		if err != nil {
			return nil // it cannot be opened either
		}
		in := strings.TrimSuffix(strings.ToLower(b.Endpoint), "/") + "/" + b.Bucket
		return []string{path.Join(in, b.Prefix, "envelopes"), path.Join(in, b.Prefix, payloadFolder)}
	}
	places := []string{c.Blobs, filepath.Join(c.Blobs, payloadFolder)}
	for i, place := range places {
		if real, err := filepath.EvalSymlinks(place); err == nil {
			place = real
		}
		if absolute, err := filepath.Abs(place); err == nil {
			place = absolute
		}
		places[i] = place
	}
	return places
}

// openBlobs opens the stores that the configuration names.
func openBlobs(c *configuration) (*blobStores, error) {
	b, err := openUnbounded(c)
	if err == nil && b.payloads != nil && c.Payloads.MaxTotalBytes > 0 {
		b.payloads = tam.NewPayloadQuota(b.payloads, c.Payloads.MaxTotalBytes, nil)
	}
	return b, err
}

func openUnbounded(c *configuration) (*blobStores, error) {
	if isS3(c.Blobs) {
		return c.openBucket()
	}
	envelopes, err := blobfs.Open(c.Blobs)
	if err != nil {
		return nil, err
	}
	b := &blobStores{envelopes: envelopes, closers: []io.Closer{envelopes}}
	if c.Payloads.Path == "" {
		return b, nil
	}
	payloads, err := blobfs.OpenPayloads(filepath.Join(c.Blobs, payloadFolder))
	if err != nil {
		return nil, errors.Join(err, envelopes.Close())
	}
	b.payloads, b.closers = payloads, append(b.closers, payloads)
	return b, nil
}

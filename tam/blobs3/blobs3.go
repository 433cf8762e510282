// Package blobs3 keeps a TAM's envelopes and payloads in a bucket of an S3 service, named by the SHA-256 of
// their content:
//
//	store, err := blobs3.Open(blobs3.Config{Endpoint: "https://s3.example", Bucket: "teep", Prefix: "tam"})
//
// Envelopes are below the prefix in envelopes/, payloads in payloads/. An object appears under its name only
// once it is whole, so any number of replicas may share a bucket. Needed are the permissions to get, put and
// delete objects.
package blobs3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/go-teep/teep/tam"
)

// Config says where the bucket is. Endpoint and Bucket are required.
type Config struct {
	// Endpoint is the base URL of the service, without the bucket.
	Endpoint string
	// Bucket exists already; Prefix begins the names of objects in it.
	Bucket, Prefix string
	// Region is that of the bucket; empty: the service is asked.
	Region string
	// CredentialsFile is one in the format of the AWS command line (profile "default"); empty: the
	// environment has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. It is read when they are needed first.
	CredentialsFile string
	// InsecureHTTP allows an endpoint without TLS.
	InsecureHTTP bool
	// Spool is a folder for payloads on their way: their names are known only when all of them is read.
	// Empty: that for temporary files.
	Spool string
	// Transport is that of HTTP; nil: a default one.
	Transport http.RoundTripper
	// Wrap, if not nil, is put around the transport, for whoever follows requests.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Store implements [tam.Blobs].
type Store struct {
	bucket
}

var _ tam.Blobs = (*Store)(nil)

// bucket is a part of one.
type bucket struct {
	client *minio.Client
	name   string
	prefix string
	spool  string
}

// maxRetries is of one request. A service that stays away is an error soon, and the TAM answers 503.
const maxRetries = 3

// Open makes a store. It makes no request: a service that is away is found out when it is needed.
func Open(c Config) (*Store, error) {
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("blobs3: the endpoint is no base URL: write one such as https://s3.example, without bucket and credentials")
	case u.Scheme == "http" && !c.InsecureHTTP:
		return nil, fmt.Errorf("blobs3: the endpoint %s has no TLS: whoever is on the way could read and replace envelopes", u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("blobs3: the endpoint is of scheme %q: write https", u.Scheme)
	case c.Bucket == "":
		return nil, errors.New("blobs3: the bucket is missing")
	}
	found := credentials.NewEnvAWS()
	if c.CredentialsFile != "" {
		found = credentials.NewFileAWSCredentials(c.CredentialsFile, "default")
	}
	if c.Wrap != nil {
		if c.Transport == nil {
			if c.Transport, err = minio.DefaultTransport(u.Scheme == "https"); err != nil {
				return nil, fmt.Errorf("blobs3: %w", err)
			}
		}
		c.Transport = c.Wrap(c.Transport)
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: found, Secure: u.Scheme == "https", Region: c.Region, Transport: c.Transport, MaxRetries: maxRetries,
	})
	if err != nil {
		return nil, fmt.Errorf("blobs3: %w", err)
	}
	return &Store{bucket{client, c.Bucket, path.Join(c.Prefix, "envelopes"), c.Spool}}, nil
}

func (b *bucket) object(digest [32]byte) string {
	return path.Join(b.prefix, hex.EncodeToString(digest[:]))
}

// put stores size bytes of r.
func (b *bucket) put(ctx context.Context, digest [32]byte, r io.Reader, size int64) error {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream"}
	// Signed in a stream, nothing at all would have a chunk and no length, which services refuse.
	o.DisableContentSha256 = size == 0
	_, err := b.client.PutObject(ctx, b.name, b.object(digest), r, size, o)
	return fault(ctx, err)
}

// fault gives errors of the service the form that the contracts ask for.
func fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var answer minio.ErrorResponse
	answered := errors.As(err, &answer)
	if answered && answer.Code == minio.NoSuchKey {
		return tam.ErrNotFound
	}
	if e := ctx.Err(); e != nil && !errors.Is(err, e) {
		err = errors.Join(e, err)
	}
	// What the service refuses for good (credentials, a bucket that does not exist) waiting does not mend. It may
	// pass that it is not reached, has a fault of its own, or is asked too often.
	away := !answered || answer.StatusCode >= 500 || answer.StatusCode == 0 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	err = fmt.Errorf("blobs3: %w", err)
	if away && !errors.Is(ctx.Err(), context.Canceled) {
		return tam.Unavailable(err)
	}
	return err
}

// Put implements [tam.Blobs].
func (s *Store) Put(ctx context.Context, data []byte) ([32]byte, error) {
	digest := sha256.Sum256(data)
	return digest, s.put(ctx, digest, bytes.NewReader(data), int64(len(data)))
}

// Get implements [tam.Blobs].
func (s *Store) Get(ctx context.Context, digest [32]byte) ([]byte, error) {
	o, err := s.client.GetObject(ctx, s.name, s.object(digest), minio.GetObjectOptions{})
	if err != nil {
		return nil, fault(ctx, err)
	}
	defer o.Close() //nolint:errcheck // was only read
	data, err := io.ReadAll(o)
	if err != nil {
		return nil, fault(ctx, err)
	}
	if sha256.Sum256(data) != digest {
		return nil, fmt.Errorf("blobs3: object %s was changed: restore it, or publish that version's envelope again", s.object(digest))
	}
	return data, nil
}

// Delete implements [tam.Blobs].
func (s *Store) Delete(ctx context.Context, digest [32]byte) error {
	err := fault(ctx, s.client.RemoveObject(ctx, s.name, s.object(digest), minio.RemoveObjectOptions{}))
	if errors.Is(err, tam.ErrNotFound) {
		return nil
	}
	return err
}

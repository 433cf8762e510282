package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/go-teep/teep/tam/blobs3"
)

// s3Config is what the URL of a bucket does not say.
type s3Config struct {
	// Credentials is a file as the AWS command line has it; empty: the environment has AWS_ACCESS_KEY_ID
	// and AWS_SECRET_ACCESS_KEY.
	Credentials string `yaml:"credentials"`
	// Spool is the folder for uploads on their way; empty: that for temporary files.
	Spool string `yaml:"spool"`
	// InsecureHTTP lets envelopes cross a network in the clear.
	InsecureHTTP bool `yaml:"insecure-plain-http"`
}

// defaultEndpoint is that of Amazon; the region of the bucket leads to another one.
const defaultEndpoint = "https://s3.amazonaws.com"

// isS3 tells the URL of a bucket from a folder.
func isS3(blobs string) bool { return strings.HasPrefix(blobs, "s3:") }

// bucket reads s3://BUCKET/PREFIX?endpoint=URL&region=NAME.
func (c *configuration) bucket() (blobs3.Config, error) {
	b := blobs3.Config{CredentialsFile: c.S3.Credentials, Spool: c.S3.Spool, InsecureHTTP: c.S3.InsecureHTTP, Endpoint: defaultEndpoint,
		Wrap: func(base http.RoundTripper) http.RoundTripper { return c.traces.Transport("s3", base) }}
	u, err := url.Parse(c.Blobs)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Fragment != "" {
		// The error of url.Parse has the URL in it, and that may have a secret.
		return b, errors.New("blobs is no URL of a bucket: write s3://BUCKET/PREFIX?endpoint=https://s3.example")
	}
	if u.User != nil {
		return b, errors.New("blobs has credentials in its URL, where they end up in logs: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.credentials")
	}
	b.Bucket, b.Prefix = u.Host, strings.Trim(u.Path, "/")
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return b, errors.New("blobs: what follows ? is not NAME=VALUE")
	}
	for name, values := range query {
		switch {
		case name == "endpoint" && len(values) == 1:
			b.Endpoint = values[0]
		case name == "region" && len(values) == 1:
			b.Region = values[0]
		default:
			return b, fmt.Errorf("blobs: unknown or repeated parameter %q: there are endpoint and region", name)
		}
	}
	if !strings.Contains(b.Endpoint, "://") {
		b.Endpoint = "https://" + b.Endpoint
	}
	if strings.HasPrefix(b.Endpoint, "http://") && !b.InsecureHTTP {
		return b, errors.New("blobs: the endpoint has no TLS, and envelopes would cross the network in the clear: write https, or set s3.insecure-plain-http: true")
	}
	return b, nil
}

func (c *configuration) checkBucket() error {
	if !isS3(c.Blobs) {
		if c.S3 != (s3Config{}) {
			return errors.New("s3 has no effect: blobs is a folder, and not s3://BUCKET/PREFIX")
		}
		return nil
	}
	b, err := c.bucket()
	if err != nil {
		return err
	}
	_, err = blobs3.Open(b)
	return err
}

// openBucket opens envelopes and payloads in a bucket.
func (c *configuration) openBucket() (*blobStores, error) {
	b, err := c.bucket()
	if err != nil {
		return nil, err
	}
	if b.CredentialsFile != "" {
		st, err := os.Stat(b.CredentialsFile)
		if err != nil {
			return nil, fmt.Errorf("s3.credentials: %w", err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("%s can be read by others (mode %o): run 'chmod 600 %s'", b.CredentialsFile, st.Mode().Perm(), b.CredentialsFile)
		}
	} else if os.Getenv("AWS_ACCESS_KEY_ID") == "" || os.Getenv("AWS_SECRET_ACCESS_KEY") == "" {
		return nil, errors.New("blobs is a bucket, and there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file in s3.credentials")
	}
	s, err := blobs3.Open(b)
	if err != nil {
		return nil, err
	}
	stores := &blobStores{envelopes: s}
	if c.Payloads.Path != "" {
		stores.payloads = s.Payloads()
	}
	return stores, nil
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBucketsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"blobs: 's3://'":                                                                        "no URL of a bucket",
		"blobs: 's3:bucket'":                                                                    "no URL of a bucket",
		"blobs: 's3://id:hidden@bucket/p'":                                                      "credentials in its URL",
		"blobs: 's3://bucket/p?secret=hidden'":                                                  "parameter \"secret\"",
		"blobs: 's3://bucket/p?endpoint=a&endpoint=b'":                                          "repeated",
		"blobs: 's3://bucket/p?endpoint=http://s3.example'":                                     "no TLS",
		"blobs: 's3://bucket/p?endpoint=https://id:hidden@s3.example'":                          "no base URL",
		"blobs: 's3://bucket/p?endpoint=ftp://s3.example'":                                      "write https",
		"blobs: envelopes\ns3: {credentials: x}":                                                "has no effect",
		"blobs: 's3://bucket/p'\ns3: {secret: x}":                                               "unknown key",
		"blobs: 's3://bucket/p?endpoint=https://s3.example/x'\ns3: {insecure-plain-http: true}": "no base URL",
	} {
		if _, err := load(made(t, "blobs: envelopes", text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
}

func TestBucketCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	path := made(t, "blobs: envelopes", "blobs: 's3://bucket/p?endpoint=s3.example&region=eu-1'\ns3: {credentials: s3.credentials}\npayloads: {path: /payloads}")
	c, err := load(path)
	must(t, err)
	if _, err := openBlobs(c); err == nil || !strings.Contains(err.Error(), "s3.credentials") {
		t.Errorf("without the file: %v", err)
	}
	file := filepath.Join(filepath.Dir(path), "s3.credentials")
	must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600))
	must(t, os.Chmod(file, 0o644))
	if _, err := openBlobs(c); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	must(t, os.Chmod(file, 0o600))
	b, err := openBlobs(c)
	must(t, err)
	if b.payloads == nil {
		t.Error("no payloads")
	}
	c.S3.Credentials = ""
	if _, err := openBlobs(c); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("without any: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	if _, err := openBlobs(c); err != nil {
		t.Errorf("from the environment: %v", err)
	}
}

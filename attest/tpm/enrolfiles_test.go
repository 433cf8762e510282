package tpm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/internal/cbor"
)

// TestEnrolmentThroughFiles: the enrolment works when each step is in a program of its own.
func TestEnrolmentThroughFiles(t *testing.T) {
	d := manufactured(t)
	_, issuer := maker.Certificates(t)
	r, err := d.quoter.Request(issuer.Raw)
	if err != nil {
		t.Fatal(err)
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	request, err := tpm.ParseEnrolmentRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := tpm.NewChallenge(rand.Reader, *request, makers(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ch.EncodeSecret()
	if err != nil {
		t.Fatal(err)
	}
	if data, err = ch.Credential.Encode(); err != nil {
		t.Fatal(err)
	}
	credential, err := tpm.ParseCredential(data)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := d.quoter.Activate(*credential)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, answer) {
		t.Error("the credential shows its secret")
	}
	kept, err := tpm.ParseChallenge(secret)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kept.Endorse(answer)
	if err != nil || !e.Key.Equal(d.quoter.Key()) || !bytes.Equal(e.UEID, d.endorsement.UEID) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEnrolmentFilesRefused(t *testing.T) {
	good, err := cbor.Marshal(map[int]any{1: []byte{1}, 2: []byte{2}, 3: []byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "cut": good[:3], "more": append(bytes.Clone(good), 0), "long": make([]byte, 1<<20)} {
		_, request := tpm.ParseEnrolmentRequest(data)
		_, credential := tpm.ParseCredential(data)
		_, challenge := tpm.ParseChallenge(data)
		for _, err := range []error{request, credential, challenge} {
			if !errors.Is(err, attest.ErrFormat) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if ch, err := tpm.ParseChallenge(good); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("a challenge without a key: %v, %v", ch, err)
	}
}

// FuzzEnrolmentFiles: no file crashes the owner's side, and one that is read writes back as it was.
func FuzzEnrolmentFiles(f *testing.F) {
	for _, v := range []any{map[int]any{1: [][]byte{{1}}, 2: []byte{2}}, map[int]any{1: []byte{1}, 2: []byte{2}}, map[int]any{1: []byte{1}, 2: []byte{2}, 3: map[int]any{1: 2}}} {
		seed, err := cbor.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := tpm.ParseEnrolmentRequest(data); err == nil {
			if _, err := tpm.NewChallenge(rand.Reader, *r, nil, time.Now()); err == nil {
				t.Error("nobody's TPM is challenged")
			}
		}
		if c, err := tpm.ParseCredential(data); err == nil {
			if _, err := c.Encode(); err != nil {
				t.Error(err)
			}
		}
		if c, err := tpm.ParseChallenge(data); err == nil {
			if _, err := c.EncodeSecret(); err != nil {
				t.Error(err)
			}
		}
	})
}

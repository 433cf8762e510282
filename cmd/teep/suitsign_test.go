package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
)

// unsignedEnvelope is an envelope in a folder of its own.
func unsignedEnvelope(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, text, _ := run(t, "", "suit", "template", "show", "integrated")
	for name, content := range map[string]string{"hello.yaml": text, "app.bin": "an application"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "hello.suit")
	if code, _, stderr := run(t, "", "suit", "create", "-f", filepath.Join(dir, "hello.yaml"), "-o", out); code != 0 {
		t.Fatal(stderr)
	}
	return out
}

// generated is a key pair in files, as 'teep key' makes them. A shared key has no second file.
func generated(t *testing.T, alg string) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "key.pub")
	if code, _, stderr := run(t, "", "key", "generate", "--alg", alg, "-o", private); code != 0 {
		t.Fatal(stderr)
	}
	if strings.HasPrefix(alg, "HMAC") {
		return private, private
	}
	if code, _, stderr := run(t, "", "key", "public", private, "-o", public); code != 0 {
		t.Fatal(stderr)
	}
	return private, public
}

func wants(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	got, stdout, stderr := run(t, "", args...)
	if got != code || !strings.Contains(stdout+stderr, says) {
		t.Errorf("%v: exit code %d, want %d and %q: %s%s", args, got, code, says, stdout, stderr)
	}
}

// Every algorithm that signs manifests does so from files that this program made, and a key of the same kind
// that did not sign is not enough.
func TestSignWithEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{"ESP256", "ESP384", "Ed25519", "ML-DSA-65", "HMAC 256/256"} {
		t.Run(strings.ReplaceAll(alg, "/", "-"), func(t *testing.T) {
			envelope := unsignedEnvelope(t)
			private, public := generated(t, alg)
			_, other := generated(t, alg)
			wants(t, 1, "no signature", "suit", "verify", "--key", public, envelope)
			wants(t, 0, "", "suit", "sign", "--key", private, envelope)
			wants(t, 0, "signed with "+alg, "suit", "verify", "--key", public, envelope)
			wants(t, 1, "no signature of a trusted key", "suit", "verify", "--key", other, envelope)
			if alg != "HMAC 256/256" {
				wants(t, 1, "signed with this key already", "suit", "sign", "--key", private, envelope)
				wants(t, 1, "public key", "suit", "sign", "--key", public, envelope)
			}
		})
	}
}

// Two keys at once make one COSE_Sign, which either of them vouches for.
func TestSignWithSeveralKeys(t *testing.T) {
	envelope := unsignedEnvelope(t)
	one, onePublic := generated(t, "ESP256")
	two, twoPublic := generated(t, "Ed25519")
	shared, _ := generated(t, "HMAC 256/256")
	_, stranger := generated(t, "Ed25519")
	wants(t, 2, "use it alone", "suit", "sign", "--key", one, "--key", shared, envelope)
	wants(t, 0, "", "suit", "sign", "--key", one, "--key", two, envelope)
	wants(t, 0, "98([", "suit", "show", envelope) // COSE_Sign
	for _, key := range []string{onePublic, twoPublic} {
		wants(t, 0, "signed with", "suit", "verify", "--key", key, envelope)
	}
	wants(t, 1, "no signature of a trusted key", "suit", "verify", "--key", stranger, envelope)
}

// A private key may be a COSE_Key, too.
func TestSignWithCOSEKey(t *testing.T) {
	envelope := unsignedEnvelope(t)
	private, public := generated(t, "Ed25519")
	key, err := readKey(private)
	if err != nil {
		t.Fatal(err)
	}
	data, err := key.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.cosekey")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, 0, "", "suit", "sign", "--key", file, envelope)
	wants(t, 0, "signed with "+cose.AlgEd25519.String(), "suit", "verify", "--key", public, envelope)
}

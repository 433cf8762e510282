package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// recipientFiles makes a key pair for content keys, and returns the files of both parts.
func recipientFiles(t *testing.T) (key *cose.Key, private, public string) {
	t.Helper()
	key, private = testKey(t, cose.AlgECDHESA128KW)
	return key, private, publicKey(t, key)
}

func kekFile(t *testing.T, size int) (*cose.Key, string) {
	t.Helper()
	key := cose.NewSymmetricKey(bytes.Repeat([]byte{7}, size))
	data, err := key.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return key, write(t, "kek.cosekey", data)
}

func opens(t *testing.T, infoFile, ciphertextFile string, key *cose.Key) (string, error) {
	t.Helper()
	info, err := os.ReadFile(infoFile)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := os.ReadFile(ciphertextFile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := suit.DecryptPayload(info, cose.DecryptKeys{key}, bytes.NewReader(ciphertext), int64(len(ciphertext)))
	if err != nil {
		return "", err
	}
	plain, err := io.ReadAll(r)
	return string(plain), err
}

func TestSuitEncrypt(t *testing.T) {
	a, _, aFile := recipientFiles(t)
	b, _, bFile := recipientFiles(t)
	stranger, _, _ := recipientFiles(t)
	kek128, kek128File := kekFile(t, 16)
	kek256, kek256File := kekFile(t, 32)
	payload := write(t, "hello.wasm", []byte("the payload"))
	for _, alg := range []string{"", "A128GCM", "A256GCM", "ChaCha20-Poly1305", "ChaCha20/Poly1305", "A128CTR", "A256CTR"} {
		dir := t.TempDir()
		out, info := filepath.Join(dir, "hello.enc"), filepath.Join(dir, "hello.info")
		args := []string{"suit", "encrypt", "--to", aFile, "--to", bFile, "--kek", kek128File, "--kek", kek256File, "-o", out, "--info", info, payload}
		if alg != "" {
			args = append(args, "--alg", alg)
		}
		if code, _, stderr := run(t, "", args...); code != 0 {
			t.Fatalf("%s: %s", alg, stderr)
		}
		for i, key := range []*cose.Key{a, b, kek128, kek256} {
			if got, err := opens(t, info, out, key); err != nil || got != "the payload" {
				t.Errorf("%s: recipient %d decrypts %q, %v", alg, i, got, err)
			}
		}
		if got, err := opens(t, info, out, stranger); err == nil {
			t.Errorf("%s: a stranger decrypts %q", alg, got)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
			t.Errorf("%s: left behind: %v, %v", alg, files, err)
		}
	}
}

func TestSuitEncryptRewrap(t *testing.T) {
	tam, tamPrivate, tamPublic := recipientFiles(t)
	device, devicePrivate, devicePublic := recipientFiles(t)
	dir := t.TempDir()
	out, info, other := filepath.Join(dir, "enc"), filepath.Join(dir, "info"), filepath.Join(dir, "other")
	if code, _, stderr := run(t, "", "suit", "encrypt", "--to", tamPublic, "-o", out, "--info", info, write(t, "p", []byte("secret"))); code != 0 {
		t.Fatal(stderr)
	}
	rewrap := func(key, to, info string) (int, string) {
		code, _, stderr := run(t, "", "suit", "encrypt", "--rewrap", info, "--key", key, "--to", to, "--info", other)
		return code, stderr
	}
	if code, stderr := rewrap(devicePrivate, devicePublic, info); code != 1 || !strings.Contains(stderr, "cannot unwrap content key") {
		t.Errorf("a key that is no recipient's: exit code %d, %s", code, stderr)
	}
	if code, stderr := rewrap(tamPublic, devicePublic, info); code != 1 {
		t.Errorf("a public key: exit code %d, %s", code, stderr)
	}
	if code, stderr := rewrap(tamPrivate, devicePublic, out); code != 1 || !strings.Contains(stderr, "encryption-info") {
		t.Errorf("no encryption info: exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a failure leaves a file")
	}
	if code, stderr := rewrap(tamPrivate, devicePublic, info); code != 0 {
		t.Fatal(stderr)
	}
	if got, err := opens(t, other, out, device); err != nil || got != "secret" {
		t.Errorf("the device decrypts %q, %v", got, err)
	}
	if _, err := opens(t, other, out, tam); err == nil {
		t.Error("the new info is for the old recipient, too")
	}
	if _, err := opens(t, info, out, tam); err != nil {
		t.Errorf("the old info is spoilt: %v", err)
	}
}

func TestSuitEncryptRefuses(t *testing.T) {
	_, private, public := recipientFiles(t)
	_, signing := testKey(t, cose.AlgEd25519)
	signKey, err := readKey(signing)
	if err != nil {
		t.Fatal(err)
	}
	ed25519 := publicKey(t, signKey)
	_, kek := kekFile(t, 16)
	_, odd := kekFile(t, 24)
	payload := write(t, "p", []byte("secret words"))
	dir := t.TempDir()
	out, info := filepath.Join(dir, "enc"), filepath.Join(dir, "info")
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nobody":               {[]string{"-o", out, "--info", info, payload}, 2, "for whom"},
		"no ciphertext":        {[]string{"--to", public, "--info", info, payload}, 2, "-o"},
		"no info":              {[]string{"--to", public, "-o", out, payload}, 2, `"info" not set`},
		"no payload":           {[]string{"--to", public, "-o", out, "--info", info}, 2, "PAYLOAD is missing"},
		"payload missing":      {[]string{"--to", public, "-o", out, "--info", info, filepath.Join(dir, "none")}, 1, "no such file"},
		"payload is a folder":  {[]string{"--to", public, "-o", out, "--info", info, dir}, 1, "directory"},
		"signing algorithm":    {[]string{"--to", public, "--alg", "ESP256", "-o", out, "--info", info, payload}, 1, "does not encrypt payloads"},
		"unknown algorithm":    {[]string{"--to", public, "--alg", "ROT13", "-o", out, "--info", info, payload}, 2, "ROT13"},
		"private key":          {[]string{"--to", private, "-o", out, "--info", info, payload}, 1, "--to takes the public one"},
		"signing key":          {[]string{"--to", ed25519, "-o", out, "--info", info, payload}, 1, "is a signing key"},
		"no key":               {[]string{"--to", payload, "-o", out, "--info", info, payload}, 1, "neither a PEM key"},
		"shared key as public": {[]string{"--to", kek, "-o", out, "--info", info, payload}, 1, "symmetric key, and --to takes public ones"},
		"public key as shared": {[]string{"--kek", public, "-o", out, "--info", info, payload}, 1, "not a symmetric key"},
		"shared key of 24":     {[]string{"--kek", odd, "-o", out, "--info", info, payload}, 1, "24 bytes"},
		"over the payload":     {[]string{"--to", public, "-o", payload, "--info", info, payload}, 2, "the same file"},
		"info over payload":    {[]string{"--to", public, "-o", out, "--info", payload, payload}, 2, "the same file"},
		"two in one":           {[]string{"--to", public, "-o", out, "--info", out, payload}, 2, "the same file"},
		"key without rewrap":   {[]string{"--to", public, "--key", private, "-o", out, "--info", info, payload}, 2, "--key goes with --rewrap"},
		"rewrap without key":   {[]string{"--rewrap", payload, "--to", public, "--info", info}, 2, "--key KEY"},
		"rewrap with output":   {[]string{"--rewrap", payload, "--key", private, "--to", public, "--info", info, "-o", out}, 2, "leave -o out"},
		"rewrap with alg":      {[]string{"--rewrap", payload, "--key", private, "--to", public, "--info", info, "--alg", "A128CTR"}, 2, "leave --alg out"},
		"rewrap with payload":  {[]string{"--rewrap", payload, "--key", private, "--to", public, "--info", info, payload}, 2, "takes no argument"},
		"nowhere to write":     {[]string{"--to", public, "-o", filepath.Join(dir, "none", "enc"), "--info", info, payload}, 1, "no such file"},
		"nowhere for the info": {[]string{"--to", public, "-o", out, "--info", filepath.Join(dir, "none", "info"), payload}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, "", append([]string{"suit", "encrypt"}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q: %s", code, c.code, c.want, stderr)
			}
			if strings.Contains(stdout+stderr, "secret") {
				t.Errorf("the payload leaks: %s%s", stdout, stderr)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
	if data, err := os.ReadFile(payload); err != nil || string(data) != "secret words" {
		t.Errorf("the payload is now %q, %v", data, err)
	}
}

// A description refers to what encrypt wrote, and the described device installs it.
func TestSuitEncryptCreateRun(t *testing.T) {
	signer, signerFile := testKey(t, cose.AlgESP256)
	_, devicePrivate, devicePublic := recipientFiles(t)
	_, otherPrivate, _ := recipientFiles(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"hello.wasm": "the program",
		"hello.yaml": `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, uri: "https://example.com/hello.enc", encrypt: {ciphertext: hello.enc, encryption-info: hello.info}}
`,
		"device.yaml": "vendor: {domain: example.com}\nclass: {name: wasm}\ncomponents: [[hello]]\n" +
			"payloads: {\"https://example.com/hello.enc\": hello.enc}\n",
	} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := publicKey(t, signer)
	for _, args := range [][]string{
		{"encrypt", "--to", devicePublic, "-o", at("hello.enc"), "--info", at("hello.info"), at("hello.wasm")},
		{"create", "-f", at("hello.yaml"), "-o", at("hello.suit")},
		{"sign", "--key", signerFile, at("hello.suit")},
		{"run", "--device", at("device.yaml"), "--key", trusted, "--decrypt-key", devicePrivate, at("hello.suit")},
	} {
		if code, _, stderr := run(t, "", append([]string{"suit"}, args...)...); code != 0 {
			t.Fatalf("%s: %s", args[0], stderr)
		}
	}
	for _, args := range [][]string{{}, {"--decrypt-key", otherPrivate}} {
		code, stdout, _ := run(t, "", append([]string{"suit", "run", "--device", at("device.yaml"), "--key", trusted, at("hello.suit")}, args...)...)
		if code != 1 || !strings.Contains(stdout, "refused: ") {
			t.Errorf("with %q: exit code %d, %s", args, code, stdout)
		}
	}
}

// Who gives a signing key is told what to give instead, and no ciphertext is made.
func TestSuitEncryptRefusesSigningKeys(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	make := func(alg, name string) string {
		for _, args := range [][]string{{"generate", "--alg", alg, "-o", at(name)}, {"public", at(name), "-o", at(name + ".pub")}} {
			if code, _, stderr := run(t, "", append([]string{"key"}, args...)...); code != 0 {
				t.Fatal(stderr)
			}
		}
		return at(name + ".pub")
	}
	restricted, err := cose.ParsePEM(must(os.ReadFile(make("ESP256", "third"))))
	if err == nil {
		restricted, err = restricted.WithAlgorithm(cose.AlgESP256)
	}
	if err != nil {
		t.Fatal(err)
	}
	payload := write(t, "hello.wasm", []byte("the payload"))
	for name, key := range map[string]string{"ESP256": make("ESP256", "first"), "Ed25519": make("Ed25519", "second"),
		"COSE_Key": write(t, "key.cbor", must(restricted.MarshalCBOR()))} {
		code, _, stderr := run(t, "", "suit", "encrypt", "--to", key, "-o", at("out"), "--info", at("info"), payload)
		if code != 1 || !strings.Contains(stderr, "is a signing key") || !strings.Contains(stderr, "ECDH-ES+A128KW") {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
		if _, err := os.Stat(at("out")); err == nil {
			t.Errorf("%s: a ciphertext was made", name)
		}
	}
	if code, _, stderr := run(t, "", "suit", "encrypt", "--to", make("ECDH-ES+A128KW", "right"), "-o", at("out"), "--info", at("info"), payload); code != 0 {
		t.Error(stderr)
	}
	if code, stdout, stderr := run(t, "", "inspect", at("right.pub")); code != 0 || !strings.Contains(stdout, "P-256") {
		t.Errorf("inspect: exit code %d, %s%s", code, stdout, stderr)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
)

// run runs teep and returns its exit code and what it printed.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := root()
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&out)
	code = program.Main(c, args, &errs)
	return code, out.String(), errs.String()
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func testKey(t *testing.T, alg cose.Algorithm) (*cose.Key, string) {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return k, write(t, "key.pem", pem)
}

func TestInspectCommand(t *testing.T) {
	key, keyFile := testKey(t, cose.AlgESP256)
	_, otherFile := testKey(t, cose.AlgESP256)
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := teep.Protect(rand.Reader, &teep.Success{Token: []byte("12345678")}, signer)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "message.cbor", msg)
	text := hex.EncodeToString(msg)
	for name, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		want  string // in stdout or stderr
	}{
		"file":            {"", []string{file}, 0, "/ token / 20: '12345678'"},
		"hex on stdin":    {text, []string{"-"}, 0, "(hex, "},
		"verified":        {"", []string{"--key", keyFile, file}, 0, "verified by " + hex.EncodeToString(key.Thumbprint())},
		"unknown signer":  {"", []string{"--key", otherFile, file}, 1, "unknown signer"},
		"truncated":       {text[:len(text)-2], []string{"-"}, 1, "truncated"},
		"quiet":           {"", []string{"-q", file}, 0, "nothing is wrong with it"},
		"no file":         {"", nil, 2, "FILE is missing"},
		"file missing":    {"", []string{filepath.Join(t.TempDir(), "none")}, 1, "no such file"},
		"key missing":     {"", []string{"--key", "none", file}, 2, "no such file"},
		"key is no key":   {"", []string{"--key", file, file}, 2, "neither a PEM key"},
		"quiet and JSON":  {"", []string{"-q", "--json", file}, 2, "exclude each other"},
		"key not private": {"", []string{"--decrypt-key", publicKey(t, key), file}, 2, "decrypting takes the private one"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.stdin, append([]string{"inspect"}, c.args...)...)
			if code != c.code || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q; printed\n%s%s", code, c.code, c.want, stdout, stderr)
			}
		})
	}
	_, stdout, _ := run(t, "", "inspect", "--json", "--key", keyFile, file)
	var report struct {
		Schema     int
		Kind       string
		Signatures []struct{ Status, Thumbprint string }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if report.Schema != 1 || report.Kind != "cose-sign1" || len(report.Signatures) != 1 || report.Signatures[0].Status != "verified" {
		t.Errorf("%s", stdout)
	}
}

func publicKey(t *testing.T, k *cose.Key) string {
	t.Helper()
	pem, err := k.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "key.pub.pem", pem)
}

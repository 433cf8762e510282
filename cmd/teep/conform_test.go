package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/teeptest"
)

// keyFile writes a key as PEM.
func keyFile(t *testing.T, k *cose.Key) string {
	t.Helper()
	data, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func conformRun(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	c := root()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(append([]string{"conform"}, args...))
	c.SetOut(&out)
	c.SetErr(&errs)
	err = c.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestConformTAM(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	device := filepath.Join(t.TempDir(), "device")
	flags := []string{"tam", "--device", device, "--tam-key", keyFile(t, w.ESP256.Public()), "--tam-key", keyFile(t, w.Ed25519.Public()), w.URI}
	stdout, stderr, err := conformRun(t, flags...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if !strings.Contains(stdout, "query-signatures") || !strings.Contains(stdout, " 0 failed") {
		t.Errorf("table:\n%s", stdout)
	}
	if !strings.Contains(stderr, collateralFile) {
		t.Errorf("nobody is told of the collateral: %q", stderr)
	}
	ueid, err := os.ReadFile(filepath.Join(device, "ueid"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err = conformRun(t, append([]string{"tam", "--json"}, flags[1:]...)...)
	if err != nil || stderr != "" || !strings.HasPrefix(stdout, "[") {
		t.Errorf("second run: %v, %q, %.80s", err, stderr, stdout)
	}
	if again, err := os.ReadFile(filepath.Join(device, "ueid")); err != nil || !bytes.Equal(again, ueid) {
		t.Errorf("the device changed: %v", err)
	}
}

func TestConformTAMFails(t *testing.T) {
	w, other := teeptest.New(t, teeptest.Options{}), teeptest.New(t, teeptest.Options{})
	device := filepath.Join(t.TempDir(), "device")
	stdout, _, err := conformRun(t, "tam", "--device", device, "--tam-key", keyFile(t, other.ESP256.Public()), w.URI)
	if err == nil || !strings.Contains(err.Error(), "not met") || !strings.Contains(stdout, "FAIL") {
		t.Errorf("a TAM with other keys: %v\n%s", err, stdout)
	}
	if _, _, err := conformRun(t, "tam", w.URI); err == nil || !strings.Contains(err.Error(), "tam-key") {
		t.Errorf("without key: %v", err)
	}
	if _, _, err := conformRun(t, "tam", "--device", device, "--tam-key", "/does/not/exist", w.URI); err == nil {
		t.Error("with a key file that does not exist")
	}
}

func TestConformAgent(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- link.ServeListener(ctx, ln, w.Device.Link, link.ServeOptions{}) }()
	defer func() { stop(); <-done }()

	var flags []string
	for i, m := range [][]byte{w.Component("suite", 1, "one"), w.Component("suite", 2, "two")} {
		path := filepath.Join(t.TempDir(), "manifest.suit")
		if err := os.WriteFile(path, m, 0o600); err != nil {
			t.Fatal(i, err)
		}
		flags = append(flags, "--manifest", path)
	}
	flags = append([]string{"agent", "--tam-key", keyFile(t, w.ESP256), "--tam-key", keyFile(t, w.Ed25519),
		"--decryption-key", keyFile(t, w.Encryption)}, flags...)
	stdout, _, err := conformRun(t, append(flags, socket)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	for _, want := range []string{"manifest-install  ", "evidence-nonce  ", "alive  "} {
		line := stdout[strings.Index(stdout, "\n"+want)+1:]
		if line, _, _ = strings.Cut(line, "\n"); !strings.Contains(line, "pass") {
			t.Errorf("%s: %q", want, line)
		}
	}
	if _, _, err := conformRun(t, append(flags, socket+"x")...); err == nil || strings.Contains(err.Error(), "not met") {
		t.Errorf("no agent there: %v", err)
	}
}

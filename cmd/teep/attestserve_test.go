package main

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/internal/program"
)

// TestEncryptedEvidence: who encrypts Evidence to the verifier gets a result that nobody else can read, and what
// cannot be read, or answered in that way, has no result.
func TestEncryptedEvidence(t *testing.T) {
	dir, text := attestFiles(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	nonce, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) *cose.Key {
		t.Helper()
		k, err := readKey(in(name))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	served := func(decryption ...string) evidenceVerifier {
		t.Helper()
		v := servedVerifier{collateral: []string{in("devices.yaml")}, decryption: decryption, name: "test"}
		keys, err := v.decryptionKeys(key("verifier.pem"))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := key("verifier.pem").Signer()
		if err != nil {
			t.Fatal(err)
		}
		current, err := filewatch.New(v.collateral, func(contents [][]byte) (*cmw.Verifier, error) { return v.verifier(signer, contents) },
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return evidenceVerifier{current, keys}
	}
	evidence := func(name, to string) []byte {
		t.Helper()
		data, err := os.ReadFile(in(name))
		if err != nil || to == "" {
			return data
		}
		if data, err = eat.Encrypt(rand.Reader, data, key(to), 0); err != nil {
			t.Fatal(err)
		}
		return data
	}
	v := served(in("stranger-ecdh.pem"), in("verifier-ecdh.pem"))
	trusted, err := readKeySet([]string{in("verifier.pub.pem")})
	if err != nil {
		t.Fatal(err)
	}
	good := func(token []byte) {
		t.Helper()
		if _, err := eat.CheckResult(token, eat.ResultExpectation{Verifiers: trusted, Key: key("agent.pub.pem"), Nonce: nonce, Now: time.Now()}); err != nil {
			t.Error(err)
		}
	}
	r, err := v.Appraise(t.Context(), eat.MediaType, evidence("evidence-with-key.cbor", "verifier-ecdh.pub.pem"), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if !eat.IsEncrypted(r.Data) {
		t.Error("the result can be read by whoever brought the Evidence")
	}
	token, err := eat.Decrypt(r.Data, cose.DecryptKeys{key("encryption.pem")})
	if err != nil {
		t.Fatal(err)
	}
	good(token)
	// In the clear it goes as it came.
	if r, err = v.Appraise(t.Context(), eat.MediaType, evidence("evidence-with-key.cbor", ""), nonce); err != nil {
		t.Fatal(err)
	}
	good(r.Data)

	broken := evidence("evidence-with-key.cbor", "verifier-ecdh.pub.pem")
	broken[len(broken)-1] ^= 1
	for name, c := range map[string]struct {
		v        evidenceVerifier
		evidence []byte
	}{
		"to another verifier":       {served(in("verifier-ecdh.pem")), evidence("evidence-with-key.cbor", "stranger-ecdh.pub.pem")},
		"to one without keys":       {served(), evidence("evidence-with-key.cbor", "verifier-ecdh.pub.pem")},
		"names no key to answer to": {v, evidence("evidence.cbor", "verifier-ecdh.pub.pem")},
		"one bit turned":            {v, broken},
		"something else inside":     {v, evidence("devices.yaml", "verifier-ecdh.pub.pem")},
		"cut":                       {v, broken[:len(broken)/2]},
	} {
		if r, err := c.v.Appraise(t.Context(), eat.MediaType, c.evidence, nonce); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestServeRefusesKeys(t *testing.T) {
	dir, _ := attestFiles(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, want := range map[string]string{
		"verifier-ecdh.pub.pem": "public key", "verifier.pem": "--key too", "nothing.pem": "nothing.pem", "devices.yaml": "neither",
	} {
		code, out := runTeep("attest", "serve", "--listen", "127.0.0.1:0", "--key", in("verifier.pem"), "--collateral", in("devices.yaml"), "--decryption-key", in(name))
		if code == program.ExitOK || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// made is a TAM as init makes it, with its configuration changed.
func made(t *testing.T, from, to string) string {
	t.Helper()
	return remade(t, func(text string) string { return text }, from, to)
}

// silent is made, of a TAM that does not attest itself.
func silent(t *testing.T, from, to string) string {
	t.Helper()
	return remade(t, func(text string) string {
		before, after, _ := strings.Cut(text, "self-attestation:\n")
		_, after, _ = strings.Cut(after, "evidence: true\n")
		return before + after
	}, from, to)
}

func remade(t *testing.T, edit func(string) string, from, to string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tam")
	c := defaults()
	if err := initialize(dir, &c); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tam.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := edit(string(data))
	if !strings.Contains(text, from) {
		t.Fatalf("tam.yaml does not contain %q:\n%s", from, text)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInitMakesAUsableConfiguration(t *testing.T) {
	c, err := load(made(t, `name: "tam"`, `name: "a: b"`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.signers(c.SignKeys); err != nil {
		t.Error(err)
	}
	if _, err := c.decryptionKeys(); err != nil {
		t.Error(err)
	}
	text, err := anchors(c, anchorFlags{distribution: true})
	if err != nil || !strings.Contains(string(text), "http://127.0.0.1:8080/tam") || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("anchors: %v\n%s", err, text)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown key":           {"api:", "apis:", "unknown key"},
		"path with pattern":     {"path: /tam", `path: "/{x"`, "no plain path"},
		"path without /":        {"path: /tam", "path: tam", "no plain path"},
		"no port":               {`"127.0.0.1:8080"`, `"127.0.0.1"`, "HOST:PORT"},
		"bad port":              {`"127.0.0.1:8081"`, `"127.0.0.1:http:1"`, "HOST:PORT"},
		"no signing keys":       {"signing-keys: [keys/esp256.pem, keys/ed25519.pem]", "signing-keys: []", "signing-keys is empty"},
		"no prefix":             {"prefix: keys", "prefix: ''", "distribution.prefix"},
		"bad data component":    {"components: []", "components: ['']", "components"},
		"no verifier":           {"key: keys/verifier.pem", "key: ''", "verifier.key is missing"},
		"API in the clear":      {`"127.0.0.1:8081"`, `"0.0.0.0:8081"`, "api.tls"},
		"API on all hosts":      {`"127.0.0.1:8081"`, `":8081"`, "api.tls"},
		"admission":             {"admission: attested", "admission: everybody", "write attested or manual"},
		"re-enrolment":          {"admission: attested", "admission: attested\n  re-enrolment: always", "write manual or automatic"},
		"allow-list for all":    {"admission: attested", "admission: attested\n  allow-list: devices.txt", "has no effect"},
		"rollout interval":      {"admission: attested", "admission: attested\n  rollout-interval: -1s", "negative"},
		"an owner without keys": {"verifier:", "verifier:\n  owners: {Maker: []}", "has no keys"},
		"format":                {"verifier:", "verifier:\n  formats: [eat, sgx]", "no kind of Evidence"},
		"PCR":                   {"verifier:", "verifier:\n  pcrs: [24]", "no PCR 24"},
		"verifier's key":        {"verifier:", "verifier:\n  trust-all: true", "unknown key"},
		"remote without keys":   {"verifier:", "verifier:\n  remote: [{url: 'https://v.example', owner: V, format: tdx, oemid: 'pen:343'}]", "any answer would do"},
		"remote without vendor": {"verifier:", "verifier:\n  remote: [{url: 'https://v.example', owner: V, format: tdx, keys: [k.pem]}]", "oemid"},
		"remote for EAT":        {"verifier:", "verifier:\n  remote: [{url: 'https://v.example', owner: V, format: eat, oemid: 'pen:343', keys: [k.pem]}]", "no kind of report"},
		"remote nowhere":        {"verifier:", "verifier:\n  remote: [{url: 'v.example', owner: V, format: tdx, oemid: 'pen:343', keys: [k.pem]}]", "no URL"},
		"remote nobody":         {"verifier:", "verifier:\n  remote: [{url: 'https://v.example', format: tdx, oemid: 'pen:343', keys: [k.pem]}]", "owner is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := load(made(t, c.from, c.to)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestKeysHaveOneUse(t *testing.T) {
	for name, to := range map[string]string{"message key": "keys/esp256.pem", "verifier key": "keys/verifier.pem", "Ed25519": "keys/ed25519.pem"} {
		t.Run(name, func(t *testing.T) {
			c, err := load(made(t, "decryption-keys: [keys/encryption.pem]", "decryption-keys: ["+to+"]"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.decryptionKeys(); err == nil || !strings.Contains(err.Error(), "signing key") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnchorsNeedAnAddressThatOthersCanReach(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:8080", ":8080", "[::]:8080"} {
		c, err := load(made(t, `"127.0.0.1:8080"`, `"`+listen+`"`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := anchors(c, anchorFlags{}); err == nil || !strings.Contains(err.Error(), "teep.uri") {
			t.Errorf("%s: got %v", listen, err)
		}
		c.TEEP.URI = "https://tam.example.com/tam"
		if text, err := anchors(c, anchorFlags{}); err != nil || !strings.Contains(string(text), c.TEEP.URI) {
			t.Errorf("%s: %v\n%s", listen, err, text)
		}
	}
}

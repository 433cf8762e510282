package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folder holds a description and what it names, and creates envelopes from it.
type folder struct {
	t   *testing.T
	dir string
}

func (f folder) at(name string) string { return filepath.Join(f.dir, name) }

func (f folder) put(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(f.at(name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) get(name string) string {
	data, err := os.ReadFile(f.at(name))
	if err != nil {
		f.t.Error(err)
	}
	return string(data)
}

func (f folder) create(more ...string) (int, string) {
	f.t.Helper()
	code, _, stderr := run(f.t, "", append([]string{"suit", "create", "-f", f.at("hello.yaml"), "--payloads", f.at("payloads"),
		"--infos", f.at("infos"), "-o", f.at("hello.suit")}, more...)...)
	entries, _ := os.ReadDir(f.at("payloads"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			f.t.Errorf("%s is left behind", e.Name())
		}
	}
	return code, stderr
}

const separate = `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, uri: "https://example.com/hello.enc", encrypt: {to: [device.pub], info: separate}}
  - id: [plain]
    payload: {file: plain.wasm, uri: "https://example.com/plain.wasm"}
`

// What another run made stays: a ciphertext that devices fetch, and the only copy of its key.
func TestSuitCreateOverwritesNothing(t *testing.T) {
	f := folder{t, t.TempDir()}
	_, _, public := recipientFiles(t)
	pem, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	f.put("device.pub", string(pem))
	f.put("hello.wasm", "the application")
	f.put("plain.wasm", "plain")
	f.put("hello.yaml", separate)
	if code, stderr := f.create(); code != 0 {
		t.Fatal(stderr)
	}
	ciphertext, info, envelope := f.get("payloads/hello.enc"), f.get("infos/hello.info"), f.get("hello.suit")
	if f.get("payloads/plain.wasm") != "plain" || len(ciphertext) != len("the application")+16 {
		t.Error("the payloads are not what they should be")
	}
	code, stderr := f.create()
	if code != 1 || !strings.Contains(stderr, "is there already and is something else") || !strings.Contains(stderr, "--overwrite") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if f.get("payloads/hello.enc") != ciphertext || f.get("infos/hello.info") != info || f.get("hello.suit") != envelope {
		t.Error("something was overwritten")
	}
	if code, stderr := f.create("--overwrite"); code != 0 {
		t.Fatal(stderr)
	}
	if f.get("payloads/hello.enc") == ciphertext || f.get("infos/hello.info") == info {
		t.Error("nothing was overwritten")
	}
	// The same content again is no matter.
	plain := separate[:strings.Index(separate, "  - id: [hello]")] + separate[strings.Index(separate, "  - id: [plain]"):]
	f.put("hello.yaml", plain)
	if code, stderr := f.create(); code != 0 {
		t.Error(stderr)
	}
	f.put("plain.wasm", "another")
	if code, stderr := f.create(); code != 1 || !strings.Contains(stderr, "plain.wasm is there already") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if f.get("payloads/plain.wasm") != "plain" {
		t.Error("the payload was overwritten")
	}
}

func TestSuitCreateNamesThatCollide(t *testing.T) {
	f := folder{t, t.TempDir()}
	f.put("a", "one")
	f.put("b", "two")
	description := func(second string) string {
		return `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - {id: [a], payload: {file: a, uri: "https://example.com/x/app"}}
  - {id: [b], payload: {file: ` + second + `, uri: "https://example.com/y/app"}}
`
	}
	f.put("hello.yaml", description("b"))
	if code, stderr := f.create(); code != 1 || !strings.Contains(stderr, "two files would be called") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(f.at("payloads/app")); err == nil {
		t.Error("one of them was written")
	}
	f.put("hello.yaml", description("a"))
	if code, stderr := f.create(); code != 0 || f.get("payloads/app") != "one" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

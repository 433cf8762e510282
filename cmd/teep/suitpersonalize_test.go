package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
)

// personalized is a folder with a developer's signed envelope whose key is kept apart.
type personalized struct {
	t                                        *testing.T
	dir                                      string
	tamPrivate, devicePrivate, devicePublic  string
	developer, developerPublic, tam, tamSign string
}

func (p *personalized) at(name string) string { return filepath.Join(p.dir, name) }

func (p *personalized) suit(args ...string) {
	p.t.Helper()
	if code, _, stderr := run(p.t, "", append([]string{"suit"}, args...)...); code != 0 {
		p.t.Fatalf("%s: %s", args[0], stderr)
	}
}

func newPersonalized(t *testing.T) *personalized {
	t.Helper()
	p := &personalized{t: t, dir: t.TempDir()}
	var tamPublic string
	_, p.tamPrivate, tamPublic = recipientFiles(t)
	_, p.devicePrivate, p.devicePublic = recipientFiles(t)
	developer, developerFile := testKey(t, cose.AlgESP256)
	tam, tamFile := testKey(t, cose.AlgESP256)
	p.developer, p.tamSign = developerFile, tamFile
	p.developerPublic, p.tam = publicKey(t, developer), publicKey(t, tam)
	for name, text := range map[string]string{
		"hello.wasm": "the program", "licence": "for Ada",
		"hello.yaml": `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, uri: "https://example.com/hello.enc", encrypt: {to: [` + tamPublic + `], info: separate}}
`,
		"device.yaml": "vendor: {domain: example.com}\nclass: {name: wasm}\ncomponents: [\"*\"]\n" +
			"payloads: {\"https://example.com/hello.enc\": payloads/hello.enc}\nkeys: [" + p.devicePrivate + "]\n" +
			"signers:\n  - {keys: [" + p.developerPublic + "], components: [[hello]]}\n" +
			"  - {keys: [" + p.tam + "], components: [[keys], [hello, licence]]}\n",
	} {
		if err := os.WriteFile(p.at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.suit("create", "-f", p.at("hello.yaml"), "--payloads", p.at("payloads"), "--infos", p.at("infos"), "-o", p.at("hello.suit"))
	p.suit("sign", "--key", developerFile, p.at("hello.suit"))
	return p
}

func TestSuitPersonalizeKey(t *testing.T) {
	p := newPersonalized(t)
	if code, stdout, _ := run(t, "", "suit", "run", "--device", p.at("device.yaml"), p.at("hello.suit")); code != 1 {
		t.Errorf("the device needs no key: %s", stdout)
	}
	p.suit("personalize", "--info", p.at("infos/hello.info"), "--key", p.tamPrivate, "--to", p.devicePublic,
		"--manifest-id", "keys/hello", "--sequence-number", "1", "-o", p.at("keys.suit"), p.at("hello.suit"))
	if code, stdout, _ := run(t, "", "suit", "run", "--device", p.at("device.yaml"), p.at("keys.suit")); code != 1 {
		t.Errorf("the device asks for no signature: %s", stdout)
	}
	p.suit("sign", "--key", p.tamSign, p.at("keys.suit"))
	p.suit("run", "--device", p.at("device.yaml"), p.at("keys.suit"))

	_, _, other := recipientFiles(t)
	p.suit("personalize", "--info", p.at("infos/hello.info"), "--key", p.tamPrivate, "--to", other,
		"--manifest-id", "keys/hello", "--sequence-number", "1", "-o", p.at("other.suit"), p.at("hello.suit"))
	p.suit("sign", "--key", p.tamSign, p.at("other.suit"))
	if code, stdout, _ := run(t, "", "suit", "run", "--device", p.at("device.yaml"), p.at("other.suit")); code != 1 {
		t.Errorf("the key of another device helps: %s", stdout)
	}
}

func TestSuitPersonalizeData(t *testing.T) {
	p := newPersonalized(t)
	if err := os.WriteFile(p.at("app.yaml"), []byte(`
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, integrated: true}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.suit("create", "-f", p.at("app.yaml"), "-o", p.at("app.suit"))
	p.suit("sign", "--key", p.developer, p.at("app.suit"))
	p.suit("personalize", "--data", p.at("licence"), "--component", "hello/licence", "--to", p.devicePublic,
		"--manifest-id", "keys/licence", "--sequence-number", "1", "-o", p.at("licence.suit"), p.at("app.suit"))
	p.suit("sign", "--key", p.tamSign, p.at("licence.suit"))
	data, err := os.ReadFile(p.at("licence.suit"))
	if err != nil || strings.Contains(string(data), "for Ada") {
		t.Errorf("the data is in the clear, or %v", err)
	}
	code, stdout, stderr := run(t, "", "suit", "run", "--device", p.at("device.yaml"), p.at("licence.suit"))
	if code != 0 || !strings.Contains(stdout, "+ component 'hello'/'licence': 7 bytes") || !strings.Contains(stdout, "+ component 'hello': 11 bytes") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestSuitPersonalizeRefuses(t *testing.T) {
	p := newPersonalized(t)
	common := []string{"--manifest-id", "keys/hello", "--sequence-number", "1", "-o", p.at("x.suit")}
	key := []string{"--info", p.at("infos/hello.info"), "--key", p.tamPrivate, "--to", p.devicePublic}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"neither key nor data":   {[]string{"--to", p.devicePublic, p.at("hello.suit")}, 2, "one of the two"},
		"both":                   {append(key, "--data", p.at("licence"), p.at("hello.suit")), 2, "one of the two"},
		"key without own key":    {[]string{"--info", p.at("infos/hello.info"), "--to", p.devicePublic, p.at("hello.suit")}, 2, "--key KEY"},
		"key with component":     {append(key, "--component", "a", p.at("hello.suit")), 2, "go with --data"},
		"data without component": {[]string{"--data", p.at("licence"), "--to", p.devicePublic, p.at("hello.suit")}, 2, "--component"},
		"data with key":          {[]string{"--data", p.at("licence"), "--component", "a", "--key", p.tamPrivate, "--to", p.devicePublic, p.at("hello.suit")}, 2, "--key goes with --info"},
		"nobody":                 {[]string{"--info", p.at("infos/hello.info"), "--key", p.tamPrivate, p.at("hello.suit")}, 2, `"to" not set`},
		"private key":            {[]string{"--info", p.at("infos/hello.info"), "--key", p.tamPrivate, "--to", p.devicePrivate, p.at("hello.suit")}, 1, "private key"},
		"not the recipient":      {[]string{"--info", p.at("infos/hello.info"), "--key", p.devicePrivate, "--to", p.devicePublic, p.at("hello.suit")}, 1, "give with --key the private key"},
		"no device":              {append(key, "--device-id", "seven", p.at("hello.suit")), 2, "not a UUID"},
		"no envelope":            {append(key, p.at("hello.yaml")), 1, "is not a SUIT envelope"},
		"the developer's id":     {append(key, "--manifest-id", "hello/manifest", p.at("hello.suit")), 1, "cannot depend on itself"},
		"no id":                  {append(key, "--manifest-id", "'", p.at("hello.suit")), 2, "--manifest-id"},
		"unknown algorithm":      {[]string{"--data", p.at("licence"), "--component", "a", "--alg", "ROT13", "--to", p.devicePublic, p.at("hello.suit")}, 2, "ROT13"},
		"no data":                {[]string{"--data", p.at("none"), "--component", "a", "--to", p.devicePublic, p.at("hello.suit")}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := run(t, "", append(append([]string{"suit", "personalize"}, common...), c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q: %s", code, c.code, c.want, stderr)
			}
			if _, err := os.Stat(p.at("x.suit")); err == nil {
				t.Error("an envelope was made")
			}
		})
	}
	// What is kept out of the manifest exists nowhere else.
	if code, _, stderr := run(t, "", "suit", "create", "-f", p.at("hello.yaml"), "--payloads", p.at("payloads"), "-o", p.at("y.suit")); code != 1 || !strings.Contains(stderr, "--infos") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestKeyGenerateShared(t *testing.T) {
	for alg, size := range map[string]int{"A128KW": 16, "A256KW": 32} {
		file := filepath.Join(t.TempDir(), "kek")
		if code, _, stderr := run(t, "", "key", "generate", "--alg", alg, "-o", file); code != 0 {
			t.Fatal(stderr)
		}
		key, err := readKey(file)
		if err != nil {
			t.Fatal(err)
		}
		if secret, err := key.Symmetric(); err != nil || len(secret) != size {
			t.Errorf("%s: %d bytes, %v", alg, len(secret), err)
		}
		if code, _, stderr := run(t, "", "key", "public", file, "-o", file+".pub"); code != 1 || !strings.Contains(stderr, "no public part") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if code, _, stderr := run(t, "", "suit", "verify", "--key", file, file); code != 1 || !strings.Contains(stderr, "is a symmetric key for "+alg) {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if code, _, stderr := run(t, "", "suit", "run", "--device", deviceFile(t, ""), "--key", file, file); code != 1 || !strings.Contains(stderr, "no public part") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if _, err := os.Stat(file + ".pub"); err == nil {
			t.Error("the shared key was written as public")
		}
	}
}

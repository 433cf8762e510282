package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

// describedEnvelope builds a signed envelope with a payload that is fetched, and returns its file.
func describedEnvelope(t *testing.T, key *cose.Key, sequence string) (string, *suit.Envelope) {
	t.Helper()
	r, err := describe.Build([]byte(`
manifest-component-id: [hello, manifest]
sequence-number: `+sequence+`
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, uri: "https://example.com/hello.wasm"}
text:
  en:
    description: greets
severable: [text]
`), describe.Options{Name: "hello.yaml", ReadFile: func(string) ([]byte, error) { return []byte("payload"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Envelope.Sign(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return write(t, "hello.suit", r.Envelope.Encode()), r.Envelope
}

func stillVerifies(t *testing.T, file string, key *cose.Key) *suit.Envelope {
	t.Helper()
	e, err := readEnvelope(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := cose.NewKeySet(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify(set, suit.VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSuitSeverAndAddPayload(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	file, _ := describedEnvelope(t, key, "1")
	if code, _, stderr := run(t, "", "suit", "sever", "--member", "install", file); code != 1 || !strings.Contains(stderr, "there are: text") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := run(t, "", "suit", "sever", "--member", "text", file); code != 0 {
		t.Fatal(stderr)
	}
	if e := stillVerifies(t, file, key); len(e.Severed()) != 0 {
		t.Error("the text is still there")
	}
	if code, _, stderr := run(t, "", "suit", "sever", file); code != 1 || !strings.Contains(stderr, "no severable member") {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	payload := write(t, "hello.wasm", []byte("payload"))
	add := func(uri, payload string) (int, string) {
		code, _, stderr := run(t, "", "suit", "add-payload", "--uri", uri, "--payload", payload, file)
		return code, stderr
	}
	if code, stderr := add("#other", payload); code != 1 || !strings.Contains(stderr, "nothing would ever read") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, stderr := add("https://example.com/hello.wasm", filepath.Join(t.TempDir(), "none")); code != 1 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, stderr := add("https://example.com/hello.wasm", payload); code != 0 {
		t.Fatal(stderr)
	}
	if e := stillVerifies(t, file, key); string(e.Integrated["https://example.com/hello.wasm"]) != "payload" {
		t.Error("the payload is not there")
	}
	if code, stdout, _ := run(t, "", "inspect", "-q", file); code != 0 {
		t.Errorf("inspect finds %s", stdout)
	}
	wrong := write(t, "wrong.wasm", []byte("another"))
	if code, stderr := add("https://example.com/hello.wasm", wrong); code != 0 {
		t.Fatal(stderr)
	}
	if code, stdout, _ := run(t, "", "inspect", "-q", file); code != 1 || !strings.Contains(stdout, "the digest is not image-digest") {
		t.Errorf("exit code %d, inspect finds %s", code, stdout)
	}
}

// A copy without its severed members is the same to a device.
func TestSuitDiffOfASeveredCopy(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	whole, e := describedEnvelope(t, key, "1")
	severed := e.Clone()
	severed.Sever()
	cut := write(t, "cut.suit", severed.Encode())
	for _, c := range [][]string{{whole, cut}, {cut, whole}} {
		code, stdout, stderr := run(t, "", "suit", "diff", c[0], c[1])
		if code != 0 || !strings.HasPrefix(stdout, "nothing changes for the device\n") || !strings.Contains(stdout, cut+" holds nothing beside the manifest") ||
			!strings.Contains(stdout, whole+" holds text") {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
	if code, stdout, _ := run(t, "", "suit", "diff", cut, cut); code != 0 || stdout != "nothing changes for the device\n" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

func TestSuitDiffCommand(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	one, _ := describedEnvelope(t, key, "1")
	two, _ := describedEnvelope(t, key, "2")
	for _, c := range []struct{ before, after, want string }{
		{one, two, "~ sequence-number: 1 -> 2\n"}, {one, one, "nothing changes for the device"},
		{two, one, "! the sequence number does not grow (2 -> 1)"},
	} {
		if code, stdout, stderr := run(t, "", "suit", "diff", c.before, c.after); code != 0 || !strings.Contains(stdout, c.want) {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
	if code, _, stderr := run(t, "", "suit", "diff", one, write(t, "junk", []byte("junk"))); code != 1 || !strings.Contains(stderr, "is not a SUIT envelope") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestSuitExplainCommand(t *testing.T) {
	key, keyFile := testKey(t, cose.AlgESP256)
	_, otherFile := testKey(t, cose.AlgESP256)
	file, e := describedEnvelope(t, key, "1")
	report := &suit.Report{Reference: suit.Reference{Digest: e.Digest}}
	data, err := report.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	protected, err := suit.SignReport(rand.Reader, data, signer)
	if err != nil {
		t.Fatal(err)
	}
	signedFile, plainFile := write(t, "report.cose", protected), write(t, "report.cbor", data)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"signed":            {[]string{"--procedure", "update", "--key", keyFile, signedFile, file}, 0, "directive-fetch"},
		"plain":             {[]string{"--procedure", "update", "--insecure-unverified", plainFile, file}, 0, "succeeded"},
		"on whose word":     {[]string{"--procedure", "update", "--key", keyFile, signedFile, file}, 0, "because --procedure says so; the report does not\nif the device had this manifest"},
		"untold":            {[]string{"--key", keyFile, signedFile, file}, 2, "the report does not say which procedure ran"},
		"nobody says who":   {[]string{plainFile, file}, 2, "--insecure-unverified"},
		"not signed":        {[]string{"--key", keyFile, plainFile, file}, 1, "neither signed nor MACed"},
		"another signer":    {[]string{"--key", otherFile, signedFile, file}, 1, "no signature of a trusted key"},
		"unknown procedure": {[]string{"--procedure", "dance", "--key", keyFile, signedFile, file}, 2, "use update"},
		"no envelope":       {[]string{"--key", keyFile, signedFile, signedFile}, 1, "is not a SUIT envelope"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, "", append([]string{"suit", "explain"}, c.args...)...)
			if code != c.code || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q: %s%s", code, c.code, c.want, stdout, stderr)
			}
		})
	}
}

// explained runs a manifest on a device of its own, and expands the report.
func explained(t *testing.T, explain []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.cbor")
	if code, _, stderr := run(t, "", append([]string{"suit", "run", "--report", report}, args...)...); code != 0 {
		t.Fatal(stderr)
	}
	return run(t, "", append([]string{"suit", "explain", "--insecure-unverified", report}, explain...)...)
}

// A report says what ran, and so does its expansion, without being told.
func TestSuitExplainKnowsTheProcedure(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	file, _ := describedEnvelope(t, key, "2")
	payload := "https://example.com/hello.wasm=" + write(t, "hello.wasm", []byte("payload"))
	args := []string{"--device", deviceFile(t, ""), "--key", publicKey(t, key), "--payload", payload, file}
	for procedure, c := range map[string]struct{ want, not string }{
		"update":    {"procedure: update\n", "uninstall@"},
		"validate":  {"procedure: validate\n", "install@"},
		"invoke":    {"procedure: invoke\n", "install@"},
		"uninstall": {"procedure: uninstall\n", "directive-fetch"},
	} {
		code, stdout, stderr := explained(t, []string{file}, append([]string{"--procedure", procedure}, args...)...)
		if code != 0 || !strings.Contains(stdout, c.want) || strings.Contains(stdout, "\n"+c.not) || !strings.HasSuffix(stdout, "succeeded\n") {
			t.Errorf("%s, exit code %d: %s%s", procedure, code, stdout, stderr)
		}
	}
	code, _, stderr := explained(t, []string{"--procedure", "invoke", file}, args...)
	if code != 1 || !strings.Contains(stderr, "what ran was another procedure: update") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestSuitExplainAsksForTheDependency(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"lib.wasm": "library", "app.wasm": "application",
		"lib.yaml": `
manifest-component-id: [hello, lib-manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components: [{id: [hello, lib], payload: {file: lib.wasm, integrated: true}}]
`,
		"app.yaml": `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components: [{id: [hello, app], payload: {file: app.wasm, integrated: true}}]
dependencies: [{file: lib.suit, integrated: true}]
`} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, keyFile := testKey(t, cose.AlgESP256)
	for _, name := range []string{"lib", "app"} {
		for _, args := range [][]string{{"create", "-f", at(name + ".yaml"), "-o", at(name + ".suit")}, {"sign", "--key", keyFile, at(name + ".suit")}} {
			if code, _, stderr := run(t, "", append([]string{"suit"}, args...)...); code != 0 {
				t.Fatal(stderr)
			}
		}
	}
	args := []string{"--device", deviceFile(t, ""), "--key", keyFile, at("app.suit")}
	// The one inside is found without being named.
	if code, stdout, stderr := explained(t, []string{at("app.suit")}, args...); code != 0 || !strings.Contains(stdout, "[0]install@") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	alone, err := readEnvelope(at("app.suit"))
	if err != nil {
		t.Fatal(err)
	}
	alone.Integrated = nil
	if err := os.WriteFile(at("alone.suit"), alone.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := explained(t, []string{at("alone.suit")}, args...)
	e, err := readEnvelope(at("lib.suit"))
	if err != nil {
		t.Fatal(err)
	}
	if code != 1 || !strings.Contains(stderr, "give --dependency with the manifest of digest "+e.Digest.String()) ||
		!strings.Contains(stdout, "directive-process-dependency") || !strings.Contains(stdout, "what came next is not known") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := explained(t, []string{"--dependency", at("lib.suit"), at("alone.suit")}, args...); code != 0 || !strings.Contains(stdout, "[0]install@") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	// What leaves with it is told, with its commands or with what would show them.
	args = append([]string{"--procedure", "uninstall", "--device", deviceFile(t, "")}, args[2:]...)
	const gone = "('hello'/'lib-manifest') is removed, because nobody needs it any more"
	code, stdout, stderr = explained(t, []string{at("app.suit")}, args...)
	if code != 0 || !strings.Contains(stdout, gone+"\n") || !strings.Contains(stdout, "('hello'/'lib-manifest') uninstall@") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = explained(t, []string{at("alone.suit")}, args...)
	if code != 0 || !strings.Contains(stdout, gone+"; what") || !strings.Contains(stdout, e.Digest.String()) {
		t.Errorf("without its manifest: exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestSuitShowCommand(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	file, _ := describedEnvelope(t, key, "1")
	if code, stdout, _ := run(t, "", "suit", "show", file); code != 0 || !strings.Contains(stdout, "/ manifest-sequence-number / 2: 1") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	if err := os.WriteFile(file, []byte{0xd8}, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, "", "suit", "show", file); code != 1 || !strings.Contains(stderr, "teep inspect") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestSuitTemplates(t *testing.T) {
	for _, c := range []struct {
		args       []string
		code       int
		want, says string
	}{
		{[]string{"list"}, 0, "download", ""}, {[]string{"list"}, 0, "SUIT §7.1", ""},
		{[]string{"show", "integrated"}, 0, "integrated: true", ""}, {[]string{"show", "nothing"}, 2, "", "there are boot"}, {[]string{"show"}, 2, "", "NAME"},
	} {
		code, stdout, stderr := run(t, "", append([]string{"suit", "template"}, c.args...)...)
		if code != c.code || !strings.Contains(stdout, c.want) || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	// What is shown is a description.
	_, text, _ := run(t, "", "suit", "template", "show", "integrated")
	dir := t.TempDir()
	for name, content := range map[string]string{"hello.yaml": text, "app.bin": "an application"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := run(t, "", "suit", "create", "-f", filepath.Join(dir, "hello.yaml"), "-o", filepath.Join(dir, "hello.suit")); code != 0 {
		t.Errorf("a template does not build: %s", stderr)
	}
}

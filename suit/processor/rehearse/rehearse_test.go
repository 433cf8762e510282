package rehearse_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/rehearse"
)

// files is what descriptions of devices and manifests read.
type files map[string][]byte

func (f files) read(name string) ([]byte, error) {
	data, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("no file %q", name)
	}
	return data, nil
}

type bench struct {
	t      testing.TB
	files  files
	author *cose.Key
	device *cose.Key
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pem(t testing.TB, k *cose.Key) []byte {
	t.Helper()
	data, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, files: files{}, author: newKey(t, cose.AlgESP256), device: newKey(t, cose.AlgECDHESA128KW)}
	b.files["dev.pub.pem"] = pem(t, b.author.Public())
	b.files["stranger.pub.pem"] = pem(t, newKey(t, cose.AlgESP256).Public())
	b.files["device.pem"], b.files["device.pub.pem"] = pem(t, b.device), pem(t, b.device.Public())
	b.files["hello.wasm"], b.files["other.wasm"] = []byte("hello, world"), []byte("hello, other")
	return b
}

// manifest builds an envelope, unsigned.
func (b *bench) manifest(text string) *suit.Envelope {
	b.t.Helper()
	r, err := describe.Build([]byte(text), describe.Options{Name: "manifest", ReadFile: b.files.read, Rand: rand.Reader})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range r.Payloads {
		b.files["payload"] = p.Content
	}
	return r.Envelope
}

func (b *bench) signed(text string) []byte {
	b.t.Helper()
	e := b.manifest(text)
	signer, err := b.author.Signer()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := e.Sign(rand.Reader, signer); err != nil {
		b.t.Fatal(err)
	}
	return e.Encode()
}

func (b *bench) described(text string) *rehearse.Device {
	b.t.Helper()
	d, err := rehearse.ParseYAML([]byte(text), rehearse.Options{Name: "device.yaml", ReadFile: b.files.read})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bench) run(device string, r rehearse.Run) *rehearse.Outcome {
	b.t.Helper()
	r.Now, r.Rand = time.Unix(1_800_000_000, 0), rand.Reader
	if r.Procedure == 0 {
		r.Procedure = processor.ProcedureUpdate
	}
	o, err := b.described(device).Rehearse(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	if (o.Failure == nil) != (o.Report.Failure == nil) {
		b.t.Errorf("report and outcome disagree: %+v, %v", o.Report.Failure, o.Failure)
	}
	return o
}

const (
	hello = `
manifest-component-id: [hello, manifest]
sequence-number: 2
version: "1.2.0"
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, uri: "https://example.com/hello.wasm"}
    invoke: {args: now}
`
	// board is a device that accepts hello.
	board = `
vendor: {domain: example.com}
class: {name: wasm}
components: [[hello], [lib]]
payloads: {"https://example.com/hello.wasm": hello.wasm}
signers:
  - keys: [dev.pub.pem]
    components: ["*"]
`
)

func TestUpdate(t *testing.T) {
	b := newBench(t)
	o := b.run(board, rehearse.Run{Envelope: b.signed(hello)})
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	var commands []string
	for _, s := range o.Trail {
		commands = append(commands, s.Procedure.String()+" "+s.Command.String())
	}
	want := []string{"install condition-vendor-identifier", "install condition-class-identifier", "install directive-fetch",
		"install condition-image-match", "validate condition-image-match"}
	for _, w := range want {
		if !slices.Contains(commands, w) {
			t.Errorf("the trail has no %q: %q", w, commands)
		}
	}
	if len(o.Fetches) != 1 || o.Fetches[0].URI != "https://example.com/hello.wasm" {
		t.Errorf("fetched %+v", o.Fetches)
	}
	var lines []string
	for _, c := range o.Changes {
		lines = append(lines, c.String())
	}
	digest := suit.NewDigest([]byte("hello, world")).String()
	wantLines := []string{"+ component 'hello': 12 bytes, " + digest, "+ manifest 'hello'/'manifest': sequence number 2"}
	if !slices.Equal(lines, wantLines) {
		t.Errorf("changes are %q, want %q", lines, wantLines)
	}
}

// change replaces parts of a description.
func change(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			panic("there is no " + pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func TestRefusals(t *testing.T) {
	const (
		install = "\nsequences:\n  install:\n"
	)
	condition := func(parameter, command string) string {
		return hello + install + "    - override-parameters: {" + parameter + "}\n    - " + command + "\n"
	}
	for name, c := range map[string]struct {
		device   string
		manifest string
		reason   suit.Reason
		want     string
	}{
		"another vendor":       {change(board, "example.com}", "example.org}"), hello, suit.ReasonConditionFailed, "vendor"},
		"another class":        {change(board, "name: wasm", "name: arm"), hello, suit.ReasonConditionFailed, "class"},
		"no such component":    {change(board, "[[hello], [lib]]", "[[lib]]"), hello, suit.ReasonComponentUnsupported, "no such component"},
		"unknown signer":       {change(board, "dev.pub", "stranger.pub"), hello, suit.ReasonUnauthorised, ""},
		"no right":             {change(board, `components: ["*"]`, "components: [[lib]]"), hello, suit.ReasonComponentUnauthorised, "no rights"},
		"no right to fetch":    {board + "    commands: [invoke, unlink, image-match, vendor-identifier, class-identifier]\n", hello, suit.ReasonComponentUnauthorised, "fetch"},
		"no right to a URI":    {board + "    parameters: [invoke-args, image-digest, image-size, vendor-identifier, class-identifier]\n", hello, suit.ReasonComponentUnauthorised, "uri"},
		"number out of bounds": {board + "    max-sequence-number: 1\n", hello, suit.ReasonUnauthorised, "sequence number 2"},
		"older":                {board + "manifests: [{id: [hello, manifest], sequence-number: 3}]\n", hello, suit.ReasonOperationFailed, "installed was 3"},
		"same number":          {board + "manifests: [{id: [hello, manifest], sequence-number: 2}]\n", hello, suit.ReasonOperationFailed, "installed was 2"},
		"nothing there":        {change(board, "hello.wasm\":", "gone.wasm\":"), hello, suit.ReasonOperationFailed, "nothing is described"},
		"other content":        {change(board, ": hello.wasm}", ": other.wasm}"), hello, suit.ReasonConditionFailed, ""},
		"too large":            {board + "limits: {payload-bytes: 4}\n", hello, suit.ReasonOperationFailed, "limit"},
		"no battery":           {board, condition("minimum-battery: 10", "condition-minimum-battery"), suit.ReasonConditionFailed, "without a battery"},
		"battery low":          {board + "battery: 9\n", condition("minimum-battery: 10", "condition-minimum-battery"), suit.ReasonConditionFailed, "9 mWh"},
		"nobody to ask":        {board, condition("update-priority: 3", "condition-update-authorized"), suit.ReasonConditionFailed, "anybody"},
		"not urgent enough":    {board + "authorizes-priority: 2\n", condition("update-priority: 3", "condition-update-authorized"), suit.ReasonConditionFailed, "priority 3"},
		"too late":             {board + "clock: 2026-07-01T00:00:00Z\n", condition("use-before: 1782864000", "condition-use-before"), suit.ReasonConditionFailed, ""},
		"waits":                {board + "events: [power]\n", condition("wait-info: {network: 1, power: 1}", "directive-wait"), suit.ReasonOperationFailed, `"network"`},
		"no version":           {board, condition("version: \">=1.0\"", "condition-version"), suit.ReasonConditionFailed, "no version"},
		"no slot":              {board, condition("component-slot: 0", "condition-component-slot"), suit.ReasonConditionFailed, "no slot"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			o := b.run(c.device, rehearse.Run{Envelope: b.signed(c.manifest)})
			if o.Failure == nil || o.Failure.Reason != c.reason || !strings.Contains(o.Failure.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", o.Failure, c.reason, c.want)
			}
			if len(o.Changes) > 0 {
				t.Errorf("a refusal changes %v", o.Changes)
			}
		})
	}
}

func TestEnvironmentThatIsDescribed(t *testing.T) {
	b := newBench(t)
	o := b.run(board+`
battery: 10
authorizes-priority: 3
clock: 2026-06-30T23:59:59Z
events: [network, power]
installed:
  - id: [hello]
    slot: 1
    version: "1.1"
    content: {text: old}
    class: {name: wasm}
`, rehearse.Run{Envelope: b.signed(hello + `
sequences:
  install:
    - override-parameters: {minimum-battery: 10, update-priority: 3, use-before: 1782864000, wait-info: {network: 1, power: 1}, version: "<1.2", component-slot: 1}
    - condition-minimum-battery
    - condition-update-authorized
    - condition-use-before
    - directive-wait
    - condition-version
    - condition-component-slot
    - override-parameters: {uri: "https://example.com/hello.wasm"}
    - directive-fetch
    - condition-image-match
`)})
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	if !strings.HasPrefix(o.Changes[0].String(), "~ component 'hello': 3 bytes, ") {
		t.Errorf("changes are %v", o.Changes)
	}
}

func TestVersionThatAManifestSet(t *testing.T) {
	b := newBench(t)
	b.files["hello-2.suit"] = b.signed(hello)
	next := change(hello, "number: 2", "number: 3") + `
sequences:
  install:
    - override-parameters: {version: "=1.2.0", uri: "https://example.com/hello.wasm"}
    - condition-version
    - directive-fetch
`
	if o := b.run(board+"manifests: [{envelope: hello-2.suit}]\n", rehearse.Run{Envelope: b.signed(next)}); o.Failure != nil {
		t.Error(o.Failure)
	}
	if o := b.run(board, rehearse.Run{Envelope: b.signed(next)}); o.Failure == nil {
		t.Error("a component that is not there has a version")
	}
}

func TestOtherProcedures(t *testing.T) {
	b := newBench(t)
	envelope := b.signed(hello)
	b.files["hello-2.suit"] = envelope
	installed := board + "manifests: [{envelope: hello-2.suit}]\n"
	for _, device := range []string{board, installed} {
		o := b.run(device, rehearse.Run{Envelope: envelope, Procedure: processor.ProcedureInvoke})
		if o.Failure != nil || len(o.Invocations) != 1 || string(o.Invocations[0].Args) != "now" || len(o.Fetches) != 0 {
			t.Errorf("invoke: %+v", o)
		}
		o = b.run(device, rehearse.Run{Envelope: envelope, Procedure: processor.ProcedureValidate})
		if o.Failure != nil || len(o.Changes) != 0 || o.Procedure != processor.ProcedureValidate {
			t.Errorf("validate: %+v", o)
		}
		o = b.run(device, rehearse.Run{Envelope: envelope, Procedure: processor.ProcedureUninstall})
		if o.Failure != nil || len(o.Changes) != 2 || o.Changes[0].After != "" {
			t.Errorf("uninstall: %+v", o)
		}
	}
	refusing := change(board, "example.com}", "example.org}")
	o := b.run(refusing, rehearse.Run{Envelope: envelope, Procedure: processor.ProcedureInvoke})
	if o.Failure == nil || o.Procedure != processor.ProcedureUpdate || len(o.Invocations) > 0 {
		t.Errorf("what cannot be installed is invoked: %+v", o)
	}
	if o := b.run(board, rehearse.Run{Envelope: []byte("junk"), Procedure: processor.ProcedureInvoke}); o.Failure == nil || o.Manifest != nil {
		t.Errorf("junk: %+v", o)
	}
}

func TestDependency(t *testing.T) {
	b := newBench(t)
	b.files["lib.suit"] = b.signed(change(hello, "[hello, manifest]", "[lib, manifest]", "id: [hello]", "id: [lib]"))
	dependent := b.signed(`
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: wasm}
components:
  - id: [hello]
    content: {text: script}
dependencies:
  - id: [lib, manifest]
    file: lib.suit
    uri: "https://example.com/lib.suit"
`)
	if o := b.run(board, rehearse.Run{Envelope: dependent}); o.Failure == nil || !strings.Contains(o.Failure.Error(), "lib.suit") {
		t.Errorf("a missing dependency gives %v", o.Failure)
	}
	o := b.run(board, rehearse.Run{Envelope: dependent, Dependencies: [][]byte{b.files["lib.suit"]}})
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	if len(o.Changes) != 4 {
		t.Errorf("changes are %v", o.Changes)
	}
	o = b.run(board, rehearse.Run{Envelope: dependent, Payloads: map[string][]byte{"https://example.com/lib.suit": b.files["lib.suit"]}})
	if o.Failure != nil {
		t.Error(o.Failure)
	}
}

func TestEncryptedPayload(t *testing.T) {
	b := newBench(t)
	envelope := b.signed(change(hello, "hello.wasm\"}", "hello.wasm\", encrypt: {to: [device.pub.pem]}}"))
	run := rehearse.Run{Envelope: envelope, Payloads: map[string][]byte{"https://example.com/hello.wasm": b.files["payload"]}}
	if o := b.run(board, run); o.Failure == nil {
		t.Error("a device without the key decrypts")
	}
	o := b.run(board+"keys: [device.pem]\n", run)
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	run.DecryptKeys = cose.DecryptKeys{b.device}
	if o := b.run(board, run); o.Failure != nil {
		t.Error(o.Failure)
	}
	run.Payloads["https://example.com/hello.wasm"] = append(bytes.Clone(b.files["payload"][:len(b.files["payload"])-1]), 0)
	if o := b.run(board+"keys: [device.pem]\n", run); o.Failure == nil {
		t.Error("a changed ciphertext is installed")
	}
}

func TestInsecureUnverified(t *testing.T) {
	b := newBench(t)
	nobody := change(board, "signers:\n  - keys: [dev.pub.pem]\n    components: [\"*\"]\n", "")
	unsigned := b.manifest(hello)
	if _, err := b.described(nobody).Rehearse(t.Context(), rehearse.Run{Envelope: unsigned.Encode(),
		Procedure: processor.ProcedureUpdate}); !errors.Is(err, rehearse.ErrNoSigners) {
		t.Errorf("a device that trusts nobody gives %v", err)
	}
	if o := b.run(board, rehearse.Run{Envelope: unsigned.Encode()}); o.Failure == nil {
		t.Error("nobody signed it, and the device accepts it")
	}
	macced := unsigned.Clone()
	if err := macced.Mac(cose.NewSymmetricKey(make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	for name, envelope := range map[string][]byte{"unsigned": unsigned.Encode(), "a MAC": macced.Encode(), "a stranger's": b.signed(hello)} {
		if o := b.run(nobody, rehearse.Run{Envelope: envelope, InsecureUnverified: true}); o.Failure != nil {
			t.Errorf("%s: %v", name, o.Failure)
		}
		o := b.run(nobody, rehearse.Run{Envelope: envelope, InsecureUnverified: true, Procedure: processor.ProcedureInvoke})
		if o.Failure != nil || len(o.Invocations) != 1 {
			t.Errorf("%s: %v", name, o.Failure)
		}
	}
	changed := bytes.Replace(unsigned.Encode(), []byte("hello.wasm"), []byte("hullo.wasm"), 1)
	if o := b.run(nobody, rehearse.Run{Envelope: changed, InsecureUnverified: true}); o.Failure == nil {
		t.Error("a manifest with another digest is accepted")
	}
	if o := b.run(nobody, rehearse.Run{Envelope: []byte{0xff}, InsecureUnverified: true}); o.Failure == nil || o.Failure.Reason != suit.ReasonCBORParse {
		t.Errorf("junk gives %v", o.Failure)
	}
}

func TestRunThatMakesNoSense(t *testing.T) {
	b := newBench(t)
	d := b.described(board)
	if _, err := d.Rehearse(t.Context(), rehearse.Run{Envelope: b.signed(hello)}); err == nil {
		t.Error("no procedure is rehearsed")
	}
	signer := processor.Signer{Key: b.author.Public(), Rights: processor.AllComponents()}
	if _, err := d.Rehearse(t.Context(), rehearse.Run{Envelope: b.signed(hello), Procedure: processor.ProcedureUpdate,
		Signers: []processor.Signer{signer}}); err == nil || !strings.Contains(err.Error(), "merge") {
		t.Errorf("a key with two sets of rights gives %v", err)
	}
	b.files["old.suit"] = b.signed(change(hello, "example.com}", "example.org}"))
	d = b.described(board + "manifests:\n  - {envelope: old.suit}\n")
	_, err := d.Rehearse(t.Context(), rehearse.Run{Envelope: b.signed(hello), Procedure: processor.ProcedureUpdate})
	if err == nil || !strings.Contains(err.Error(), "device.yaml:10: an installed manifest: the device would not have installed it") {
		t.Errorf("an installed manifest that is for another device gives %v", err)
	}
}

func TestManifestWithoutID(t *testing.T) {
	b := newBench(t)
	envelope := b.signed(change(hello, "manifest-component-id: [hello, manifest]\n", ""))
	if o := b.run(board, rehearse.Run{Envelope: envelope}); o.Failure == nil {
		t.Error("it is recorded nowhere")
	}
	for _, p := range []processor.Procedure{processor.ProcedureUpdate, processor.ProcedureUninstall} {
		if o := b.run(board, rehearse.Run{Envelope: envelope, ManifestID: suit.NewComponentID("hello", "m"), Procedure: p}); o.Failure != nil {
			t.Error(o.Failure)
		}
	}
}

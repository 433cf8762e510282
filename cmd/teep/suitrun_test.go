package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

const deviceText = `vendor: {domain: example.com}
class: {name: wasm}
components: [[hello]]
`

func deviceFile(t *testing.T, more string) string {
	t.Helper()
	return write(t, "device.yaml", []byte(deviceText+more))
}

func TestSuitRun(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	stranger, _ := testKey(t, cose.AlgESP256)
	trusted, other := publicKey(t, key), publicKey(t, stranger)
	file, envelope := describedEnvelope(t, key, "2")
	unsigned := envelope.Clone()
	unsigned.RemoveSignatures()
	unsignedFile := write(t, "unsigned.suit", unsigned.Encode())
	payload := "https://example.com/hello.wasm=" + write(t, "hello.wasm", []byte("payload"))
	device := deviceFile(t, "")
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"accepted": {[]string{"--device", device, "--key", trusted, "--payload", payload, file}, 0,
			[]string{"update of manifest 'hello'/'manifest', sequence number 2", "install@", "directive-fetch 'hello'",
				"fetched https://example.com/hello.wasm", "+ component 'hello': 7 bytes", "+ manifest 'hello'/'manifest'", "accepted\n"}},
		"uninstalled": {[]string{"--device", device, "--key", trusted, "--payload", payload, "--procedure", "uninstall", file}, 0,
			[]string{"uninstall of manifest", "directive-unlink", "- component 'hello'", "accepted"}},
		"nothing to invoke": {[]string{"--device", device, "--key", trusted, "--payload", payload, "--procedure", "invoke", file}, 0, []string{"accepted"}},
		"signers described": {[]string{"--device", deviceFile(t, "signers: [{keys: ["+trusted+"], components: [\"*\"]}]\n"), "--payload", payload, file}, 0, []string{"accepted"}},
		"unverified": {[]string{"--device", device, "--insecure-unverified", "--payload", payload, unsignedFile}, 0,
			[]string{"insecure: signatures are not checked", "accepted"}},
		"nobody trusted":   {[]string{"--device", device, "--payload", payload, file}, 2, []string{"names no signers", "--insecure-unverified"}},
		"unknown signer":   {[]string{"--device", device, "--key", other, "--payload", payload, file}, 1, []string{"refused: unauthorised", "the device refuses it"}},
		"not signed":       {[]string{"--device", device, "--key", trusted, "--payload", payload, unsignedFile}, 1, []string{"refused: "}},
		"no payload":       {[]string{"--device", device, "--key", trusted, file}, 1, []string{"directive-fetch 'hello': failed", "refused: operation-failed"}},
		"another payload":  {[]string{"--device", device, "--key", trusted, "--payload", "https://example.com/hello.wasm=" + device, file}, 1, []string{"refused: "}},
		"no manifest":      {[]string{"--device", device, "--key", trusted, device}, 1, []string{"refused: cbor-parse"}},
		"older":            {[]string{"--device", deviceFile(t, "manifests: [{id: [hello, manifest], sequence-number: 3}]\n"), "--key", trusted, "--payload", payload, file}, 1, []string{"installed was 3", "refused: operation-failed"}},
		"bad description":  {[]string{"--device", deviceFile(t, "batery: 1\n"), "--key", trusted, file}, 1, []string{"device.yaml:4:1: \"batery\" is not known"}},
		"no description":   {[]string{"--device", filepath.Join(t.TempDir(), "none"), "--key", trusted, file}, 1, []string{"no such file"}},
		"without device":   {[]string{"--key", trusted, file}, 2, []string{`"device" not set`}},
		"no envelope":      {[]string{"--device", device, "--key", trusted}, 2, []string{"ENVELOPE is missing"}},
		"bad payload":      {[]string{"--device", device, "--key", trusted, "--payload", "https://example.com", file}, 2, []string{"URI=FILE"}},
		"payload missing":  {[]string{"--device", device, "--key", trusted, "--payload", "https://example.com=none", file}, 1, []string{"no such file"}},
		"bad procedure":    {[]string{"--device", device, "--key", trusted, "--procedure", "dance", file}, 2, []string{"use update, validate"}},
		"bad id":           {[]string{"--device", device, "--key", trusted, "--manifest-id", "'a", file}, 2, []string{"--manifest-id"}},
		"bad dependency":   {[]string{"--device", device, "--key", trusted, "--dependency", device, file}, 1, []string{"is not a SUIT envelope"}},
		"bad key":          {[]string{"--device", device, "--key", device, file}, 1, []string{"neither a PEM key"}},
		"bad decrypt key":  {[]string{"--device", device, "--key", trusted, "--decrypt-key", device, file}, 1, []string{"neither a PEM key"}},
		"key given twice":  {[]string{"--device", device, "--key", trusted, "--key", trusted, file}, 1, []string{"merge"}},
		"nowhere to write": {[]string{"--device", device, "--key", trusted, "--payload", payload, "--report", filepath.Join(t.TempDir(), "none", "r"), file}, 1, []string{"no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, "", append([]string{"suit", "run"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("there is no %q in %s%s", want, stdout, stderr)
				}
			}
			if code != 0 && strings.Contains(stdout, "accepted") {
				t.Errorf("accepted and failed: %s", stdout)
			}
		})
	}
}

func TestSuitRunJSON(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	file, _ := describedEnvelope(t, key, "2")
	payload := "https://example.com/hello.wasm=" + write(t, "hello.wasm", []byte("payload"))
	args := []string{"suit", "run", "--json", "--device", deviceFile(t, ""), "--key", publicKey(t, key), file}
	parse := func(want int, args ...string) outcomeJSON {
		t.Helper()
		code, stdout, stderr := run(t, "", args...)
		var o outcomeJSON
		if err := json.Unmarshal([]byte(stdout), &o); err != nil || code != want {
			t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
		}
		return o
	}
	o := parse(0, append(args, "--payload", payload)...)
	if !o.Accepted || o.Reason != "ok" || o.Error != "" || *o.SequenceNumber != 2 || len(o.Fetched) != 1 || len(o.Changes) != 2 || len(o.Trail) == 0 {
		t.Errorf("outcome is %+v", o)
	}
	o = parse(1, args...)
	last := o.Trail[len(o.Trail)-1]
	if o.Accepted || o.Reason != "operation-failed" || o.Error == "" || !last.Failed || last.Command != "directive-fetch" || len(o.Changes) != 0 {
		t.Errorf("outcome is %+v", o)
	}
}

// The report of a rehearsal explains itself.
func TestSuitRunReport(t *testing.T) {
	key, _ := testKey(t, cose.AlgESP256)
	file, _ := describedEnvelope(t, key, "2")
	report := filepath.Join(t.TempDir(), "report.cbor")
	if code, _, stderr := run(t, "", "suit", "run", "--report", report, "--device", deviceFile(t, ""), "--key", publicKey(t, key), file); code != 1 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := suit.ParseReport(data); err != nil || r.Failure == nil {
		t.Errorf("report is %+v, %v", r, err)
	}
	code, stdout, stderr := run(t, "", "suit", "explain", "--insecure-unverified", report, file)
	if code != 0 || !strings.Contains(stdout, "directive-fetch 'hello': failed") || !strings.Contains(stdout, "failed: operation-failed") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// The description in the help is one.
func TestSuitRunHelpExample(t *testing.T) {
	lines := strings.Split(suitRun().Long, "\n")
	var text strings.Builder
	for _, line := range lines {
		if example, ok := strings.CutPrefix(line, "  "); ok {
			text.WriteString(example + "\n")
		}
	}
	key, _ := testKey(t, cose.AlgESP256)
	device, _ := testKey(t, cose.AlgECDHESA128KW)
	envelope, _ := describedEnvelope(t, key, "1")
	dir := t.TempDir()
	for name, from := range map[string]string{"dev.pub.pem": publicKey(t, key), "hello-1.suit": envelope,
		"hello-1.wasm": write(t, "x", []byte("payload")), "hello-2.wasm": write(t, "y", []byte("payload 2"))} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pem, err := device.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"device.pem": pem, "device.yaml": []byte(text.String())} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := readDevice(filepath.Join(dir, "device.yaml"))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	if len(d.Installed) != 1 || len(d.Manifests) != 2 || d.Battery == nil || len(d.Signers) != 1 || !d.ImplicitDependencyIntegrity {
		t.Errorf("device is %+v", d)
	}
}

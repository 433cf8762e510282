package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// written is a configuration file with the parts that every broker needs, and more.
func written(t *testing.T, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "broker.yaml")
	text := "tees: [{name: sandbox, socket: agent.sock}]\napps: {socket: app.sock}\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFirmwareVariables: a file is found beside the configuration, and none is no file.
func TestFirmwareVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.yaml")
	for value, want := range map[string]string{"none": "none", "vars.fd": filepath.Join(filepath.Dir(path), "vars.fd"), "./none": filepath.Join(filepath.Dir(path), "none")} {
		text := "tees: [{name: m, vm: {image: i, state: s, tpm: emulated, firmware-variables: " + value + "}}]\napps: {socket: app.sock}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.TEEs[0].VM.config().FirmwareVariables; got != want {
			t.Errorf("%s became %s", value, got)
		}
	}
}

func TestLoad(t *testing.T) {
	path := written(t, `http: {ca-file: ca.pem, timeout: 30s, idle-timeout: 5s, message-bytes: 1000, fetch-redirects: 2, retry: {attempts: 7, base: 2s, max: 9s}}
endpoints:
  - {listen: "127.0.0.1:0", tls: {certificate: d.pem, key: d.key}}
  - {listen: "[::]:8443", path: /x, tee: sandbox, rate: 0.5}
`)
	c, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	o := c.HTTP.options()
	if o.CAFile != filepath.Join(filepath.Dir(path), "ca.pem") || o.Timeout != 30*time.Second || o.IdleTimeout != 5*time.Second ||
		o.MaxResponse != 1000 || o.FetchRedirects != 2 || o.Retry.Attempts != 7 || o.Retry.Base != 2*time.Second || o.Retry.Max != 9*time.Second {
		t.Errorf("%+v", o)
	}
	if len(c.Endpoints) != 2 || c.Endpoints[0].Path != "/teep" || !filepath.IsAbs(c.Endpoints[0].TLS.Key) || c.Endpoints[1].Path != "/x" {
		t.Errorf("%+v", c.Endpoints)
	}
}

// TestRetryDefaults: what is not set stays sensible beside what is.
func TestRetryDefaults(t *testing.T) {
	for more, want := range map[string][2]time.Duration{
		"":                          {time.Second, 15 * time.Second},
		"http: {retry: {base: 1m}}": {time.Minute, time.Minute},
		"http: {retry: {max: 1ms}}": {time.Millisecond, time.Millisecond},
	} {
		c, err := load(written(t, more))
		if err != nil {
			t.Fatal(err)
		}
		if r := c.HTTP.options().Retry; r.Base != want[0] || r.Max != want[1] || r.Attempts < 2 {
			t.Errorf("%s: %+v", more, r)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for more, want := range map[string]string{
		"endpoint: []":                                             "unknown key",
		"endpoints: [{path: /teep}]":                               "no address",
		"endpoints: [{listen: localhost}]":                         "no address",
		"endpoints: [{listen: \"h:http\"}]":                        "no address",
		"endpoints: [{listen: \":1\", path: teep}]":                "no plain path",
		"endpoints: [{listen: \":1\", path: \"/{x\"}]":             "no plain path",
		"endpoints: [{listen: \":1\", tee: other}]":                "none of tees",
		"endpoints: [{listen: \":1\", rate: -1}]":                  "negative",
		"endpoints: [{listen: \":1\", tls: {certificate: c.pem}}]": "both certificate and key",
		"endpoints: [{listen: \":1\", insecure: true}]":            "unknown key",
		"verifier: {ca-file: x.pem}":                               "url is missing",
		"verifier: {url: \"http://verifier.example\"}":             "not https",
		"verifier: {url: verifier.example}":                        "not https",
		"verifier: {url: \"https://v\", timeout: -1s}":             "negative",
		"verifier: {url: \"https://v\", insecure: true}":           "unknown key",
		"supplies: {interval: -1s}":                                "negative",
		"supplies: {revocation-lists: [\"\"]}":                     "empty entry",
		"supplies: {trust: x}":                                     "unknown key",
		"http: {timeout: -1s}":                                     "negative",
		"http: {retry: {attempts: -1}}":                            "negative",
		"http: {retry: {base: 2s, max: 1s}}":                       "base is larger than max",
		"http: {retries: 3}":                                       "unknown key",
		"http: {insecure-skip-verify: true}":                       "unknown key", // there is no such thing
		"http: {timeout: soon}":                                    "a duration",
		"policy-interval: -1s":                                     "negative",
	} {
		if _, err := load(written(t, more)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", more, err, want)
		}
	}
}

func TestMachineSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.yaml")
	text := `tees:
  - name: machine
    vm: {image: image, state: state.img, state-bytes: 33554432, tpm: emulated, memory-mib: 256, ports: 2, approvals: next.cbor, qemu-arguments: [-s]}
apps: {socket: app.sock}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	m := c.TEEs[0].VM.config()
	dir := filepath.Dir(path)
	for name, got := range map[string]string{
		"image": m.Image, "state.img": m.State, "next.cbor": m.Approvals, "machine.run": m.Run, "machine.tpm": m.TPMState,
	} {
		if got != filepath.Join(dir, name) {
			t.Errorf("%s became %q", name, got)
		}
	}
	if m.StateBytes != 32<<20 || m.MemoryMiB != 256 || m.Ports != 2 || m.TPM != "emulated" || len(m.Arguments) != 1 {
		t.Errorf("%+v", m)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// TestMachineSettingsRefused: a mistake is found before anything is started, by the file or by the machine.
func TestMachineSettingsRefused(t *testing.T) {
	for settings, want := range map[string]string{
		"{image: i, state: s, size: 1}":                               "unknown key",
		"{image: i, state: s, state-bytes: big}":                      "",
		"{state: s}":                                                  "image is missing",
		"{image: i}":                                                  "state is missing",
		"{image: i, state: s, machine: pc}":                           "q35 or microvm",
		"{image: i, state: s, machine: microvm, tpm: emulated}":       "neither firmware nor a TPM",
		"{image: i, state: s, accelerator: hvf}":                      "kvm or tcg",
		"{image: i, state: s, memory-mib: 64}":                        "the agent needs",
		"{image: i, state: s, state-bytes: 1}":                        "write",
		"{image: i, state: s, ports: 99}":                             "write 1 to 8",
		"{image: i, state: s, ports: -1}":                             "write 1 to 8",
		"{image: i, state: s, tpm: tpm0}":                             "the device of the host's TPM",
		"{image: i, state: s, vsock-cid: 1}":                          "write 3 or more",
		"{image: i, state: s, vsock-cid: -3}":                         "",
		"{image: \"i,x\", state: s}":                                  "comma",
		"{image: i, state: s, approvals: \"a,b\"}":                    "comma",
		"{image: i, state: s, run: /" + strings.Repeat("r", 99) + "}": "shorter folder",
	} {
		path := filepath.Join(t.TempDir(), "broker.yaml")
		text := "tees: [{name: m, vm: " + settings + "}]\napps: {socket: app.sock}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(path)
		if err == nil {
			m := c.TEEs[0].VM.config()
			err = m.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", settings, err, want)
		}
	}
	for _, text := range []string{"tees: [{name: m, socket: s, vm: {image: i, state: s}}]", "tees: [{vm: {image: i, state: s}}]", "tees: [{name: m}]"} {
		path := filepath.Join(t.TempDir(), "broker.yaml")
		if err := os.WriteFile(path, []byte(text+"\napps: {socket: a}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(path); err == nil || !strings.Contains(err.Error(), "either a socket or a vm") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMachineCommandsRefused: who asks the agent in a machine is told what is missing.
func TestMachineCommandsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := written(t, "")
	two := write("two.yaml", "tees: [{name: a, vm: {image: i, state: s}}, {name: b, vm: {image: i, state: s}}]\napps: {socket: app.sock}\n")
	empty := write("empty", "")
	for want, args := range map[string][]string{
		"required flag":            {"key"},
		"no machine among tees":    {"key", "--config", none},
		"write agent, attestation": {"key", "--config", two, "--use", "device-secret"},
		"name one with --tee":      {"key", "--config", two},
		"is no machine":            {"key", "--config", two, "--tee", "c"},
		"while 'teep-broker serve": {"key", "--config", two, "--tee", "a"},
		"\"owner\" not set":        {"collateral", "--config", two, "--tee", "a"},
		"holds no credential":      {"enrol", "--config", two, "--tee", "a", "--credential", empty},
		"no such file":             {"enrol", "--config", two, "--tee", "a", "--intermediate", filepath.Join(dir, "none.pem")},
	} {
		c := root()
		c.SetArgs(append([]string{"machine"}, args...))
		c.SilenceErrors, c.SilenceUsage = true, true
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", args, err, want)
		}
	}
}

// TestEndpointIsBounded: what strangers can have a device keep in memory, at most.
func TestEndpointIsBounded(t *testing.T) {
	limits := (&endpoint{}).handlerOptions(nil).Limits()
	if most := (limits["arriving_messages"] + limits["concurrent_messages"]) * limits["message_bytes"]; most > 512<<20 {
		t.Errorf("%.0f MiB of messages at a time", most/(1<<20))
	}
	if limits["requests_per_second_and_address"] <= 0 {
		t.Error("an address may send as often as it likes")
	}
}

package vm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/attest/appraisal"
)

// machineOwner is the owner of the machine, at its host, while the machine runs.
type machineOwner struct{ dir, bin, config string }

func (o *machineOwner) run(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(o.bin, program), args...)
	cmd.Dir = o.dir
	out, err := cmd.Output()
	if exit, is := err.(*exec.ExitError); is && len(exit.Stderr) > 0 {
		out = append(out, exit.Stderr...)
	}
	return out, err
}

// machine asks the agent in the machine.
func (o *machineOwner) machine(args ...string) ([]byte, error) {
	return o.run("teep-broker", append(append([]string{"machine"}, args...), "--config", o.config)...)
}

// ask has the agent tell what is nobody's secret.
func (o *machineOwner) ask(t *testing.T) {
	t.Helper()
	for want, args := range map[string][]string{
		"-----BEGIN PUBLIC KEY-----": {"key", "--use", "encryption"},
		"pcr-9":                      {"collateral", "--owner", "Example Devices"},
	} {
		out, err := o.machine(args...)
		if err != nil || !bytes.Contains(out, []byte(want)) || bytes.Contains(out, []byte("PRIVATE")) {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}

// enrol has the TPM of the running machine enrolled, all the way: what comes out of it is what the demo's
// owner, who had the TPM in hand, has found. A credential that is not the one made for it is refused.
func (o *machineOwner) enrol(t *testing.T, kept string) {
	t.Helper()
	must := func(out []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	write := func(name string, content []byte) {
		t.Helper()
		must(nil, os.WriteFile(filepath.Join(o.dir, name), content, 0o600))
	}
	authority := filepath.Join(kept, "device", "tpm", "authority")
	root := must(os.ReadFile(filepath.Join(authority, "swtpm-localca-rootca-cert.pem")))
	write("makers.yaml", []byte("owner: maker of TPMs\nexpires: 2099-01-01T00:00:00Z\nmanufacturers:\n  - oemid: pen:32473\n    roots: |\n      "+
		strings.ReplaceAll(strings.TrimSpace(string(root)), "\n", "\n      ")+"\n"))
	write("request.cbor", must(o.machine("enrol", "--intermediate", filepath.Join(authority, "issuer.pem"))))
	must(o.run("teep", "attest", "challenge", "request.cbor", "--collateral", "makers.yaml", "--state", "state", "-o", "credential.cbor"))
	credential := must(os.ReadFile(filepath.Join(o.dir, "credential.cbor")))
	changed := bytes.Clone(credential)
	changed[len(changed)-1] ^= 1
	write("changed.cbor", changed)
	write("empty.cbor", nil)
	for name, want := range map[string]string{"changed.cbor": "for another TPM", "empty.cbor": "holds no credential", "request.cbor": "no credential"} {
		if out, err := o.machine("enrol", "--credential", filepath.Join(o.dir, name)); err == nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("credential in %s: %v, %q, not %q", name, err, out, want)
		}
	}
	write("answer", must(o.machine("enrol", "--credential", filepath.Join(o.dir, "credential.cbor"))))
	text := must(o.run("teep", "attest", "endorse", "answer", "--state", "state", "--owner", "Example Devices", "--oemid", "pen:32473",
		"--hwmodel", "64656d6f2d626f617264"))
	var found [2]*appraisal.Collateral
	var err error
	if found[0], err = appraisal.ParseYAML(text); err == nil {
		found[1], err = appraisal.ParseYAML(must(os.ReadFile(filepath.Join(kept, "tam", "collateral1.yaml"))))
	}
	if err != nil || len(found[0].Endorsements) != 1 || len(found[1].Endorsements) != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	have, want := found[0].Endorsements[0], found[1].Endorsements[0]
	if !bytes.Equal(have.UEID, want.UEID) || !have.Key.Equal(want.Key) || !bytes.Equal(have.Class.HWModel, want.Class.HWModel) {
		t.Errorf("enrolled device %x, not %x, or another key", have.UEID, want.UEID)
	}
	if _, err := o.run("teep", "attest", "endorse", "answer", "--state", "state", "--owner", "Example Devices", "--oemid", "pen:32473", "--hwmodel", "00"); err == nil {
		t.Error("an answer counted twice")
	}
}

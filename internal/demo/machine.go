package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee/tpmseal"
	"github.com/go-teep/teep/tee/vm"
)

// TEEs that the story can be told with.
const (
	TEESandbox = "sandbox"
	TEEVM      = "vm"
)

// machineConfig is the agent's configuration in the image of the machine. The product is the one of
// deviceConfig: the same application is for both.
const machineConfig = `trust: trust.yaml
identity:
  vendor: example.com
  class: sandbox-wasm
  oemid: pen:32473
  hwmodel: demo-board
  hwversion: "1.0"
attestation:
  formats: [tpm]
  tpm:
    event-log: /sys/kernel/security/tpm0/binary_bios_measurements
sealing:
  key: tpm
  approver: vendor.pub.pem
  version: 1
applications:
  interpret: true   # a processor that is emulated takes longer to compile them than to run them
policy:
  interval: 1s
  retry-min: 1ms
  retry-max: 1ms
`

// machineBrokerConfig has the broker start the machine. The second port is for the attacks of the story:
// the broker has the first. Behind it goes the firmware, where that is not Debian's.
const machineBrokerConfig = `tees:
  - name: machine
    vm:
      image: image
      state: state.img
      state-bytes: 67108864
      run: run
      tpm: emulated
      tpm-state: tpm
      ports: 2%s
apps:
  socket: app.sock
policy-interval: 0s
`

// machinePatience is how long the agent in a machine may take to answer, on a busy host without
// virtualization.
const machinePatience = 12 * time.Minute

func (s *story) machineBrokerConfig() string {
	firmware := ""
	if s.Firmware != "" {
		firmware = fmt.Sprintf("\n      firmware: %q\n      firmware-variables: %s", s.Firmware, machine.NoVariables)
	}
	return fmt.Sprintf(machineBrokerConfig, firmware)
}

func (s *story) inMachine() bool { return s.TEE == TEEVM }

// machineConfigOf is what broker.yaml in a folder of the story says.
func (s *story) machineConfigOf(dir string) machine.Config {
	c := machine.Config{
		Image: s.path(dir, "image"), State: s.path(dir, "state.img"), StateBytes: 64 << 20, Run: s.path(dir, "run"),
		TPM: machine.TPMEmulated, TPMState: s.path(dir, "tpm"), Ports: 2, Firmware: s.Firmware,
	}
	if s.Firmware != "" {
		c.FirmwareVariables = machine.NoVariables
	}
	return c
}

// makeMachine builds the image with the trust anchors in it, makes the machine's TPM, and gives the
// verifier what a manufacturer would: the reference values of the image, and the endorsement of the
// TPM's attestation key.
func (s *story) makeMachine(ctx context.Context) error {
	files := map[string]string{
		"device/config/agent.yaml": machineConfig, "device/config/trust.yaml": s.trustText, "device/broker.yaml": s.machineBrokerConfig(),
	}
	if _, err := s.run(ctx, "teep", "key", "generate", "-o", "vendor.pem"); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", "key", "public", "vendor.pem", "-o", "vendor.pub.pem"); err != nil {
		return err
	}
	for to, from := range map[string]string{
		"dev.pub.pem": "dev/dev.pub.pem", "verifier.pub.pem": "tam/verifier.pub.pem", "vendor.pub.pem": "vendor.pub.pem",
	} {
		text, err := os.ReadFile(s.path(from))
		if err != nil {
			return err
		}
		files["device/config/"+to] = string(text)
	}
	if err := os.MkdirAll(s.path("device", "config"), 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := s.run(ctx, "teep", s.buildImage(s.program("teep-agent"), "device/image")...); err != nil {
		return err
	}
	s.references = inBackground(func() error { return s.vouch(ctx) })
	s.tell("vendor: built the image of a machine from Debian's kernel and the agent")
	if err := s.enrolMachine(ctx, "device", s.path("tam", "collateral1.yaml")); err != nil {
		return err
	}
	s.tell("owner: enrolled the machine's TPM: its endorsement key is certified by its maker, and the attestation key lies beside it")
	return nil
}

// buildImage is the command that builds an image.
func (s *story) buildImage(agent, out string) []string {
	return []string{"image", "build", "--kernel-package", s.KernelPackage, "--agent", agent, "--config", "device/config", "--out", out}
}

// vouch writes what a verifier has to expect of the genuine image, which takes a boot. The reference
// values accept what the owner of such machines knows.
func (s *story) vouch(ctx context.Context) error {
	args := []string{"image", "references", "device/image", "--key", "vendor.pem", "--owner", "Example Devices",
		"--expires", time.Now().AddDate(1, 0, 0).Format(time.DateOnly), "--measure-firmware"}
	if s.Firmware != "" {
		args = append(args, "--firmware", s.Firmware, "--firmware-variables", machine.NoVariables)
	}
	known := append(vm.Keeper{Measured: true}.Weaknesses(), (&tpmseal.Source{}).Weaknesses()...)
	for _, w := range append(known, "keys are copied to ordinary memory of the process while they are used") {
		args = append(args, "--accept-weakness", w)
	}
	if _, err := s.run(ctx, "teep", args...); err != nil {
		return err
	}
	references, err := os.ReadFile(s.path("device", "image", "reference-values.yaml"))
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("tam", "collateral.yaml"), references, 0o600)
}

// enrolMachine makes the machine's disk and TPM, and has the owner endorse the TPM's attestation key,
// which is the same inside the machine. The endorsement goes to a file.
func (s *story) enrolMachine(ctx context.Context, dir, collateral string) (err error) {
	c := s.machineConfigOf(dir)
	if err := c.Check(); err != nil {
		return err
	}
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	socket := s.path(dir, "run", "enrol.sock")
	emulator, err := s.start("swtpm-"+dir, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.TPMState,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	if err != nil {
		return err
	}
	defer s.forget(emulator)
	if err := emulator.ready(ctx, listening("unix", socket)); err != nil {
		return err
	}
	chip, err := linuxudstpm.Open(socket)
	if err != nil {
		return err
	}
	defer chip.Close()
	quoter, err := tpm.NewQuoter(tpm.QuoterConfig{TPM: chip, PCRs: tpm.DefaultPCRs()})
	if err != nil {
		return err
	}
	endorsement, err := endorseTPM(quoter, filepath.Join(c.TPMState, machine.Authority))
	if err = errors.Join(err, quoter.Close()); err != nil {
		return err
	}
	text, err := (&appraisal.Collateral{
		Owner: "Example Devices", Expires: time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second), Endorsements: []appraisal.Endorsement{*endorsement},
	}).YAML()
	if err != nil {
		return err
	}
	return os.WriteFile(collateral, text, 0o600)
}

// endorseTPM is both sides of an enrolment by credential activation.
func endorseTPM(quoter *tpm.Quoter, authority string) (*appraisal.Endorsement, error) {
	var maker [2]*x509.Certificate
	for i, name := range []string{"swtpm-localca-rootca-cert.pem", "issuer.pem"} {
		data, err := os.ReadFile(filepath.Join(authority, name))
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s holds no certificate", name)
		}
		if maker[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, err
		}
	}
	request, err := quoter.Request(maker[1].Raw)
	if err != nil {
		return nil, err
	}
	oemid, err := attest.ParseOEMID("pen:32473")
	if err == nil {
		oemid, err = attest.CanonicalOEMID(oemid)
	}
	if err != nil {
		return nil, err
	}
	makers := []appraisal.Manufacturer{{Owner: "maker of TPMs", OEMID: oemid, Roots: maker[:1]}}
	challenge, err := tpm.NewChallenge(rand.Reader, *request, makers, time.Now())
	if err != nil {
		return nil, err
	}
	answer, err := quoter.Activate(challenge.Credential)
	if err != nil {
		return nil, err
	}
	endorsement, err := challenge.Endorse(answer)
	if err != nil {
		return nil, err
	}
	endorsement.Class = appraisal.Class{OEMID: oemid, HWModel: []byte("demo-board")}
	return endorsement, nil
}

// startAllWithMachine has the machine boot while its image is vouched for: the TAM needs the
// outcome of both.
func (s *story) startAllWithMachine(ctx context.Context) error {
	broker, err := s.startMachine(ctx, "teep-broker", "device")
	if err != nil {
		return err
	}
	if err := s.references.wait(); err != nil {
		return err
	}
	s.tell("vendor: booted the image once, and signed what it measures to")
	if err := s.startTAM(ctx); err != nil {
		return err
	}
	return s.agentAnswers(ctx, broker)
}

// startMachine starts a broker, which starts the machine.
func (s *story) startMachine(ctx context.Context, name, dir string) (*process, error) {
	broker, err := s.start(name, s.program("teep-broker"), "serve", "--config", dir+"/broker.yaml",
		"--trace", s.path(dir, "messages.jsonl"), "--log-level", "debug")
	if err != nil {
		return nil, err
	}
	return broker, broker.ready(ctx, listening("unix", s.path(dir, "app.sock")))
}

// agentAnswers waits until the agent in a machine does.
func (s *story) agentAnswers(ctx context.Context, broker *process) error {
	began := time.Now()
	for {
		if _, err := s.logged(broker.name, "the agent in the machine answers"); err == nil {
			return nil
		}
		select {
		case <-broker.done:
			return fmt.Errorf("%s ended: %v\n%s", broker.name, broker.err, tail(broker.log))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(began) > machinePatience {
			return fmt.Errorf("the agent in the machine does not answer\n%s", tail(broker.log))
		}
	}
}

// dialMachine connects to the agent in a machine beside the broker, as a broker that was taken over.
func (s *story) dialMachine(ctx context.Context, dir string) (*link.Client, error) {
	conn, err := machine.DialPort(ctx, s.path(dir, "run", "link-1.sock"))
	if err != nil {
		return nil, err
	}
	return link.NewClient(conn, link.ClientOptions{}), nil
}

// boundClaims takes the claims out of Evidence that hardware is bound to.
func boundClaims(payload []byte) ([]byte, error) {
	m, err := cmw.Parse(payload)
	if err != nil {
		return nil, err
	}
	if m.Collection == nil || m.Collection.Members["claims"].Record == nil {
		return nil, errors.New("the Evidence is no collection with claims")
	}
	return m.Collection.Members["claims"].Record.Value, nil
}

// startPatchedMachine has a machine with a TPM boot an image whose agent differs in one byte.
func (s *story) startPatchedMachine(ctx context.Context) error {
	program, err := os.ReadFile(s.program("teep-agent"))
	if err != nil {
		return err
	}
	word := []byte("TEEP Agent and its Trusted Execution Environment")
	if !bytes.Contains(program, word) {
		return errors.New("the agent has no text to change")
	}
	if err := os.MkdirAll(s.path("device2"), 0o700); err != nil {
		return err
	}
	patched := bytes.Replace(program, word, append([]byte("X"), word[1:]...), 1)
	if err := os.WriteFile(s.path("device2", "teep-agent"), patched, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("device2", "broker.yaml"), []byte(s.machineBrokerConfig()), 0o600); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", s.buildImage("device2/teep-agent", "device2/image")...); err != nil {
		return err
	}
	if err := s.enrolMachine(ctx, "device2", s.path("device2", "collateral.yaml")); err != nil {
		return err
	}
	broker, err := s.startMachine(ctx, "teep-broker-2", "device2")
	if err != nil {
		return err
	}
	return s.agentAnswers(ctx, broker)
}

// patchedMachine: the owner endorses the TPM of that machine, and the TAM gets its Evidence.
func patchedMachine(ctx context.Context, s *story) error {
	if err := s.second.wait(); err != nil {
		return err
	}
	endorsement, err := os.ReadFile(s.path("device2", "collateral.yaml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("tam", "collateral2.yaml"), endorsement, 0o600); err != nil {
		return err
	}
	if err := s.rereadCollateral(); err != nil {
		return err
	}
	agent, err := s.dialMachine(ctx, "device2")
	if err != nil {
		return err
	}
	defer agent.Close()
	return s.refusedEvidence(ctx, agent, "Evidence of a machine whose agent differs in one byte")
}

// checkDisk looks at the machine's disk from outside, all of it.
func (s *story) checkDisk(probes [][]byte) error {
	data, err := os.ReadFile(s.path("device", "state.img"))
	if err != nil {
		return err
	}
	for _, p := range probes {
		if bytes.Contains(data, p) {
			return fmt.Errorf("the machine's disk is not sealed: it contains %x", p)
		}
	}
	s.tell("the machine's disk, seen from outside: %d bytes without a trace of code or keys; its key is in the TPM", len(data))
	return nil
}

// prepareMachine finds out early what is missing.
func (s *story) prepareMachine() error {
	c := s.machineConfigOf("device")
	if err := c.Check(); err != nil {
		return err
	}
	if s.KernelPackage == "" {
		return errors.New("--kernel-package is missing: name a Debian package of a kernel (apt-get download linux-image-…-cloud-amd64), or use 'make demo TEE=vm'")
	}
	var err error
	if s.KernelPackage, err = filepath.Abs(s.KernelPackage); err != nil {
		return err
	}
	if s.Firmware != "" {
		if s.Firmware, err = filepath.Abs(s.Firmware); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		return fmt.Errorf("%w: it unpacks the kernel's package", err)
	}
	return c.Missing()
}

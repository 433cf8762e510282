package demo

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/go-teep/teep/cose"
)

// deviceConfig is the agent's configuration in the story.
const deviceConfig = `dir: state
socket: agent.sock
trust: trust.yaml
identity:
  vendor: example.com
  class: sandbox-wasm
  oemid: pen:32473
  hwmodel: demo-board
  hwversion: "1.0"
policy:
  interval: 1s
  retry-min: 1ms
  retry-max: 1ms
`

// brokerConfig leaves the time of policy checks to the story, which would not know otherwise which
// messages belong to which step.
const brokerConfig = `tees:
  - name: sandbox
    socket: agent.sock
apps:
  socket: app.sock
policy-interval: 0s
`

// keysAndTrust makes every key where it belongs and starts the programs.
func keysAndTrust(ctx context.Context, s *story) error {
	if err := s.makeTAM(ctx); err != nil {
		return err
	}
	s.tell("TAM: made keys for ESP256, Ed25519 and encryption, and a verifier key for Attestation Results")
	if _, err := s.run(ctx, "teep", "key", "generate", "-o", "dev/dev.pem"); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", "key", "public", "dev/dev.pem", "-o", "dev/dev.pub.pem"); err != nil {
		return err
	}
	var err error
	if s.developer, err = s.signer("dev/dev.pem"); err != nil {
		return err
	}
	s.tell("developer: made a signing key, thumbprint %.8x…", s.developer.KeyID())
	if err := s.makeDevice(ctx); err != nil {
		return err
	}
	if !s.inMachine() {
		s.tell("device: the TEE made its agent, attestation, report and encryption keys inside; only public parts came out")
	}
	if err := s.startAll(ctx); err != nil {
		return err
	}
	// What the agent in a machine logs comes out of its console, quoted once more.
	where, quote := "teep-agent", "\""
	if s.inMachine() {
		where, quote = "teep-broker", `\"`
	}
	if _, err := s.logged(where, "trust anchors provisioned"+quote+" version=1 tams=1 signers=1 verifiers=1"); err != nil {
		return err
	}
	s.tell("device: provisioned trust anchors from a file: 1 TAM, 1 component signer for %q, 1 verifier; they are sealed now", "hello")
	if s.inMachine() {
		// Its boot takes as long as the chapters up to the attack that it is for.
		s.second = inBackground(func() error { return s.startPatchedMachine(ctx) })
		s.tell("running: teep-tam at %s, teep-broker, and teep-agent as the first process of a machine that it started", s.tamURI)
		return nil
	}
	s.tell("running: teep-tam at %s, teep-broker, teep-agent, each in its own process", s.tamURI)
	return nil
}

func (s *story) makeTAM(ctx context.Context) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	api, err := freeAddress()
	if err != nil {
		return err
	}
	s.tamURI, s.apiURL = "http://"+listen+"/tam", "http://"+api
	if _, err := s.run(ctx, "teep-tam", "init", "tam", "--name", "example-tam", "--listen", listen, "--api-listen", api); err != nil {
		return err
	}
	more := "collateral2.yaml"
	if s.inMachine() {
		more = "collateral1.yaml, " + more
	}
	if err := s.addCollateral(more); err != nil {
		return err
	}
	token, err := s.run(ctx, "teep-tam", "token", "create", "--config", "tam/tam.yaml", "--name", "demo", "--scope", "administrator")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("tam", "token"), []byte(token), 0o600); err != nil {
		return err
	}
	s.tamSigner, err = s.signer("tam/keys/esp256.pem")
	return err
}

// addCollateral names a further collateral file in the TAM's configuration: that of a second
// device, which comes later in the story.
func (s *story) addCollateral(name string) error {
	config, err := os.ReadFile(s.path("tam", "tam.yaml"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(config), "[collateral.yaml]", "[collateral.yaml, "+name+"]", 1)
	return os.WriteFile(s.path("tam", "tam.yaml"), []byte(text), 0o600)
}

// makeDevice configures the device, lets the TEE make its keys, and gives the verifier what a
// manufacturer would: the endorsement of the attestation key and the agent's reference value.
func (s *story) makeDevice(ctx context.Context) error {
	if err := s.openToOthers(); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", "key", "public", "tam/keys/verifier.pem", "-o", "tam/verifier.pub.pem"); err != nil {
		return err
	}
	anchors, err := s.run(ctx, "teep-tam", "anchors", "--config", "tam/tam.yaml")
	if err != nil {
		return err
	}
	developer, verifier := "../dev/dev.pub.pem", "../tam/verifier.pub.pem"
	if s.inMachine() {
		developer, verifier = "dev.pub.pem", "verifier.pub.pem" // beside it in the image
	}
	s.trustText = "version: 1\n" + anchors + `signers:
  - name: example-developer
    keys: [` + developer + `]
    components: [hello]
verifiers:
  - name: example-verifier
    keys: [` + verifier + `]
`
	if s.inMachine() {
		return s.makeMachine(ctx)
	}
	for name, text := range map[string]string{
		"agent.yaml": deviceConfig + s.brokerLine(), "broker.yaml": brokerConfig, "trust.yaml": s.trustText,
	} {
		if err := os.WriteFile(s.path("device", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := s.giveToBroker("broker.yaml"); err != nil {
		return err
	}
	collateral, err := s.run(ctx, "teep-agent", "collateral", "--config", "device/agent.yaml",
		"--owner", "Example Devices", "--insecure-accept-weaknesses")
	if err != nil {
		return err
	}
	if strings.Contains(collateral, "PRIVATE") {
		return fmt.Errorf("the TEE gave away a private key")
	}
	return os.WriteFile(s.path("tam", "collateral.yaml"), []byte(collateral), 0o600)
}

func (s *story) startAll(ctx context.Context) error {
	s.agentSocket, s.appSocket = s.path("device", "agent.sock"), s.path("device", "app.sock")
	if s.inMachine() {
		return s.startAllWithMachine(ctx)
	}
	if err := s.startTAM(ctx); err != nil {
		return err
	}
	agent, err := s.startAgent()
	if err != nil {
		return err
	}
	if err := agent.ready(ctx, listening("unix", s.agentSocket)); err != nil {
		return err
	}
	broker, err := s.startAs(s.brokerAccount(), "teep-broker", s.brokerProgram(), "serve", "--config", "device/broker.yaml",
		"--trace", s.messages.path, "--log-level", "debug")
	if err != nil {
		return err
	}
	return broker.ready(ctx, listening("unix", s.appSocket))
}

func (s *story) startTAM(ctx context.Context) error {
	tam, err := s.start("teep-tam", s.program("teep-tam"), "serve", "--config", "tam/tam.yaml", "--log-level", "debug")
	if err != nil {
		return err
	}
	return tam.ready(ctx, listening("tcp", strings.TrimPrefix(s.apiURL, "http://")))
}

func (s *story) startAgent() (*process, error) {
	return s.start("teep-agent", s.program("teep-agent"), "serve", "--config", "device/agent.yaml", "--log-level", "debug")
}

// signer reads a private key that the story plays with.
func (s *story) signer(file string) (cose.Signer, error) {
	key, err := s.key(file)
	if err != nil {
		return nil, err
	}
	return key.Signer()
}

func (s *story) key(file string) (*cose.Key, error) {
	data, err := os.ReadFile(s.path(file))
	if err != nil {
		return nil, err
	}
	return cose.ParsePEM(data)
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/hardware"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
)

// agentName is what reference values call this program.
const agentName = "teep-agent"

// version is set by the linker: -X main.version=1.2.3.
var version = "0.1.0"

// configuration is agent.yaml. Paths are relative to the file.
type configuration struct {
	Dir       string   `yaml:"dir"`
	Socket    string   `yaml:"socket"`
	Trust     string   `yaml:"trust"`
	Algorithm string   `yaml:"algorithm"`
	Identity  identity `yaml:"identity"`
	// Attestation says what Evidence the agent gives, and from which hardware.
	Attestation hardware.Config `yaml:"attestation"`
	Policy      struct {
		Interval time.Duration `yaml:"interval"`
		RetryMin time.Duration `yaml:"retry-min"`
		RetryMax time.Duration `yaml:"retry-max"`
		// Timestamps lets Evidence be fresh by the clock of this device, where a TAM asks so.
		Timestamps bool `yaml:"timestamps"`
		// Passports presents Attestation Results of the broker's verifier to TAMs that take some.
		Passports bool `yaml:"passports"`
		// PassportAge is how long an Attestation Result that a TAM passed back is shown to it again.
		PassportAge time.Duration `yaml:"passport-age"`
	} `yaml:"policy"`
	// TAMAttestation appraises Evidence of TAMs whose trust anchors say must-attest.
	TAMAttestation tamAttestation `yaml:"tam-attestation"`
	// Verifier is the one that the broker takes Evidence to, where policy.passports says so.
	Verifier struct {
		// EncryptionKey is a public key in PEM; Evidence is encrypted to it.
		EncryptionKey string `yaml:"encryption-key"`
	} `yaml:"verifier"`
	// Certificates is a PEM file with the certificate chain of the agent's message key, end entity
	// first; it goes into messages.
	Certificates string `yaml:"certificates"`
	// RevocationLists are X.509 CRLs by the authorities that certify TAMs.
	RevocationLists []string `yaml:"revocation-lists"`
	Applications    struct {
		MemoryBytes  uint64        `yaml:"memory-bytes"`
		CallDuration time.Duration `yaml:"call-duration"`
		OutputBytes  int           `yaml:"output-bytes"`
		StorageBytes int64         `yaml:"storage-bytes"`
		// Interpret has applications interpreted instead of compiled.
		Interpret bool `yaml:"interpret"`
	} `yaml:"applications"`

	// User is whom to become when started as root: a name, a number, or numbers UID:GID.
	User string `yaml:"user"`
	// Broker is the account that the broker runs under: it, and root, can reach the socket. It
	// should be another than User, who can read the device secret. Empty: who starts the agent.
	Broker string `yaml:"broker"`
	// Require names the walls without which the agent does not start, InsecureWithout those that
	// are left out.
	Require         []string `yaml:"require"`
	InsecureWithout []string `yaml:"insecure-without"`

	// Sealing and Channel are for an agent that is the first process of a virtual machine.
	Sealing struct {
		// Key is what the sealed state is bound to: tpm, sev-snp, or insecure-device-secret, which is
		// a file on the host's disk.
		Key string `yaml:"key"`
		// PCRs are those of the TPM without whose values of the first start the state stays sealed.
		PCRs []int `yaml:"pcrs"`
		// Approver is the public key, in PEM, of who approves updates of the image: what they sign opens
		// the state too. It counts at the first start.
		Approver string `yaml:"approver"`
		// Version is the image's. State that a newer one has opened does not open for it.
		Version uint64 `yaml:"version"`
	} `yaml:"sealing"`
	Channel string `yaml:"channel"`

	// Path is the file's own, for error messages.
	Path string `yaml:"-"`
}

// identity is what the maker of the device says about it.
type identity struct {
	Vendor string `yaml:"vendor"`
	// UEID is for devices whose maker gave them one, in hexadecimal.
	UEID      string `yaml:"ueid"`
	Class     string `yaml:"class"`
	OEMID     string `yaml:"oemid"`
	HWModel   string `yaml:"hwmodel"`
	HWVersion string `yaml:"hwversion"`
}

func load(path string) (*configuration, error) {
	c := &configuration{Dir: "state", Socket: "agent.sock", Algorithm: "ESP256", Path: path}
	if err := config.Load(path, c); err != nil {
		return nil, err
	}
	for _, required := range []struct{ key, value string }{
		{"identity.vendor", c.Identity.Vendor}, {"identity.class", c.Identity.Class},
		{"identity.oemid", c.Identity.OEMID}, {"identity.hwmodel", c.Identity.HWModel},
		{"identity.hwversion", c.Identity.HWVersion},
	} {
		if required.value == "" {
			return nil, fmt.Errorf("%s: %s is missing; 'teep-agent --help' shows an example", path, required.key)
		}
	}
	for key, names := range map[string][]string{"require": c.Require, "insecure-without": c.InsecureWithout} {
		if _, err := confine.ParseWalls(names); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, key, err)
		}
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.Dir = config.Relative(path, c.Dir)
	c.Socket = config.Relative(path, c.Socket)
	c.Trust = config.Relative(path, c.Trust)
	c.Attestation.Relative(func(name string) string { return config.Relative(path, name) })
	c.Certificates = config.Relative(path, c.Certificates)
	c.Verifier.EncryptionKey = config.Relative(path, c.Verifier.EncryptionKey)
	c.Sealing.Approver = config.Relative(path, c.Sealing.Approver)
	c.TAMAttestation.relative(path)
	for i := range c.RevocationLists {
		c.RevocationLists[i] = config.Relative(path, c.RevocationLists[i])
	}
	return c, nil
}

// minMemory is what the smallest applications that compilers make need, in bytes.
const minMemory = 1 << 20

// check refuses values that could only be mistakes. What is not set is 0, and takes the default.
func (c *configuration) check() error {
	switch alg, err := cose.ParseAlgorithm(c.Algorithm); {
	case err != nil, !slices.Contains(cose.DefaultSignatureAlgorithms(), alg):
		return fmt.Errorf("algorithm %q: write ESP256, Ed25519 or ESP384", c.Algorithm)
	case c.Policy.Interval < 0, c.Policy.RetryMin < 0, c.Policy.RetryMax < 0, c.Policy.PassportAge < 0:
		return errors.New("policy: a time is negative")
	case c.Verifier.EncryptionKey != "" && !c.Policy.Passports:
		return errors.New("verifier.encryption-key is for Evidence that goes to a verifier: write policy.passports: true, or remove it")
	case c.Applications.CallDuration < 0, c.Applications.OutputBytes < 0, c.Applications.StorageBytes < 0:
		return errors.New("applications: a limit is negative")
	case c.Applications.MemoryBytes > 0 && c.Applications.MemoryBytes < minMemory:
		return fmt.Errorf("applications: memory-bytes %d is too little for any application: write at least %d", c.Applications.MemoryBytes, minMemory)
	}
	if err := errors.Join(c.checkMachine(), c.TAMAttestation.check()); err != nil {
		return err
	}
	if err := c.Attestation.Check(); err != nil {
		return fmt.Errorf("attestation: %w", err)
	}
	return nil
}

// openTEE opens the sandbox in this confined process, and makes it at the first start, for the
// device that its hardware names.
func openTEE(ctx context.Context, c *configuration, byHardware []byte, inside *surroundings, log *slog.Logger) (*sandbox.TEE, error) {
	required, err := confine.ParseWalls(c.Require)
	if err != nil {
		return nil, err
	}
	oemid, err := attest.ParseOEMID(c.Identity.OEMID)
	if err != nil {
		return nil, fmt.Errorf("%s: identity.oemid: %w", c.Path, err)
	}
	alg, err := cose.ParseAlgorithm(c.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("%s: algorithm: %w", c.Path, err)
	}
	vendor, class, err := c.Identity.identifiers()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	ueid, err := c.Identity.ueid(byHardware)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	settings := sandbox.Config{
		// The folder of this process, whatever its name is outside.
		Dir: ".", Lock: inside.Files[lockFile],
		Identity: sandbox.Identity{
			UEID: ueid, OEMID: oemid, HWModel: []byte(c.Identity.HWModel), HWVersion: c.Identity.HWVersion,
			VendorID: vendor, ClassID: class, AgentName: agentName, AgentVersion: version,
		},
		AgentAlgorithm: alg, Rand: rand.Reader, Now: time.Now, Logger: log,
		Confinement: &inside.Report, Require: required,
		Measure:   func() ([]byte, error) { return inside.Measurement, nil },
		Interpret: c.Applications.Interpret, Version: c.Sealing.Version,
	}
	if inside.machine != nil {
		return inside.machine.open(ctx, c, settings)
	}
	return sandbox.Open(ctx, settings)
}

// identifiers are the SUIT vendor and class identifiers (SUIT §8.4.8.2): UUIDs as they are, names
// as the text derives them.
func (i identity) identifiers() (vendor, class suit.UUID, err error) {
	if vendor, err = suit.ParseUUID(i.Vendor); err != nil {
		vendor = suit.NewVendorID(i.Vendor)
	}
	if class, err = suit.ParseUUID(i.Class); err != nil {
		class = suit.NewClassID(suit.VendorID{UUID: vendor}, []byte(i.Class))
	}
	if vendor == (suit.UUID{}) || class == (suit.UUID{}) {
		return vendor, class, fmt.Errorf("identity: a vendor or class of all zeros matches nothing")
	}
	return vendor, class, nil
}

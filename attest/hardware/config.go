package hardware

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/attest/tsm"
	"github.com/go-teep/teep/cose"
)

// Formats of Evidence, as a configuration names them.
const (
	// EAT is a token that the TEE's own attestation key signs.
	EAT = "eat"
	// TPM is a quote of a TPM 2.0.
	TPM = "tpm"
	// TSM is a report of the processor, through configfs-tsm: SEV-SNP or TDX.
	TSM = "tsm"
)

// DefaultTPM is the kernel's resource manager for the first TPM.
const DefaultTPM = "/dev/tpmrm0"

// Config is the part "attestation" of an agent's configuration.
type Config struct {
	// Formats are what the agent gives, the preferred one first; empty means EAT alone.
	Formats []string `yaml:"formats"`
	// CertificateChain is a PEM file that certifies the TEE's attestation key, its own certificate
	// first.
	CertificateChain string    `yaml:"certificate-chain"`
	TPM              TPMConfig `yaml:"tpm"`
}

// TPMConfig is about the TPM.
type TPMConfig struct {
	// Device is a character device, or the Unix socket of an emulator. Empty: DefaultTPM.
	Device string `yaml:"device"`
	// PCRs are quoted. Empty: tpm.DefaultPCRs.
	PCRs []int `yaml:"pcrs"`
	// EventLog is the file with the event log of this boot; empty: none is sent.
	EventLog string `yaml:"event-log"`
	// CertificateChain is a PEM file that certifies the TPM's attestation key, which is the same
	// at every start. Empty: verifiers know the key by enrolment.
	CertificateChain string `yaml:"certificate-chain"`
}

// Check completes the configuration, and refuses what can only be a mistake.
func (c *Config) Check() error {
	if len(c.Formats) == 0 {
		c.Formats = []string{EAT}
	}
	for i, f := range c.Formats {
		if !slices.Contains([]string{EAT, TPM, TSM}, f) {
			return fmt.Errorf("formats: %q is no format of Evidence: write %s, %s or %s", f, EAT, TPM, TSM)
		}
		if slices.Contains(c.Formats[:i], f) {
			return fmt.Errorf("formats: %q is named twice", f)
		}
	}
	switch {
	case c.has(TPM) && c.has(TSM):
		return errors.New("formats: tpm and tsm name the device by different hardware, and it has one UEID: choose one of them")
	case c.CertificateChain != "" && !c.has(EAT):
		return errors.New("certificate-chain certifies the key of the format eat, which formats does not name")
	case !c.has(TPM) && (c.TPM.Device != "" || len(c.TPM.PCRs) > 0 || c.TPM.EventLog != "" || c.TPM.CertificateChain != ""):
		return errors.New("tpm: is set, and formats does not name tpm")
	}
	if c.has(TPM) {
		if c.TPM.Device == "" {
			c.TPM.Device = DefaultTPM
		}
		if len(c.TPM.PCRs) == 0 {
			c.TPM.PCRs = tpm.DefaultPCRs()
		}
		for _, pcr := range c.TPM.PCRs {
			if pcr < 0 || pcr >= tpm.MaxPCRs {
				return fmt.Errorf("tpm.pcrs: there is no PCR %d: they are 0 to %d", pcr, tpm.MaxPCRs-1)
			}
		}
	}
	return nil
}

func (c *Config) has(format string) bool { return slices.Contains(c.Formats, format) }

// Relative applies f to every path, for configurations with paths that are relative to their file.
func (c *Config) Relative(f func(path string) string) {
	for _, p := range []*string{&c.CertificateChain, &c.TPM.Device, &c.TPM.EventLog, &c.TPM.CertificateChain} {
		*p = f(*p)
	}
}

// Material is what files say. It holds no secret.
type Material struct {
	// Chain certifies the TEE's attestation key, AKChain that of the TPM, in DER; nil without one.
	Chain, AKChain [][]byte `json:",omitempty"`
	// EventLog is that of this boot; nil: none is sent.
	EventLog []byte `json:",omitempty"`
}

// Opened is what the device gave.
type Opened struct {
	Material Material
	// TPM is the open device, in blocking mode; nil where the configuration needs none.
	TPM *os.File
	// Processor reports; nil where the configuration needs none.
	Processor bound.Reporter
}

// Open opens everything that the configuration names. Check comes first.
func (c *Config) Open() (*Opened, error) {
	o := &Opened{}
	if err := o.open(c); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Close closes the TPM.
func (o *Opened) Close() error {
	if o.TPM == nil {
		return nil
	}
	return o.TPM.Close()
}

func (o *Opened) open(c *Config) (err error) {
	if o.Material.Chain, err = readChain(c.CertificateChain); err != nil {
		return fmt.Errorf("attestation: certificate-chain: %w", err)
	}
	if c.has(TPM) {
		if o.Material.AKChain, err = readChain(c.TPM.CertificateChain); err != nil {
			return fmt.Errorf("attestation: tpm.certificate-chain: %w", err)
		}
		if o.Material.EventLog, err = readLog(c.TPM.EventLog); err != nil {
			return fmt.Errorf("attestation: tpm.event-log: %w", err)
		}
		if o.TPM, err = openTPM(c.TPM.Device); err != nil {
			return fmt.Errorf("attestation: tpm.device: %w", err)
		}
	}
	if c.has(TSM) {
		reporter, err := tsm.Open()
		if err != nil {
			return fmt.Errorf("attestation: %w", err)
		}
		o.Processor = reporter
	}
	return nil
}

// openTPM opens a device, or connects to an emulator. Fd puts the file in blocking mode, without
// which the kernel's device answers a read before the TPM is done.
func openTPM(name string) (*os.File, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: is there a TPM, and may this user use it?", err)
	}
	if st.Mode()&os.ModeSocket == 0 {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err == nil {
			_ = f.Fd()
		}
		return f, err
	}
	conn, err := net.Dial("unix", name)
	if err != nil {
		return nil, err
	}
	f, err := conn.(*net.UnixConn).File()
	if err = errors.Join(err, conn.Close()); err == nil {
		_ = f.Fd()
	}
	return f, err
}

// readLog reads an event log. Half a megabyte is more than any firmware writes.
func readLog(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	log, err := io.ReadAll(io.LimitReader(f, tpm.MaxQuoteBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(log) > tpm.MaxQuoteBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, which no verifier reads", name, tpm.MaxQuoteBytes)
	}
	if _, err := tpm.ParseEventLog(log); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return log, nil
}

// readChain reads certificates in PEM, or one in DER.
func readChain(name string) ([][]byte, error) {
	if name == "" {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s: only certificates belong there", name, block.Type)
		}
		chain = append(chain, block.Bytes)
	}
	if chain == nil {
		chain = [][]byte{data}
	}
	if len(chain) > cose.MaxCertificates {
		return nil, fmt.Errorf("%s holds %d certificates, at most %d are sent", name, len(chain), cose.MaxCertificates)
	}
	for i, der := range chain {
		if _, err := x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, i+1, err)
		}
	}
	return chain, nil
}

package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// protocolOptions are the keys of tam.yaml for what the TEEP text leaves to a deployment.
type protocolOptions struct {
	// Certificates are PEM files with the certificate chains of signing keys, end entity first:
	// agents that trust an authority learn the keys from them.
	Certificates []string `yaml:"certificates"`
	// Agents says what is known of agents beforehand.
	Agents agentOptions `yaml:"agents"`
	// Passports are the Attestation Results that agents may bring along.
	Passports passportOptions `yaml:"passports"`
	// SelfAttestation attests this TAM to agents that demand it.
	SelfAttestation selfAttestation `yaml:"self-attestation"`
	// Connect names the agents that this TAM connects to, because they are HTTP servers.
	Connect connectOptions `yaml:"connect"`

	// olderPeers is the flag --insecure-older-peers.
	olderPeers bool
	// certificates are open once the TAM is made; nil without agents.authorities.
	certificates *agentCertificates
}

// passportOptions say whose word on agents counts, beside the verifier of this TAM itself.
type passportOptions struct {
	// Verifiers are PEM files with the public keys of verifiers.
	Verifiers []string `yaml:"verifiers"`
	// OwnVerifier takes back the results that policy.pass-results gives to agents.
	OwnVerifier bool `yaml:"own-verifier"`
}

// protocolPolicy are the keys of policy that choose how agents are asked.
type protocolPolicy struct {
	Query            string        `yaml:"query"`
	ReattestAfter    time.Duration `yaml:"reattest-after"`
	AcceptTimestamps bool          `yaml:"accept-timestamps"`
	MaxEvidenceAge   time.Duration `yaml:"max-evidence-age"`
	MaxResultAge     time.Duration `yaml:"max-result-age"`
	TokenKeyRotation time.Duration `yaml:"token-key-rotation"`
	OfferAll         bool          `yaml:"offer-all-suites"`
	AskExtensions    bool          `yaml:"ask-extensions"`
	AskSUITReports   bool          `yaml:"ask-suit-reports"`
	Healing          []string      `yaml:"healing"`
}

// resolve makes paths relative to the configuration file, and checks what can be checked alone.
func (o *protocolOptions) resolve(path string) error {
	for _, list := range [][]string{
		o.Certificates, o.Passports.Verifiers, o.Agents.Authorities, o.Agents.RevocationLists, o.SelfAttestation.Collateral,
	} {
		for i := range list {
			list[i] = config.Relative(path, list[i])
		}
	}
	for _, p := range []*string{
		&o.Agents.RevocationMemory, &o.Connect.CAFile,
	} {
		*p = config.Relative(path, *p)
	}
	for _, p := range []*string{&o.SelfAttestation.Key, &o.SelfAttestation.VerifierKey} {
		*p = keyName(path, *p)
	}
	for i := range o.Agents.EncryptionKeys {
		k := &o.Agents.EncryptionKeys[i]
		k.Agent, k.Encryption = config.Relative(path, k.Agent), config.Relative(path, k.Encryption)
	}
	return errors.Join(o.Agents.check(), o.SelfAttestation.check(), o.Connect.check())
}

// apply adds the choices to a policy.
func (p *protocolPolicy) apply(to *tam.Policy) error {
	switch p.Query {
	case "", "attestation":
		to.Query = tam.QueryAttested
	case "token":
		to.Query = tam.QueryToken
	case "timestamp":
		to.Query, to.AcceptTimestamps = tam.QueryTimestamp, true
	default:
		return fmt.Errorf("policy.query is %q: write attestation (a challenge each time), token or timestamp", p.Query)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
		into  *time.Duration
	}{
		{"reattest-after", p.ReattestAfter, &to.ReattestAfter},
		{"max-evidence-age", p.MaxEvidenceAge, &to.MaxEvidenceAge},
		{"max-result-age", p.MaxResultAge, &to.MaxResultAge},
		{"token-key-rotation", p.TokenKeyRotation, &to.TokenKeyRotation},
	} {
		if d.value < 0 {
			return fmt.Errorf("policy.%s is negative: write a duration such as 24h", d.key)
		}
		*d.into = d.value
	}
	to.AcceptTimestamps = to.AcceptTimestamps || p.AcceptTimestamps
	to.OfferAll, to.AskExtensions, to.AskSUITReports = p.OfferAll, p.AskExtensions, p.AskSUITReports
	for _, text := range p.Healing {
		id, err := suit.ParseComponentID(text)
		if err != nil {
			return fmt.Errorf("policy.healing: manifest component identifier %q: %w", text, err)
		}
		to.Healing = append(to.Healing, id)
	}
	return nil
}

// messageSigners are the signers of the TAM's messages, with certificates where there are some, and
// under the names of earlier drafts too where older peers are served.
func (c *configuration) messageSigners(plain []cose.Signer) ([]cose.Signer, error) {
	all := slices.Clone(plain)
	if c.olderPeers {
		older, err := c.olderSigners()
		if err != nil {
			return nil, err
		}
		all = append(all, older...)
	}
	for _, path := range c.Certificates {
		chain, err := readChain(path)
		if err != nil {
			return nil, err
		}
		used := false
		for i, s := range all {
			certified, err := cose.NewCertified(s, chain)
			if err == nil {
				all[i], used = certified, true
			}
		}
		if !used {
			_, err := cose.NewCertified(all[0], chain)
			return nil, fmt.Errorf("%s: certificates: %s certifies none of signing-keys: %w", c.path, path, err)
		}
	}
	return all, nil
}

// olderSigners sign with the same keys under the algorithm names of earlier drafts.
func (c *configuration) olderSigners() ([]cose.Signer, error) {
	keys, err := c.openKeys(c.SignKeys)
	if err != nil {
		return nil, err
	}
	var all []cose.Signer
	for _, k := range keys {
		older, ok := map[cose.Algorithm]cose.Algorithm{cose.AlgESP256: cose.AlgES256, cose.AlgEd25519: cose.AlgEdDSA}[k.Public().Alg()]
		if !ok {
			continue
		}
		s, err := k.SignerFor(older)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// readChain reads the certificates of a PEM file, as DER.
func readChain(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	var chain [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a PEM block of type %q among the certificates: keep certificates alone in it", path, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(chain), err)
		}
		chain = append(chain, block.Bytes)
	}
	if chain == nil {
		return nil, fmt.Errorf("%s holds no PEM block of type CERTIFICATE", path)
	}
	return chain, nil
}

// passports checks the Attestation Results that agents bring; nil if none are accepted.
func (c *configuration) passports() (*cose.KeySet, error) {
	var keys []*cose.Key
	for _, path := range c.Passports.Verifiers {
		key, err := publicKey(path)
		if err != nil {
			return nil, fmt.Errorf("passports.verifiers: %w", err)
		}
		keys = append(keys, key)
	}
	if c.Passports.OwnVerifier {
		own, err := c.publicKeys([]string{c.Verifier.Key})
		if err != nil {
			return nil, err
		}
		keys = append(keys, own...)
	}
	if keys == nil {
		return nil, nil
	}
	set, err := cose.NewKeySet(keys...)
	return &set, err
}

// publicKey reads a public key in PEM; a private one is refused, for it does not belong there.
func publicKey(path string) (*cose.Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := cose.ParsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if key.IsPrivate() {
		return nil, fmt.Errorf("%s is a private key: 'teep key public' makes the public one that belongs here", path)
	}
	return key, nil
}

// protocol completes the configuration of the TAM's core by what protocolOptions say.
func (c *configuration) protocol(t *tam.Config) error {
	var err error
	if c.certificates, err = openAgentCertificates(c.Agents, t.Logger); err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	t.InsecureOlderPeers = c.olderPeers
	trusted, err := c.passports()
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if trusted != nil {
		t.Results = tam.PassportVerifier(*trusted, time.Now)
	}
	if c.certificates != nil {
		t.AgentCertificates = c.certificates
	}
	if t.AgentEncryption, err = c.Agents.encryption(); err != nil {
		return fmt.Errorf("%s: agents.encryption-keys: %w", c.path, err)
	}
	attester, err := c.SelfAttestation.attester(c)
	if err != nil {
		return fmt.Errorf("%s: self-attestation: %w", c.path, err)
	}
	if attester != nil {
		t.Attester = attester
	}
	return nil
}

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/builtin"
	cel "github.com/go-teep/teep/attest/policy"
	"github.com/go-teep/teep/attest/tdx"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/attest/veraison"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/tam/tracing"
)

// verifierConfig is the part "verifier" of tam.yaml: what this TAM believes about devices.
type verifierConfig struct {
	// Key signs Attestation Results.
	Key string `yaml:"key"`
	// Collateral are files with endorsements, roots and CRLs, reference values and TCB levels.
	// Without Owners they are the operator's own words. With them, each must be signed by one.
	Collateral []string `yaml:"collateral"`
	// Owners maps who may sign collateral to their public keys.
	Owners map[string][]string `yaml:"owners"`
	// Policy is the appraisal policy in CEL; empty: reference values alone decide.
	Policy string `yaml:"policy"`
	// Formats are the kinds of Evidence that count, the preferred one first; agents are asked for
	// them. Empty: all, and agents give what they prefer.
	Formats []string `yaml:"formats"`
	// PCRs must be in every TPM quote. Empty: tpm.DefaultPCRs.
	PCRs []int `yaml:"pcrs"`
	// Intermediates are certificates that devices do not send, in PEM: AMD's ASK.
	Intermediates []string `yaml:"intermediates"`
	// TDXCache is a folder with what Intel publishes; empty: there is no verdict on TDX quotes.
	TDXCache string `yaml:"tdx-cache"`
	// Remote are verifiers elsewhere, which appraise one kind of report each.
	Remote []remoteVerifier `yaml:"remote"`
}

// remoteVerifier is a verifier with the challenge-response API of Project Veraison.
type remoteVerifier struct {
	URL   string `yaml:"url"`
	Owner string `yaml:"owner"`
	// Keys verify its results; CA, when set, is all that its TLS certificate may lead to.
	Keys []string `yaml:"keys"`
	CA   string   `yaml:"ca"`
	// Format is the kind of report that goes there, TheirType what the verifier calls it.
	Format    string `yaml:"format"`
	TheirType string `yaml:"their-type"`
	// OEMID and HWModel limit whose devices it may speak for.
	OEMID   string        `yaml:"oemid"`
	HWModel string        `yaml:"hwmodel"`
	Timeout time.Duration `yaml:"timeout"`
}

// remoteTimeout bounds one request to a remote verifier: an agent waits for the answer.
const remoteTimeout = 10 * time.Second

func (v *verifierConfig) relative(path string) {
	v.Key = keyName(path, v.Key)
	for _, p := range []*string{&v.Policy, &v.TDXCache} {
		*p = config.Relative(path, *p)
	}
	lists := [][]string{v.Collateral, v.Intermediates}
	for _, keys := range v.Owners {
		lists = append(lists, keys)
	}
	for i := range v.Remote {
		r := &v.Remote[i]
		r.CA = config.Relative(path, r.CA)
		lists = append(lists, r.Keys)
	}
	for _, list := range lists {
		for i := range list {
			list[i] = config.Relative(path, list[i])
		}
	}
}

// check finds what can only be a mistake.
func (v *verifierConfig) check() error {
	if v.Key == "" {
		return fmt.Errorf("verifier.key is missing: name the key that signs Attestation Results")
	}
	if _, err := builtin.ParseFormats(v.Formats); err != nil {
		return fmt.Errorf("verifier.formats: %w", err)
	}
	for _, pcr := range v.PCRs {
		if pcr < 0 || pcr >= tpm.MaxPCRs {
			return fmt.Errorf("verifier.pcrs: there is no PCR %d: they are 0 to %d", pcr, tpm.MaxPCRs-1)
		}
	}
	for name, keys := range v.Owners {
		if len(keys) == 0 {
			return fmt.Errorf("verifier.owners: %q has no keys", name)
		}
	}
	for i := range v.Remote {
		if err := v.Remote[i].check(); err != nil {
			return fmt.Errorf("verifier.remote %d: %w", i+1, err)
		}
	}
	return nil
}

func (r *remoteVerifier) check() error {
	switch u, err := url.Parse(r.URL); {
	case err != nil || u.Host == "":
		return fmt.Errorf("url %q is no URL of a verifier: write everything before /challenge-response/v1", r.URL)
	case r.Owner == "":
		return fmt.Errorf("owner is missing: the verifier's name in results")
	case len(r.Keys) == 0:
		return fmt.Errorf("keys is missing: without the keys of its results any answer would do")
	case r.Format == "":
		return fmt.Errorf("format is missing: the kind of report that goes there, such as sev-snp")
	case r.Timeout < 0:
		return fmt.Errorf("timeout is negative")
	}
	if types, err := builtin.ParseFormats([]string{r.Format}); err != nil || slices.Contains(types, builtin.EATType) {
		return fmt.Errorf("format %q is no kind of report: write one of %v, but not eat", r.Format, builtin.FormatNames())
	}
	if _, err := attest.ParseOEMID(r.OEMID); err != nil {
		return fmt.Errorf("oemid: the vendor whose devices it may speak for: %w", err)
	}
	return nil
}

// ownersOf reads the keys of who may sign collateral.
func (v *verifierConfig) owners() ([]appraisal.Owner, error) {
	var owners []appraisal.Owner
	for _, name := range slices.Sorted(maps.Keys(v.Owners)) {
		keys, err := publicKeys(v.Owners[name])
		if err != nil {
			return nil, fmt.Errorf("verifier.owners: %w", err)
		}
		set, err := cose.NewKeySet(keys...)
		if err != nil {
			return nil, fmt.Errorf("verifier.owners: %s: %w", name, err)
		}
		owners = append(owners, appraisal.Owner{Name: name, Keys: set})
	}
	return owners, nil
}

// newVerifier puts the verifier together. Collateral and policy are followed by known.
func (c *configuration) newVerifier(known *collateral) (attest.Verifier, error) {
	results, err := c.signers([]string{c.Verifier.Key})
	if err != nil {
		return nil, err
	}
	b := builtin.Config{
		Collateral: known.store, Signer: results[0], Developer: "go-teep", Build: c.Name, PCRs: c.Verifier.PCRs,
	}
	if b.Formats, err = builtin.ParseFormats(c.Verifier.Formats); err != nil {
		return nil, err
	}
	if known.policy != nil {
		b.Policy = known.policy
	}
	for _, path := range c.Verifier.Intermediates {
		certs, err := certificates(path)
		if err != nil {
			return nil, fmt.Errorf("verifier.intermediates: %w", err)
		}
		for _, cert := range certs {
			b.Intermediates = append(b.Intermediates, cert.Raw)
		}
	}
	if c.Verifier.TDXCache != "" {
		if b.TDXCache, err = tdx.OpenFolder(c.Verifier.TDXCache); err != nil {
			return nil, fmt.Errorf("verifier.tdx-cache: %w", err)
		}
	}
	for i := range c.Verifier.Remote {
		remote, err := c.Verifier.Remote[i].client(c.traces)
		if err != nil {
			return nil, fmt.Errorf("verifier.remote %d: %w", i+1, err)
		}
		b.Remote = append(b.Remote, remote)
	}
	return builtin.New(b)
}

func (r *remoteVerifier) client(traces *tracing.Tracing) (bound.Reports, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	oemid, err := attest.ParseOEMID(r.OEMID)
	if err != nil {
		return nil, err
	}
	types, err := builtin.ParseFormats([]string{r.Format})
	if err != nil {
		return nil, err
	}
	keys, err := publicKeys(r.Keys)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if r.CA != "" {
		certs, err := certificates(r.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		pool := x509.NewCertPool()
		for _, cert := range certs {
			pool.AddCert(cert)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = remoteTimeout
	}
	class := appraisal.Class{OEMID: oemid}
	if r.HWModel != "" {
		class.HWModel = []byte(r.HWModel)
	}
	return veraison.New(veraison.Config{
		Endpoint: u, Client: &http.Client{Transport: traces.Propagating("verifier", transport), Timeout: timeout}, Owner: r.Owner, Keys: keys,
		MediaType: types[0], TheirType: r.TheirType, Class: class,
	})
}

func publicKeys(paths []string) ([]*cose.Key, error) {
	keys := make([]*cose.Key, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		key, err := cose.ParsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if keys[i] = key.Public(); keys[i] == nil {
			return nil, fmt.Errorf("%s has no public key", path)
		}
	}
	return keys, nil
}

func certificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return certs, nil
}

// readAppraisalPolicy reads and checks an appraisal policy.
func readAppraisalPolicy(path string) (*cel.Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := cel.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

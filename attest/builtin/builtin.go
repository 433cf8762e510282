// Package builtin puts the verifiers of all evidence formats together: EAT in the TEEP profile,
// hardware evidence that is bound to it, and both inside conceptual message wrappers. It works
// offline, from collateral; reports can also be left to remote verifiers (attest/veraison).
package builtin

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/psa"
	"github.com/go-teep/teep/attest/sevsnp"
	"github.com/go-teep/teep/attest/tdx"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
)

// DefaultPCRs are those of package tpm.
func DefaultPCRs() []int { return tpm.DefaultPCRs() }

// Config configures [New].
type Config struct {
	// Collateral is what the verifier knows.
	Collateral *appraisal.Store
	// Signer signs Attestation Results; Developer and Build name the verifier in them.
	Signer           cose.Signer
	Developer, Build string
	// Policy may be nil.
	Policy eat.Policy
	// Formats are the media types of Evidence and of reports that are appraised, as [ParseFormats]
	// returns them; empty means all.
	Formats []string
	// PCRs must be in every TPM quote; empty means DefaultPCRs.
	PCRs []int
	// Intermediates are certificates in DER that devices do not send: ASK and ASVK of AMD.
	Intermediates [][]byte
	// TDXCache is the cache of what Intel publishes; without one, TDX quotes are not appraised.
	TDXCache tdx.Cache
	// Remote are asked first, each for its kind of report.
	Remote []bound.Reports
	// Now is time.Now when nil.
	Now func() time.Time
}

// New makes the verifier.
func New(c Config) (*cmw.Verifier, error) {
	if c.Collateral == nil {
		return nil, errors.New("builtin: a verifier without collateral knows nobody")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.PCRs) == 0 {
		c.PCRs = DefaultPCRs()
	}
	claims, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: c.Signer, Developer: c.Developer, Build: c.Build, Policy: c.Policy,
		Endorsements: c.Collateral, References: c.Collateral, Now: c.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	readers, err := c.readers()
	if err != nil {
		return nil, err
	}
	var all []attest.Verifier
	if c.wants(EATType) {
		all = append(all, claims)
	}
	if readers = slices.DeleteFunc(readers, func(r bound.Reports) bool { return !c.reads(r) }); len(readers) > 0 {
		hardware, err := bound.NewVerifier(claims, c.Now, readers...)
		if err != nil {
			return nil, err
		}
		all = append(all, hardware)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("builtin: nothing reads %q: TDX quotes need a cache of what Intel publishes", c.Formats)
	}
	return cmw.NewVerifier(all...), nil
}

func (c *Config) wants(mediaType string) bool {
	return len(c.Formats) == 0 || slices.Contains(c.Formats, mediaType)
}

// reads tells whether a reader is for a format that is wanted.
func (c *Config) reads(r bound.Reports) bool {
	return len(c.Formats) == 0 || slices.ContainsFunc(c.Formats, r.Accepts)
}

// readers are those of all formats.
func (c *Config) readers() ([]bound.Reports, error) {
	snp, err := sevsnp.NewReports(sevsnp.Config{Endorsements: c.Collateral, TCBLevels: c.Collateral, Intermediates: c.Intermediates})
	if err != nil {
		return nil, err
	}
	quotes, err := tpm.NewReports(tpm.ReportsConfig{Endorsements: c.Collateral, References: c.Collateral, TCBLevels: c.Collateral, PCRs: c.PCRs})
	if err != nil {
		return nil, err
	}
	tokens, err := psa.NewReports(c.Collateral)
	if err != nil {
		return nil, err
	}
	realms, err := psa.NewCCAReports(c.Collateral)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(c.Remote), snp, quotes, tokens, realms)
	if c.TDXCache != nil {
		intel, err := tdx.NewReports(tdx.Config{Makers: c.Collateral, Cache: c.TDXCache})
		if err != nil {
			return nil, err
		}
		all = append(all, intel)
	}
	return all, nil
}

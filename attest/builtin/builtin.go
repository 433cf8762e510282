// Package builtin puts the verifiers of all evidence formats together: EAT in the TEEP profile,
// hardware evidence that is bound to it, and both inside conceptual message wrappers. It works
// offline, from collateral.
package builtin

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/psa"
	"github.com/go-teep/teep/attest/sevsnp"
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
	// PCRs must be in every TPM quote; empty means DefaultPCRs.
	PCRs []int
	// Intermediates are certificates in DER that devices do not send: ASK and ASVK of AMD.
	Intermediates [][]byte
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
	hardware, err := bound.NewVerifier(claims, c.Now, snp, quotes, tokens, realms)
	if err != nil {
		return nil, err
	}
	return cmw.NewVerifier(claims, hardware), nil
}

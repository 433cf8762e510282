package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/config"
)

// tamAttestation is what the agent knows of TAMs that prove their state by Evidence, in place of a
// verifier's Attestation Result.
type tamAttestation struct {
	// Collateral are files with endorsements and reference values of TAMs. Without Owners they are the
	// administrator's own words. With them, each must be signed by one.
	Collateral []string            `yaml:"collateral"`
	Owners     map[string][]string `yaml:"owners"`
}

func (t *tamAttestation) check() error {
	if len(t.Owners) > 0 && len(t.Collateral) == 0 {
		return errors.New("tam-attestation.collateral is missing: name the files that the owners signed")
	}
	for name, keys := range t.Owners {
		if len(keys) == 0 {
			return fmt.Errorf("tam-attestation.owners: %q has no keys", name)
		}
	}
	return nil
}

func (t *tamAttestation) relative(path string) {
	for i := range t.Collateral {
		t.Collateral[i] = config.Relative(path, t.Collateral[i])
	}
	for _, keys := range t.Owners {
		for i := range keys {
			keys[i] = config.Relative(path, keys[i])
		}
	}
}

// tamCollateral is the content of what tamAttestation names, for the confined process, which cannot reach
// the files.
type tamCollateral struct {
	Files  [][]byte
	Owners map[string][][]byte // PEM
}

func (t *tamAttestation) read() (*tamCollateral, error) {
	if len(t.Collateral) == 0 {
		return nil, nil
	}
	c := &tamCollateral{Owners: map[string][][]byte{}}
	for _, path := range t.Collateral {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("tam-attestation.collateral: %w", err)
		}
		c.Files = append(c.Files, data)
	}
	for name, paths := range t.Owners {
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("tam-attestation.owners: %w", err)
			}
			c.Owners[name] = append(c.Owners[name], data)
		}
	}
	// Whether it can be used is said before anything is started.
	_, err := c.verifier()
	return c, err
}

// verifier appraises the Evidence of TAMs, bare or in a conceptual message wrapper.
func (c *tamCollateral) verifier() (attest.Verifier, error) {
	var owners []appraisal.Owner
	for _, name := range slices.Sorted(maps.Keys(c.Owners)) {
		var keys []*cose.Key
		for _, data := range c.Owners[name] {
			key, err := cose.ParsePEM(data)
			if err != nil {
				return nil, fmt.Errorf("tam-attestation.owners: %s: %w", name, err)
			}
			if key.IsPrivate() {
				return nil, fmt.Errorf("tam-attestation.owners: %s: a private key: 'teep key public' makes the public one that belongs here", name)
			}
			keys = append(keys, key)
		}
		set, err := cose.NewKeySet(keys...)
		if err != nil {
			return nil, fmt.Errorf("tam-attestation.owners: %s: %w", name, err)
		}
		owners = append(owners, appraisal.Owner{Name: name, Keys: set})
	}
	var all []*appraisal.Collateral
	for i, data := range c.Files {
		one, err := c.parse(data, owners)
		if err != nil {
			return nil, fmt.Errorf("tam-attestation.collateral: file %d: %w", i+1, err)
		}
		all = append(all, one)
	}
	store, err := appraisal.NewStore(all...)
	if err != nil {
		return nil, fmt.Errorf("tam-attestation.collateral: %w", err)
	}
	// Its results go no further than this process.
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		return nil, err
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, err
	}
	v, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: signer, Developer: "go-teep", Build: agentName, Endorsements: store, References: store, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	return cmw.NewVerifier(v), nil
}

func (c *tamCollateral) parse(data []byte, owners []appraisal.Owner) (*appraisal.Collateral, error) {
	if len(owners) > 0 {
		return appraisal.ParseSigned(data, owners...)
	}
	return appraisal.ParseYAML(data)
}

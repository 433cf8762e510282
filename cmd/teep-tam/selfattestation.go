package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
)

// selfAttestation is how the TAM proves its state to agents whose trust anchors say must-attest
// (TEEP §7.2.1): Evidence about itself, and a verifier that turns it into an Attestation Result.
type selfAttestation struct {
	// Key signs the Evidence. Its use is that alone.
	Key string `yaml:"key"`
	// OEMID, HWModel and HWVersion say what machine the TAM runs on.
	OEMID     string `yaml:"oemid"`
	HWModel   string `yaml:"hwmodel"`
	HWVersion string `yaml:"hwversion"`
	// Evidence sends agents the Evidence itself, for those that have a verifier of their own. Without it,
	// they get the Attestation Result of the verifier that the rest names.
	Evidence bool `yaml:"evidence"`
	// VerifierKey signs the Attestation Results; agents know its public part.
	VerifierKey string `yaml:"verifier-key"`
	// Collateral are the files that this verifier appraises the TAM by.
	Collateral []string `yaml:"collateral"`
}

const (
	tamAgentName = "teep-tam"
	// outsideTEE is what every TAM that runs as an ordinary process has to say of itself.
	outsideTEE = "no-tee: the TAM runs outside of a Trusted Execution Environment"
)

func (s *selfAttestation) check() error {
	if s.Key == "" {
		if s.Evidence || s.VerifierKey != "" || len(s.Collateral) > 0 {
			return errors.New("self-attestation.key is missing: name the key that signs Evidence about this TAM, or remove self-attestation")
		}
		return nil
	}
	for _, required := range []struct{ key, value string }{
		{"oemid", s.OEMID}, {"hwmodel", s.HWModel}, {"hwversion", s.HWVersion},
	} {
		if required.value == "" {
			return fmt.Errorf("self-attestation.%s is missing", required.key)
		}
	}
	switch {
	case s.Evidence && (s.VerifierKey != "" || len(s.Collateral) > 0):
		return errors.New("self-attestation: with evidence, the verifier is the agents': remove verifier-key and collateral")
	case !s.Evidence && s.VerifierKey == "":
		return errors.New("self-attestation.verifier-key is missing, or evidence: true for agents that appraise Evidence themselves")
	}
	return nil
}

// identity is what the Evidence says; the UEID follows from the attestation key.
func (s *selfAttestation) identity(key *cose.Key) (eat.Identity, error) {
	oemid, err := attest.ParseOEMID(s.OEMID)
	if err != nil {
		return eat.Identity{}, fmt.Errorf("oemid: %w", err)
	}
	measurement, err := measureExecutable()
	if err != nil {
		return eat.Identity{}, fmt.Errorf("measuring this program: %w", err)
	}
	const typeRandom = 1 // RFC 9711 §4.2.1.1
	return eat.Identity{
		UEID:  append([]byte{typeRandom}, key.Thumbprint()[:16]...),
		OEMID: oemid, HWModel: []byte(s.HWModel), HWVersion: s.HWVersion,
		AgentName: tamAgentName, Measurement: measurement, Weaknesses: []string{outsideTEE},
	}, nil
}

// measureExecutable is the SHA-256 of the program that runs.
func measureExecutable() ([]byte, error) {
	name, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		name = "/proc/self/exe" // what runs, even if another file has taken its name
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), errors.Join(err, f.Close())
}

// attester makes Attestation Results about the TAM, or Evidence; nil if it is not configured.
func (s *selfAttestation) attester(c *configuration) (attest.Attester, error) {
	if s.Key == "" {
		return nil, nil
	}
	paths := []string{s.Key}
	if !s.Evidence {
		paths = append(paths, s.VerifierKey)
	}
	keys, err := c.signers(paths)
	if err != nil {
		return nil, err
	}
	if !s.Evidence && keys[0].Public().Equal(keys[1].Public()) {
		return nil, errors.New("key and verifier-key are the same; each key has one use (RFC 9397 §5)")
	}
	id, err := s.identity(keys[0].Public())
	if err != nil {
		return nil, err
	}
	attester, err := eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: keys[0], Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	if s.Evidence {
		return wrappedEvidence{attester}, nil
	}
	known, err := openCollateral(&verifierConfig{Collateral: s.Collateral}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	verifier, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: keys[1], Developer: "go-teep", Build: c.Name,
		Endorsements: known.store, References: known.store, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	return attest.Passport{Attester: attester, Verifier: verifier}, nil
}

// wrappedEvidence makes Evidence in a conceptual message wrapper. The media type of the TEEP profile alone
// would be taken for an Attestation Result (TEEP §7.2.1).
type wrappedEvidence struct{ attest.Attester }

// MediaTypes implements attest.Attester.
func (wrappedEvidence) MediaTypes() []string { return []string{cmw.MediaType} }

// Attest implements attest.Attester.
func (w wrappedEvidence) Attest(ctx context.Context, mediaType string, r attest.Request) (attest.Evidence, error) {
	if mediaType != "" && mediaType != cmw.MediaType {
		return attest.Evidence{}, fmt.Errorf("%w: %.100q", attest.ErrUnknownType, mediaType)
	}
	e, err := w.Attester.Attest(ctx, "", r)
	if err != nil {
		return attest.Evidence{}, err
	}
	return cmw.Wrap(e)
}

func collateralCommand() *cobra.Command {
	var path, owner string
	var lifetime time.Duration
	var accept bool
	c := &cobra.Command{
		Use:   "collateral --config FILE --owner NAME",
		Short: "Print what a verifier needs to know of this TAM, for agents that demand its attestation",
		Long: `Prints a collateral file for the verifier in "self-attestation": the endorsement of the key that signs Evidence
about this TAM, and the reference value of this program. Nothing in it is secret; that it reaches the verifier unchanged
is what attestation rests on.

A TAM that runs outside of a Trusted Execution Environment says so in its Evidence. That makes the appraisal a warning,
with which no agent is content, unless the reference value accepts it.`,
		Example: `  teep-tam collateral --config tam/tam.yaml --owner "Example Ltd" --insecure-accept-weaknesses > tam/self.yaml`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			if accept {
				fmt.Fprintln(cmd.ErrOrStderr(), "teep-tam: insecure: the reference value accepts that the TAM runs outside of a TEE")
			}
			text, err := c.SelfAttestation.printedCollateral(c, owner, time.Now().Add(lifetime), accept)
			if err != nil {
				return fmt.Errorf("%s: self-attestation: %w", c.path, err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().StringVar(&owner, "owner", "", "who vouches for this TAM and this program")
	c.Flags().DurationVar(&lifetime, "lifetime", 365*24*time.Hour, "how long the file counts")
	c.Flags().BoolVar(&accept, "insecure-accept-weaknesses", false, "list as accepted that the TAM runs outside of a TEE")
	if err := c.MarkFlagRequired("owner"); err != nil {
		panic(err) // the flag was added above
	}
	return configFlag(c, &path)
}

func (s *selfAttestation) printedCollateral(c *configuration, owner string, expires time.Time, accept bool) ([]byte, error) {
	if s.Key == "" {
		return nil, errors.New("it is not configured: name key, oemid, hwmodel, hwversion, verifier-key and collateral")
	}
	keys, err := c.publicKeys([]string{s.Key})
	if err != nil {
		return nil, err
	}
	key := keys[0]
	id, err := s.identity(key)
	if err != nil {
		return nil, err
	}
	oemid, err := attest.CanonicalOEMID(id.OEMID)
	if err != nil {
		return nil, err
	}
	class := appraisal.Class{OEMID: oemid, HWModel: id.HWModel}
	expires = expires.UTC().Truncate(time.Second)
	reference := appraisal.Reference{
		Owner: owner, Class: class, Expires: expires, Name: id.AgentName, Version: id.AgentVersion,
		Algorithm: cose.AlgSHA256, Digest: id.Measurement, Status: attest.StatusAffirming, Why: "the TAM that printed this",
	}
	if accept {
		reference.AcceptedWeaknesses = id.Weaknesses
	}
	all := appraisal.Collateral{
		Owner: owner, Expires: expires,
		Endorsements: []appraisal.Endorsement{{Owner: owner, UEID: id.UEID, Key: key, Class: class}},
		References:   []appraisal.Reference{reference},
	}
	return all.YAML()
}

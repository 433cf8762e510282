package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
)

func serveCommand(at *place) *cobra.Command {
	var path string
	var logs program.LogFlags
	var olderPeers bool
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Be the TEE, and serve the broker, until SIGTERM",
		Long: `Opens the TEE, which makes its keys at the first start, and serves the broker's calls on its socket.
The trust anchors in the file "trust" are sealed at the first start. From then on the sealed ones count, and
only the device administrator whom they name can replace them.`,
		Example: `  teep-agent serve --config device/agent.yaml`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := logs.Logger(cmd.ErrOrStderr()); err != nil {
				return err
			}
			c, err := load(path)
			if err != nil {
				return err
			}
			return launch(cmd.Context(), c, task{Serve: &serveTask{Logs: logs, OlderPeers: olderPeers}}, at)
		},
	}
	c.Flags().BoolVar(&olderPeers, "insecure-older-peers", false,
		"also accept ES256 (-7) and EdDSA (-8), which leave the curve open, from TAMs of earlier drafts")
	logs.Register(c)
	return configFlag(c, &path)
}

// serveTask is what the confined process needs to serve.
type serveTask struct {
	Logs program.LogFlags
	// Trust is the file of trust anchors, TrustFiles what it names; both are out of reach inside.
	Trust      []byte
	TrustFiles map[string]trustFile
	// Certificates is the chain of the agent's message key, in DER; RevocationLists are files.
	Certificates    [][]byte
	RevocationLists [][]byte
	OlderPeers      bool
	// TAMCollateral is what the agent appraises Evidence of TAMs by; nil if it takes none.
	TAMCollateral *tamCollateral
	// VerifierKey is the key that Evidence for a verifier is encrypted to, in PEM; nil if there is none.
	VerifierKey []byte
}

// read reads what is out of reach inside.
func (t *serveTask) read(c *configuration) error {
	return errors.Join(t.readTrust(c.Trust), t.readCertificates(c), t.readTAMCollateral(c), t.readVerifierKey(c))
}

func (t *serveTask) readVerifierKey(c *configuration) (err error) {
	if c.Verifier.EncryptionKey == "" {
		return nil
	}
	if t.VerifierKey, err = os.ReadFile(c.Verifier.EncryptionKey); err != nil {
		return fmt.Errorf("%s: verifier.encryption-key: %w", c.Path, err)
	}
	if _, err = t.verifierKey(); err != nil {
		return fmt.Errorf("%s: verifier.encryption-key: %s: %w", c.Path, c.Verifier.EncryptionKey, err)
	}
	return nil
}

// verifierKey parses it; nil if there is none.
func (t *serveTask) verifierKey() (*cose.Key, error) {
	if t.VerifierKey == nil {
		return nil, nil
	}
	key, err := cose.ParsePEM(t.VerifierKey)
	if err == nil && key.IsPrivate() {
		return nil, errors.New("a private key: 'teep key public' makes the public one that belongs here")
	}
	return key, err
}

func (t *serveTask) readTAMCollateral(c *configuration) (err error) {
	if t.TAMCollateral, err = c.TAMAttestation.read(); err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	return nil
}

func serve(ctx context.Context, handed *task, inside *surroundings, log *slog.Logger) error {
	if inside.machine == nil {
		log.Info("confined", "landlock-abi", inside.Report.LandlockABI, "uid", os.Getuid(), "missing", len(inside.Report.Missing))
	}
	c, t := handed.Config, handed.Serve
	environment, err := openEnvironment(ctx, c, handed.Hardware, inside, log)
	if err != nil {
		return err
	}
	defer environment.Close()
	attester, err := environment.attester()
	if err != nil {
		return err
	}
	var ofTAMs attest.Verifier
	if t.TAMCollateral != nil {
		if ofTAMs, err = t.TAMCollateral.verifier(); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	verifierKey, err := t.verifierKey()
	if err != nil {
		return fmt.Errorf("%s: verifier.encryption-key: %w", c.Path, err)
	}
	if c.Policy.Passports && verifierKey == nil {
		log.Warn("policy.passports: the broker can read the Evidence that it takes to a verifier: name the verifier's key in verifier.encryption-key")
	}
	a, err := agent.New(agent.Config{
		TEE: environment, Attester: attester, Trust: t.Trust, EvidenceVerifier: ofTAMs,
		ReadTrustFile: t.readTrustFile,
		Policy: agent.Policy{
			Interval: c.Policy.Interval, RetryMin: c.Policy.RetryMin, RetryMax: c.Policy.RetryMax,
			Timestamps: c.Policy.Timestamps, PassportAge: c.Policy.PassportAge, Passports: c.Policy.Passports,
		},
		VerifierKey:  verifierKey,
		Certificates: t.Certificates, RevocationLists: t.RevocationLists, InsecureOlderPeers: t.OlderPeers,
		Limits: agent.Limits{Application: tee.Limits{
			MemoryBytes: c.Applications.MemoryBytes, CallDuration: c.Applications.CallDuration,
			OutputBytes: c.Applications.OutputBytes, StorageBytes: c.Applications.StorageBytes,
		}},
		Logger: log,
	})
	if err != nil {
		return err
	}
	defer a.Close()
	for _, weakness := range environment.Identity().Weaknesses {
		log.Warn("weakness of this TEE, reported in its Evidence", "weakness", weakness)
	}
	err = inside.serve(ctx, c, a, &desk{environment: environment, config: c.Path}, log)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	log.Info("stopped")
	return nil
}

// serve answers the broker's calls.
func (s *surroundings) serve(ctx context.Context, c *configuration, a link.Agent, d *desk, log *slog.Logger) error {
	o := link.ServeOptions{OnError: func(call string, err error) { log.Warn("link", "call", call, "err", err) }}
	if s.machine != nil {
		log.Info("ready")
		return s.machine.serve(ctx, a, o, d)
	}
	ln, err := listen(s.Files[socketFile])
	if err != nil {
		return fmt.Errorf("the socket that was handed over: %w", err)
	}
	log.Info("ready", "socket", c.Socket)
	return link.ServeListener(ctx, ln, a, o)
}

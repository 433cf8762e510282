package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
)

func serveCommand(h *sandbox.Hardening) *cobra.Command {
	var path string
	var logs program.LogFlags
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Be the TEE, and serve the broker, until SIGTERM",
		Long: `Opens the TEE, which makes its keys at the first start, and serves the broker's calls on its socket.
The trust anchors in the file "trust" are sealed at the first start. From then on the sealed ones count, and
only the device administrator whom they name can replace them.`,
		Example: `  teep-agent serve --config device/agent.yaml`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.Logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			c, err := load(path)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c, h, log)
		},
	}
	logs.Register(c)
	return configFlag(c, &path)
}

func serve(ctx context.Context, c *configuration, h *sandbox.Hardening, log *slog.Logger) error {
	environment, err := openTEE(ctx, c, h, log)
	if err != nil {
		return err
	}
	defer environment.Close()
	attester, err := newAttester(environment)
	if err != nil {
		return err
	}
	var trust []byte
	if c.Trust != "" {
		if trust, err = os.ReadFile(c.Trust); err != nil {
			return fmt.Errorf("trust anchors: %w", err)
		}
	}
	a, err := agent.New(agent.Config{
		TEE: environment, Attester: attester, Trust: trust,
		ReadTrustFile: func(name string) ([]byte, error) { return os.ReadFile(config.Relative(c.Trust, name)) },
		Policy:        agent.Policy{Interval: c.Policy.Interval, RetryMin: c.Policy.RetryMin, RetryMax: c.Policy.RetryMax},
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
	ln, err := listen(c.Socket)
	if err != nil {
		return err
	}
	for _, weakness := range environment.Identity().Weaknesses {
		log.Warn("weakness of this TEE, reported in its Evidence", "weakness", weakness)
	}
	log.Info("ready", "socket", c.Socket)
	err = link.ServeListener(ctx, ln, a, link.ServeOptions{
		OnError: func(call string, err error) { log.Warn("link", "call", call, "err", err) },
	})
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	log.Info("stopped")
	return nil
}

func newAttester(environment *sandbox.TEE) (*eat.Attester, error) {
	signer, err := environment.Keys().Signer(tee.KeyAttestation)
	if err != nil {
		return nil, err
	}
	id := environment.Identity()
	return eat.NewAttester(eat.AttesterConfig{
		Identity: eat.Identity{
			UEID: id.UEID, OEMID: id.OEMID, HWModel: id.HWModel, HWVersion: id.HWVersion,
			AgentName: id.AgentName, AgentVersion: id.AgentVersion, Measurement: id.Measurement,
			Weaknesses: id.Weaknesses,
		},
		Signer: signer, Now: time.Now, Rand: rand.Reader,
	})
}

// listen makes the socket, which only this user can reach. One that an agent left behind when it
// was killed is replaced; that no agent uses it is sure, because this one holds the TEE's lock.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket: choose another name for socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

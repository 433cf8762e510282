package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/teeptest/conform"
)

func conformCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "conform",
		Short: "Test whether a TAM or an agent does what the TEEP texts demand",
		Long: `Plays the other side of the protocol, honest and hostile, and prints one line for each requirement with the
section that it comes from. It exits with an error when a MUST is not met; a SHOULD that is not met is a warning,
and a check that cannot be made is skipped and says what it would need.

Do not run it against a TAM or a device that is in service.`,
		Example: `  teep conform tam --tam-key tam-esp256.pub.pem --tam-key tam-ed25519.pub.pem http://127.0.0.1:8080/teep
  teep conform agent --tam-key tam-esp256.pem --tam-key tam-ed25519.pem /run/teep/agent.sock`,
	}
	c.AddCommand(conformTAM(), conformAgent())
	return c
}

type tamTarget struct {
	keys                              []string
	encryption, device, component, ca string
	json                              bool
}

func conformTAM() *cobra.Command {
	var f tamTarget
	c := &cobra.Command{
		Use:   "tam --tam-key FILE... URL",
		Short: "Test a TAM, playing an agent",
		Long: `Plays an agent before the TAM at a TAM URI. The public keys of the TAM are needed, one for each of its suites.

The device that it plays is kept in a folder (--device), which is made if it is not there. Beside its keys lies
collateral.yaml: the endorsement that the TAM's verifier needs for the device's Evidence to be good. Give it to a
verifier for the time of the test only: it vouches for a device that protects nothing. Without it, what a TAM does
after attestation is skipped. With it, and a component that the TAM offers (--component), all of it is tested.`,
		Example: `  teep conform tam --tam-key tam-esp256.pub.pem --tam-key tam-ed25519.pub.pem http://127.0.0.1:8080/teep
  teep conform tam --tam-key tam-esp256.pub.pem --tam-key tam-ed25519.pub.pem --encryption-key tam-ecdh.pub.pem \
    --device conform --component hello --ca ca.pem https://tam.example/teep`,
		Args: program.ExactArgs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	c.Flags().StringArrayVar(&f.keys, "tam-key", nil, "public key of the TAM, PEM; once for each of its keys")
	c.Flags().StringVar(&f.encryption, "encryption-key", "", "public key that Evidence is encrypted to, PEM")
	c.Flags().StringVar(&f.device, "device", "teep-conform", "folder of the device that is played")
	c.Flags().StringVar(&f.component, "component", "", "component identifier that the TAM offers to the device")
	c.Flags().StringVar(&f.ca, "ca", "", "certificate authorities of the TAM's server, PEM; default those of the system")
	c.Flags().BoolVar(&f.json, "json", false, "print the results as JSON")
	return require(c, "tam-key")
}

func (f *tamTarget) run(cmd *cobra.Command, uri string) error {
	to := conform.TAM{URI: uri}
	var err error
	if to.Keys, err = readKeys(f.keys); err != nil {
		return err
	}
	if f.encryption != "" {
		if to.Encryption, err = readKey(f.encryption); err != nil {
			return err
		}
	}
	if f.component != "" {
		id, err := componentID(f.component)
		if err != nil {
			return err
		}
		to.Component = teep.ComponentID(id)
	}
	if to.Client, err = conformClient(f.ca); err != nil {
		return err
	}
	defer to.Client.CloseIdleConnections()
	if to.Device, err = conformDevice(f.device, cmd.ErrOrStderr()); err != nil {
		return err
	}
	results, err := conform.CheckTAM(cmd.Context(), to)
	if err != nil {
		return err
	}
	return conclude(cmd, results, f.json)
}

// conformClient makes an HTTP client that trusts certain authorities, follows no redirect and
// keeps no cookies.
func conformClient(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", ca)
		}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
		Timeout:   time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}, nil
}

const collateralFile = "collateral.yaml"

// conformDevice reads the device of a folder, or makes one.
func conformDevice(dir string, stderr io.Writer) (*conform.Device, error) {
	names := []string{filepath.Join(dir, "agent.pem"), filepath.Join(dir, "attestation.pem"), filepath.Join(dir, "ueid")}
	if _, err := os.Stat(names[2]); errors.Is(err, os.ErrNotExist) {
		return makeConformDevice(dir, names, stderr)
	}
	d := &conform.Device{}
	keys, err := readKeys(names[:2])
	if err != nil {
		return nil, err
	}
	d.Agent, d.Attestation = keys[0], keys[1]
	text, err := os.ReadFile(names[2])
	if err == nil {
		d.UEID, err = hex.DecodeString(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return nil, fmt.Errorf("UEID of the device: %w; remove %s to have a new device made", err, dir)
	}
	return d, nil
}

func makeConformDevice(dir string, names []string, stderr io.Writer) (*conform.Device, error) {
	d, err := conform.NewDevice(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	known, err := d.Collateral(time.Now().AddDate(0, 1, 0))
	if err != nil {
		return nil, err
	}
	text, err := known.YAML()
	if err != nil {
		return nil, err
	}
	if err := writeNew(filepath.Join(dir, collateralFile), text, 0o644); err != nil {
		return nil, err
	}
	for i, key := range []*cose.Key{d.Agent, d.Attestation} {
		pem, err := key.MarshalPEM()
		if err != nil {
			return nil, err
		}
		if err := writeNew(names[i], pem, 0o600); err != nil {
			return nil, err
		}
	}
	// Last, for its being there says that the rest is.
	if err := writeNew(names[2], []byte(hex.EncodeToString(d.UEID)+"\n"), 0o644); err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "A device was made in %s. For the whole test, give %s to the TAM's verifier and run this again.\n",
		dir, filepath.Join(dir, collateralFile))
	return d, nil
}

type agentTarget struct {
	keys, manifests                      []string
	decryption, agentKey, uri, component string
	json                                 bool
}

func conformAgent() *cobra.Command {
	var f agentTarget
	c := &cobra.Command{
		Use:   "agent --tam-key FILE... SOCKET",
		Short: "Test an agent, playing broker and TAM",
		Long: `Plays the broker and a TAM before the agent at a Unix socket that speaks the link (see package link). An agent
answers only TAMs that it trusts: the private keys of one are needed, one for each suite. They belong to a TAM that
exists for the test, and to no other.

With two manifests of one component that the agent accepts, the older one first, installation, downgrade and removal
are tested too; their payloads have to be integrated.`,
		Example: `  teep conform agent --tam-key tam-esp256.pem --tam-key tam-ed25519.pem --decryption-key tam-ecdh.pem \
    --manifest app-1.suit --manifest app-2.suit /run/teep/agent.sock`,
		Args: program.ExactArgs("SOCKET"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	c.Flags().StringArrayVar(&f.keys, "tam-key", nil, "private key of a TAM that the agent trusts, PEM; once for each suite")
	c.Flags().StringVar(&f.decryption, "decryption-key", "", "private key that the agent encrypts Evidence to, PEM")
	c.Flags().StringVar(&f.agentKey, "agent-key", "", "public key of the agent, PEM; default the one in its Evidence")
	c.Flags().StringVar(&f.uri, "tam-uri", "", "URI of that TAM in the agent's configuration, if it has several")
	c.Flags().StringVar(&f.component, "component", "", "identifier of a component that is not installed and that the agent may request of that TAM")
	c.Flags().StringArrayVar(&f.manifests, "manifest", nil, "signed envelope that the agent accepts; twice, the older one first")
	c.Flags().BoolVar(&f.json, "json", false, "print the results as JSON")
	return require(c, "tam-key")
}

func (f *agentTarget) run(cmd *cobra.Command, socket string) error {
	agent := &link.Redialer{Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer agent.Close()
	if err := agent.Check(cmd.Context()); err != nil {
		return err
	}
	to := conform.Agent{Link: agent, TAMURI: f.uri}
	var err error
	if to.Keys, err = readKeys(f.keys); err != nil {
		return err
	}
	for path, key := range map[string]**cose.Key{f.decryption: &to.Decryption, f.agentKey: &to.AgentKey} {
		if path == "" {
			continue
		}
		if *key, err = readKey(path); err != nil {
			return err
		}
	}
	if f.component != "" {
		id, err := componentID(f.component)
		if err != nil {
			return err
		}
		to.Component = link.ComponentID(id)
	}
	for _, path := range f.manifests {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to.Manifests = append(to.Manifests, data)
	}
	results, err := conform.CheckAgent(cmd.Context(), to)
	if err != nil {
		return err
	}
	return conclude(cmd, results, f.json)
}

// conclude prints the results; a MUST that is not met is the error that the program ends with.
func conclude(cmd *cobra.Command, results []conform.Result, asJSON bool) error {
	write := conform.WriteTable
	if asJSON {
		write = conform.WriteJSON
	}
	if err := write(cmd.OutOrStdout(), results); err != nil {
		return err
	}
	if err := cmd.Context().Err(); err != nil {
		return fmt.Errorf("ended before the last check: %w", err)
	}
	failed := 0
	for _, r := range results {
		if r.Outcome == conform.Fail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("requirements that are not met: %d", failed)
	}
	return nil
}

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/policy"
	"github.com/go-teep/teep/attest/tdx"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/transport"
	"github.com/go-teep/teep/transport/challengeresponse"
)

// servedVerifier are the flags of 'teep attest serve'.
type servedVerifier struct {
	listen, certificate, key   string
	signingKey, name, tdxCache string
	policy                     string
	collateral, owners         []string
	decryption                 []string
	pcrs                       []int
	insecureHTTP               bool
	logs                       program.LogFlags
}

func serveVerifierCommand() *cobra.Command {
	var v servedVerifier
	c := &cobra.Command{
		Use:   "serve --key FILE --collateral FILE",
		Short: "Be a verifier for devices that bring Attestation Results along (passport model)",
		Long: `Serves the challenge-response API of Project Veraison until SIGTERM: Evidence comes in, and an Attestation
Result in the TEEP profile goes out, signed with --key. Agents reach it through their brokers (verifier.url in broker.yaml),
and TAMs that know the public part of the key (passports.verifiers in tam.yaml) rely on its results.

Evidence, collateral and policy are those of 'teep attest appraise'. Files are read again when they change; what is wrong
with them is logged, and what was read before stays in force. Anybody may ask: a result says only what was appraised.

With --decryption-key, agents that know its public part (verifier.encryption-key in agent.yaml) encrypt their Evidence to it, and
get the result encrypted to the key that the Evidence names: brokers read neither.

Beyond loopback addresses it serves HTTPS.`,
		Example: `  teep attest serve --listen 127.0.0.1:8090 --key verifier.pem --collateral devices.yaml
  teep attest serve --listen 0.0.0.0:443 --tls-certificate tls.pem --tls-key tls.key --key verifier.pem \
      --decryption-key verifier-ecdh.pem --collateral image.cose --owner 'Example=example.pub.pem' --policy edge.yaml`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return v.serve(cmd.Context(), cmd.ErrOrStderr()) },
	}
	fl := c.Flags()
	fl.StringVar(&v.listen, "listen", "127.0.0.1:8090", "address to listen at")
	fl.StringVar(&v.certificate, "tls-certificate", "", "certificate chain of the server, in PEM")
	fl.StringVar(&v.key, "tls-key", "", "its private key, in PEM")
	fl.BoolVar(&v.insecureHTTP, "insecure-plain-http", false, "serve plain HTTP beyond loopback addresses too: behind something that ends TLS")
	fl.StringVar(&v.signingKey, "key", "", "key that signs Attestation Results")
	fl.StringArrayVar(&v.decryption, "decryption-key", nil,
		"key that agents encrypt Evidence to ('teep key generate --alg ECDH-ES+A128KW'); may be repeated")
	fl.StringVar(&v.name, "name", "teep", "name of this verifier in results")
	fl.StringArrayVar(&v.collateral, "collateral", nil, "collateral file; may be repeated")
	fl.StringArrayVar(&v.owners, "owner", nil, "NAME=KEYFILE of who may sign collateral; may be repeated")
	fl.StringVar(&v.policy, "policy", "", "appraisal policy in CEL (YAML file)")
	fl.IntSliceVar(&v.pcrs, "pcr", builtin.DefaultPCRs(), "PCRs that a TPM quote must hold")
	fl.StringVar(&v.tdxCache, "tdx-cache", "", "folder with what Intel publishes, without which there is no verdict on TDX quotes")
	v.logs.Register(c)
	for _, required := range []string{"key", "collateral"} {
		if err := c.MarkFlagRequired(required); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

func (v *servedVerifier) check() error {
	host, _, err := net.SplitHostPort(v.listen)
	switch {
	case err != nil:
		return fmt.Errorf("--listen %q is no address: write HOST:PORT", v.listen)
	case (v.certificate == "") != (v.key == ""):
		return errors.New("--tls-certificate and --tls-key go together")
	case v.certificate == "" && !v.insecureHTTP && !isLoopback(host):
		return fmt.Errorf("--listen %s can be reached from elsewhere: give --tls-certificate and --tls-key", v.listen)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

const verifierShutdown = 10 * time.Second

func (v *servedVerifier) serve(ctx context.Context, stderr io.Writer) error {
	if err := v.check(); err != nil {
		return &program.Usage{Err: err}
	}
	log, err := v.logs.Logger(stderr)
	if err != nil {
		return err
	}
	key, err := readKey(v.signingKey)
	if err != nil {
		return err
	}
	signer, err := key.Signer()
	if err != nil {
		return fmt.Errorf("%s: %w", v.signingKey, err)
	}
	keys, err := v.decryptionKeys(key)
	if err != nil {
		return err
	}
	files := append([]string{}, v.collateral...)
	if v.policy != "" {
		files = append(files, v.policy)
	}
	current, err := filewatch.New(files, func(contents [][]byte) (*cmw.Verifier, error) { return v.verifier(signer, contents) }, log)
	if err != nil {
		return err
	}
	server := transport.NewServer(challengeresponse.NewHandler(evidenceVerifier{current, keys}, challengeresponse.HandlerOptions{Log: log}))
	if v.certificate != "" {
		pair, err := filewatch.New([]string{v.certificate, v.key}, func(contents [][]byte) (*tls.Certificate, error) {
			c, err := tls.X509KeyPair(contents[0], contents[1])
			return &c, err
		}, log)
		if err != nil {
			return fmt.Errorf("--tls-certificate: %w", err)
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get(), nil }}
	} else if v.insecureHTTP {
		log.Warn("insecure: Evidence comes in by plain HTTP")
	}
	ln, err := net.Listen("tcp", v.listen)
	if err != nil {
		return err
	}
	log.Info("ready", "listen", ln.Addr().String(), "tls", server.TLSConfig != nil)
	return transport.Serve(ctx, server, ln, verifierShutdown)
}

// decryptionKeys reads the keys that Evidence is encrypted to. One key has one use (RFC 9397 §5).
func (v *servedVerifier) decryptionKeys(signing *cose.Key) (cose.DecryptKeys, error) {
	var keys cose.DecryptKeys
	for _, path := range v.decryption {
		key, err := readKey(path)
		switch {
		case err != nil:
			return nil, err
		case !key.IsPrivate():
			return nil, fmt.Errorf("%s is a public key: agents encrypt to it, and this takes the private one", path)
		case key.Public().Equal(signing.Public()):
			return nil, fmt.Errorf("--decryption-key %s is --key too: make one for it with 'teep key generate --alg ECDH-ES+A128KW'", path)
		}
		if _, err := eat.Encrypt(rand.Reader, []byte{0}, key.Public(), 0); err != nil {
			return nil, fmt.Errorf("--decryption-key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// verifier is made of the contents of the files.
func (v *servedVerifier) verifier(signer cose.Signer, contents [][]byte) (*cmw.Verifier, error) {
	n := len(v.collateral)
	store, err := collateralStore(v.collateral, contents[:n], v.owners)
	if err != nil {
		return nil, err
	}
	c := builtin.Config{Collateral: store, Signer: signer, Developer: "go-teep", Build: v.name, PCRs: v.pcrs}
	if v.tdxCache != "" {
		if c.TDXCache, err = tdx.OpenFolder(v.tdxCache); err != nil {
			return nil, err
		}
	}
	if v.policy != "" {
		rules, err := policy.Parse(contents[n])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.policy, err)
		}
		c.Policy = rules
	}
	return builtin.New(c)
}

// evidenceVerifier gives Attestation Results for Evidence. It has met no agent: the key is the one that the
// Evidence names and that the result names again, so that who relies on it compares that with the key of
// the message.
type evidenceVerifier struct {
	current *filewatch.Value[*cmw.Verifier]
	// keys decrypt Evidence that is encrypted.
	keys cose.DecryptKeys
}

// Types implements challengeresponse.Verifier.
func (evidenceVerifier) Types() []string { return builtin.EvidenceTypes() }

// Appraise implements challengeresponse.Verifier.
func (v evidenceVerifier) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (challengeresponse.Result, error) {
	var none challengeresponse.Result
	verifier, e := v.current.Get(), attest.Evidence{MediaType: mediaType, Payload: evidence}
	if !verifier.Accepts(mediaType) {
		return none, fmt.Errorf("%w: %.100q", attest.ErrUnknownType, mediaType)
	}
	hidden := eat.IsEncrypted(evidence)
	if hidden {
		var err error
		if e.Payload, err = eat.Decrypt(evidence, v.keys); err != nil {
			return none, fmt.Errorf("%w (agents encrypt to the key of --decryption-key)", err)
		}
	}
	_, key, err := verifier.Peek(e)
	switch {
	case err != nil:
		return none, err
	case key == nil:
		return none, fmt.Errorf("%w: the Evidence names the agent's key by thumbprint alone", attest.ErrKeyBinding)
	}
	r, err := verifier.Appraise(ctx, e, attest.Expectation{Nonce: nonce, AgentKey: key})
	if err != nil {
		return none, err
	}
	// Who brings the Evidence and cannot read it learns nothing from the result either.
	if hidden {
		if r.EncryptionKey == nil {
			return none, errors.New("the Evidence came encrypted, and names no key that the result can be encrypted to")
		}
		if r.Token, err = eat.Encrypt(rand.Reader, r.Token, r.EncryptionKey, cose.AlgA128GCM); err != nil {
			return none, err
		}
	}
	return challengeresponse.Result{MediaType: r.MediaType, Data: r.Token}, nil
}

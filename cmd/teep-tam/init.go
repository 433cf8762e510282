package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
)

// The keys that a new TAM gets, and what each is for: one key has one use (RFC 9397 §5).
var newKeys = []struct {
	file string
	alg  cose.Algorithm
}{
	{"keys/esp256.pem", cose.AlgESP256},
	{"keys/ed25519.pem", cose.AlgEd25519},
	{"keys/encryption.pem", cose.AlgECDHESA128KW},
	{"keys/verifier.pem", cose.AlgESP256},
	{"keys/distribution.pem", cose.AlgESP256},
	{"keys/attestation.pem", cose.AlgESP256},
}

func initCommand() *cobra.Command {
	c := defaults()
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make keys and a configuration file for a new TAM",
		Long: `Makes DIR with the TAM's keys (ESP256 and Ed25519 for messages, P-256 for what agents encrypt to it,
ESP256 for its verifier's Attestation Results, for the manifests that bring devices keys and data, and for the Evidence
about the TAM itself) and tam.yaml. Nothing that exists is overwritten.`,
		Example: `  teep-tam init ./tam
  teep-tam init ./tam --name example --listen 0.0.0.0:8080 --uri https://tam.example.com/tam`,
		Args: program.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkListen("--listen", c.TEEP.Listen), checkListen("--api-listen", c.API.Listen)); err != nil {
				return &program.Usage{Err: err}
			}
			if err := initialize(args[0], &c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is ready. Next: teep-tam serve --config %s\n",
				args[0], filepath.Join(args[0], "tam.yaml"))
			return err
		},
	}
	cmd.Flags().StringVar(&c.Name, "name", c.Name, "name of the TAM in the trust files of agents")
	cmd.Flags().StringVar(&c.TEEP.Listen, "listen", c.TEEP.Listen, "address for TEEP over HTTP")
	cmd.Flags().StringVar(&c.TEEP.URI, "uri", "", "TAM URI as agents see it (default: from the listen address)")
	cmd.Flags().StringVar(&c.API.Listen, "api-listen", c.API.Listen, "address of the operator API")
	return cmd
}

func initialize(dir string, c *configuration) error {
	if err := newKeyFiles(dir); err != nil {
		return err
	}
	text := fmt.Sprintf(`# Configuration of teep-tam. Paths are relative to this file.
name: %q
teep:
  listen: %q
  path: %s
%sapi:
  listen: %q
store: %s
blobs: %s
%s`, c.Name, c.TEEP.Listen, c.TEEP.Path, optional("  uri: %q\n", c.TEEP.URI), c.API.Listen, c.Store, c.Blobs, keyLines(c.Policy.Admission))
	return writeNew(filepath.Join(dir, "tam.yaml"), []byte(text), 0o600)
}

// newKeyFiles makes the keys of a new TAM in a folder.
func newKeyFiles(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return err
	}
	for _, k := range newKeys {
		key, err := cose.GenerateKey(rand.Reader, k.alg)
		if err != nil {
			return err
		}
		data, err := key.MarshalPEM()
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(dir, k.file), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// keyLines is the part of a configuration that names the keys of a new TAM.
func keyLines(admission string) string {
	oemid := make([]byte, 16)
	rand.Read(oemid) //nolint:errcheck // never fails
	return fmt.Sprintf(`signing-keys: [%s, %s]
decryption-keys: [%s]
# The manifests that bring each device its keys and data, which agents have to trust ('teep-tam anchors'). Data
# goes below prefix, and where components say.
distribution:
  signing-key: %s
  prefix: keys
  components: []
verifier:
  key: %s
  # Endorsements of devices and reference values of agents; read again when the files change.
  collateral: [collateral.yaml]
# Evidence about this TAM, for agents that demand it ('teep-tam anchors --must-attest', 'teep-tam collateral').
# The vendor of the machine is random here: write pen:NUMBER or ieee:XX-XX-XX where you know it.
self-attestation:
  key: %s
  oemid: random:%x
  hwmodel: server
  hwversion: "1"
  evidence: true
policy:
  # attested: every device whose Evidence is good is served. manual: an operator accepts each first.
  admission: %s
`, newKeys[0].file, newKeys[1].file, newKeys[2].file, newKeys[4].file, newKeys[3].file, newKeys[5].file, oemid, admission)
}

func optional(format, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(format, value)
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten: choose another folder", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func anchorsCommand() *cobra.Command {
	var path string
	var also anchorFlags
	c := &cobra.Command{
		Use:   "anchors --config FILE",
		Short: "Print what an agent's trust file says of this TAM",
		Long: `Prints the entry of this TAM for the "tams" list of an agent's trust file: name, URI, public keys and
encryption key. Nothing in it is secret; that it reaches the agent unchanged is what trust rests on.

With --distribution, the key is printed too that signs the manifests which bring devices their keys and data, with the component
identifiers that it may sign for: an entry for the "signers" list.

With --must-attest agents demand that this TAM proves its state first, which needs "self-attestation" in the
configuration; its verifier is then printed too, for the "verifiers" list. Without one (evidence: true) agents appraise the
Evidence themselves: "tam-attestation" in their configuration names the file that 'teep-tam collateral' prints.`,
		Example: `  teep-tam anchors --config tam/tam.yaml >> trust.yaml
  teep-tam anchors --config tam/tam.yaml --must-attest --distribution >> trust.yaml`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			text, err := anchors(c, also)
			if err != nil {
				return err
			}
			if also.mustAttest && c.SelfAttestation.Evidence {
				fmt.Fprintln(cmd.ErrOrStderr(), "teep-tam: this TAM sends Evidence: agents need the file that 'teep-tam collateral' prints, under tam-attestation in their configuration")
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&also.mustAttest, "must-attest", false, "have agents demand that the TAM attests itself")
	c.Flags().BoolVar(&also.distribution, "distribution", false, "also print the entry for the signers list")
	return configFlag(c, &path)
}

// anchor is one entry of "tams" in a trust file.
type anchor struct {
	Name       string   `yaml:"name"`
	URIs       []string `yaml:"uris"`
	Keys       []string `yaml:"keys"`
	Encryption string   `yaml:"encryption-key,omitempty"`
	MustAttest bool     `yaml:"must-attest,omitempty"`
}

// verifierAnchor is one entry of "verifiers" in a trust file.
type verifierAnchor struct {
	Name string   `yaml:"name"`
	Keys []string `yaml:"keys"`
}

// anchorFlags say what is printed beside the TAM's own entry.
type anchorFlags struct{ mustAttest, distribution bool }

func anchors(c *configuration, also anchorFlags) ([]byte, error) {
	if also.mustAttest && c.SelfAttestation.Key == "" {
		return nil, fmt.Errorf("%s: --must-attest needs self-attestation: agents would refuse this TAM for ever", c.path)
	}
	uri, err := c.publicURI()
	if err != nil {
		return nil, err
	}
	a := anchor{Name: c.Name, URIs: []string{uri}, MustAttest: also.mustAttest}
	keys, err := c.publicKeys(c.announced)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		data, err := k.MarshalPEM()
		if err != nil {
			return nil, err
		}
		a.Keys = append(a.Keys, string(data))
	}
	if len(c.DecryptKey) > 0 {
		keys, err := c.publicKeys(c.DecryptKey[:1])
		if err != nil {
			return nil, err
		}
		data, err := keys[0].MarshalPEM()
		if err != nil {
			return nil, err
		}
		a.Encryption = string(data)
	}
	printed := struct {
		TAMs      []anchor         `yaml:"tams"`
		Signers   []signerAnchor   `yaml:"signers,omitempty"`
		Verifiers []verifierAnchor `yaml:"verifiers,omitempty"`
	}{TAMs: []anchor{a}}
	if also.mustAttest && !c.SelfAttestation.Evidence {
		keys, err := c.publicKeys([]string{c.SelfAttestation.VerifierKey})
		if err != nil {
			return nil, err
		}
		data, err := keys[0].MarshalPEM()
		if err != nil {
			return nil, err
		}
		printed.Verifiers = []verifierAnchor{{Name: "verifier of " + c.Name, Keys: []string{string(data)}}}
	}
	var out strings.Builder
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if also.distribution {
		s, err := c.distributor()
		if err != nil {
			return nil, err
		}
		printed.Signers = []signerAnchor{*s}
	}
	if err := enc.Encode(printed); err != nil {
		return nil, err
	}
	return []byte(out.String()), enc.Close()
}

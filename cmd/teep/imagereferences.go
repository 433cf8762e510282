package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee/tpmseal"
	"github.com/go-teep/teep/tee/vm/image"
)

// imageOwner are the flags of who vouches for an image.
type imageOwner struct {
	owner, expires, version, key string
	memoryMiB                    int
	measureFirmware              bool
	firmware, variables          string
	firmwareValue                string
	acceptedWeaknesses           []string
}

func (o *imageOwner) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.owner, "owner", "", "who vouches for the image; writes reference values")
	f.StringVar(&o.expires, "expires", "", "until when, as 2027-12-31")
	f.StringVar(&o.version, "agent-version", "", "what the reference values call the agent's version")
	f.StringVar(&o.key, "key", "", "private key of the owner, which signs the reference values, and approves the image")
	f.IntVar(&o.memoryMiB, "memory-mib", machine.DefaultMemoryMiB, "memory of the machine, which QEMU lets the firmware measure")
	f.BoolVar(&o.measureFirmware, "measure-firmware", false, "boot once, and vouch for the firmware of this host too")
	f.StringVar(&o.firmware, "firmware", "", "UEFI firmware (default: that of Debian's package ovmf)")
	f.StringVar(&o.variables, "firmware-variables", "", "its variables, or "+machine.NoVariables+" (default: those of that package)")
	f.StringVar(&o.firmwareValue, "firmware-value", "", "PCR 0 of that firmware, as an earlier --measure-firmware found it: sha-256:HEX")
	f.StringArrayVar(&o.acceptedWeaknesses, "accept-weakness", nil, "weakness of the TEE that the owner knows and accepts, up to its colon; may be repeated")
}

func imageReferencesCommand() *cobra.Command {
	var o imageOwner
	c := &cobra.Command{
		Use:   "references DIR --owner NAME --expires DAY",
		Short: "Vouch for an image that was built: write what verifiers have to expect of it",
		Long: `Writes reference-values.yaml beside an image: collateral for a verifier, with the digest of the agent and the
PCRs after a measured boot; signed by the owner with --key, as reference-values.cose. PCR 0 is the firmware's, and can
only be learnt from a boot: --measure-firmware boots the image once; --firmware-value repeats what that found.

If the agent's configuration names an approver (sealing.approver), --key is that key, and approvals.cbor is written too: with
it, the image opens the sealed state of earlier images of the same vendor. It belongs beside the image, and is not secret.`,
		Example: `  teep image references vm --owner "Example Devices" --expires 2027-12-31 --key vendor.pem --measure-firmware
  teep image references vm2 --owner "Example Devices" --expires 2028-12-31 --key vendor.pem \
    --firmware-value sha-256:177e29c417b6b61c7cf46ed30b4468931f58642527a268b556254e39b941ec6a`,
		Args: program.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := image.Read(args[0])
			if err != nil {
				return err
			}
			return o.write(cmd.Context(), args[0], img, cmd.OutOrStdout())
		},
	}
	o.register(c)
	for _, name := range []string{"owner", "expires"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

// check refuses what can only be a mistake, before anything is built.
func (o *imageOwner) check() (expires time.Time, err error) {
	if o.owner == "" {
		for flag, set := range map[string]bool{"expires": o.expires != "", "key": o.key != "", "measure-firmware": o.measureFirmware, "firmware-value": o.firmwareValue != ""} {
			if set {
				return expires, &program.Usage{Err: fmt.Errorf("--%s is for reference values: name who vouches for them with --owner", flag)}
			}
		}
		return expires, nil
	}
	if expires, err = time.Parse(time.DateOnly, o.expires); err != nil {
		return expires, &program.Usage{Err: fmt.Errorf("--expires %q: write a day as 2027-12-31", o.expires)}
	}
	if !expires.After(time.Now()) {
		return expires, &program.Usage{Err: fmt.Errorf("--expires %s is over: no verifier would use the reference values", o.expires)}
	}
	if o.measureFirmware && o.firmwareValue != "" {
		return expires, &program.Usage{Err: errors.New("--measure-firmware and --firmware-value are two ways to the same: give one")}
	}
	if _, err := o.knownFirmware(); err != nil {
		return expires, err
	}
	return expires, nil
}

func (o *imageOwner) knownFirmware() ([]byte, error) {
	if o.firmwareValue == "" {
		return nil, nil
	}
	text, is := strings.CutPrefix(o.firmwareValue, "sha-256:")
	value, err := hex.DecodeString(text)
	if !is || err != nil || len(value) != sha256.Size {
		return nil, &program.Usage{Err: fmt.Errorf("--firmware-value %q: write sha-256: and 64 hexadecimal digits", o.firmwareValue)}
	}
	return value, nil
}

// write writes the reference values, and the approvals where there is an approver.
func (o *imageOwner) write(ctx context.Context, dir string, img *image.Image, out io.Writer) error {
	expires, err := o.check()
	if err != nil {
		return err
	}
	inside, err := readAgentConfig(img)
	if err != nil {
		return err
	}
	signer, err := o.signer()
	if err != nil {
		return err
	}
	agent, err := img.File(image.InitPath)
	if err != nil {
		return err
	}
	r := image.ReferenceOptions{
		Owner: o.owner, Expires: expires, Class: inside.class, Name: "teep-agent", Version: o.version, MemoryMiB: o.memoryMiB,
		AcceptedWeaknesses: o.acceptedWeaknesses,
	}
	if r.Firmware, err = o.knownFirmware(); err != nil {
		return err
	}
	if o.measureFirmware {
		fmt.Fprintln(out, "booting once, to measure the firmware …")
		values, err := machine.Measure(ctx, machine.Config{Image: dir, MemoryMiB: o.memoryMiB, Firmware: o.firmware, FirmwareVariables: o.variables}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		r.Firmware = values[0]
	}
	all, err := img.References(agent, r)
	if err != nil {
		return err
	}
	text, err := all.YAML()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "reference-values.yaml")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return err
	}
	if signer != nil {
		signed, err := appraisal.Sign(rand.Reader, text, signer)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "reference-values.cose"), signed, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s: %d reference values by %s until %s\n", name, len(all.References), o.owner, o.expires)
	return o.approve(dir, img, inside, r.Firmware, signer, out)
}

func (o *imageOwner) signer() (cose.Signer, error) {
	if o.key == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.key)
	if err != nil {
		return nil, err
	}
	key, err := cose.ParsePEM(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.key, err)
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.key, err)
	}
	return signer, nil
}

// approve signs that the image opens the state of earlier ones, where its agent knows whose word that is.
func (o *imageOwner) approve(dir string, img *image.Image, inside *agentConfig, firmware []byte, signer cose.Signer, out io.Writer) error {
	switch {
	case inside.approver == nil:
		return nil
	case signer == nil:
		_, err := fmt.Fprintln(out, "not approved: it does not open the state of earlier images; sealing.approver is set, so give that key with --key")
		return err
	case !signer.Public().Equal(inside.approver):
		return fmt.Errorf("%s is not the key that sealing.approver in the image names: machines would not take its approval", o.key)
	case slices.Contains(inside.pcrs, 0) && len(firmware) == 0:
		_, err := fmt.Fprintln(out, "not approved: the state is sealed to PCR 0 too, which is the firmware's; give --measure-firmware or --firmware-value")
		return err
	}
	var boots []map[int][sha256.Size]byte
	for _, verbatim := range []bool{false, true} {
		values, err := img.PCRs(image.Loader{MemoryMiB: o.memoryMiB, Verbatim: verbatim})
		if err != nil {
			return err
		}
		if len(firmware) > 0 {
			values[0] = [sha256.Size]byte(firmware)
		}
		boot := map[int][sha256.Size]byte{}
		for _, pcr := range inside.pcrs {
			value, known := values[pcr]
			if !known {
				return fmt.Errorf("the state is sealed to PCR %d, whose value after a boot of the image is not known here: an update cannot be approved; take it out of sealing.pcrs", pcr)
			}
			boot[pcr] = value
		}
		boots = append(boots, boot)
	}
	file, err := tpmseal.Approve(rand.Reader, signer, boots...)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, image.ApprovalsFile)
	if err := os.WriteFile(name, file, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: version %d may open the state of earlier images\n", name, inside.version)
	return err
}

// agentConfig is what the configuration in an image says that matters here; the agent reads it all.
type agentConfig struct {
	class    appraisal.Class
	approver *cose.Key
	pcrs     []int
	version  uint64
}

func readAgentConfig(img *image.Image) (*agentConfig, error) {
	const name = "agent.yaml"
	data, err := img.File(path.Join(image.ConfigPath, name))
	if err != nil {
		return nil, err
	}
	var c struct {
		Identity struct {
			OEMID   string `yaml:"oemid"`
			HWModel string `yaml:"hwmodel"`
		} `yaml:"identity"`
		Sealing struct {
			PCRs     []int  `yaml:"pcrs"`
			Approver string `yaml:"approver"`
			Version  uint64 `yaml:"version"`
		} `yaml:"sealing"`
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	oemid, err := attest.ParseOEMID(c.Identity.OEMID)
	if err == nil {
		oemid, err = attest.CanonicalOEMID(oemid)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: identity.oemid: %w", name, err)
	}
	a := &agentConfig{class: appraisal.Class{OEMID: oemid, HWModel: []byte(c.Identity.HWModel)}, pcrs: c.Sealing.PCRs, version: c.Sealing.Version}
	if len(a.pcrs) == 0 {
		a.pcrs = tpm.DefaultPCRs()
	}
	if c.Sealing.Approver == "" {
		return a, nil
	}
	pem, err := img.File(path.Join(image.ConfigPath, c.Sealing.Approver))
	if err != nil {
		return nil, fmt.Errorf("%s: sealing.approver: %w", name, err)
	}
	key, err := cose.ParsePEM(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: sealing.approver: %w", name, err)
	}
	a.approver = key.Public()
	return a, nil
}

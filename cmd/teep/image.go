package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee/vm/image"
)

func imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Images of virtual machines that are TEEs",
	}
	c.AddCommand(imageBuildCommand(), imagePCRsCommand())
	return c
}

// imageBuild are the flags of image build.
type imageBuild struct {
	kernelPackage, agent, config, out string
	owner, expires, version, key      string
	memoryMiB                         int
	measureFirmware                   bool
	firmware                          string
	acceptedWeaknesses                []string
}

func imageBuildCommand() *cobra.Command {
	var b imageBuild
	c := &cobra.Command{
		Use:   "build --kernel-package FILE --agent FILE --config DIR --out DIR",
		Short: "Build an image: kernel, initramfs with the agent, and what verifiers have to expect of it",
		Long: `Builds the image of a virtual machine whose first and only process is teep-agent, for 'teep-broker' to
start. The kernel and its modules come from a package of Debian (apt-get download linux-image-…-cloud-amd64); it is
not installed. The folder --config holds agent.yaml, and the trust anchors that it names: what is in there is part of
the image and cannot be changed by the device. The same inputs give the same bytes.

With --owner, it writes reference-values.yaml beside the image: collateral for a verifier, with the digest of the
agent and the PCRs after a measured boot; signed by the owner with --key, as reference-values.cose. PCR 0 is the firmware's,
and can only be learnt from a boot: --measure-firmware boots the image once.`,
		Example: `  teep image build --kernel-package linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb \
    --agent bin/teep-agent --config device --out vm --owner "Example Devices" --expires 2027-12-31 --measure-firmware`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&b.kernelPackage, "kernel-package", "", "Debian package of a Linux kernel")
	f.StringVar(&b.agent, "agent", "", "teep-agent for linux/amd64, built with CGO_ENABLED=0")
	f.StringVar(&b.config, "config", "", "folder with agent.yaml and what it names")
	f.StringVarP(&b.out, "out", "o", "", "folder to write")
	f.StringVar(&b.owner, "owner", "", "who vouches for the image; writes reference values")
	f.StringVar(&b.expires, "expires", "", "until when, as 2027-12-31")
	f.StringVar(&b.version, "agent-version", "", "what the reference values call the agent's version")
	f.StringVar(&b.key, "key", "", "private key of the owner, which signs the reference values")
	f.IntVar(&b.memoryMiB, "memory-mib", machine.DefaultMemoryMiB, "memory of the machine, which QEMU lets the firmware measure")
	f.BoolVar(&b.measureFirmware, "measure-firmware", false, "boot once, and vouch for the firmware of this host too")
	f.StringVar(&b.firmware, "firmware", "", "UEFI firmware (default: that of Debian's package ovmf)")
	f.StringArrayVar(&b.acceptedWeaknesses, "accept-weakness", nil, "weakness of the TEE that the owner knows and accepts, up to its colon; may be repeated")
	for _, name := range []string{"kernel-package", "agent", "config", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

func (b *imageBuild) run(ctx context.Context, out io.Writer) error {
	kernel, err := image.ReadKernelPackage(ctx, b.kernelPackage)
	if err != nil {
		return err
	}
	agent, err := os.ReadFile(b.agent)
	if err != nil {
		return err
	}
	img, err := image.Build(image.Options{Kernel: kernel, Agent: agent, Config: os.DirFS(b.config)})
	if err != nil {
		return err
	}
	if err := img.Write(b.out); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: kernel of %d bytes, initramfs of %d bytes with %d modules\n", b.out, len(img.Kernel), len(img.Initramfs), len(kernel.Modules))
	if b.owner == "" {
		return nil
	}
	return b.writeReferences(ctx, img, agent, out)
}

func (b *imageBuild) writeReferences(ctx context.Context, img *image.Image, agent []byte, out io.Writer) error {
	expires, err := time.Parse(time.DateOnly, b.expires)
	if err != nil {
		return &program.Usage{Err: fmt.Errorf("--expires %q: write a day as 2027-12-31", b.expires)}
	}
	class, err := classOf(filepath.Join(b.config, "agent.yaml"))
	if err != nil {
		return err
	}
	o := image.ReferenceOptions{
		Owner: b.owner, Expires: expires, Class: *class, Name: "teep-agent", Version: b.version, MemoryMiB: b.memoryMiB,
		AcceptedWeaknesses: b.acceptedWeaknesses,
	}
	if b.measureFirmware {
		fmt.Fprintln(out, "booting once, to measure the firmware …")
		values, err := machine.Measure(ctx, machine.Config{Image: b.out, MemoryMiB: b.memoryMiB, Firmware: b.firmware}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		o.Firmware = values[0]
	}
	all, err := img.References(agent, o)
	if err != nil {
		return err
	}
	text, err := all.YAML()
	if err != nil {
		return err
	}
	name := filepath.Join(b.out, "reference-values.yaml")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return err
	}
	if b.key != "" {
		if err := b.sign(text, filepath.Join(b.out, "reference-values.cose")); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "%s: %d reference values by %s until %s\n", name, len(all.References), b.owner, b.expires)
	return err
}

func (b *imageBuild) sign(text []byte, name string) error {
	pem, err := os.ReadFile(b.key)
	if err != nil {
		return err
	}
	key, err := cose.ParsePEM(pem)
	if err != nil {
		return fmt.Errorf("%s: %w", b.key, err)
	}
	signer, err := key.Signer()
	if err != nil {
		return fmt.Errorf("%s: %w", b.key, err)
	}
	signed, err := appraisal.Sign(rand.Reader, text, signer)
	if err != nil {
		return err
	}
	return os.WriteFile(name, signed, 0o644)
}

// classOf reads from the agent's configuration which product it is for; the agent reads it all.
func classOf(name string) (*appraisal.Class, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var c struct {
		Identity struct {
			OEMID   string `yaml:"oemid"`
			HWModel string `yaml:"hwmodel"`
		} `yaml:"identity"`
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
	return &appraisal.Class{OEMID: oemid, HWModel: []byte(c.Identity.HWModel)}, nil
}

func imagePCRsCommand() *cobra.Command {
	var memoryMiB int
	c := &cobra.Command{
		Use:     "pcrs DIR",
		Short:   "Print the registers of a TPM after a measured boot of an image, without PCR 0, which is the firmware's",
		Example: `  teep image pcrs vm`,
		Args:    program.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := image.Read(args[0])
			if err != nil {
				return err
			}
			for _, verbatim := range []bool{false, true} {
				values, err := img.PCRs(image.Loader{MemoryMiB: memoryMiB, Verbatim: verbatim})
				if err != nil {
					return err
				}
				how := fmt.Sprintf("kernel header filled in by QEMU, %d MiB", memoryMiB)
				if verbatim {
					how = "kernel as it is in its file"
				}
				for _, pcr := range slices.Sorted(maps.Keys(values)) {
					value := values[pcr]
					fmt.Fprintf(cmd.OutOrStdout(), "pcr-%d sha-256:%s  %s\n", pcr, hex.EncodeToString(value[:]), how)
				}
			}
			return nil
		},
	}
	c.Flags().IntVar(&memoryMiB, "memory-mib", machine.DefaultMemoryMiB, "memory of the machine")
	return c
}

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee/vm/image"
)

func imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Images of virtual machines that are TEEs",
	}
	c.AddCommand(imageBuildCommand(), imageReferencesCommand(), imagePCRsCommand())
	return c
}

func imageBuildCommand() *cobra.Command {
	var kernelPackage, agent, config, dir string
	var o imageOwner
	c := &cobra.Command{
		Use:   "build --kernel-package FILE --agent FILE --config DIR --out DIR",
		Short: "Build an image: kernel, initramfs with the agent, and what verifiers have to expect of it",
		Long: `Builds the image of a virtual machine whose first and only process is teep-agent, for 'teep-broker' to
start. The kernel and its modules come from a package of Debian (apt-get download linux-image-…-cloud-amd64); it is
not installed. The folder --config holds agent.yaml, and the trust anchors that it names: what is in there is part of
the image and cannot be changed by the device. The same inputs give the same bytes.

With --owner, it does what 'teep image references' does afterwards.`,
		Example: `  teep image build --kernel-package linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb \
    --agent bin/teep-agent --config device --out vm --owner "Example Devices" --expires 2027-12-31 --measure-firmware`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := o.check(); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			img, err := buildImage(cmd.Context(), kernelPackage, agent, config, dir, out)
			if err != nil || o.owner == "" {
				return err
			}
			return o.write(cmd.Context(), dir, img, out)
		},
	}
	f := c.Flags()
	f.StringVar(&kernelPackage, "kernel-package", "", "Debian package of a Linux kernel, or a tar archive of what is in one")
	f.StringVar(&agent, "agent", "", "teep-agent for linux/amd64, built with CGO_ENABLED=0")
	f.StringVar(&config, "config", "", "folder with agent.yaml and what it names")
	f.StringVarP(&dir, "out", "o", "", "folder to write")
	o.register(c)
	for _, name := range []string{"kernel-package", "agent", "config", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

func buildImage(ctx context.Context, kernelPackage, agent, config, dir string, out io.Writer) (*image.Image, error) {
	kernel, err := image.ReadKernelPackage(ctx, kernelPackage)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(agent)
	if err != nil {
		return nil, err
	}
	img, err := image.Build(image.Options{Kernel: kernel, Agent: program, Config: os.DirFS(config)})
	if err != nil {
		return nil, err
	}
	// What was approved was another image.
	if err := os.Remove(filepath.Join(dir, image.ApprovalsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := img.Write(dir); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(out, "%s: kernel of %d bytes, initramfs of %d bytes with %d modules\n", dir, len(img.Kernel), len(img.Initramfs), len(kernel.Modules))
	return img, err
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

package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/demo"
	"github.com/go-teep/teep/internal/program"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story with real programs on this machine",
		Long: `Starts a TAM, a broker and an agent as processes of their own, and takes an application from its developer
into the TEE: author, publish, attest, install, run, update, refuse what must be refused, leave. Every line is
printed after its outcome was checked. Nothing outside one temporary folder and the loopback network is touched.`,
		Example: `  teep demo
  teep demo --verbose
  teep demo --keep ./demo
  teep demo --tee vm --kernel-package linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if o.Programs == "" {
				o.Programs = filepath.Dir(self)
			}
			o.Out = cmd.OutOrStdout()
			return demo.Run(cmd.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Keep, "keep", "", "work in this new folder and keep it")
	c.Flags().BoolVar(&o.Verbose, "verbose", false, "print every TEEP message in diagnostic notation as it passes")
	c.Flags().StringVar(&o.TEE, "tee", demo.TEESandbox, "sandbox, or vm for a measured virtual machine with a TPM")
	c.Flags().StringVar(&o.KernelPackage, "kernel-package", "", "Debian package of the kernel that the machine boots")
	c.Flags().StringVar(&o.Firmware, "firmware", "", "UEFI firmware of the machine, which then keeps its variables in memory (default: that of Debian's package ovmf)")
	c.Flags().StringVar(&o.Programs, "programs", "", "folder of the programs (default: where teep is)")
	return c
}

// Command teep-agent is the TEE of a device and the TEEP Agent inside it: a process of its own with
// sealed storage, which installs Trusted Components for trusted TAMs and runs Trusted Applications.
// It opens no connection; a TEEP Broker connects to its socket and does what it asks for.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/vm"
)

func main() {
	// First of all: nothing that is in memory later shall be in reach of others.
	confine.Harden()
	if vm.FirstProcess() {
		beFirstProcess()
		return
	}
	var at place
	code := program.Main(root(&at), os.Args[1:], os.Stderr)
	if code == program.ExitOK && at.inner.Code != 0 {
		// The confined process has said why.
		code = max(at.inner.Code, program.ExitError)
	}
	os.Exit(code)
}

// root is the command line.
func root(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "teep-agent",
		Short: "TEEP Agent and its Trusted Execution Environment",
		Long: `teep-agent keeps Trusted Components and runs Trusted Applications, apart from the rest of the device.

A configuration file:

  dir: state                 # the TEE's folder, made at first start
  socket: agent.sock         # the broker connects here
  trust: trust.yaml          # trust anchors, sealed at first start
  identity:
    vendor: example.com      # becomes the SUIT vendor identifier
    class: sandbox-wasm      # with the vendor, becomes the class identifier
    oemid: pen:32473
    hwmodel: demo-board
    hwversion: "1.0"
  attestation:
    formats: [eat]           # what Evidence it gives, the preferred one first: eat (the default),
                             # tpm (a quote of a TPM 2.0), tsm (a report of SEV-SNP or TDX)
    # certificate-chain: attestation.pem   # certifies the key of the format eat
    # tpm:
    #   device: /dev/tpmrm0  # or the data socket of an emulator
    #   pcrs: [0, 4, 8, 9, 11]
    #   event-log: /sys/kernel/security/tpm0/binary_bios_measurements
    #   certificate-chain: ak.pem   # certifies the TPM's attestation key, if it was not enrolled
  certificates: chain.pem    # optional: the chain of 'teep-agent keys --use agent', for TAMs that
                             # know agents by an authority
  revocation-lists: [ca.crl] # optional: CRLs by the authorities of TAMs; read at start, remembered in
                             # sealed state
  tam-attestation:           # optional: for TAMs that must attest themselves, and do so by Evidence
    collateral: [tam.yaml]   # printed by 'teep-tam collateral'
    # owners: {Example: [example.pub.pem]}   # who must have signed it
  policy:
    interval: 10s            # the least time between two contacts with one TAM
    timestamps: false        # true: Evidence may be fresh by this device's clock, if a TAM asks so
    passports: false         # true: where a TAM takes Attestation Results, present those of the verifier
                             # that the broker knows
    passport-age: 0s         # how long a TAM's Attestation Result is shown to it again
  user: teep-agent           # whom to become when started as root; the default, where there is that account
  broker: teep-broker        # the account of the broker, which may use the socket; another than user
  require: [landlock, seccomp]   # do not start without these walls; without "require", what is
                             # missing is logged and reported in the Evidence
                             # walls: ` + wallNames() + `

Start it with: teep-agent serve --config agent.yaml`,
	}
	c.AddCommand(serveCommand(at), collateralCommand(at), measureCommand(), keysCommand(at), enrolCommand(at), confinedCommand())
	return c
}

// configFlag adds --config, which commands on a TEE require.
func configFlag(c *cobra.Command, path *string) *cobra.Command {
	c.Flags().StringVar(path, "config", "", "configuration file; 'teep-agent --help' shows one")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was added a line above
	}
	return c
}

func wallNames() string {
	names := ""
	for i, w := range confine.Walls() {
		switch {
		case i > 0 && i%5 == 0:
			names += ",\n                             #   "
		case i > 0:
			names += ", "
		}
		names += string(w)
	}
	return names
}

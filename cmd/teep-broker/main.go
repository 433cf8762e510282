// Command teep-broker is the TEEP Broker of a device: outside the TEE, it relays bytes between
// TEEP Agents and their TAMs, fetches payloads for them, and serves the apps of the device. It
// holds no keys and trusts nobody's bytes; nobody trusts its own.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
)

func main() {
	os.Exit(program.Main(root(), os.Args[1:], os.Stderr))
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "teep-broker",
		Short: "TEEP Broker",
		Long: `teep-broker connects the TEEP Agents of this device with their TAMs.

A configuration file:

  tees:
    - name: sandbox
      socket: agent/agent.sock     # the agent's end of the link
    - name: machine                # or a virtual machine, which this broker starts and watches
      vm:
        image: /usr/lib/teep/vm    # what 'teep image build' made
        state: machine.img         # the disk with the sealed state, made at the first start
        tpm: emulated              # measured boot; or the host's, /dev/tpm0; without it, nothing is measured
  apps:
    socket: app.sock               # what apps on the device talk to
  policy-interval: 24h             # how often the agents look for changes
  http:
    ca-file: ca.pem                # only these authorities verify TAMs; without it, those of the system
    timeout: 2m                    # for a message and its answer
    retry: {attempts: 4, base: 1s, max: 15s}   # after faults of the transport
    fetch-redirects: 0             # how many a fetch of a payload follows; messages follow none
  verifier:                        # only for agents with policy.passports: it appraises their Evidence, and
    url: https://verifier.example  # they present its Attestation Results to TAMs that rely on it
    ca-file: verifier-ca.pem
  supplies:                        # what others signed for the agents, who check that: files, or URIs
    trust-anchors: https://administrator.example/anchors.cose    # made by 'teep trust sign'
    revocation-lists: [ca.crl, "http://ca.example/ca.crl"]
    interval: 1h                   # between two looks at a URI; files are followed
  endpoints:                       # only where TAMs connect to this device
    - listen: 0.0.0.0:8443
      path: /teep
      tee: sandbox
      tls: {certificate: device.pem, key: device.key}

Start it with: teep-broker serve --config broker.yaml`,
	}
	c.AddCommand(serveCommand(), machineCommand())
	return c
}

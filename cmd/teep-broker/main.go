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
  apps:
    socket: app.sock               # what apps on the device talk to
  policy-interval: 24h             # how often the agents look for changes

Start it with: teep-broker serve --config broker.yaml`,
	}
	c.AddCommand(serveCommand())
	return c
}

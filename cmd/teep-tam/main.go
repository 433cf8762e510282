// Command teep-tam is the Trusted Application Manager: it answers TEEP Agents over HTTP, appraises
// their Evidence, decides what they install, update and remove, and offers an operator API.
package main

import (
	"os"
	_ "time/tzdata" // maintenance windows have time zones, whatever the machine knows

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
)

func main() {
	os.Exit(program.Main(root(), os.Args[1:], os.Stderr))
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "teep-tam",
		Short: "Trusted Application Manager",
		Long: `teep-tam manages Trusted Components in the TEEs of many devices.

  teep-tam init ./tam                              keys and a configuration file
  teep-tam anchors --config tam/tam.yaml           what an agent's trust file says of this TAM
  teep-tam token create --config tam/tam.yaml --name ops --scope administrator
  teep-tam serve --config tam/tam.yaml`,
	}
	c.AddCommand(initCommand(), serveCommand(), anchorsCommand(), collateralCommand(), tokenCommand(), tenantCommand(), keysCommand(),
		backupCommand(), restoreCommand(), migrateStoreCommand())
	return c
}

// configFlag adds --config, which every command on an existing TAM requires.
func configFlag(c *cobra.Command, path *string) *cobra.Command {
	c.Flags().StringVar(path, "config", "", "configuration file, as 'teep-tam init' makes it")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was added a line above
	}
	return c
}

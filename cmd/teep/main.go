// Command teep is what developers, device administrators and operators use: it authors, signs and
// inspects SUIT manifests, talks to a TAM's operator API and to the TEEP Broker of this device,
// and shows the whole story with "teep demo".
package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
)

func main() {
	os.Exit(program.Main(root(), os.Args[1:], os.Stderr))
}

func root() *cobra.Command { return rootWith(completionTime) }

// rootWith makes the command; patience is how long somebody waits for a TAM to complete a name.
func rootWith(patience time.Duration) *cobra.Command {
	c := &cobra.Command{
		Use:   "teep",
		Short: "Trusted Execution Environment Provisioning",
		Long: `teep puts trusted code and secrets into Trusted Execution Environments.

Author a component, publish it at a TAM, and have an app on a device ask for it:

  teep key generate -o dev.pem
  teep suit create -f hello.yaml -o hello.suit
  teep suit sign --key dev.pem hello.suit
  teep publish --tam http://127.0.0.1:8081 --token-file token hello.suit
  teep app request --broker /run/teep/app.sock hello

See it all work: teep demo`,
	}
	c.AddCommand(keyCommand(), suitCommand(), publishCommand(), payloadCommand(), depositCommand(), componentCommand(), publisherCommand(), devicesCommand(), groupCommand(), domainCommand(), rolloutCommand(), removalCommand(), admissionCommand(), appCommand(), demoCommand(), imageCommand(), auditCommand(), eventsCommand(), webhookCommand(), tokenCommand(), fleetCommand(), apiCommand(), inspectCommand(), conformCommand(), attestCommand(), trustCommand())
	completeFromTAM(c, patience)
	return c
}

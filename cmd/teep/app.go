package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/broker/app"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
)

// deviceFlags say which broker and TEE of this device are meant.
type deviceFlags struct {
	socket string
	tee    string
	app    string
}

func (f *deviceFlags) register(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.socket, "broker", "/run/teep/app.sock", "socket of the TEEP Broker for apps")
	c.Flags().StringVar(&f.tee, "tee", "", "name of the TEE, where the device has several")
	return c
}

// registerApp also adds the flag that says which app asks.
func (f *deviceFlags) registerApp(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.app, "app", "", "name of the app that asks: what one app needs stays when another of the same user leaves")
	return f.register(c)
}

func (f *deviceFlags) dial(ctx context.Context) (*app.Client, error) {
	c, err := app.Dial(ctx, f.socket)
	if err != nil {
		return nil, fmt.Errorf("broker: %w; is teep-broker running, and is --broker its apps.socket?", err)
	}
	return c.As(f.app), nil
}

func (f *deviceFlags) requirements() app.Requirements { return app.Requirements{TEE: f.tee} }

func appCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "app",
		Short: "What an app on a device does: ask for a Trusted Component and use it",
		Example: `  teep app request hello
  echo -n Ada | teep app invoke hello greet -
  teep app unrequest hello
  teep app request --app editor hello
  teep app check`,
	}
	c.AddCommand(appRequest(), appUnrequest(), appInvoke(), appCheck(), appStatus())
	return c
}

func appRequest() *cobra.Command {
	var device deviceFlags
	var tamURI string
	var minSequence uint64
	var binary string
	c := &cobra.Command{
		Use:   "request COMPONENT",
		Short: "Have a component installed, and wait until it is",
		Long: `Tells the broker that an app depends on a component. The broker passes it to the TEEP Agent, which
names a TAM; the command returns when the component is installed.

A component identifier is written as its parts with slashes between: hello, or TEEP-Device/SecureFS/h'8d82'.`,
		Example: `  teep app request hello --broker broker/app.sock
  teep app request hello --min-sequence 3 --binary hello.wasm --broker broker/app.sock`,
		Args: program.ExactArgs("COMPONENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := componentID(args[0])
			if err != nil {
				return err
			}
			r := app.Request{Component: id, TAMURI: tamURI, MinSequence: minSequence, Requirements: device.requirements()}
			if r.Binary, err = binaryFile(binary, minSequence); err != nil {
				return err
			}
			client, err := device.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			err = client.Request(cmd.Context(), r, progress(cmd.ErrOrStderr()))
			if errors.Is(err, broker.ErrNotProvided) {
				return fmt.Errorf("%w: it does not offer %s to this device, or not yet. "+
					"The agent keeps asking at every policy check until 'teep app unrequest %s'", err, args[0], args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is installed\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&tamURI, "tam-uri", "", "hint from the app's metadata; the agent's configuration decides")
	c.Flags().Uint64Var(&minSequence, "min-sequence", 0, "smallest acceptable manifest sequence number")
	c.Flags().StringVar(&binary, "binary", "", "file with the component's binary, of the version that --min-sequence names: the TAM sends the manifest alone")
	return device.registerApp(c)
}

// binaryFile reads the binary that an app has; nil without a file.
func binaryFile(path string, minSequence uint64) ([]byte, error) {
	switch {
	case path == "":
		return nil, nil
	case minSequence == 0:
		return nil, errors.New("--binary needs --min-sequence: the sequence number of the manifest that installs this binary")
	}
	return os.ReadFile(path)
}

// progress tells of long downloads, at most twice a second and only where somebody may watch.
func progress(w io.Writer) func(app.Progress) {
	var last time.Time
	return func(p app.Progress) {
		if p.Kind != broker.EventFetch || time.Since(last) < 500*time.Millisecond {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "fetching %s: %.1f MiB\n", p.URI, float64(p.Bytes)/(1<<20))
	}
}

func appUnrequest() *cobra.Command {
	var device deviceFlags
	c := &cobra.Command{
		Use:     "unrequest COMPONENT",
		Short:   "Say that an app no longer depends on a component",
		Example: `  teep app unrequest hello`,
		Args:    program.ExactArgs("COMPONENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := componentID(args[0])
			if err != nil {
				return err
			}
			client, err := device.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Unrequest(cmd.Context(), id, device.requirements())
		},
	}
	return device.registerApp(c)
}

func appInvoke() *cobra.Command {
	var device deviceFlags
	c := &cobra.Command{
		Use:   "invoke COMPONENT COMMAND [INPUT]",
		Short: "Open a session with an installed application, run one command, close it",
		Long: `Runs one command of an installed Trusted Application, inside the TEE. INPUT is passed as it is; "-" reads
standard input; without it the input is empty. The output goes to standard output, byte by byte.`,
		Example: `  teep app invoke hello greet Ada
  teep app invoke hello digest - < file`,
		Args: func(c *cobra.Command, args []string) error {
			return program.ExactArgs([]string{"COMPONENT", "COMMAND", "INPUT"}[:max(2, min(len(args), 3))]...)(c, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := componentID(args[0])
			if err != nil {
				return err
			}
			input, err := invocationInput(cmd.InOrStdin(), args[2:])
			if err != nil {
				return err
			}
			client, err := device.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			session, err := client.Open(cmd.Context(), id, device.requirements())
			if err != nil {
				return err
			}
			output, err := client.Invoke(cmd.Context(), session, args[1], input)
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(output); err != nil {
				return err
			}
			return client.CloseSession(cmd.Context(), session)
		},
	}
	return device.register(c)
}

func invocationInput(stdin io.Reader, args []string) ([]byte, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case args[0] != "-":
		return []byte(args[0]), nil
	}
	data, err := io.ReadAll(io.LimitReader(stdin, app.MaxFrame+1))
	if err == nil && len(data) > app.MaxFrame {
		err = fmt.Errorf("the input is larger than %d bytes", app.MaxFrame)
	}
	return data, err
}

func appCheck() *cobra.Command {
	var device deviceFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Have the agents ask their TAMs for changes now",
		Long: `Has the agent of every TEE of this device ask its TAMs for changes, and returns when they were made. An agent
decides itself whether it is time: it leaves out a TAM that it asked within policy.interval of its configuration, and
one that failed until it tries that again.`,
		Example: `  teep app check`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := device.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			sessions, err := client.PolicyCheck(cmd.Context())
			if err == nil && sessions == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "No TAM was asked: each was asked a moment ago, or is tried again later after a failure; see teep app status.")
			}
			return err
		},
	}
	return device.register(c)
}

func appStatus() *cobra.Command {
	var device deviceFlags
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the TEEs of this device",
		Example: `  teep app status`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := device.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			all, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TEE\tAGENT\tSESSION\tLAST POLICY CHECK")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.TEE, choose(s.Reachable, "reachable", "not connected"),
					choose(s.Busy, "busy", "idle"), lastCheck(s))
			}
			return w.Flush()
		},
	}
	return device.register(c)
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func lastCheck(s app.Status) string {
	switch {
	case s.PolicyCheck.IsZero():
		return "never"
	case s.PolicyError != "":
		return s.PolicyCheck.Format(time.RFC3339) + ", failed: " + strings.TrimSpace(s.PolicyError)
	}
	return s.PolicyCheck.Format(time.RFC3339)
}

func componentID(text string) (app.ComponentID, error) {
	id, err := suit.ParseComponentID(text)
	if err != nil {
		return nil, &program.Usage{Err: fmt.Errorf("component identifier %q: %w", text, err)}
	}
	return app.ComponentID(id), nil
}

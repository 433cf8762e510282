package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/broker/app"
	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/transport"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	config   string
	trace    string
	fileURIs bool
	log      program.LogFlags
}

func serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Relay, and serve apps, until SIGTERM",
		Example: `  teep-broker serve --config broker.yaml
  teep-broker serve --config broker.yaml --trace messages.jsonl --log-level debug`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&o.config, "config", "", "configuration file; 'teep-broker --help' shows one")
	c.Flags().StringVar(&o.trace, "trace", "", "append every event, with each message as it passes, to this file as JSON lines")
	c.Flags().BoolVar(&o.fileURIs, "insecure-file-uris", false, "also fetch payloads from file: URIs, whatever file of this host a manifest names")
	o.log.Register(c)
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was added above
	}
	return c
}

func serve(ctx context.Context, o serveOptions, stderr io.Writer) error {
	log, err := o.log.Logger(stderr)
	if err != nil {
		return err
	}
	c, err := load(o.config)
	if err != nil {
		return err
	}
	client, err := transport.NewClient(c.HTTP.options())
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	events := logged(log)
	if o.trace != "" {
		f, err := os.OpenFile(o.trace, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		log.Warn("messages are recorded; the recording identifies devices", "file", o.trace)
		record, plain := trace(f, log), events
		events = func(e broker.Event) { record(e); plain(e) }
	}
	if o.fileURIs {
		log.Warn("insecure: payloads are fetched from file: URIs as well")
	}
	needs, err := broker.OpenNeeds(c.Needs)
	if err != nil {
		return fmt.Errorf("which app needs what: %w", err)
	}
	all, machines, err := tees(c, log)
	if err != nil {
		return err
	}
	verifier, err := c.Verifier.open()
	if err != nil {
		return fmt.Errorf("%s: %w", o.config, err)
	}
	b, err := broker.New(broker.Options{
		TEEs: all, Poster: client, Fetcher: client, Needs: needs, Appraiser: verifier, AppraisalTimeout: c.Verifier.Timeout,
		Supplies:       c.Supplies.options(client),
		PolicyInterval: c.PolicyInterval, InsecureFileURIs: o.fileURIs, Events: events,
	})
	if err != nil {
		return err
	}
	ln, err := app.Listen(c.Apps.Socket, 0o660)
	if err != nil {
		return err
	}
	log.Info("ready", "apps", c.Apps.Socket, "tees", len(c.TEEs))
	g, ctx := errgroup.WithContext(ctx)
	if err := serveEndpoints(ctx, g, c, b, log); err != nil {
		return errors.Join(err, ln.Close())
	}
	g.Go(func() error {
		return app.ServeListener(ctx, ln, b, app.ServeOptions{
			OnError: func(err error) { log.Warn("app", "err", err) },
		})
	})
	g.Go(func() error { return b.Run(ctx) })
	for _, m := range machines {
		g.Go(func() error { return m.Run(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped")
	return nil
}

// tees are the agents' ends of the link, and the machines among them that this broker runs. A broker
// may start before its agents: it connects when it first needs one, and again after one restarted.
func tees(c *configuration, log *slog.Logger) ([]broker.TEE, []*machine.Machine, error) {
	all := make([]broker.TEE, len(c.TEEs))
	var machines []*machine.Machine
	for i, t := range c.TEEs {
		dial := func(ctx context.Context) (io.ReadWriteCloser, error) {
			d := net.Dialer{Timeout: 10 * time.Second}
			conn, err := d.DialContext(ctx, "unix", t.Socket)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
		if t.VM != nil {
			m, err := machine.New(t.VM.config(), log.With("tee", t.Name))
			if err != nil {
				return nil, nil, fmt.Errorf("tees: %s: %w", t.Name, err)
			}
			machines, dial = append(machines, m), m.Dial
		}
		all[i] = broker.TEE{Name: t.Name, Properties: t.Properties, Agent: &link.Redialer{Dial: dial}}
	}
	return all, machines, nil
}

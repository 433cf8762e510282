package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

func eventsCommand() *cobra.Command {
	var at tamFlags
	var follow bool
	var after int64
	var newest int
	c := &cobra.Command{
		Use:   "events",
		Short: "What happened with all devices and rollouts of a TAM, and what happens now",
		Long: `Lists what happened with all devices and rollouts, oldest first, as far as the TAM keeps it. With --follow, prints what
happens from now on, or after the position --after, as it happens. With --newest, lists only so many, newest first.`,
		Example: `  teep events
  teep events --newest 20
  teep events --follow
  teep events --follow --json --after 1234 >> events.jsonl`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if follow {
				err := client.Follow(cmd.Context(), after, func(e api.FeedEvent) error { return printEvent(out, e, at.json) })
				if cmd.Context().Err() != nil {
					return nil // that is how following ends
				}
				return err
			}
			if newest > 0 {
				page, err := client.NewestEvents(cmd.Context(), "", newest)
				if err != nil {
					return err
				}
				return at.print(out, page.Items, eventTable(page.Items))
			}
			all, err := allPages(func(next string) (*api.Page[api.FeedEvent], error) {
				if next == "" && after > 0 {
					next = fmt.Sprint(after)
				}
				return client.FeedEvents(cmd.Context(), next)
			})
			if err != nil {
				return err
			}
			return at.print(out, all, eventTable(all))
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "print what happens, until interrupted")
	c.Flags().Int64Var(&after, "after", 0, "begin after this position")
	c.Flags().IntVar(&newest, "newest", 0, "list this many events, 1 to 1000, newest first")
	c.MarkFlagsMutuallyExclusive("newest", "after")
	c.MarkFlagsMutuallyExclusive("newest", "follow")
	return at.registerOutput(c)
}

func eventTable(events []api.FeedEvent) func(*tabwriter.Writer) {
	return func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "POSITION\tAT\tABOUT\tKIND\tDETAIL")
		for _, e := range events {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Position, when(e.At), about(e), e.Kind, plain(e.Detail))
		}
	}
}

// about names the device or rollout of an event.
func about(e api.FeedEvent) string {
	return choose(e.Rollout != "", "rollout "+plain(e.Rollout), plain(e.Device))
}

func printEvent(w io.Writer, e api.FeedEvent, asJSON bool) error {
	if asJSON {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return writeJSON(w, string(data)+"\n")
	}
	_, err := fmt.Fprintf(w, "%d  %s  %s  %s  %s\n", e.Position, when(e.At), about(e), plain(string(e.Kind)), plain(e.Detail))
	return err
}

func webhookCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "webhook",
		Short:   "URLs that a TAM posts events to",
		Example: "  teep webhook add https://example.com/hook --kind failed\n  teep webhook list",
	}
	c.AddCommand(webhookAdd(), webhookList(), webhookDelete())
	return c
}

func webhookAdd() *cobra.Command {
	var at tamFlags
	var kinds []string
	c := &cobra.Command{
		Use: "add URL", Short: "Have events posted to a URL, and print the secret of its signatures, once",
		Long: `Makes a webhook. The TAM posts what happens from now on, signed as Standard Webhooks describes; the secret that
checks the signatures is printed once.`,
		Example: "  teep webhook add https://example.com/hook --kind failed --kind attestation-failed", Args: program.ExactArgs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			hook := api.NewWebhook{URL: args[0]}
			for _, k := range kinds {
				hook.Kinds = append(hook.Kinds, tam.EventKind(k))
			}
			made, err := client.AddWebhook(cmd.Context(), hook)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), made, func(w *tabwriter.Writer) { fmt.Fprintln(w, made.Secret) })
		},
	}
	c.Flags().StringSliceVar(&kinds, "kind", nil, fmt.Sprintf("only events of this kind, of %v; may be repeated", tam.EventKinds()))
	return at.registerOutput(c)
}

func webhookList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List webhooks, and how far each was told", Example: "  teep webhook list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Webhook], error) { return client.Webhooks(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "ID\tURL\tKINDS\tPOSITION\tSTATE")
				for _, hook := range all {
					kinds := "all"
					if len(hook.Kinds) > 0 {
						kinds = strings.Trim(fmt.Sprint(hook.Kinds), "[]")
					}
					state := "delivers"
					if hook.Failures > 0 {
						state = fmt.Sprintf("failed %d times: %s", hook.Failures, plain(hook.LastError))
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", hook.ID, plain(hook.URL), kinds, hook.Position, state)
				}
			})
		},
	}
	return at.registerOutput(c)
}

func webhookDelete() *cobra.Command {
	return tamAction("delete ID", "Post events to a URL no longer", "teep webhook delete 0123456789abcdef", (*api.Client).DeleteWebhook)
}

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

func rolloutCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "rollout", Short: "Bring a version to devices in stages",
		Example: "  teep rollout create -f hello-2.yaml --preview\n  teep rollout create -f hello-2.yaml\n  teep rollout watch hello-2\n  teep rollout pause hello-2",
	}
	c.AddCommand(
		described("create -f FILE", "Propose or begin a rollout", `The file:

  name: hello-2
  manifest: hello/manifest
  sequence: 2
  match: attestation == "affirming"   # which devices; left out: all
  require: true                       # without it, only devices that have it, must have it or ask for it
  approval: true                      # a second person approves it first
  start: 2026-03-01T22:00:00Z
  windows:
    - {days: [mon, tue], from: "22:00", to: "04:00", zone: Europe/Berlin}
  stages:
    - {group: canaries, soak: 24h, success: 100, failure: 1}
    - {percent: 10, soak: 1h}
    - {percent: 100}

A stage opens when, after its soak, "success" percent (90) of the devices of the stage before have the version. The
rollout stops by itself when "failure" percent (5) of the devices that answered failed, or the attestation of "drop" percent (1)
dropped. Create it before the version is published, or have the manifest staged ('teep component require --staged').`,
			"  teep rollout create -f hello-2.yaml --preview",
			func(n *api.NewRollout) api.Proposal { return api.Proposal{Rollout: n} },
			func(cmd *cobra.Command, client *api.Client, n *api.NewRollout) (any, error) {
				return client.CreateRollout(cmd.Context(), *n)
			},
			func(w *tabwriter.Writer, n *api.NewRollout) { fmt.Fprintf(w, "rollout %s created\n", n.Name) }),
		rolloutList(), rolloutShow(), rolloutWatch(),
		rolloutAct(policy.ActionApprove, "Approve a rollout that somebody else proposed"),
		rolloutAct(policy.ActionPause, "Give the version to no further device until it is resumed"),
		rolloutAct(policy.ActionResume, "Go on with a rollout that was paused"),
		rolloutAct(policy.ActionAdvance, "Open the next stage without waiting for its gates"),
		rolloutAbort(),
		rolloutAct(policy.ActionArchive, "Take a rollout that ended off the list; it keeps its effect"),
		byName("delete NAME", "Remove a rollout that ended and makes no difference any more", "  teep rollout delete hello-2", func(cmd *cobra.Command, client *api.Client, name string) error {
			return client.DeleteRollout(cmd.Context(), name)
		}))
	return c
}

func rolloutList() *cobra.Command {
	archived := false
	c := listed("List rollouts", "  teep rollout list\n  teep rollout list --archived", func(cmd *cobra.Command, client *api.Client, after string) (*api.Page[api.Rollout], error) {
		if archived {
			return client.ArchivedRollouts(cmd.Context(), after)
		}
		return client.Rollouts(cmd.Context(), after)
	}, func(w *tabwriter.Writer, all []api.Rollout) {
		fmt.Fprintln(w, "ROLLOUT\tVERSION\tSTATE\tSTAGE\tSUCCEEDED\tFAILED")
		for _, r := range all {
			c := sum(r)
			fmt.Fprintf(w, "%s\t%s #%d\t%s\t%d of %d\t%d\t%d\n", r.Name, r.Manifest, r.Sequence, state(r), r.Stage, len(r.Stages), c.Succeeded, c.Failed+c.Dropped)
		}
	})
	c.Flags().BoolVar(&archived, "archived", false, "those that are archived")
	return c
}

func sum(r api.Rollout) (all policy.Counts) {
	for _, s := range r.Stages {
		all.Offered += s.Counts.Offered
		all.Succeeded += s.Counts.Succeeded
		all.Failed += s.Counts.Failed
		all.Dropped += s.Counts.Dropped
	}
	return all
}

func state(r api.Rollout) string {
	s := string(r.State)
	if r.State == policy.StateRunning && !r.InWindow {
		s += ", outside of its windows"
	}
	if r.Reason != "" {
		s += ": " + plain(r.Reason)
	}
	return s
}

func rolloutAct(a policy.Action, short string) *cobra.Command {
	verb := string(a)
	return byName(verb+" NAME", short, "  teep rollout "+verb+" hello-2", func(cmd *cobra.Command, client *api.Client, name string) error {
		r, err := client.ActOnRollout(cmd.Context(), name, a, "")
		if err != nil {
			return err
		}
		done := plain(string(r.State))
		if a == policy.ActionArchive {
			done += ", and archived: see 'teep rollout list --archived'"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "rollout %s is %s\n", plain(r.Name), done)
		return err
	})
}

func rolloutAbort() *cobra.Command {
	var reason string
	c := byName("abort NAME --reason TEXT", "End a rollout: no further device gets the version", "  teep rollout abort hello-2 --reason 'wrong build'",
		func(cmd *cobra.Command, client *api.Client, name string) error {
			_, err := client.ActOnRollout(cmd.Context(), name, policy.ActionAbort, reason)
			return err
		})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return require(c, "reason")
}

func rolloutShow() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "show NAME", Short: "Show a rollout, stage by stage", Example: "  teep rollout show hello-2", Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			r, err := client.Rollout(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), r, func(w *tabwriter.Writer) { writeRollout(w, r) })
		},
	}
	return at.registerOutput(c)
}

func writeRollout(w io.Writer, r *api.Rollout) {
	fmt.Fprintf(w, "Rollout\t%s: %s #%d\nState\t%s\n", r.Name, r.Manifest, r.Sequence, state(*r))
	if r.Estimate != nil {
		fmt.Fprintf(w, "Next stage\tabout %s\n", when(*r.Estimate))
	}
	fmt.Fprintln(w, "\nSTAGE\tDEVICES\tTOTAL\tOFFERED\tSUCCEEDED\tFAILED\tDROPPED")
	for i, s := range r.Stages {
		total := "being counted"
		if s.Total != nil {
			total = fmt.Sprint(*s.Total)
		}
		open := choose(i < r.Stage, "", " (not open)")
		fmt.Fprintf(w, "%d\t%s%s\t%s\t%d\t%d\t%d\t%d\n", i+1, choose(s.Group != "", "group "+s.Group, fmt.Sprintf("%g %%", s.Percent)), open,
			total, s.Counts.Offered, s.Counts.Succeeded, s.Counts.Failed, s.Counts.Dropped)
	}
	fmt.Fprintln(w)
	for _, h := range r.History {
		fmt.Fprintf(w, "%s\t%s\t%s\n", when(h.At), plain(h.By), plain(h.What))
	}
}

func rolloutWatch() *cobra.Command {
	var at tamFlags
	var every time.Duration
	c := &cobra.Command{
		Use: "watch NAME", Short: "Follow a rollout until it ends",
		Long:    "Prints a line whenever something changed. Fails when the rollout was stopped or aborted.",
		Example: "  teep rollout watch hello-2", Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			for last := ""; ; {
				r, err := client.Rollout(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				c := sum(*r)
				line := fmt.Sprintf("%s, stage %d of %d: %d offered, %d succeeded, %d failed, %d dropped",
					state(*r), r.Stage, len(r.Stages), c.Offered, c.Succeeded, c.Failed, c.Dropped)
				if line != last {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", time.Now().Format(time.TimeOnly), line); err != nil {
						return err
					}
					last = line
				}
				switch r.State {
				case policy.StateDone:
					return nil
				case policy.StateStopped, policy.StateAborted:
					return fmt.Errorf("rollout %s is %s", r.Name, state(*r))
				}
				select {
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				case <-time.After(every):
				}
			}
		},
	}
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often to look")
	return at.register(c)
}

func labelText(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+plain(labels[name]))
	}
	return strings.Join(parts, " ")
}

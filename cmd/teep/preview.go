package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/tam/api"
)

// previewing are the flags of a command that can show what it would change before it does.
type previewing struct {
	wanted, every bool
}

func (p *previewing) register(c *cobra.Command) {
	c.Flags().BoolVar(&p.wanted, "preview", false, "show what it would change on which devices, and change nothing")
	c.Flags().BoolVar(&p.every, "every-device", false, "with --preview: list every device that would change, and not 20 of them")
}

const (
	shownExamples = 20
	// everyPage is how many devices are looked at with one request when each that changes is to be listed: no answer
	// describes more.
	everyPage = 1000
)

// show looks at all devices, with as many requests as that takes.
func (p *previewing) show(cmd *cobra.Command, client *api.Client, at *tamFlags, proposal api.Proposal) error {
	examples := shownExamples
	if p.every {
		proposal.MaxDevices, proposal.Examples, examples = everyPage, everyPage, int(^uint(0)>>1)
	}
	found, err := client.Preview(cmd.Context(), proposal)
	if err != nil {
		return err
	}
	for found.Next != "" {
		if !p.every {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d devices looked at, %d would change\n", found.Devices, found.Changed)
		}
		proposal.After = found.Next
		further, err := client.Preview(cmd.Context(), proposal)
		if err != nil {
			return fmt.Errorf("after %d devices: %w", found.Devices, err)
		}
		found.Add(further, examples)
	}
	return at.print(cmd.OutOrStdout(), found, func(w *tabwriter.Writer) { writePreview(w, found) })
}

func writePreview(w *tabwriter.Writer, p *api.Preview) {
	fmt.Fprintf(w, "Devices\t%d looked at, %d chosen, %d would change\n", p.Devices, p.Chosen, p.Changed)
	fmt.Fprintf(w, "Changes\t%d installs, %d updates, %d removals\n", p.Installs, p.Updates, p.Removals)
	if p.NotEvaluated > 0 {
		fmt.Fprintf(w, "Condition\tcannot be evaluated for %d devices, which are left out\n", p.NotEvaluated)
	}
	for i, n := range p.Stages {
		fmt.Fprintf(w, "Stage %d\t%d devices\n", i+1, n)
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(w, "Conflict\t%s\n", plain(c.Text))
	}
	for _, d := range p.Examples {
		fmt.Fprintf(w, "%s\t%s\n", d.ID, plain(strings.Join(d.Changes, ", ")))
	}
	if n := p.Changed - int64(len(p.Examples)); n > 0 {
		fmt.Fprintf(w, "and %d more\t--every-device lists them\n", n)
	}
}

// byNamePreviewed is byName for what can be previewed.
func byNamePreviewed(use, short, example string, propose func(name string) api.Proposal, do func(*cobra.Command, *api.Client, string) error) *cobra.Command {
	var at tamFlags
	var preview previewing
	c := ofRecord(use, short, example, &at, func(cmd *cobra.Command, client *api.Client, name string) error {
		if preview.wanted {
			return preview.show(cmd, client, &at, propose(name))
		}
		return do(cmd, client, name)
	})
	preview.register(c)
	return at.registerOutput(c)
}

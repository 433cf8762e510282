package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

func suitDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what changes for a device from one envelope to another",
		Long: `Compares two manifests as a device sees them: sequence number, version, components with digest, size,
URI and all other parameters, dependencies, and the commands of each section. Lines begin with + for
what comes, - for what goes and ~ for what changes. Signatures are not checked: see 'teep suit verify'.

What was severed, or which payloads are inside, is no change for the device.

A sequence number that does not grow is pointed out, because devices refuse it.`,
		Example: `  teep suit diff hello-1.suit hello-2.suit`,
		Args:    program.ExactArgs("OLD", "NEW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			after, err := readEnvelope(args[1])
			if err != nil {
				return err
			}
			was, err := before.UnverifiedManifest()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			is, err := after.UnverifiedManifest()
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			p := &printer{w: cmd.OutOrStdout()}
			changes := describe.Diff(was, is)
			for _, c := range changes {
				p.line("%v", c)
			}
			switch {
			case len(changes) == 0:
				p.line("nothing changes for the device")
				p.holds(args[0], before, args[1], after)
			case was.ComponentID.Equal(is.ComponentID) && is.SequenceNumber <= was.SequenceNumber:
				p.line("! the sequence number does not grow (%d -> %d): devices that have the old manifest refuse the new one",
					was.SequenceNumber, is.SequenceNumber)
			}
			return p.err
		},
	}
}

// holds says how two envelopes of the same manifest differ.
func (p *printer) holds(a string, was *suit.Envelope, b string, is *suit.Envelope) {
	list := func(e *suit.Envelope) string {
		var names []string
		for _, label := range e.Severed() {
			names = append(names, label.String())
		}
		for _, uri := range slices.Sorted(maps.Keys(e.Integrated)) {
			names = append(names, fmt.Sprintf("payload %q", uri))
		}
		if names == nil {
			return "nothing beside the manifest"
		}
		return strings.Join(names, ", ")
	}
	if old, now := list(was), list(is); old != now {
		p.line("%s holds %s; %s holds %s", a, old, b, now)
	}
}

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/api"
)

// deviceRecords is a command that lists what a TAM has recorded of one device, and writes the first of it to a file.
type deviceRecords[T any] struct {
	short, long, example string
	output               string // what -o is for
	page                 func(*api.Client, context.Context, string, string) (*api.Page[T], error)
	// manifest is the identifier of what a record is about, chosen what flags of its own say.
	manifest func(*T) string
	chosen   func(*T) bool
	table    func(*tabwriter.Writer, []T)
	// data is what goes to the file, in base64; problem is why there is none, or "".
	data    func(*T) (data, problem string)
	nothing string // what to say where nothing was recorded; %s is the device
	plural  string
}

// command makes it, with the flags --manifest and --output.
func (d *deviceRecords[T]) command(verb string) *cobra.Command {
	var at tamFlags
	var out, manifest string
	c := &cobra.Command{
		Use: verb + " ID", Short: d.short, Long: d.long, Example: d.example, Args: program.ExactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := manifestFlag(manifest)
			if err != nil {
				return err
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			device, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[T], error) { return d.page(client, cmd.Context(), device.ID, after) })
			if err != nil {
				return err
			}
			chosen := []T{}
			for i := range all {
				if (want == "" || d.manifest(&all[i]) == want) && d.chosen(&all[i]) {
					chosen = append(chosen, all[i])
				}
			}
			if out == "" {
				return at.print(cmd.OutOrStdout(), chosen, func(w *tabwriter.Writer) { d.table(w, chosen) })
			}
			switch {
			case len(all) == 0:
				return fmt.Errorf(d.nothing, args[0])
			case len(chosen) == 0:
				return fmt.Errorf("none of the %d %s of this device is that: 'teep devices %s %s' lists them", len(all), d.plural, verb, args[0])
			}
			return d.write(out, &chosen[0])
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", d.output)
	c.Flags().StringVar(&manifest, "manifest", "", "only "+d.plural+" of this manifest, by its component identifier")
	return at.registerOutput(c)
}

func (d *deviceRecords[T]) write(out string, record *T) error {
	text, problem := d.data(record)
	if problem != "" {
		return fmt.Errorf("the TAM cannot open it: %s", problem)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("the TAM's answer is not base64: %w", err)
	}
	return replaceFile(out, data)
}

// manifestFlag is the flag --manifest as the TAM writes identifiers; empty: any manifest.
func manifestFlag(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	id, err := suit.ParseComponentID(text)
	if err != nil {
		return "", &program.Usage{Err: fmt.Errorf("--manifest: %w", err)}
	}
	return id.String(), nil
}

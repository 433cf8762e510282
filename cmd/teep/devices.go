package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// deviceHistory is a device with its history, for --json.
type deviceHistory struct {
	api.Device
	Events []api.Event `json:"events"`
}

func devicesCommand() *cobra.Command {
	var at tamFlags
	var query api.DeviceQuery
	var limit int
	c := &cobra.Command{
		Use:   "devices [ID]",
		Short: "Devices that a TAM knows: attestation, inventory, history",
		Long: `Without an ID, lists the devices, or those that the flags choose. With one, shows its attestation claim by claim,
what it has installed, and its newest events. The beginning of an ID is enough where only one device has it.`,
		Example: `  teep devices
  teep devices --status pending --attestation affirming --limit 20
  teep devices --match 'labels[?"site"].orValue("") == "lab"'
  teep devices 4ba31c
  teep devices accept 4ba31c`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				all, err := api.Collect(limit, "", func(after string) (*api.Page[api.Device], error) {
					query.After = after
					return client.ListDevices(cmd.Context(), query)
				})
				if err != nil {
					return err
				}
				return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) { deviceTable(w, all) })
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			events, err := client.Events(cmd.Context(), d.ID, "")
			if err != nil {
				return err
			}
			history := deviceHistory{Device: *d, Events: events.Items}
			return at.print(cmd.OutOrStdout(), history, func(w *tabwriter.Writer) { history.write(w) })
		},
	}
	c.Flags().StringVar(&query.Status, "status", "", "only devices that are pending, accepted, blocked or retired")
	c.Flags().StringVar(&query.Attestation, "attestation", "", "only devices whose attestation is none, affirming, warning or contraindicated")
	c.Flags().StringVar(&query.Match, "match", "", "only devices for which this condition in CEL holds, as in groups")
	c.Flags().StringVar(&query.UEID, "ueid", "", "only the TEEs of the device with this attested UEID, hexadecimal")
	for _, other := range []string{"status", "attestation", "match"} {
		c.MarkFlagsMutuallyExclusive("ueid", other)
	}
	limitFlag(c, &limit)
	c.AddCommand(deviceStatus("accept", tam.DeviceAccepted, "Serve a device"),
		deviceStatus("block", tam.DeviceBlocked, "Answer a device no longer"),
		deviceStatus("retire", tam.DeviceRetired, "Take a device out of the fleet"),
		deviceLabel(), deviceReplace(), devicePolicy(), deviceMessages(), deviceReport(), deviceManifest())
	return at.registerOutput(c)
}

func deviceStatus(verb string, status tam.DeviceStatus, short string) *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: verb + " ID", Short: short, Example: "  teep devices " + verb + " 4ba31c", Args: program.ExactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if d, err = client.ChangeDevice(cmd.Context(), d.ID, api.DeviceChange{Status: status}); err != nil {
				return err
			}
			if status == tam.DeviceBlocked || status == tam.DeviceRetired {
				return warnOfOthers(cmd, client, d)
			}
			return nil
		},
	}
	return at.register(c)
}

// warnOfOthers names the TEEs of a device, or further keys of one, that are served on after one was put out of service.
func warnOfOthers(cmd *cobra.Command, client *api.Client, d *api.Device) error {
	if d.UEID == "" {
		return nil
	}
	tees, err := client.TEEs(cmd.Context(), d.UEID)
	if err != nil {
		return fmt.Errorf("%s is %s, but whether other TEEs of the device are served could not be found out; see 'teep devices --ueid %s': %w", d.ID, d.Status, d.UEID, err)
	}
	for _, o := range tees.Items {
		if o.ID != d.ID && o.Status == tam.DeviceAccepted {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s has the same UEID and is served on\n", o.ID)
		}
	}
	return nil
}

func deviceTable(w *tabwriter.Writer, all []api.Device) {
	fmt.Fprintln(w, "DEVICE\tSTATUS\tATTESTATION\tLAST SEEN\tINSTALLED\tLABELS")
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Status, d.Attestation.Status, when(d.LastSeen), inventory(d), labelText(d.Labels))
	}
}

func inventory(d api.Device) string {
	if len(d.Inventory) == 0 {
		return "nothing"
	}
	all := make([]string, len(d.Inventory))
	for i, c := range d.Inventory {
		all[i] = fmt.Sprintf("%s #%d", c.Manifest, c.Sequence)
	}
	return strings.Join(all, ", ")
}

func (r *deviceHistory) write(w *tabwriter.Writer) {
	fmt.Fprintf(w, "Device\t%s\nStatus\t%s\n", r.ID, r.Status)
	for _, line := range [][2]string{{"Decided by", r.DecidedBy}, {"Replaces", r.Replaces}, {"Replaced by", r.ReplacedBy}, {"Labels", labelText(r.Labels)}} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], plain(line[1]))
		}
	}
	fmt.Fprintf(w, "UEID\t%s\nHardware\tmodel %s, version %s\nFirst seen\t%s\nLast seen\t%s\nInstalled\t%s\n",
		r.UEID, r.HWModel, plain(r.HWVersion), when(r.FirstSeen), when(r.LastSeen), inventory(r.Device))
	fmt.Fprintf(w, "\nAttestation\t%s\n", r.Attestation.Status)
	for _, c := range r.Attestation.Claims {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", plain(c.Claim), c.Status, plain(c.Text))
	}
	for i, f := range r.Failures {
		if i == 0 {
			fmt.Fprintln(w, "\nHeld back")
		}
		fmt.Fprintf(w, "  %s #%d\tuntil %s\t%s\n", f.Manifest, f.Sequence, when(f.Until), plain(f.Reason))
	}
	fmt.Fprintln(w, "\nHistory")
	for _, e := range r.Events {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", when(e.At), e.Kind, plain(e.Detail))
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

// withDevice makes a command about one device, of which the beginning of the ID is given first.
func withDevice(use, short, example string, args cobra.PositionalArgs, do func(*cobra.Command, *api.Client, *tamFlags, *api.Device, []string) error) *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: use, Short: short, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return do(cmd, client, &at, d, args[1:])
		},
	}
	return at.registerOutput(c)
}

// findDevice finds a device by its ID or the beginning of it, with two requests however many devices there are.
func findDevice(ctx context.Context, client *api.Client, prefix string) (*api.Device, error) {
	d, err := client.Device(ctx, prefix)
	if p := (*api.Problem)(nil); err == nil || !errors.As(err, &p) || p.Status != http.StatusNotFound {
		return d, err
	}
	// Lists are in the order of IDs: those that begin with the prefix follow it.
	next, err := client.ListDevices(ctx, api.DeviceQuery{After: prefix, Limit: 2})
	if err != nil {
		return nil, err
	}
	switch found := next.Items; {
	case len(found) == 0 || !strings.HasPrefix(found[0].ID, prefix):
		return nil, errors.New("no device has that ID: 'teep devices' lists them")
	case len(found) > 1 && strings.HasPrefix(found[1].ID, prefix):
		return nil, fmt.Errorf("several devices begin with %q: write more of the ID", prefix)
	default:
		return &found[0], nil
	}
}

func deviceLabel() *cobra.Command {
	return withDevice("label ID NAME=VALUE …", "Write labels on a device; NAME= removes one", "  teep devices label 4ba31c site=lab ring=canary", cobra.MinimumNArgs(2),
		func(cmd *cobra.Command, client *api.Client, _ *tamFlags, d *api.Device, args []string) error {
			labels := map[string]string{}
			for _, arg := range args {
				name, value, ok := strings.Cut(arg, "=")
				if !ok {
					return &program.Usage{Err: fmt.Errorf("%q is not a label: write NAME=VALUE", arg)}
				}
				labels[name] = value
			}
			_, err := client.ChangeDevice(cmd.Context(), d.ID, api.DeviceChange{Labels: labels})
			return err
		})
}

func deviceReplace() *cobra.Command {
	return withDevice("replace ID OLD", "Let a device take the place of its record under an older agent key", "  teep devices replace 4ba31c 9d02f7", program.ExactArgs("ID", "OLD"),
		func(cmd *cobra.Command, client *api.Client, _ *tamFlags, d *api.Device, args []string) error {
			old, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			_, err = client.ReplaceDevice(cmd.Context(), d.ID, old.ID)
			return err
		})
}

func devicePolicy() *cobra.Command {
	return withDevice("policy ID", "What a device should have, and who says so", "  teep devices policy 4ba31c", program.ExactArgs("ID"),
		func(cmd *cobra.Command, client *api.Client, at *tamFlags, d *api.Device, _ []string) error {
			p, err := client.DevicePolicy(cmd.Context(), d.ID)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), p, func(w *tabwriter.Writer) { writeDevicePolicy(w, p) })
		})
}

func writeDevicePolicy(w *tabwriter.Writer, p *api.DevicePolicy) {
	fmt.Fprintf(w, "Groups\t%s\n", choose(len(p.Groups) > 0, strings.Join(p.Groups, ", "), "none"))
	if len(p.NotEvaluated) > 0 {
		fmt.Fprintf(w, "Cannot be evaluated\t%s\n", strings.Join(p.NotEvaluated, ", "))
	}
	if len(p.TEEs) > 0 {
		fmt.Fprintf(w, "Same UEID\t%s\n", strings.Join(p.TEEs, ", "))
	}
	fmt.Fprintln(w, "\nMANIFEST\tMODE\tBECAUSE OF\tHAS\tOFFERED")
	number := func(n uint64) string { return choose(n == 0, "-", "#"+strconv.FormatUint(n, 10)) }
	for _, m := range p.Manifests {
		offered := number(m.Offered)
		if m.Rollout != "" {
			offered += " by rollout " + m.Rollout
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Manifest, m.Mode, plain(m.Source), number(m.Installed), offered)
	}
	for _, n := range p.Next {
		fmt.Fprintf(w, "Next\t%s\n", plain(n))
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "Not\t%s\n", plain(n))
	}
}

func componentDevices() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "devices MANIFEST SEQUENCE", Short: "List the devices that have a version",
		Example: "  teep component devices hello/manifest 2", Args: program.ExactArgs("MANIFEST", "SEQUENCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequence, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil {
				return &program.Usage{Err: fmt.Errorf("%q is not a sequence number", args[1])}
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Device], error) {
				return client.DevicesWith(cmd.Context(), args[0], sequence, after)
			})
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) { deviceTable(w, all) })
		},
	}
	return at.registerOutput(c)
}

func publisherKeys() []*cobra.Command {
	var keyFiles, anchorFiles []string
	add := byName("add-key NAME", "Trust further keys or authorities of a publisher", "  teep publisher add-key example --key next.pub.pem",
		func(cmd *cobra.Command, client *api.Client, name string) error {
			var k api.NewKeys
			var err error
			if k.Keys, k.Anchors, err = readTrust(keyFiles, anchorFiles); err != nil {
				return err
			}
			_, err = client.AddKeys(cmd.Context(), name, k)
			return err
		})
	add.Flags().StringArrayVar(&keyFiles, "key", nil, "public key that it signs with; may be repeated")
	add.Flags().StringArrayVar(&anchorFiles, "anchor", nil, "certificate of an authority that certifies its signers; may be repeated")
	return []*cobra.Command{add, withdrawKey(), publisherSigned(), publisherRevocations()}
}

func withdrawKey() *cobra.Command {
	var at tamFlags
	var w api.KeyWithdrawal
	c := &cobra.Command{
		Use: "withdraw-key NAME THUMBPRINT --reason TEXT", Short: "Trust a key of a publisher no longer, for good",
		Long:    "What the key signed is not offered any more. Lists it, with how many devices have it; --remove takes it off them.",
		Example: "  teep publisher withdraw-key example 5d1c… --reason 'laptop stolen' --remove", Args: program.ExactArgs("NAME", "THUMBPRINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			first, err := client.WithdrawKey(cmd.Context(), args[0], args[1], w)
			if err != nil {
				return err
			}
			signed := first.Items
			if first.Next != "" {
				more, err := api.Collect(0, first.Next, func(after string) (*api.Page[api.SignedVersion], error) {
					return client.SignedBy(cmd.Context(), args[0], args[1], after)
				})
				if err != nil {
					return fmt.Errorf("the key is withdrawn; what it signed beyond the first %d versions could not be listed: %w", len(signed), err)
				}
				signed = append(signed, more...)
			}
			return at.print(cmd.OutOrStdout(), signed, func(t *tabwriter.Writer) { signedTable(t, signed) })
		},
	}
	c.Flags().StringVar(&w.Reason, "reason", "", "why, for the record")
	c.Flags().BoolVar(&w.Remove, "remove", false, "take what it signed off devices")
	return require(at.registerOutput(c), "reason")
}

// readTrust reads public keys and certificates as PEM.
func readTrust(keyFiles, anchorFiles []string) (keys, anchors []string, err error) {
	for _, f := range keyFiles {
		key, err := readPublicKey(f)
		if err != nil {
			return nil, nil, err
		}
		data, err := key.MarshalPEM()
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, string(data))
	}
	for _, f := range anchorFiles {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, nil, err
		}
		anchors = append(anchors, string(data))
	}
	return keys, anchors, nil
}

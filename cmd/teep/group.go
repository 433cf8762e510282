package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// readDescription reads a record of policy from a YAML or JSON file, strictly.
func readDescription(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var tree any
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&tree); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty: the command's help shows what is in it", path)
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF {
		return fmt.Errorf("%s: holds more than one document", path)
	}
	if data, err = json.Marshal(quoteSequences(tree)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	if err := strict.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// quoteSequences writes sequence numbers as the API does, which is in quotes.
func quoteSequences(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			switch member.(type) {
			case int, int64, uint64:
				if name == "sequence" {
					v[name] = fmt.Sprint(member)
				}
			default:
				v[name] = quoteSequences(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = quoteSequences(v[i])
		}
	}
	return v
}

// described makes a command that reads a record from a file and, unless it is to be previewed only, saves it.
func described[T any](use, short, long, example string, propose func(*T) api.Proposal, save func(*cobra.Command, *api.Client, *T) (any, error), table func(*tabwriter.Writer, *T)) *cobra.Command {
	var at tamFlags
	var file string
	var preview previewing
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := new(T)
			if err := readDescription(file, v); err != nil {
				return err
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			if preview.wanted {
				return preview.show(cmd, client, &at, propose(v))
			}
			saved, err := save(cmd, client, v)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), saved, func(w *tabwriter.Writer) { table(w, v) })
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "description in YAML or JSON")
	preview.register(c)
	return require(at.registerOutput(c), "file")
}

// listed makes a command that lists records.
func listed[T any](short, example string, page func(*cobra.Command, *api.Client, string) (*api.Page[T], error), table func(*tabwriter.Writer, []T)) *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: short, Example: example, Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[T], error) { return page(cmd, client, after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) { table(w, all) })
		},
	}
	return at.registerOutput(c)
}

// byName makes a command that does something with the record of a name.
func byName(use, short, example string, do func(*cobra.Command, *api.Client, string) error) *cobra.Command {
	var at tamFlags
	return at.register(ofRecord(use, short, example, &at, do))
}

// ofRecord is such a command before its flags, which at has, are registered.
func ofRecord(use, short, example string, at *tamFlags, do func(*cobra.Command, *api.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			return do(cmd, client, args[0])
		},
	}
}

func groupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "group", Short: "Groups of devices, and what they should have",
		Long: `A group is a condition in CEL over what is known of a device (id, ueid, oemid, hwmodel, hwversion, attestation, measurement,
claims, labels, inventory, first_seen) and what its devices must have, may have on request, or must not have.`,
		Example: "  teep group set -f lab.yaml --preview\n  teep group set -f lab.yaml\n  teep group list",
	}
	c.AddCommand(
		described("set -f FILE", "Create or replace a group", `The file:

  name: lab
  match: labels[?"site"].orValue("") == "lab"
  priority: 10            # of the groups that a device is in, the highest counts
  components:
    - {manifest: hello/manifest, mode: required}
    - {manifest: game/manifest, mode: forbidden}
    - {manifest: runtime/manifest, mode: available, sequence: 4}   # held at this version

What contradicts another group is refused.`, "  teep group set -f lab.yaml --preview",
			func(g *policy.Group) api.Proposal { return api.Proposal{Group: g} },
			func(cmd *cobra.Command, client *api.Client, g *policy.Group) (any, error) {
				return client.SetGroup(cmd.Context(), *g)
			},
			func(w *tabwriter.Writer, g *policy.Group) { fmt.Fprintf(w, "group %s saved\n", g.Name) }),
		shown("Show a group", "  teep group show lab", (*api.Client).Group),
		listed("List groups", "  teep group list", func(cmd *cobra.Command, client *api.Client, after string) (*api.Page[policy.Group], error) {
			return client.Groups(cmd.Context(), after)
		}, func(w *tabwriter.Writer, all []policy.Group) {
			fmt.Fprintln(w, "GROUP\tPRIORITY\tDEVICES WITH\tCOMPONENTS")
			for _, g := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", g.Name, g.Priority, plain(g.Match), plain(components(g)))
			}
		}),
		byNamePreviewed("delete NAME", "Remove a group", "  teep group delete lab --preview", func(name string) api.Proposal { return api.Proposal{DeleteGroup: name} }, func(cmd *cobra.Command, client *api.Client, name string) error {
			return client.DeleteGroup(cmd.Context(), name)
		}))
	return c
}

func components(g policy.Group) string {
	parts := make([]string, len(g.Components))
	for i, c := range g.Components {
		parts[i] = string(c.Mode) + " " + choose(c.Domain == "", c.Manifest, "domain "+c.Domain)
		if c.Sequence != 0 {
			parts[i] += fmt.Sprintf(" #%d", c.Sequence)
		}
	}
	return strings.Join(parts, ", ")
}

func domainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "domain", Short: "Security domains: manifests that are installed and removed together",
		Example: "  teep domain set -f wallet.yaml\n  teep domain remove wallet --reason 'contract ended'",
	}
	c.AddCommand(
		described("set -f FILE", "Create or replace a security domain", `The file:

  name: wallet
  owner: acme             # the publisher that may sign for all of them
  manifests: [acme/wallet/core, acme/wallet/keys]`, "  teep domain set -f wallet.yaml",
			func(d *policy.Domain) api.Proposal { return api.Proposal{Domain: d} },
			func(cmd *cobra.Command, client *api.Client, d *policy.Domain) (any, error) {
				return client.SetDomain(cmd.Context(), *d)
			},
			func(w *tabwriter.Writer, d *policy.Domain) { fmt.Fprintf(w, "domain %s saved\n", d.Name) }),
		shown("Show a security domain", "  teep domain show lab", (*api.Client).Domain),
		listed("List security domains", "  teep domain list", func(cmd *cobra.Command, client *api.Client, after string) (*api.Page[policy.Domain], error) {
			return client.Domains(cmd.Context(), after)
		}, func(w *tabwriter.Writer, all []policy.Domain) {
			fmt.Fprintln(w, "DOMAIN\tOWNER\tMANIFESTS")
			for _, d := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, plain(d.Owner), strings.Join(d.Manifests, ", "))
			}
		}),
		byName("delete NAME", "Dissolve a security domain; what is installed stays", "  teep domain delete wallet", func(cmd *cobra.Command, client *api.Client, name string) error {
			return client.DeleteDomain(cmd.Context(), name)
		}),
		domainRemove())
	return c
}

func domainRemove() *cobra.Command {
	var reason, match string
	removal := func(name string) policy.Removal {
		return policy.Removal{Name: "domain-" + name, Domain: name, Match: match, Reason: reason}
	}
	c := byNamePreviewed("remove NAME", "Take everything in a security domain off devices, in one step", "  teep domain remove wallet --reason 'contract ended'",
		func(name string) api.Proposal { r := removal(name); return api.Proposal{Removal: &r} },
		func(cmd *cobra.Command, client *api.Client, name string) error {
			_, err := client.SetRemoval(cmd.Context(), removal(name))
			return err
		})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.Flags().StringVar(&match, "match", "", "only devices for which this condition in CEL holds")
	return require(c, "reason")
}

func removalCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "removal", Short: "Emergency removals, which override groups, rollouts and windows",
		Example: "  teep removal order hello-leak --manifest hello/manifest --up-to 3 --reason 'leaks keys'\n  teep removal lift hello-leak",
	}
	c.AddCommand(removalOrder(),
		shown("Show an emergency removal", "  teep removal show lab", (*api.Client).Removal),
		listed("List emergency removals in force", "  teep removal list", func(cmd *cobra.Command, client *api.Client, after string) (*api.Page[policy.Removal], error) {
			return client.Removals(cmd.Context(), after)
		}, func(w *tabwriter.Writer, all []policy.Removal) {
			fmt.Fprintln(w, "REMOVAL\tOF\tUP TO\tSINCE\tBY\tREASON")
			for _, r := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, choose(r.Domain == "", r.Manifest, "domain "+r.Domain),
					choose(r.Sequence == 0, "all", fmt.Sprintf("#%d", r.Sequence)), when(r.At), plain(r.By), plain(r.Reason))
			}
		}),
		byNamePreviewed("lift NAME", "Lift an emergency removal: devices may have again what it took", "  teep removal lift hello-leak --preview", func(name string) api.Proposal { return api.Proposal{LiftRemoval: name} }, func(cmd *cobra.Command, client *api.Client, name string) error {
			return client.DeleteRemoval(cmd.Context(), name)
		}))
	return c
}

func removalOrder() *cobra.Command {
	var at tamFlags
	var r policy.Removal
	var preview previewing
	c := &cobra.Command{
		Use: "order NAME --manifest ID --reason TEXT", Short: "Take a component off devices at once",
		Long:    `Counts from the next message of each device on. With --up-to, newer versions may take the place of what is removed.`,
		Example: "  teep removal order hello-leak --manifest hello/manifest --up-to 3 --reason 'leaks keys' --preview",
		Args:    program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			r.Name = args[0]
			if preview.wanted {
				return preview.show(cmd, client, &at, api.Proposal{Removal: &r})
			}
			saved, err := client.SetRemoval(cmd.Context(), r)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), saved, func(w *tabwriter.Writer) { fmt.Fprintf(w, "removal %s ordered\n", saved.Name) })
		},
	}
	c.Flags().StringVar(&r.Manifest, "manifest", "", "component identifier of the manifest")
	c.Flags().Uint64Var(&r.Sequence, "up-to", 0, "only versions up to this sequence number")
	c.Flags().StringVar(&r.Match, "match", "", "only devices for which this condition in CEL holds")
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for the record")
	preview.register(c)
	return require(at.registerOutput(c), "manifest", "reason")
}

func admissionCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "admission", Short: "Rules that accept new devices, where the TAM does not accept all",
		Long: `Where policy.admission of the TAM is manual, a device whose attestation is good is accepted when one of these conditions holds. They
are conditions as in groups ('teep group --help'); ueid, hwmodel and measurement are hexadecimal, as 'teep devices ID' shows them. Whom one
would accept of those that wait: 'teep devices --status pending --match CONDITION'. What a person decided, no rule changes.`,
		Example: "  teep admission set edge --match 'oemid == \"pen:3704\" && attestation == \"affirming\"'\n  teep admission list",
	}
	var match string
	var labels map[string]string
	set := byName("set NAME --match CONDITION", "Create or replace a rule", "  teep admission set edge --match 'oemid == \"pen:3704\"' --label site=field",
		func(cmd *cobra.Command, client *api.Client, name string) error {
			_, err := client.SetAdmission(cmd.Context(), policy.Admission{Name: name, Match: match, Labels: labels})
			return err
		})
	set.Flags().StringVar(&match, "match", "", "condition in CEL over what is known of the device")
	set.Flags().StringToStringVar(&labels, "label", nil, "label that accepted devices get, NAME=VALUE; may be repeated")
	c.AddCommand(require(set, "match"),
		shown("Show a rule", "  teep admission show lab", (*api.Client).Admission),
		listed("List rules", "  teep admission list", func(cmd *cobra.Command, client *api.Client, after string) (*api.Page[policy.Admission], error) {
			return client.Admissions(cmd.Context(), after)
		}, func(w *tabwriter.Writer, all []policy.Admission) {
			fmt.Fprintln(w, "RULE\tACCEPTS DEVICES WITH\tLABELS")
			for _, a := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\n", a.Name, plain(a.Match), labelText(a.Labels))
			}
		}),
		byName("delete NAME", "Remove a rule; what it accepted stays accepted", "  teep admission delete edge", func(cmd *cobra.Command, client *api.Client, name string) error {
			return client.DeleteAdmission(cmd.Context(), name)
		}))
	return c
}

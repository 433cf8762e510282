package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

func publishCommand() *cobra.Command {
	var at tamFlags
	var info string
	var payloads []string
	c := &cobra.Command{
		Use:   "publish ENVELOPE",
		Short: "Upload a signed envelope to a TAM",
		Long: `Uploads a signed SUIT envelope. The TAM checks it as an agent would, and refuses one whose signer it does
not know, whose digests do not hold, or whose sequence number does not rise.

With --content-key, the key to a payload that is encrypted to the TAM is deposited first (see teep deposit).

With --payload, payloads that devices fetch by URI are uploaded first, for the TAM to serve them. The manifest names
each by the URI where the TAM has payloads, a slash and the SHA-256 of the file ('sha256sum FILE').`,
		Example: `  teep publish --payload hello.wasm --payload model.bin hello.suit
  teep publish --tam http://127.0.0.1:8081 --token-file token hello.suit
  teep publish --content-key infos/hello.info hello.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			envelope, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if info != "" {
				if _, err := depositContentKey(cmd.Context(), client, args[0], info); err != nil {
					return err
				}
			}
			if err := uploadPayloads(cmd.Context(), client, args[0], envelope, payloads, cmd.ErrOrStderr()); err != nil {
				return err
			}
			v, err := client.Publish(cmd.Context(), envelope)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return at.print(cmd.OutOrStdout(), v, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "published %s, sequence number %d, signed by %s\n", v.Manifest, v.Sequence, plain(v.Publisher))
			})
		},
	}
	c.Flags().StringVar(&info, "content-key", "", "SUIT_Encryption_Info of the payload, encrypted to the TAM")
	c.Flags().StringArrayVar(&payloads, "payload", nil, "file that devices fetch from the TAM; may be repeated")
	return at.registerOutput(c)
}

func componentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "component",
		Short:   "Published versions, and what devices should have of them",
		Example: "  teep component list\n  teep component require hello/manifest\n  teep component withdraw hello/manifest 2 --reason 'leaks memory'",
	}
	c.AddCommand(componentList(), componentWithdraw(), componentDevices(),
		componentPolicy(), tamAction("reset MANIFEST", "Say nothing of a component any more: it is available", "teep component reset hello/manifest", (*api.Client).DeletePolicy),
		componentMode("require MANIFEST", tam.ModeRequired, "Have every device install a component without asking"),
		componentMode("forbid MANIFEST", tam.ModeForbidden, "Have every device remove a component, and offer it to none"),
		componentMode("allow MANIFEST", tam.ModeAvailable, "Have devices install a component when they ask for it (the default)"))
	return c
}

func componentList() *cobra.Command {
	var at tamFlags
	var manifest string
	c := &cobra.Command{
		Use: "list", Short: "List published versions", Example: "  teep component list --json\n  teep component list --manifest hello/manifest", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Version], error) {
				return client.VersionsOf(cmd.Context(), manifest, after)
			})
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "MANIFEST\tSEQUENCE\tPUBLISHER\tBYTES\tUPLOADED\tSTATE")
				for _, v := range all {
					state := "offered"
					switch {
					case v.Withdrawn != nil:
						state = "withdrawn: " + plain(v.WithdrawnReason)
					case v.NotOffered != "":
						state = "not offered: " + plain(v.NotOffered)
					}
					fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", v.Manifest, v.Sequence, plain(v.Publisher), v.Size, when(v.Uploaded), state)
				}
			})
		},
	}
	c.Flags().StringVar(&manifest, "manifest", "", "only versions of this manifest")
	return at.registerOutput(c)
}

func componentWithdraw() *cobra.Command {
	var at tamFlags
	var reason string
	c := &cobra.Command{
		Use: "withdraw MANIFEST SEQUENCE", Short: "Offer a version no longer, for good",
		Example: "  teep component withdraw hello/manifest 2 --reason 'leaks memory'",
		Args:    program.ExactArgs("MANIFEST", "SEQUENCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequence, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil {
				return &program.Usage{Err: fmt.Errorf("%q is not a sequence number", args[1])}
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			return client.Withdraw(cmd.Context(), args[0], sequence, reason)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return require(at.register(c), "reason")
}

func componentPolicy() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "policy [MANIFEST]", Short: "List what devices should have, of all manifests or of one", Example: "  teep component policy\n  teep component policy hello/manifest", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			var list []api.Policy
			if len(args) == 1 {
				one, _, err := client.Policy(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list = []api.Policy{*one}
			} else {
				if list, err = allPages(func(after string) (*api.Page[api.Policy], error) { return client.Policies(cmd.Context(), after) }); err != nil {
					return err
				}
			}
			return at.print(cmd.OutOrStdout(), list, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "MANIFEST\tMODE\tDEVICES")
				for _, a := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\n", a.Manifest, a.Mode, choose(len(a.Devices) == 0, "all", strings.Join(a.Devices, " ")))
				}
			})
		},
	}
	return at.registerOutput(c)
}

func componentMode(use string, mode tam.Mode, short string) *cobra.Command {
	var at tamFlags
	var devices []string
	var staged bool
	var preview previewing
	verb, _, _ := strings.Cut(use, " ")
	c := &cobra.Command{
		Use: use, Short: short, Example: "  teep component " + verb + " hello/manifest",
		Args: program.ExactArgs("MANIFEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if preview.wanted {
				return preview.show(cmd, client, &at, api.Proposal{Policy: &api.ProposedPolicy{Manifest: args[0], Mode: mode, Devices: devices, Staged: staged}})
			}
			_, err = client.SetPolicy(cmd.Context(), args[0], api.NewPolicy{Mode: mode, Devices: devices, Staged: staged})
			return err
		},
	}
	c.Flags().StringSliceVar(&devices, "device", nil, "only these devices, by ID")
	preview.register(c)
	if mode != tam.ModeForbidden {
		c.Flags().BoolVar(&staged, "staged", false, "versions that are published from now on reach devices by a rollout only")
	}
	return at.registerOutput(c)
}

func publisherCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "publisher",
		Short:   "Component signers whose manifests the TAM relays",
		Example: "  teep publisher add --name example --key dev.pub.pem --component hello\n  teep publisher list",
	}
	c.AddCommand(publisherAdd(), publisherList(), publisherRevoke())
	c.AddCommand(publisherKeys()...)
	return c
}

func publisherAdd() *cobra.Command {
	var at tamFlags
	var p api.NewPublisher
	var keyFiles, anchorFiles []string
	c := &cobra.Command{
		Use: "add --name NAME --key FILE --component ID", Short: "Add a publisher, with what it may sign",
		Example: "  teep publisher add --name example --key dev.pub.pem --component hello", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if p.Keys, p.Anchors, err = readTrust(keyFiles, anchorFiles); err != nil {
				return err
			}
			if len(p.Keys)+len(p.Anchors) == 0 {
				return &program.Usage{Err: fmt.Errorf("--key is missing: name a public key that it signs with, or with --anchor the certificate of an authority")}
			}
			_, err = client.AddPublisher(cmd.Context(), p)
			return err
		},
	}
	c.Flags().StringVar(&p.Name, "name", "", "name of the publisher")
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "public key that it signs with; may be repeated")
	c.Flags().StringArrayVar(&p.Prefixes, "component", nil, "component identifier that it may sign, with everything below; may be repeated")
	c.Flags().StringArrayVar(&anchorFiles, "anchor", nil, "certificate of an authority that certifies its signers; may be repeated")
	return require(at.register(c), "name", "component")
}

func publisherList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List publishers", Example: "  teep publisher list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Publisher], error) { return client.Publishers(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "NAME\tMAY SIGN\tKEYS\tSTATE")
				for _, p := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", plain(p.Name), strings.Join(p.Prefixes, " "), strings.Join(p.Keys, " "),
						choose(p.Revoked == nil, "trusted", "revoked"))
				}
			})
		},
	}
	return at.registerOutput(c)
}

func publisherRevoke() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "revoke NAME", Short: "Offer nothing any more that a publisher signed, for good",
		Example: "  teep publisher revoke example", Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			return client.RevokePublisher(cmd.Context(), args[0])
		},
	}
	return at.register(c)
}

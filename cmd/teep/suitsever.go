package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
)

func suitSever() *cobra.Command {
	var out string
	var members []string
	c := &cobra.Command{
		Use:   "sever ENVELOPE",
		Short: "Drop severable members, which leaves signatures valid",
		Long: `Drops members of the envelope for which the manifest holds a digest (SUIT §8.6): what a device does
not need, such as text or a payload-fetch sequence that is done with. Signatures stay valid. The
envelope is replaced in one step, or written elsewhere with -o.`,
		Example: `  teep suit sever --member text hello.suit -o small.suit
  teep suit sever hello.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			labels, err := severableLabels(envelope, members)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			envelope.Sever(labels...)
			return replaceFile(target(out, args[0]), envelope.Encode())
		},
	}
	c.Flags().StringArrayVar(&members, "member", nil, "member to drop, such as text or install; may be repeated; without it all")
	c.Flags().StringVarP(&out, "output", "o", "", "write here instead of replacing ENVELOPE")
	return c
}

// severableLabels finds the named members in an envelope; without names all of them.
func severableLabels(e *suit.Envelope, members []string) ([]suit.Label, error) {
	present := e.Severed()
	if len(present) == 0 {
		return nil, errors.New("the envelope holds no severable member: make members severable when creating the manifest")
	}
	if len(members) == 0 {
		return present, nil
	}
	var labels []suit.Label
	for _, name := range members {
		i := slices.IndexFunc(present, func(l suit.Label) bool { return l.String() == name })
		if i < 0 {
			names := make([]string, len(present))
			for i, l := range present {
				names[i] = l.String()
			}
			return nil, fmt.Errorf("no severable member %q; there are: %s", name, strings.Join(names, ", "))
		}
		labels = append(labels, present[i])
	}
	return labels, nil
}

// target is where a changed envelope goes.
func target(out, in string) string {
	if out == "" {
		return in
	}
	return out
}

func suitAddPayload() *cobra.Command {
	var out, uri, file string
	c := &cobra.Command{
		Use:   "add-payload --uri URI --payload FILE ENVELOPE",
		Short: "Put a payload or a dependency into an envelope, which leaves signatures valid",
		Long: `Integrates a payload, or the envelope of a dependency, under the URI by which a command of the
manifest fetches it (SUIT §5.4): the device then has nothing to download. The manifest's image-digest
is checked by the device as for any other payload; 'teep inspect' checks it here.`,
		Example: `  teep suit add-payload --uri https://example.com/hello.wasm --payload hello.wasm hello.suit
  teep suit add-payload --uri '#runtime' --payload runtime.suit hello.suit -o whole.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(_ *cobra.Command, args []string) error {
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			manifest, err := envelope.UnverifiedManifest()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if !fetches(manifest, uri) {
				return fmt.Errorf("%s: no command of the manifest names the URI %q: nothing would ever read the payload", args[0], uri)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := envelope.AddIntegrated(uri, content); err != nil {
				return err
			}
			return replaceFile(target(out, args[0]), envelope.Encode())
		},
	}
	c.Flags().StringVar(&uri, "uri", "", "URI that the manifest fetches the payload by")
	c.Flags().StringVar(&file, "payload", "", "file to put in")
	c.Flags().StringVarP(&out, "output", "o", "", "write here instead of replacing ENVELOPE")
	return require(c, "uri", "payload")
}

// fetches tells whether any command of a manifest sets the URI.
func fetches(m *suit.Manifest, uri string) bool {
	return setsURI(m, func(u string) bool { return u == uri })
}

// setsURI tells whether any command of a manifest sets a URI that is wanted.
func setsURI(m *suit.Manifest, wanted func(uri string) bool) bool {
	found := false
	visit := func(c *suit.Command) bool {
		sets := []suit.Parameters{c.Parameters}
		for _, entry := range c.Multiple {
			sets = append(sets, entry.Parameters)
		}
		for _, p := range sets {
			if u, ok := p.URI(); ok && wanted(u) {
				found = true
			}
		}
		return !found
	}
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		m.Section(label).Commands.Walk(visit)
	}
	return found
}

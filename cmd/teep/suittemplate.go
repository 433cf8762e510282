package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	examples "github.com/go-teep/teep/examples/suit"
	"github.com/go-teep/teep/internal/program"
)

func suitTemplate() *cobra.Command {
	c := &cobra.Command{
		Use:   "template",
		Short: "Descriptions to start from, one for each template of the SUIT texts",
		Example: `  teep suit template list
  teep suit template show download > hello.yaml
  teep suit schema > suit-description.schema.json     # editors complete keys from then on
  teep suit create -f hello.yaml -o hello.suit`,
	}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the templates, and what each is for", Example: "  teep suit template list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := examples.Templates()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, t := range all {
				fmt.Fprintf(w, "%s\t%s\n", t.Name, t.About)
			}
			return w.Flush()
		},
	}, &cobra.Command{
		Use: "show NAME", Short: "Print a template", Example: "  teep suit template show encrypted > hello.yaml",
		Args: program.ExactArgs("NAME"), ValidArgsFunction: completeTemplate,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := template(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(t.Text)
			return err
		},
	})
	return c
}

// template finds a template by its name.
func template(name string) (*examples.Template, error) {
	all, err := examples.Templates()
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	return nil, &program.Usage{Err: fmt.Errorf("there is no template %q: there are %s", name, strings.Join(names, ", "))}
}

// completeTemplate completes the name of a template in a shell.
func completeTemplate(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if all, err := examples.Templates(); err == nil && len(args) == 0 {
		for _, t := range all {
			names = append(names, t.Name+"\t"+t.About)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

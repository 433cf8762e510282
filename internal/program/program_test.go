package program

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func command(run func() error) *cobra.Command {
	root := &cobra.Command{Use: "prog"}
	sub := &cobra.Command{Use: "do FILE", Args: ExactArgs("FILE"), RunE: func(*cobra.Command, []string) error { return run() }}
	sub.Flags().Int("n", 0, "")
	needs := &cobra.Command{Use: "needs", RunE: func(*cobra.Command, []string) error { return nil }}
	needs.Flags().String("config", "", "")
	if err := needs.MarkFlagRequired("config"); err != nil {
		panic(err)
	}
	none := &cobra.Command{Use: "none", Args: NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
	root.AddCommand(sub, none, needs)
	return root
}

func TestMainExitCodes(t *testing.T) {
	boom := errors.New("disk is full: free some space")
	for name, c := range map[string]struct {
		args []string
		err  error
		code int
		want string
	}{
		"fine":             {[]string{"do", "x"}, nil, ExitOK, ""},
		"fails":            {[]string{"do", "x"}, boom, ExitError, "prog: disk is full"},
		"unknown flag":     {[]string{"do", "--bogus"}, nil, ExitUsage, "see 'prog do --help'"},
		"unknown command":  {[]string{"bogus"}, nil, ExitUsage, "unknown command"},
		"missing argument": {[]string{"do"}, nil, ExitUsage, "FILE is missing"},
		"extra argument":   {[]string{"do", "x", "y"}, nil, ExitUsage, `unexpected argument "y"`},
		"missing flag":     {[]string{"needs"}, nil, ExitUsage, "\"config\" not set; see 'prog needs --help'"},
		"no arguments":     {[]string{"none", "y"}, nil, ExitUsage, "takes no argument"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := Main(command(func() error { return c.err }), c.args, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(stderr.String(), c.want) {
				t.Errorf("printed %q, want %q", stderr.String(), c.want)
			}
		})
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := (&LogFlags{Level: "warn", Format: "json"}).Logger(&out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud"`) {
		t.Errorf("logged %q", got)
	}
	for _, f := range []LogFlags{{Level: "shout", Format: "text"}, {Level: "info", Format: "xml"}} {
		var usage *Usage
		if _, err := f.Logger(&out); !errors.As(err, &usage) {
			t.Errorf("%+v: got %v, want a usage error", f, err)
		}
	}
}

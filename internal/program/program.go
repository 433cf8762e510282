// Package program is what the main functions of all programs share: a context that ends with
// SIGTERM, a structured logger that flags configure, and errors printed the same way.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every program.
const (
	ExitOK    = 0
	ExitError = 1
	// ExitUsage says that flags or arguments were not understood.
	ExitUsage = 2
)

// Usage marks an error as a mistake in how the command was called.
type Usage struct{ Err error }

func (u *Usage) Error() string { return u.Err.Error() }
func (u *Usage) Unwrap() error { return u.Err }

// Main runs a command until it is done, or SIGINT or SIGTERM ends its context, and returns the
// exit code. A second signal ends the process at once.
func Main(root *cobra.Command, args []string, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from here on the default action of the signal applies again
	}()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &Usage{fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
	})
	called, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	var usage *Usage
	if !errors.As(err, &usage) && misused(err) {
		err = &Usage{fmt.Errorf("%w; see '%s --help'", err, called.CommandPath())}
	}
	// Errors tell what others said, too.
	fmt.Fprintln(stderr, Visible(fmt.Sprintf("%s: %v", root.Name(), err)))
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitError
}

// misused tells the command library's own complaints, which have no type.
func misused(err error) bool {
	for _, prefix := range []string{"unknown command", "required flag(s)", "accepts "} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// LogFlags are the logging flags of a daemon.
type LogFlags struct {
	Level  string
	Format string
}

// Register adds the flags to a command.
func (f *LogFlags) Register(c *cobra.Command) {
	c.Flags().StringVar(&f.Level, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&f.Format, "log-format", "text", "text or json")
}

// Logger makes the structured logger that the flags describe.
func (f *LogFlags) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.Level)); err != nil {
		return nil, &Usage{fmt.Errorf("--log-level %q: use debug, info, warn or error", f.Level)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.Format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, &Usage{fmt.Errorf("--log-format %q: use text or json", f.Format)}
}

// NoArgs refuses arguments with a message that names the first one.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &Usage{fmt.Errorf("%s takes no argument, got %q; see '%s --help'", c.CommandPath(), args[0], c.CommandPath())}
	}
	return nil
}

// ExactArgs asks for the named arguments, all of them.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return &Usage{fmt.Errorf("%s is missing; see '%s --help'", names[len(args)], c.CommandPath())}
		case len(args) > len(names):
			return &Usage{fmt.Errorf("unexpected argument %q; see '%s --help'", args[len(names)], c.CommandPath())}
		}
		return nil
	}
}

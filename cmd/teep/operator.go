package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

// tamFlags say which TAM's operator API is meant, and who asks.
type tamFlags struct {
	url       string
	tokenFile string
	json      bool
}

// register adds the flags to a command.
func (f *tamFlags) register(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.url, "tam", os.Getenv("TEEP_TAM"), "base URL of the TAM's operator API (or $TEEP_TAM)")
	c.Flags().StringVar(&f.tokenFile, "token-file", os.Getenv("TEEP_TOKEN_FILE"), "file with the API token (or $TEEP_TOKEN_FILE)")
	return c
}

// registerOutput adds the flags and --json, for commands that print what they got.
func (f *tamFlags) registerOutput(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&f.json, "json", false, "print JSON instead of a table")
	return f.register(c)
}

func (f *tamFlags) client() (*api.Client, error) {
	if f.url == "" {
		return nil, &program.Usage{Err: fmt.Errorf("--tam is missing: name the base URL of the TAM's operator API, such as http://127.0.0.1:8081")}
	}
	if f.tokenFile == "" {
		return nil, &program.Usage{Err: fmt.Errorf("--token-file is missing: 'teep-tam token create' makes a token")}
	}
	token, err := os.ReadFile(f.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return &api.Client{BaseURL: strings.TrimRight(f.url, "/"), Token: strings.TrimSpace(string(token))}, nil
}

// print writes v as JSON, or what table writes. What a TAM says cannot command the terminal.
func (f *tamFlags) print(w io.Writer, v any, table func(*tabwriter.Writer)) error {
	var out bytes.Buffer
	if f.json {
		enc := json.NewEncoder(&out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return err
		}
		return writeJSON(w, out.String())
	}
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	table(t)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, program.Visible(out.String()))
	return err
}

// writeJSON writes JSON, in whose texts it escapes what a terminal would obey.
func writeJSON(w io.Writer, text string) error {
	_, err := io.WriteString(w, program.Replace(text, func(r rune) string { return fmt.Sprintf(`\u%04x`, r) }))
	return err
}

// allPages fetches a list to its end.
func allPages[T any](page func(after string) (*api.Page[T], error)) ([]T, error) {
	return api.Collect(0, "", page)
}

// limitFlag adds --limit, for lists that may be longer than anybody reads.
func limitFlag(c *cobra.Command, limit *int) {
	c.Flags().IntVar(limit, "limit", 0, "list at most this many; 0 lists all")
}

// when writes a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// plain makes text from elsewhere fit for a line of a table: it has one line, and does nothing but to be read.
func plain(text string) string {
	return strings.NewReplacer("\n", "?", "\t", "?").Replace(program.Visible(text))
}

package main

import (
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

// print writes v as JSON, or what table writes.
func (f *tamFlags) print(w io.Writer, v any, table func(*tabwriter.Writer)) error {
	if f.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table(t)
	return t.Flush()
}

// allPages fetches a list to its end.
func allPages[T any](page func(after string) (*api.Page[T], error)) ([]T, error) {
	return someItems(0, "", page)
}

// someItems fetches a list from a place on, to its end or until there are limit items (0: all).
func someItems[T any](limit int, after string, page func(after string) (*api.Page[T], error)) ([]T, error) {
	all := []T{}
	for {
		p, err := page(after)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if limit > 0 && len(all) >= limit {
			return all[:limit], nil
		}
		if after = p.Next; after == "" {
			return all, nil
		}
	}
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

// plain makes text from elsewhere fit for a terminal: control characters could do more than be read.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	// certificate and key are the client's, where the TAM knows operators by these; ca is all that the TAM's own may lead to.
	certificate, key, ca string
	json                 bool
}

// register adds the flags to a command.
func (f *tamFlags) register(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.url, "tam", os.Getenv("TEEP_TAM"), "base URL of the TAM's operator API (or $TEEP_TAM)")
	c.Flags().StringVar(&f.tokenFile, "token-file", os.Getenv("TEEP_TOKEN_FILE"), "file with the API token, or one of the identity provider (or $TEEP_TOKEN_FILE)")
	c.Flags().StringVar(&f.certificate, "client-certificate", os.Getenv("TEEP_CLIENT_CERTIFICATE"), "certificate to log in with in place of a token (or $TEEP_CLIENT_CERTIFICATE)")
	c.Flags().StringVar(&f.key, "client-key", os.Getenv("TEEP_CLIENT_KEY"), "its private key (or $TEEP_CLIENT_KEY)")
	c.Flags().StringVar(&f.ca, "tam-ca", os.Getenv("TEEP_TAM_CA"), "certificates that the TAM's own may lead to, in place of the system's (or $TEEP_TAM_CA)")
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
	if f.tokenFile == "" && f.certificate == "" {
		return nil, &program.Usage{Err: fmt.Errorf("--token-file is missing: 'teep-tam token create' makes a token; or log in with --client-certificate and --client-key")}
	}
	c := &api.Client{BaseURL: strings.TrimRight(f.url, "/")}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		c.Token = strings.TrimSpace(string(token))
	}
	var err error
	c.HTTP, err = f.http()
	return c, err
}

// http is a client for TLS as the flags say; nil where they say nothing of it.
func (f *tamFlags) http() (*http.Client, error) {
	if f.certificate == "" && f.key == "" && f.ca == "" {
		return nil, nil
	}
	if u, err := url.Parse(f.url); err == nil && u.Scheme != "https" {
		return nil, &program.Usage{Err: fmt.Errorf("--client-certificate and --tam-ca are for TLS, and %s has none: write an https URL", f.url)}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.certificate != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return nil, fmt.Errorf("--client-certificate and --client-key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.ca != "" {
		data, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--tam-ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--tam-ca: %s has no certificate in PEM", f.ca)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c
	return &http.Client{Timeout: time.Minute, Transport: transport}, nil
}

// flagsOf are the flags that a command was given.
func flagsOf(c *cobra.Command) *tamFlags {
	value := func(name string) string { return c.Flag(name).Value.String() }
	return &tamFlags{url: value("tam"), tokenFile: value("token-file"), certificate: value("client-certificate"), key: value("client-key"), ca: value("tam-ca")}
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

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
)

// apiCommand reaches any route.
func apiCommand() *cobra.Command {
	var at tamFlags
	var data string
	c := &cobra.Command{
		Use:   "api METHOD PATH",
		Short: "Make any request to a TAM's operator API, with JSON in and out",
		Long: `Makes one request and prints the answer. The document of all routes is at /v1/openapi.json. --data names a file
with the JSON to send; - is standard input.`,
		Example: `  teep api GET /v1/rollouts
  teep api POST /v1/rollouts --data rollout.json
  echo '{"reason":"leaks"}' | teep api POST /v1/rollouts/spring/abort --data -`,
		Args: program.ExactArgs("METHOD", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			method := strings.ToUpper(args[0])
			if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, method) {
				return &program.Usage{Err: fmt.Errorf("%q is not a method: use GET, POST, PUT, PATCH or DELETE", args[0])}
			}
			if !strings.HasPrefix(args[1], "/v1/") {
				return &program.Usage{Err: fmt.Errorf("%q is not a path of the API: it begins with /v1/", args[1])}
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			body, err := jsonFrom(data, cmd.InOrStdin())
			if err != nil {
				return err
			}
			answer, err := client.Raw(cmd.Context(), method, args[1], body)
			if err != nil || len(answer) == 0 {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, answer, "", "  "); err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), out.String()+"\n")
		},
	}
	c.Flags().StringVar(&data, "data", "", "file with the JSON to send; - for standard input")
	c.Flags().BoolVar(&at.json, "json", true, "the answer is JSON in any case")
	return at.register(c)
}

// jsonFrom reads what to send; nil for nothing.
func jsonFrom(file string, stdin io.Reader) (json.RawMessage, error) {
	var body []byte
	var err error
	switch file {
	case "":
		return nil, nil
	case "-":
		body, err = io.ReadAll(stdin)
	default:
		body, err = os.ReadFile(file)
	}
	if err == nil && !json.Valid(body) {
		err = &program.Usage{Err: errors.New("--data is not JSON: check for a missing quote or comma")}
	}
	return body, err
}

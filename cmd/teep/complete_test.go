package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// complete asks what a shell asks. Lines that begin with a colon or an underscore are the shell's, not names.
func complete(t *testing.T, c *cobra.Command, line string) (names []string) {
	t.Helper()
	var out strings.Builder
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SetArgs(append([]string{"__complete"}, strings.Split(line, " ")...))
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for name := range strings.Lines(out.String()) {
		if name = strings.TrimSuffix(name, "\n"); !strings.HasPrefix(name, ":") {
			names = append(names, name)
		}
	}
	return names
}

// small is a TAM with little in it. It notes what was asked for.
func small(t *testing.T) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	answers := map[string]string{
		"/v1/devices?after=&limit=100":             "", // for those who would ask so
		"/v1/devices?limit=100":                    `{"items":[{"id":"0a11"},{"id":"0a22"},{"id":"1b33"}]}`,
		"/v1/devices?after=0a&limit=100":           `{"items":[{"id":"0a11"},{"id":"0a22"},{"id":"1b33"}]}`,
		"/v1/devices/0a11":                         `{"id":"0a11"}`,
		"/v1/devices/0a11/messages":                `{"items":[{"id":"1772368200000000"}]}`,
		"/v1/groups":                               `{"items":[{"name":"lab"},{"name":"field"}],"next":"lab"}`,
		"/v1/groups?after=lab":                     `{"items":[{"name":"rest"}]}`,
		"/v1/rollouts":                             `{"items":[{"name":"spring"}]}`,
		"/v1/domains":                              `{"items":[{"name":"wallet"}]}`,
		"/v1/publishers":                           `{"items":[{"name":"acme","keys":["5d1c"],"anchors":["aa00"]},{"name":"other","keys":["ffff"]}]}`,
		"/v1/components":                           `{"items":[{"manifest":"'hello'/'manifest'","sequence":"1"},{"manifest":"'hello'/'manifest'","sequence":"2"},{"manifest":"'it is'/h'00'","sequence":"7"},{"manifest":"'a\tb'","sequence":"1"}]}`,
		"/v1/components?manifest=hello%2Fmanifest": `{"items":[{"manifest":"'hello'/'manifest'","sequence":"1"},{"manifest":"'hello'/'manifest'","sequence":"2"}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.RequestURI())
		if answer := answers[r.URL.RequestURI()]; answer != "" && r.Header.Get("Authorization") == "Bearer teep_x" {
			fmt.Fprint(w, answer)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func TestCompletionAsksTheTAM(t *testing.T) {
	url, _ := small(t)
	t.Setenv("TEEP_TAM", url)
	t.Setenv("TEEP_TOKEN_FILE", write(t, "token", []byte("teep_x\n")))
	for line, want := range map[string][]string{
		"devices accept ":                               {"0a11", "0a22", "1b33"},
		"devices accept 0a":                             {"0a11", "0a22"},
		"devices accept 0a11 ":                          nil,
		"devices replace 0a11 0a":                       {"0a11", "0a22"},
		"devices messages 0a11 ":                        {"1772368200000000"},
		"group show ":                                   {"field", "lab", "rest"},
		"group show l":                                  {"lab"},
		"rollout pause ":                                {"spring"},
		"domain remove w":                               {"wallet"},
		"publisher signed acme ":                        {"5d1c", "aa00"},
		"publisher signed nobody ":                      nil,
		"component require ":                            {"'it is'/h'00'", "hello/manifest"},
		"component require h":                           {"hello/manifest"},
		"component withdraw --reason x hello/manifest ": {"1", "2"},
		"removal order x --manifest h":                  {"hello/manifest"},
		"deposit data --device 0a":                      {"0a11", "0a22"},
		"devices --status a":                            {"accepted"},
		"webhook add https://x --kind rollout-d":        {"rollout-deleted", "rollout-done"},
		"token create --scope ad":                       {"administrator"},
		"token revoke ":                                 nil, // the TAM says no
	} {
		if got := complete(t, root(), line); !slices.Equal(got, want) {
			t.Errorf("%q is completed by %q, want %q", line, got, want)
		}
	}
}

// TestCompletionFailsSilently: without a login, with a wrong one, without a TAM, with one that does not answer, and with
// one that says what no TAM says, there is nothing to offer, and nothing is said.
func TestCompletionFailsSilently(t *testing.T) {
	url, asked := small(t)
	good, bad := write(t, "token", []byte("teep_x")), write(t, "token", []byte("teep_y"))
	gone := httptest.NewServer(nil)
	gone.Close()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	garbage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	t.Cleanup(garbage.Close)
	for name, login := range map[string][2]string{
		"nothing": {"", ""}, "no TAM": {"", good}, "no token": {url, ""}, "no such file": {url, good + "x"}, "a wrong token": {url, bad},
		"nobody listens": {gone.URL, good}, "it hangs": {hanging.URL, good}, "garbage": {garbage.URL, good}, "no URL": {"::", good},
	} {
		t.Setenv("TEEP_TAM", login[0])
		t.Setenv("TEEP_TOKEN_FILE", login[1])
		c := rootWith(50 * time.Millisecond)
		var out, errs strings.Builder
		c.SetOut(&out)
		c.SetErr(&errs)
		c.SetArgs([]string{"__complete", "devices", "accept", ""})
		if err := c.ExecuteContext(t.Context()); err != nil || out.String() != ":4\n" {
			t.Errorf("%s: %v, offers %q", name, err, &out)
		}
		if said := strings.ReplaceAll(errs.String(), "Completion ended with directive: ShellCompDirectiveNoFileComp\n", ""); said != "" {
			t.Errorf("%s: says %q", name, said)
		}
	}
	if len(*asked) != 1 {
		t.Errorf("asked %v: only the wrong token should have led there", *asked)
	}
}

// TestEveryNameIsCompleted: no command that takes the name of something at a TAM was forgotten.
func TestEveryNameIsCompleted(t *testing.T) {
	own := []string{"teep publish", "teep deposit key", "teep deposit data", "teep api", "teep webhook add", "teep attest check-policy"} // files, paths, URLs
	argument := regexp.MustCompile(`^\S+ (\[?[A-Z]+)`)
	count := 0
	eachCommand(root(), func(c *cobra.Command) {
		if c.Flag("tam") == nil || !c.Runnable() || !argument.MatchString(c.Use) || slices.Contains(own, c.CommandPath()) {
			return
		}
		count++
		if c.ValidArgsFunction == nil {
			t.Errorf("'%s': its arguments are not completed", c.CommandPath())
		}
	})
	if count < 30 {
		t.Errorf("only %d commands take names", count)
	}
}

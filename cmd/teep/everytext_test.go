package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/api/apitest"
)

// commanding is text that has a terminal do something: change its title, clear the screen, go back to the beginning of
// the line and up one, write from right to left, and begin lines and columns of its own.
const commanding = "\x1b]0;evil\x07\x1b[2J\u009b2J\r\x1b[A\u202e\u2066\x7f\x00\u2028"

// TestNoTextCommandsTheTerminal runs every command against a TAM each text of whose answers is such a text: whatever a
// device, a publisher or the TAM itself finds a way to put there, it does nothing but to be read.
func TestNoTextCommandsTheTerminal(t *testing.T) {
	dir := t.TempDir()
	files := commandFiles(t, dir)
	h, err := api.NewHandler(api.Config{TAM: noTAM{}, Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	document := httptest.NewRecorder()
	h.ServeHTTP(document, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	a := apitest.New(t, document.Body.Bytes())
	nth := 0
	a.Text = func() string { nth++; return fmt.Sprint("n", nth, commanding) }
	tam := httptest.NewServer(a.Handler(t))
	t.Cleanup(tam.Close)
	shown := 0
	for a.Variant = range 4 {
		for route, line := range commandFor {
			if strings.HasSuffix(route, "/stream") || strings.HasPrefix(line, "audit export") {
				continue // which are no JSON; printEvent is below
			}
			for _, form := range [][]string{nil, {"--json"}} {
				args := strings.Fields(line)
				for i, word := range args {
					if name, isFile := strings.CutPrefix(word, "@"); isFile {
						args[i] = files[name]
					}
				}
				c := root()
				if found, _, err := c.Find(args); err != nil || form != nil && found.Flag("json") == nil {
					continue
				}
				var out strings.Builder
				c.SetOut(&out)
				c.SetErr(&out)
				c.SilenceUsage, c.SilenceErrors = true, true
				c.SetArgs(append(append(args, form...), "--tam", tam.URL, "--token-file", files["token"]))
				if c.ExecuteContext(t.Context()) == nil && strings.Contains(out.String(), "evil") {
					shown++
				}
				if i := strings.IndexFunc(out.String(), commands); i >= 0 {
					t.Errorf("'teep %s' %v prints %q", line, form, out.String()[max(0, i-40):min(len(out.String()), i+20)])
				}
			}
		}
	}
	if shown < 4*40 {
		t.Errorf("only %d outputs show such a text: the test proves little", shown)
	}
	var out strings.Builder
	for _, asJSON := range []bool{true, false} {
		e := api.FeedEvent{Kind: commanding, Device: commanding, Detail: commanding, At: time.Unix(1e9, 0)}
		if err := printEvent(&out, e, asJSON); err != nil {
			t.Fatal(err)
		}
	}
	if i := strings.IndexFunc(out.String(), commands); i >= 0 || !strings.Contains(out.String(), "evil") {
		t.Errorf("an event prints %q", out.String())
	}
}

func commands(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028')
}

// TestProblemsDoNotCommandTheTerminal: what a TAM says in its refusals is printed by the program itself.
func TestProblemsDoNotCommandTheTerminal(t *testing.T) {
	tam := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"status":403,"code":"\u001b[2Jc","detail":"\u001b]0;evil\u0007","next":"\u009b2J"}`)
	}))
	t.Cleanup(tam.Close)
	var errs strings.Builder
	token := write(t, "token", []byte("teep_x"))
	c := root()
	if code := program.Main(c, []string{"devices", "--tam", tam.URL, "--token-file", token}, &errs); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if strings.ContainsFunc(errs.String(), commands) || !strings.Contains(errs.String(), "evil") {
		t.Errorf("it prints %q", errs.String())
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam/api"
)

// TestPreviewLooksAtAllDevices: with as many requests as it takes, and sums of what each of them found.
func TestPreviewLooksAtAllDevices(t *testing.T) {
	for _, every := range []bool{false, true} {
		var asked []api.Proposal
		tam := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var p api.Proposal
			if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
				t.Error(err)
			}
			asked = append(asked, p)
			found := api.Preview{Devices: 30, Chosen: 30, Changed: 15, Installs: 15, Stages: []int64{1, 2}}
			for i := range min(15, max(p.Examples, 20)) {
				found.Examples = append(found.Examples, api.PreviewedDevice{ID: fmt.Sprintf("%d-%d", len(asked), i), Changes: []string{"install it"}})
			}
			if found.Complete = len(asked) == 3; !found.Complete {
				found.Next = fmt.Sprintf("device%d", len(asked))
			}
			if err := json.NewEncoder(w).Encode(found); err != nil {
				t.Error(err)
			}
		}))
		defer tam.Close()
		files := commandFiles(t, t.TempDir())
		args := []string{"component", "require", "hello", "--preview", "--staged", "--device", "d", "--tam", tam.URL, "--token-file", files["token"]}
		if every {
			args = append(args, "--every-device")
		}
		c := root()
		var out, progress strings.Builder
		c.SetOut(&out)
		c.SetErr(&progress)
		c.SetArgs(args)
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(asked) != 3 || asked[0].After != "" || asked[1].After != "device1" || asked[2].After != "device2" {
			t.Fatalf("asked %+v", asked)
		}
		if p := asked[0].Policy; p == nil || !p.Staged || len(p.Devices) != 1 || p.Manifest != "hello" {
			t.Errorf("proposed %+v", p)
		}
		want, examples := "and 25 more", 20
		if every {
			want, examples = "3-14", 45
		}
		if !strings.Contains(out.String(), "90 looked at, 90 chosen, 45 would change") || strings.Count(out.String(), "install it") != examples || !strings.Contains(out.String(), want) {
			t.Errorf("every device %v:\n%s", every, &out)
		}
		if every == strings.Contains(progress.String(), "30 devices looked at, 15 would change") {
			t.Errorf("every device %v: progress %q", every, &progress)
		}
	}
}

// TestPreviewsChangeNothing: whatever can be previewed, nothing else is asked for.
func TestPreviewsChangeNothing(t *testing.T) {
	dir := t.TempDir()
	files := commandFiles(t, dir)
	routes := documented(t)
	tam := listen(t, routes, "")
	for _, line := range []string{
		"group set -f @group", "group delete lab", "domain set -f @domain", "domain remove lab --reason over", "removal order lab --manifest hello --reason leaks",
		"removal lift lab", "rollout create -f @rollout", "component require hello", "component forbid hello", "component allow hello",
	} {
		var args []string
		for _, word := range strings.Fields(line) {
			if name, isFile := strings.CutPrefix(word, "@"); isFile {
				word = files[name]
			}
			args = append(args, word)
		}
		tam.forget()
		c := root()
		var out strings.Builder
		c.SetOut(&out)
		c.SetArgs(append(args, "--preview", "--json", "--tam", tam.URL, "--token-file", filepath.Join(dir, "token")))
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Errorf("teep %s --preview: %v", line, err)
		}
		if len(tam.asked) != 1 || !tam.was("POST /v1/preview") {
			t.Errorf("teep %s --preview asks for %v", line, tam.asked)
		}
	}
}

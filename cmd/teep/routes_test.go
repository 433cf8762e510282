package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-teep/teep/tam/api"
)

// withoutCommand are the routes that programs ask, and no person: probes, and the document of the API.
var withoutCommand = []string{"GET /v1/livez", "GET /v1/readyz", "GET /v1/healthz", "GET /v1/openapi.json"}

// commandFor says how a person makes the request of each other route of the operator API. Words that begin with @ are
// files, of what is behind it.
var commandFor = map[string]string{
	"POST /v1/components": "publish @envelope",
	"POST /v1/payloads":   "publish --payload @payload @envelope",
	"GET /v1/payloads":    "payload list",
	"GET /v1/components":  "component list",
	"POST /v1/components/{manifest}/{sequence}/withdraw": "component withdraw hello 1 --reason faulty",
	"GET /v1/components/{manifest}/{sequence}/devices":   "component devices hello 1",

	"GET /v1/overview":                        "fleet",
	"GET /v1/installed":                       "fleet installed",
	"GET /v1/installed/history":               "fleet installed --history",
	"GET /v1/devices":                         "devices",
	"GET /v1/devices/{id}":                    "devices policy 1",
	"GET /v1/devices/{id}/policy":             "devices policy 1",
	"PATCH /v1/devices/{id}":                  "devices accept 1",
	"POST /v1/devices/{id}/replace":           "devices replace 1 2",
	"GET /v1/devices/{id}/events":             "devices 1",
	"GET /v1/devices/{id}/messages":           "devices messages 1",
	"GET /v1/devices/{id}/messages/{message}": "devices messages 1 7",
	"GET /v1/devices/{id}/reports":            "devices report 1",
	"GET /v1/devices/{id}/manifests":          "devices manifest 1",

	"POST /v1/appraisal-policy/check": "attest check-policy @appraisal",

	"GET /v1/policy":               "component policy",
	"GET /v1/policy/{manifest}":    "component policy hello",
	"PUT /v1/policy/{manifest}":    "component require hello",
	"DELETE /v1/policy/{manifest}": "component reset hello",

	"GET /v1/distribution":     "deposit recipient",
	"POST /v1/content-keys":    "deposit key --info @info @keyed",
	"POST /v1/personalization": "deposit data --manifest hello --component keys/x @payload",
	"GET /v1/deposits":         "deposit list",
	"DELETE /v1/deposits/{id}": "deposit remove 1",

	"POST /v1/publishers":                            "publisher add --name acme --key @key --component hello",
	"GET /v1/publishers":                             "publisher list",
	"POST /v1/publishers/{name}/revoke":              "publisher revoke acme",
	"POST /v1/publishers/{name}/keys":                "publisher add-key acme --key @key",
	"GET /v1/publishers/{name}/keys/{key}/versions":  "publisher signed acme 5d1c",
	"POST /v1/publishers/{name}/keys/{key}/withdraw": "publisher withdraw-key acme 5d1c --reason lost",
	"GET /v1/publishers/{name}/revocation-lists":     "publisher revocations acme",
	"POST /v1/publishers/{name}/revocation-lists":    "publisher revocations acme --remove",

	"POST /v1/tokens":             "token create --name ci --scope auditor",
	"GET /v1/tokens":              "token list",
	"POST /v1/tokens/{id}/revoke": "token revoke 1",

	"GET /v1/events":           "events",
	"GET /v1/events/stream":    "events --follow",
	"POST /v1/webhooks":        "webhook add https://example.com/hook",
	"GET /v1/webhooks":         "webhook list",
	"DELETE /v1/webhooks/{id}": "webhook delete 1",

	"GET /v1/audit":        "audit list",
	"GET /v1/audit/head":   "audit head",
	"GET /v1/audit/export": "audit export -o @new",

	"GET /v1/groups":            "group list",
	"GET /v1/groups/{name}":     "group show lab",
	"PUT /v1/groups/{name}":     "group set -f @group",
	"DELETE /v1/groups/{name}":  "group delete lab",
	"POST /v1/preview":          "group set -f @group --preview",
	"GET /v1/domains":           "domain list",
	"GET /v1/domains/{name}":    "domain show lab",
	"PUT /v1/domains/{name}":    "domain set -f @domain",
	"DELETE /v1/domains/{name}": "domain delete lab",

	"GET /v1/removals":             "removal list",
	"GET /v1/removals/{name}":      "removal show lab",
	"PUT /v1/removals/{name}":      "removal order lab --manifest hello --reason leaks",
	"DELETE /v1/removals/{name}":   "removal lift lab",
	"GET /v1/admissions":           "admission list",
	"GET /v1/admissions/{name}":    "admission show lab",
	"PUT /v1/admissions/{name}":    "admission set lab --match true",
	"DELETE /v1/admissions/{name}": "admission delete lab",

	"GET /v1/rollouts":                 "rollout list",
	"POST /v1/rollouts":                "rollout create -f @rollout",
	"GET /v1/rollouts/{name}":          "rollout show lab",
	"DELETE /v1/rollouts/{name}":       "rollout delete lab",
	"POST /v1/rollouts/{name}/approve": "rollout approve lab",
	"POST /v1/rollouts/{name}/pause":   "rollout pause lab",
	"POST /v1/rollouts/{name}/resume":  "rollout resume lab",
	"POST /v1/rollouts/{name}/advance": "rollout advance lab",
	"POST /v1/rollouts/{name}/abort":   "rollout abort lab --reason faulty",
	"POST /v1/rollouts/{name}/archive": "rollout archive lab",
}

// commandWith says how a person gives each query parameter. Pages are the commands' own business.
var commandWith = map[string]string{
	"GET /v1/components?manifest": "component list --manifest hello",
	"GET /v1/installed?manifest":  "fleet installed --manifest hello",
	"GET /v1/devices?status":      "devices --status pending",
	"GET /v1/devices?attestation": "devices --attestation none",
	"GET /v1/devices?match":       "devices --match true",
	"GET /v1/devices?ueid":        "devices --ueid 00",
	"GET /v1/rollouts?archived":   "rollout list --archived",
	"GET /v1/events?order":        "events --newest 1",
	"GET /v1/events?after":        "events --after 1",
	"GET /v1/events/stream?after": "events --follow --after 1",
	"GET /v1/audit?after":         "audit list --after 1",
	"GET /v1/audit/export?after":  "audit export --after 1 -o @new",
}

// noTable are commands that read something and print it as it is.
var noTable = []string{"audit export", "deposit recipient"}

// noStore and noTAM are enough for a handler that only says which routes it has.
type (
	noStore struct{ api.Store }
	noTAM   struct{ api.Managing }
)

// listening is a TAM that notes which routes it is asked for.
type listening struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]bool
}

func (l *listening) was(route string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[route]
}

func (l *listening) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.asked)
}

// document is the OpenAPI document.
type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct{ Name, In string }
	}
}

func readDocument(t *testing.T) (doc document) {
	t.Helper()
	h, err := api.NewHandler(api.Config{TAM: noTAM{}, Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// documented are the routes of the OpenAPI document.
func documented(t *testing.T) (routes []string) {
	t.Helper()
	for path, methods := range readDocument(t).Paths {
		for method := range methods {
			routes = append(routes, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	return routes
}

// documentedParameters are the query parameters of all routes.
func documentedParameters(t *testing.T) (all []string) {
	t.Helper()
	for path, methods := range readDocument(t).Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				if p.In == "query" {
					all = append(all, strings.ToUpper(method)+" "+path+"?"+p.Name)
				}
			}
		}
	}
	if len(all) < 50 {
		t.Fatalf("only %d parameters", len(all))
	}
	return all
}

func listen(t *testing.T, routes []string, recipient string) *listening {
	t.Helper()
	// Enough for commands that ask further: a device with an ID, the place of a payload, to whom data is encrypted.
	const payload = "5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b" // SHA-256 of "code"
	answer := map[string]any{"id": "1", "items": []any{map[string]any{"id": "1"}}, "sha256": payload, "uri": "https://example.com/" + payload, "recipient": recipient}
	l := &listening{asked: map[string]bool{}}
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.asked[route] = true
			for name := range r.URL.Query() {
				l.asked[route+"?"+name] = true
			}
			if route == "GET /v1/audit/export" {
				return // an audit log without entries
			}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				t.Error(err)
			}
		})
	}
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l
}

// TestEveryRouteHasACommand: what the API can do, a person can do with the command, and each command makes the request
// that it is for.
func TestEveryRouteHasACommand(t *testing.T) {
	dir := t.TempDir()
	files := commandFiles(t, dir)
	routes := documented(t)
	recipient, err := os.ReadFile(files["recipient"])
	if err != nil {
		t.Fatal(err)
	}
	tam := listen(t, routes, string(recipient))
	for _, route := range routes {
		line, ok := commandFor[route]
		if slices.Contains(withoutCommand, route) {
			if ok {
				t.Errorf("%s has a command, and is said to have none", route)
			}
			continue
		}
		if !ok {
			t.Errorf("%s has no command", route)
			continue
		}
		var args []string
		for _, word := range strings.Fields(line) {
			if name, isFile := strings.CutPrefix(word, "@"); isFile {
				if word = files[name]; word == "" {
					word = filepath.Join(dir, "new-"+strings.NewReplacer("/", "-", " ", "-").Replace(route))
				}
			}
			args = append(args, word)
		}
		tam.forget()
		c := root()
		var out strings.Builder
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage = true
		c.SetArgs(append(args, "--tam", tam.URL, "--token-file", files["token"]))
		// Whether it likes the answer is not what is asked here.
		if err := c.ExecuteContext(t.Context()); !tam.was(route) {
			t.Errorf("%s: 'teep %s' does not make this request: %v\n%s", route, line, err, &out)
			continue
		}
		found, _, err := root().Find(args)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(found.CommandPath(), "teep ")
		if strings.HasPrefix(route, "GET ") && found.Flag("json") == nil && !slices.Contains(noTable, name) {
			t.Errorf("%s: 'teep %s' has no --json", route, name)
		}
		if found.Short == "" || found.Example == "" {
			t.Errorf("'teep %s' lacks help or an example", name)
		}
	}
	for route := range commandFor {
		if !slices.Contains(routes, route) {
			t.Errorf("%s is no route", route)
		}
	}
}

// TestEveryParameterHasACommand: what a list can be limited to, a person can limit it to.
func TestEveryParameterHasACommand(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("teep_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	tam := listen(t, documented(t), "")
	described := map[string]bool{}
	for _, parameter := range documentedParameters(t) {
		described[parameter] = true
		line, ok := commandWith[parameter]
		if !ok {
			if !strings.HasSuffix(parameter, "?after") && !strings.HasSuffix(parameter, "?limit") {
				t.Errorf("%s has no command", parameter)
			}
			continue
		}
		tam.forget()
		c := root()
		var out strings.Builder
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(append(strings.Fields(strings.ReplaceAll(line, "@new", filepath.Join(dir, "new"))), "--tam", tam.URL, "--token-file", token))
		if err := c.ExecuteContext(t.Context()); !tam.was(parameter) {
			t.Errorf("%s: 'teep %s' does not send it: %v\n%s", parameter, line, err, &out)
		}
	}
	for parameter := range commandWith {
		if !described[parameter] {
			t.Errorf("%s is no parameter", parameter)
		}
	}
}

// commandFiles makes what commands read.
func commandFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	write := func(name, text string) {
		t.Helper()
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "teep_x")
	write("payload", "code")
	write("appraisal", "id: https://example.com/p\n")
	write("info", "\x80")
	write("group", "name: lab\nmatch: \"true\"\ncomponents: []\n")
	write("domain", "name: lab\nmanifests: [hello/manifest]\n")
	write("rollout", "name: lab\nmanifest: hello/manifest\nsequence: 2\nstages: [{percent: 100}]\n")
	write("description", "manifest-component-id: [hello, manifest]\nsequence-number: 1\ncomponents:\n  - id: [hello]\n    payload: {file: payload, uri: \"https://example.com/5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b\"}\n")
	write("keyed.yaml", "manifest-component-id: [hello, manifest]\nsequence-number: 1\ncomponents:\n  - id: [hello]\n    payload: {file: payload, integrated: true, encrypt: {to: [recipient], info: separate}}\n")
	files["keyed"] = filepath.Join(dir, "keyed")
	private := filepath.Join(dir, "private")
	files["key"], files["envelope"] = filepath.Join(dir, "key"), filepath.Join(dir, "envelope")
	files["recipient"] = filepath.Join(dir, "recipient")
	for _, args := range [][]string{
		{"key", "generate", "--alg", "ECDH-ES+A128KW", "-o", private + "-ecdh"}, {"key", "public", private + "-ecdh", "-o", files["recipient"]},
		{"key", "generate", "-o", private}, {"key", "public", private, "-o", files["key"]},
		{"suit", "create", "-f", files["description"], "-o", files["envelope"]}, {"suit", "sign", "--key", private, files["envelope"]},
		{"suit", "create", "-f", files["keyed.yaml"], "--infos", filepath.Join(dir, "infos"), "-o", files["keyed"]}, {"suit", "sign", "--key", private, files["keyed"]},
	} {
		c := root()
		c.SetArgs(args)
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	return files
}

// TestCompletion: every shell is served, and completion knows what is there.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		c := root()
		var out strings.Builder
		c.SetOut(&out)
		c.SetArgs([]string{"completion", shell})
		if err := c.Execute(); err != nil || !strings.Contains(out.String(), "teep") {
			t.Errorf("%s: %v", shell, err)
		}
	}
	for line, want := range map[string]string{"rollout ": "archive", "payload ": "list", "devices --j": "--json", "group sh": "show"} {
		c := root()
		var out strings.Builder
		c.SetOut(&out)
		args := strings.Split(line, " ")
		c.SetArgs(append([]string{"__complete"}, args...))
		if err := c.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("what completes %q lacks %q: %s %v", line, want, &out, err)
		}
	}
}

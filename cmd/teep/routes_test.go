package main

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam/api"
)

// commandFor says which command makes the request of each route of the operator API. "-" is for those that
// no person has a use for.
var commandFor = map[string]string{
	"GET /v1/livez":        "-",
	"GET /v1/readyz":       "-",
	"GET /v1/healthz":      "-",
	"GET /v1/openapi.json": "-",

	"POST /v1/components": "publish",
	"POST /v1/payloads":   "publish",
	"GET /v1/components":  "component list",
	"POST /v1/components/{manifest}/{sequence}/withdraw": "component withdraw",

	"GET /v1/overview":                        "fleet",
	"GET /v1/devices":                         "devices",
	"GET /v1/devices/{id}":                    "devices",
	"PATCH /v1/devices/{id}":                  "devices accept",
	"GET /v1/devices/{id}/events":             "devices",
	"GET /v1/devices/{id}/messages":           "devices messages",
	"GET /v1/devices/{id}/messages/{message}": "devices messages",

	"POST /v1/devices/{id}/replace":                    "api",
	"GET /v1/devices/{id}/policy":                      "api",
	"GET /v1/components/{manifest}/{sequence}/devices": "api",
	"POST /v1/publishers/{name}/keys":                  "api",
	"GET /v1/publishers/{name}/keys/{key}/versions":    "api",
	"POST /v1/publishers/{name}/keys/{key}/withdraw":   "api",

	"GET /v1/policy":               "component policy",
	"GET /v1/policy/{manifest}":    "component policy",
	"PUT /v1/policy/{manifest}":    "component require",
	"DELETE /v1/policy/{manifest}": "component reset",

	"GET /v1/distribution":     "deposit recipient",
	"POST /v1/content-keys":    "deposit key",
	"POST /v1/personalization": "deposit data",
	"GET /v1/deposits":         "deposit list",
	"DELETE /v1/deposits/{id}": "deposit remove",

	"POST /v1/publishers":               "publisher add",
	"GET /v1/publishers":                "publisher list",
	"POST /v1/publishers/{name}/revoke": "publisher revoke",

	"POST /v1/tokens":             "token create",
	"GET /v1/tokens":              "token list",
	"POST /v1/tokens/{id}/revoke": "token revoke",

	"GET /v1/events":           "events",
	"GET /v1/events/stream":    "events",
	"POST /v1/webhooks":        "webhook add",
	"GET /v1/webhooks":         "webhook list",
	"DELETE /v1/webhooks/{id}": "webhook delete",

	"GET /v1/audit":        "audit list",
	"GET /v1/audit/head":   "audit export",
	"GET /v1/audit/export": "audit export",
}

// byJSON are the records that are written as JSON in any case, and reached with 'teep api'.
var byJSON = []string{"groups", "domains", "removals", "admissions", "rollouts", "installed", "preview"}

// noStore and noTAM are enough for a handler that only says which routes it has.
type (
	noStore struct{ api.Store }
	noTAM   struct{ api.Managing }
)

// TestEveryRouteHasACommand: what the API can do, the command can.
func TestEveryRouteHasACommand(t *testing.T) {
	h, err := api.NewHandler(api.Config{TAM: noTAM{}, Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			route := strings.ToUpper(method) + " " + path
			known[route] = true
			name := commandFor[route]
			if name == "" && strings.HasPrefix(path, "/v1/") && slices.Contains(byJSON, strings.Split(path, "/")[2]) {
				name = "api"
			}
			if name == "" {
				t.Errorf("%s has no command: give it one, or name it in byJSON", route)
				continue
			}
			if name == "-" {
				continue
			}
			c, rest, err := root().Find(strings.Fields(name))
			if err != nil || len(rest) > 0 || !c.Runnable() {
				t.Errorf("%s: there is no command 'teep %s'", route, name)
				continue
			}
			if c.Flag("tam") == nil || c.Flag("token-file") == nil {
				t.Errorf("%s: 'teep %s' does not talk to a TAM", route, name)
			}
			if method == "get" && c.Flag("json") == nil && name != "audit export" && name != "deposit recipient" {
				t.Errorf("%s: 'teep %s' has no --json", route, name)
			}
		}
	}
	for route := range commandFor {
		if !known[route] {
			t.Errorf("%s is no route", route)
		}
	}
}

// TestCompletion: every shell is served.
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
}

package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/go-teep/teep/tam/api"
)

// answering is an operator API that answers every route of the real one's document with everything that the document
// allows, and with a hostile text wherever it allows any text.
type answering struct {
	doc     map[string]any
	variant int // which value of an enumeration
	nth     int // numbers texts, so that names differ
	asked   map[string]int
	more    bool // there is a further page
}

// of makes a value of a schema.
func (a *answering) of(schema map[string]any, depth int) any {
	if ref, ok := schema["$ref"].(string); ok {
		return a.of(a.find(ref), depth)
	}
	switch schema["type"] {
	case "object":
		o := map[string]any{}
		if each, ok := schema["additionalProperties"].(map[string]any); ok {
			o[a.text()] = a.of(each, depth+1)
			return o
		}
		properties, _ := schema["properties"].(map[string]any)
		for name, p := range properties {
			if name != "next" || a.more {
				o[name] = a.of(p.(map[string]any), depth+1)
			}
		}
		return o
	case "array":
		if depth > 12 {
			return []any{}
		}
		items := schema["items"].(map[string]any)
		return []any{a.of(items, depth+1), a.of(items, depth+1)}
	case "integer", "number":
		return 2
	case "boolean":
		return a.variant%2 == 0
	}
	switch values, ok := schema["enum"].([]any); {
	case ok:
		return values[a.variant%len(values)]
	case schema["format"] == "date-time":
		return "2026-03-01T12:00:00Z"
	case schema["pattern"] == "^[0-9]+$":
		return "2"
	case schema["pattern"] != nil:
		return strings.Repeat("0", 64)
	case schema["contentEncoding"] != nil:
		return "AA=="
	case strings.Contains(text(schema["description"]), "90m"):
		return "90m"
	}
	return a.text()
}

func text(v any) string { s, _ := v.(string); return s }

// text is hostile, and another one each time.
func (a *answering) text() string {
	a.nth++
	return hostile + strings.Repeat("+", a.nth%7)
}

func (a *answering) find(ref string) map[string]any {
	v := any(a.doc)
	for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		v = v.(map[string]any)[name]
	}
	return v.(map[string]any)
}

// handler serves the routes of the document.
func (a *answering) handler(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	for path, methods := range a.doc["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			if method != "get" {
				continue
			}
			content, _ := op.(map[string]any)["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any)
			media, _ := content["application/json"].(map[string]any)
			schema, _ := media["schema"].(map[string]any)
			if schema == nil {
				continue // a stream, or the document itself
			}
			mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
				// Every other page is the last one, so that lists end.
				a.more = a.asked[path]%2 == 0
				a.asked[path]++
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("ETag", `"1"`)
				if err := json.NewEncoder(w).Encode(a.of(schema, 0)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return mux
}

// TestEveryTextOfTheAPIIsText shows every page with a hostile text in each field of each answer of the API that may
// have a text: whatever somebody finds a way to put there, it does nothing but to be read. It does not depend on what
// the real API lets in.
func TestEveryTextOfTheAPIIsText(t *testing.T) {
	real := newService(t)
	w := httptest.NewRecorder()
	h, err := api.NewHandler(api.Config{TAM: real.tam, Store: real.store})
	must(t, err)
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	a := &answering{asked: map[string]int{}}
	must(t, json.Unmarshal(w.Body.Bytes(), &a.doc))
	s := newService(t, func(c *Config) { c.API = a.handler(t) })
	secret, _ := s.token(api.ScopeAdministrator)
	c := s.browser()
	if r := s.post(c, "login", url.Values{"token": {secret}}); r.status != http.StatusSeeOther {
		t.Fatalf("login: %d", r.status)
	}
	shown, hostilePages := 0, 0
	for a.variant = range 8 {
		for _, r := range routes() {
			method, path, _ := strings.Cut(r.pattern, " ")
			if method != "GET" {
				continue
			}
			r := s.get(c, concretePath(path, "x"))
			inspect(t, path, r.body)
			shown++
			if r.status == http.StatusOK && strings.Contains(html.UnescapeString(r.body), "<script>alert(1)</script>") {
				hostilePages++
			}
			if strings.Contains(r.body, "<script>alert") || strings.Contains(r.body, "<img src=x") {
				t.Errorf("%s has the text as it is", path)
			}
		}
	}
	// Forms for something new, and pages that cannot show what is no number, show none.
	if hostilePages < shown/2 {
		t.Errorf("only %d of %d pages show a hostile text: the test proves little", hostilePages, shown)
	}
	for _, route := range []string{"/v1/devices", "/v1/devices/{id}", "/v1/devices/{id}/events", "/v1/devices/{id}/messages/{message}", "/v1/components", "/v1/publishers",
		"/v1/policy", "/v1/groups", "/v1/groups/{name}", "/v1/rollouts", "/v1/rollouts/{name}", "/v1/removals", "/v1/audit", "/v1/overview"} {
		if a.asked[route] == 0 {
			t.Errorf("no page shows anything of %s", route)
		}
	}
}

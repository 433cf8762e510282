// Package apitest is an operator API for tests that answers every route of a document with everything that the
// document allows, so that those who show answers can be shown what no real TAM would say.
//
//	a := apitest.New(t, document)
//	a.Text = func() string { return "<script>alert(1)</script>" }
//	server := httptest.NewServer(a.Handler(t))
package apitest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Answers are what an API says. The fields are not to be changed while it answers.
type Answers struct {
	// Text makes a text wherever the document allows any.
	Text func() string
	// Variant chooses among the values of an enumeration.
	Variant int

	document map[string]any
	mu       sync.Mutex
	asked    map[string]int
	// more: there is a further page.
	more bool
}

// New reads an OpenAPI document.
func New(t testing.TB, document []byte) *Answers {
	t.Helper()
	a := &Answers{asked: map[string]int{}}
	if err := json.Unmarshal(document, &a.document); err != nil {
		t.Fatal(err)
	}
	return a
}

// Asked tells how often a route was asked for, such as GET /v1/devices/{id}.
func (a *Answers) Asked(route string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[route]
}

// Handler serves the routes of the document whose successes are JSON, or nothing.
func (a *Answers) Handler(t testing.TB) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	for path, methods := range a.document["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			status, schema := success(op.(map[string]any))
			if schema == nil && status != http.StatusNoContent {
				continue // a stream, or the document itself
			}
			route := strings.ToUpper(method) + " " + path
			mux.HandleFunc(route, func(w http.ResponseWriter, _ *http.Request) {
				a.mu.Lock()
				defer a.mu.Unlock()
				// Every other page is the last one, so that lists end.
				a.more = a.asked[route]%2 == 0
				a.asked[route]++
				w.Header().Set("ETag", `"1"`)
				if schema == nil {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				if err := json.NewEncoder(w).Encode(a.of(schema, 0)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return mux
}

// success is the status of an operation's success, and the schema of its JSON; nil if it has none.
func success(op map[string]any) (status int, schema map[string]any) {
	for code, response := range op["responses"].(map[string]any) {
		n, err := strconv.Atoi(code)
		if err != nil {
			continue // what is for all others
		}
		content, _ := response.(map[string]any)["content"].(map[string]any)
		media, _ := content["application/json"].(map[string]any)
		schema, _ = media["schema"].(map[string]any)
		status = n
	}
	return status, schema
}

// of makes a value of a schema.
func (a *Answers) of(schema map[string]any, depth int) any {
	if ref, ok := schema["$ref"].(string); ok {
		return a.of(a.find(ref), depth)
	}
	switch schema["type"] {
	case "object":
		o := map[string]any{}
		if each, ok := schema["additionalProperties"].(map[string]any); ok {
			o[a.Text()] = a.of(each, depth+1)
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
		return a.Variant%2 == 0
	}
	return a.text(schema)
}

func (a *Answers) text(schema map[string]any) any {
	description, _ := schema["description"].(string)
	switch values, ok := schema["enum"].([]any); {
	case ok:
		return values[a.Variant%len(values)]
	case schema["format"] == "date-time":
		return "2026-03-01T12:00:00Z"
	case schema["pattern"] == "^[0-9]+$":
		return "2"
	case schema["pattern"] != nil:
		return strings.Repeat("0", 64)
	case schema["contentEncoding"] != nil:
		return "AA=="
	case strings.Contains(description, "90m"):
		return "90m"
	}
	return a.Text()
}

func (a *Answers) find(ref string) map[string]any {
	v := any(a.document)
	for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		v = v.(map[string]any)[name]
	}
	return v.(map[string]any)
}

package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/go-teep/teep/tam"
)

// object is a JSON object of the OpenAPI document; encoding/json writes its members in order.
type object map[string]any

func (h *handler) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(h.document) // see Problem.write
	return nil
}

// document makes the OpenAPI 3.1 document of the routes. Schemas come from the Go types that are
// encoded and decoded.
func (c Config) document() ([]byte, error) {
	s := schemas{}
	paths := map[string]object{}
	for _, r := range c.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(method)] = r.operation(method, path, s)
	}
	s.of(Problem{}, false)
	data, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "TAM operator API", "version": "1",
			"description": "Publish components, look at devices and say what they should have. Errors are problem details (RFC 9457) whose member next says what to do.",
		},
		"paths": paths,
		"components": object{
			"schemas": s,
			"securitySchemes": object{
				"token":       object{"type": "http", "scheme": "bearer", "description": "A token that the TAM's administrator made."},
				"account":     object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of the identity provider that the TAM's configuration names, if it does, which grants the scopes."},
				"certificate": object{"type": "mutualTLS", "description": "A client certificate of an authority that the TAM's configuration names, if it does, which grants the scopes."},
			},
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("api: OpenAPI document: %w", err)
	}
	return data, nil
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func (r route) operation(method, path string, s schemas) object {
	op := object{"summary": r.summary, "operationId": operationID(method, path), "responses": r.responses(s)}
	if r.public {
		op["security"] = []object{}
	} else {
		op["security"] = []object{{"token": []string{}}, {"account": []string{}}, {"certificate": []string{}}}
		op["description"] = "Needs a token with one of the scopes " + r.needs() + "."
	}
	if parameters := r.parameters(method, path); len(parameters) > 0 {
		op["parameters"] = parameters
	}
	switch {
	case r.in != nil:
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": s.of(r.in, true)}}}
	case r.inMedia != "":
		op["requestBody"] = object{"required": true, "content": object{r.inMedia: object{}}}
	}
	return op
}

// operationID makes a name for generated clients: getDevicesIdEvents.
func operationID(method, path string) string {
	id := strings.ToLower(method)
	for _, word := range regexp.MustCompile(`[a-z]+`).FindAllString(strings.TrimPrefix(path, "/v1"), -1) {
		id += strings.ToUpper(word[:1]) + word[1:]
	}
	return id
}

// parameterTexts describes parameters by name.
var parameterTexts = map[string]string{
	"manifest":       "component identifier: segments as 'text' or h'hex', joined by slashes, percent-encoded as a whole",
	"sequence":       "sequence number",
	"id":             "ID, as lists show it",
	"name":           "name",
	queryAfter:       "next of the page before",
	queryLimit:       "entries in a page, 1 to 1000; 100 where it is left out",
	queryArchived:    "true for those that are archived; the others where it is left out",
	queryStatus:      "pending, accepted, blocked or retired",
	queryMatch:       "condition in CEL over what is known of a device; pages may be short, and next leads on",
	queryUEID:        "attested UEID, hexadecimal: the TEEs of one device; goes with no other filter",
	queryOrder:       "oldest or newest, for what comes first; oldest where it is left out",
	"key":            "thumbprint of a key, or SHA-256 of a certificate, hexadecimal",
	queryAttestation: "none, affirming, warning or contraindicated",
}

// parameterSchemas are those of parameters that are more than texts.
var parameterSchemas = map[string]object{
	"sequence":       {"type": "string", "pattern": "^[0-9]+$"},
	"key":            {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
	queryLimit:       {"type": "integer", "minimum": 1, "maximum": maxPage, "default": defaultPage},
	queryArchived:    {"type": "boolean", "default": false},
	queryOrder:       enum("oldest", "newest"),
	queryStatus:      enum(tam.DevicePending, tam.DeviceAccepted, tam.DeviceBlocked, tam.DeviceRetired),
	queryAttestation: enum(attestations...),
	queryUEID:        {"type": "string", "pattern": "^([0-9a-fA-F]{2})+$"},
}

func (r route) parameters(method, path string) []object {
	var list []object
	add := func(name, in, text string, required bool) {
		schema, special := parameterSchemas[name]
		if !special {
			schema = object{"type": "string"}
		}
		list = append(list, object{"name": name, "in": in, "required": required, "description": text, "schema": schema})
	}
	for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
		add(m[1], "path", parameterTexts[m[1]], true)
	}
	for _, name := range r.query {
		add(name, "query", parameterTexts[name], false)
	}
	if method == http.MethodPost && !r.streamed {
		add(idempotencyHeader, "header", "a key of your choice: repeated with it, the request is executed once and answered alike for a day", false)
	}
	if r.conditional && method != http.MethodGet {
		add("If-Match", "header", "entity tag that the record must have", false)
	}
	if r.conditional {
		add("If-None-Match", "header", "entity tag that the record must not have; * for none at all", false)
	}
	return list
}

func (r route) responses(s schemas) object {
	ok := object{"description": "done"}
	switch {
	case r.out != nil:
		ok["content"] = object{"application/json": object{"schema": s.of(r.out, false)}}
	case r.outMedia != "":
		ok["content"] = object{r.outMedia: object{}}
	}
	if r.conditional && r.out != nil {
		ok["headers"] = object{"ETag": object{"schema": object{"type": "string"}}}
	}
	return object{
		fmt.Sprint(r.success()): ok,
		"default": object{
			"description": "problem",
			"content":     object{problemMediaType: object{"schema": object{"$ref": "#/components/schemas/Problem"}}},
		},
	}
}

func (r route) success() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// enum writes the values of a string type.
func enum[T ~string](values ...T) object {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	slices.Sort(list)
	return object{"type": "string", "enum": list}
}

package api

import (
	"encoding/json"
	"fmt"
	"github.com/go-teep/teep/suit"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
)

// served is the document as the service serves it.
func (s *service) served() map[string]any {
	s.t.Helper()
	res, err := s.server.Client().Get(s.server.URL + "/v1/openapi.json")
	must(s.t, err)
	defer res.Body.Close()
	var doc map[string]any
	must(s.t, json.NewDecoder(res.Body).Decode(&doc))
	return doc
}

func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			t.Fatalf("the document has no %s at %q", strings.Join(path, " → "), name)
		}
		v = m[name]
	}
	return v
}

// TestDocumentListsExactlyTheRoutes goes from the document to the running service and back: what is
// described exists and asks for a token where it says so, and what exists is described.
func TestDocumentListsExactlyTheRoutes(t *testing.T) {
	s := newService(t)
	doc := s.served()
	described := map[string]bool{}
	for path, item := range at(t, doc, "paths").(map[string]any) {
		for method, op := range item.(map[string]any) {
			pattern := strings.ToUpper(method) + " " + path
			described[pattern] = true
			m, p := concrete(pattern)
			status, problem := s.request(m, p, "", nil, "")
			public := len(op.(map[string]any)["security"].([]any)) == 0
			if public && status != http.StatusOK || !public && (status != http.StatusUnauthorized || problem.Code != "token") {
				t.Errorf("%s without a token: %d", pattern, status)
			}
		}
	}
	for _, r := range s.config.routes() {
		if !described[r.pattern] {
			t.Errorf("%s is not in the document", r.pattern)
		}
		delete(described, r.pattern)
	}
	if len(described) > 0 {
		t.Errorf("the document describes what does not exist: %v", described)
	}
	ids := map[any]bool{}
	for _, item := range at(t, doc, "paths").(map[string]any) {
		for _, op := range item.(map[string]any) {
			if id := at(t, op, "operationId"); ids[id] {
				t.Errorf("operationId %v is given twice", id)
			} else {
				ids[id] = true
			}
		}
	}
}

// validator checks values against the document's schemas, as far as they use them, and strictly: a
// member that is not described is a fault.
type validator struct {
	t   *testing.T
	doc map[string]any
}

func (v validator) check(where string, schema, value any) {
	v.t.Helper()
	m := schema.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		v.check(where, at(v.t, v.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...), value)
		return
	}
	switch m["type"] {
	case "object":
		v.object(where, m, value)
	case "array":
		list, ok := value.([]any)
		if !ok {
			v.t.Errorf("%s is %T, not an array", where, value)
		}
		for i, item := range list {
			v.check(fmt.Sprintf("%s[%d]", where, i), m["items"], item)
		}
	case "integer":
		if n, ok := value.(float64); !ok || n != float64(int64(n)) {
			v.t.Errorf("%s is %v, not an integer", where, value)
		}
	case "number":
		if _, ok := value.(float64); !ok {
			v.t.Errorf("%s is %T, not a number", where, value)
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			v.t.Errorf("%s is %T, not a boolean", where, value)
		}
	case "string":
		v.text(where, m, value)
	default:
		v.t.Errorf("%s: schema of unknown type %v", where, m["type"])
	}
}

func (v validator) object(where string, m map[string]any, value any) {
	o, ok := value.(map[string]any)
	if !ok {
		v.t.Errorf("%s is %T, not an object", where, value)
		return
	}
	if each := m["additionalProperties"]; each != nil && each != false {
		for name, member := range o {
			v.check(where+"."+name, each, member)
		}
		return
	}
	properties := m["properties"].(map[string]any)
	for name, member := range o {
		if properties[name] == nil {
			v.t.Errorf("%s.%s is not described", where, name)
			continue
		}
		v.check(where+"."+name, properties[name], member)
	}
	required, _ := m["required"].([]any)
	for _, name := range required {
		if _, ok := o[name.(string)]; !ok {
			v.t.Errorf("%s.%s is required and missing", where, name)
		}
	}
}

func (v validator) text(where string, m map[string]any, value any) {
	s, ok := value.(string)
	if !ok {
		v.t.Errorf("%s is %T, not a string", where, value)
		return
	}
	if values, ok := m["enum"].([]any); ok && !slices.Contains(values, any(s)) {
		v.t.Errorf("%s is %q, not one of %v", where, s, values)
	}
	if pattern, ok := m["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(s) {
		v.t.Errorf("%s is %q, which does not match %s", where, s, pattern)
	}
	if m["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			v.t.Errorf("%s: %v", where, err)
		}
	}
}

// TestParametersAreAsDescribed: what the schema of a query parameter allows is taken, and what it does not is refused.
func TestParametersAreAsDescribed(t *testing.T) {
	s := newService(t)
	doc, token := s.served(), s.token(ScopeAdministrator)
	tried := 0
	try := func(path, name, value string, ok bool) {
		tried++
		r := s.do("GET", path+"?"+url.Values{name: {value}}.Encode(), token, nil, "")
		if ok && r.status != http.StatusOK || !ok && (r.status != http.StatusBadRequest || !strings.Contains(r.body, "problem:"+name)) {
			t.Errorf("%s with %s=%q: %d %s", path, name, value, r.status, r.body)
		}
	}
	for path, item := range at(t, doc, "paths").(map[string]any) {
		op, ok := item.(map[string]any)["get"].(map[string]any)
		if parameters, _ := op["parameters"].([]any); ok && !strings.Contains(path, "{") && path != "/v1/events/stream" {
			for _, p := range parameters {
				name, schema := at(t, p, "name").(string), at(t, p, "schema").(map[string]any)
				bad, good := []string{}, []string{}
				switch {
				case at(t, p, "in") != "query":
					continue
				case schema["enum"] != nil:
					bad = []string{"x", "Newest", "oldest newest"}
					for _, value := range schema["enum"].([]any) {
						good = append(good, value.(string))
					}
				case schema["type"] == "integer":
					least, most := int(schema["minimum"].(float64)), int(schema["maximum"].(float64))
					good = []string{strconv.Itoa(least), strconv.Itoa(most)}
					bad = []string{strconv.Itoa(least - 1), strconv.Itoa(most + 1), "x", "1.5", "99999999999999999999"}
				case schema["type"] == "boolean":
					good, bad = []string{"true", "false"}, []string{"yes", "x"}
				case schema["pattern"] != nil:
					good, bad = []string{"00", "aB12"}, []string{"0", "xy", "00 "}
				}
				for _, value := range good {
					try(path, name, value, true)
				}
				for _, value := range bad {
					try(path, name, value, false)
				}
			}
		}
	}
	if tried < 80 {
		t.Errorf("only %d values tried", tried)
	}
}

// onePerPage: every list has pages, which together are the whole, and takes no cursor that it did not give.
func (s *service) onePerPage(r route, auth, path string, whole []any) {
	s.t.Helper()
	var seen []any
	for after := ""; ; {
		query := url.Values{queryLimit: {"1"}}
		if after != "" {
			query.Set(queryAfter, after)
		}
		answer := s.do(http.MethodGet, path+choose(strings.Contains(path, "?"), "&", "?")+query.Encode(), strings.TrimPrefix(auth, "Bearer "), nil, "")
		var p Page[any]
		must(s.t, json.Unmarshal([]byte(answer.body), &p))
		if answer.status != http.StatusOK || len(p.Items) > 1 {
			s.t.Errorf("%s with one item a page: %d, %d items", r.pattern, answer.status, len(p.Items))
			return
		}
		seen = append(seen, p.Items...)
		if after = p.Next; after == "" || len(seen) > len(whole) {
			break
		}
	}
	if !reflect.DeepEqual(seen, whole) {
		s.t.Errorf("%s: page by page %v, at once %v", r.pattern, seen, whole)
	}
	if !slices.Contains(r.query, queryAfter) || !slices.Contains(r.query, queryLimit) {
		s.t.Errorf("%s is a list, and its pages are not described", r.pattern)
	}
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// TestAnswersAreAsDescribed makes one request to every route and holds what goes in and comes out
// against the document.
func TestAnswersAreAsDescribed(t *testing.T) {
	s := newService(t)
	v := validator{t, s.served()}
	auth := "Bearer " + s.token(ScopeAdministrator)
	s.device(t.Context())
	s.recorded(t.Context())
	installed := []tam.InstalledCount{{Manifest: suit.NewComponentID("acme"), Sequence: 1, Devices: 2}, {Manifest: suit.NewComponentID("acme"), Sequence: 2, Devices: 7}}
	for hours := range 2 {
		must(t, s.config.Store.AddField(t.Context(), s.now.Add(time.Duration(hours-1)*time.Hour), installed))
	}
	pem, err := s.author.Public().MarshalPEM()
	must(t, err)
	text := func(v any) string { data, err := json.Marshal(v); must(t, err); return string(data) }
	hook := tam.Webhook{ID: "hook", URL: "https://example.com", Created: s.now}
	must(t, s.config.Store.AddWebhook(t.Context(), hook))
	token := func() string {
		_, tok, err := IssueToken(t.Context(), s.config.Store, TokenRequest{Name: "other", Scopes: []Scope{ScopeAuditor}, Lifetime: time.Hour}, s.now, strings.NewReader(strings.Repeat("x", 40)))
		must(t, err)
		return tok.ID
	}()
	bodies := map[string]string{
		"POST /v1/publishers":                                text(NewPublisher{Name: "acme", Keys: []string{string(pem)}, Prefixes: []string{"'acme'"}}),
		"POST /v1/components":                                string(s.envelope(1, s.author)),
		"POST /v1/payloads":                                  "payload",
		"PUT /v1/policy/{manifest}":                          text(NewPolicy{Mode: "required", Devices: []string{"0123"}}),
		"POST /v1/webhooks":                                  text(NewWebhook{URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventFailed}}),
		"POST /v1/tokens":                                    text(NewToken{Name: "ci", Scopes: []Scope{ScopeAuditor}, Lifetime: Duration(time.Hour)}),
		"PATCH /v1/devices/{id}":                             text(DeviceChange{Status: "blocked"}),
		"POST /v1/content-keys":                              text(s.contentKey("'acme'/'app'/'suit'", 2)),
		"POST /v1/personalization":                           text(s.personalization("'acme'/'app'/'suit'", "'keys'/'licence'", "licence")),
		"POST /v1/components/{manifest}/{sequence}/withdraw": text(Withdrawal{Reason: "faulty"}),
	}
	maps.Copy(bodies, s.policyBodies(text))
	// What changes comes first and in this order, so that there is something to list.
	routes := s.config.routes()
	order := []string{"POST /v1/publishers", "POST /v1/components", "POST /v1/payloads", "PUT /v1/policy/{manifest}", "POST /v1/tokens", "PATCH /v1/devices/{id}",
		"PUT /v1/groups/{name}", "PUT /v1/domains/{name}", "PUT /v1/removals/{name}", "PUT /v1/admissions/{name}", "POST /v1/rollouts",
		"POST /v1/rollouts/{name}/approve", "POST /v1/rollouts/{name}/pause", "POST /v1/rollouts/{name}/resume",
		"POST /v1/rollouts/{name}/advance", "GET /v1/rollouts", "POST /v1/rollouts/{name}/abort", "POST /v1/rollouts/{name}/archive"}
	late := []string{"DELETE", "revoke", "withdraw"}
	rank := func(r route) int {
		if i := slices.Index(order, r.pattern); i >= 0 {
			return i - len(order)
		}
		if slices.ContainsFunc(late, func(l string) bool { return strings.Contains(r.pattern, l) }) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(routes, func(a, b route) int { return rank(a) - rank(b) })
	for _, r := range routes {
		method, path := concrete(r.pattern)
		if strings.Contains(r.pattern, "/tokens/{id}") {
			path = "/v1/tokens/" + token + "/revoke"
		}
		if strings.HasSuffix(r.pattern, "/{message}") {
			path = "/v1/devices/0123/messages/" + strconv.FormatInt(s.now.UnixMicro(), 10)
		}
		if strings.Contains(r.pattern, "/deposits/{id}") {
			list, err := s.client(ScopeAuditor).Deposits(t.Context(), "")
			must(t, err)
			path = "/v1/deposits/" + list.Items[0].ID
		}
		if strings.Contains(r.pattern, "/webhooks/{id}") {
			path = "/v1/webhooks/hook"
		}
		if strings.HasSuffix(r.pattern, "/withdraw") {
			path = "/v1/components/%27acme%27%2F%27app%27%2F%27suit%27/1/withdraw"
		}
		path, auth := s.policyPath(r.pattern, path, auth)
		op := at(t, v.doc, "paths", r.pattern[len(method)+1:], strings.ToLower(method))
		header := http.Header{}
		body := bodies[r.pattern]
		if body != "" {
			header.Set("Content-Type", "application/json")
			if r.inMedia != "" {
				header.Set("Content-Type", r.inMedia)
			} else {
				var in any
				must(t, json.Unmarshal([]byte(body), &in))
				v.check(r.pattern+" request", at(t, op, "requestBody", "content", "application/json", "schema"), in)
			}
		}
		v.answer(s, r, op, auth, path, header, body)
	}
}

func (v validator) answer(s *service, r route, op any, auth, path string, header http.Header, body string) {
	v.t.Helper()
	method, _, _ := strings.Cut(r.pattern, " ")
	req, err := http.NewRequestWithContext(v.t.Context(), method, s.server.URL+path, strings.NewReader(body))
	must(v.t, err)
	req.Header = header
	req.Header.Set("Authorization", auth)
	res, err := s.server.Client().Do(req)
	must(v.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(v.t, err)
	if res.StatusCode != r.success() {
		v.t.Errorf("%s answers %d: %s", r.pattern, res.StatusCode, data)
		return
	}
	response := at(v.t, op, "responses", fmt.Sprint(res.StatusCode)).(map[string]any)
	content, _ := response["content"].(map[string]any)
	media := res.Header.Get("Content-Type")
	if len(content) == 0 {
		if len(data) > 0 {
			v.t.Errorf("%s has a body that is not described", r.pattern)
		}
		return
	}
	if content[media] == nil {
		v.t.Errorf("%s answers %q, described are %v", r.pattern, media, content)
		return
	}
	if schema := content[media].(map[string]any)["schema"]; schema != nil {
		var out any
		must(v.t, json.Unmarshal(data, &out))
		v.check(r.pattern, schema, out)
		if items, ok := out.(map[string]any)["items"].([]any); ok {
			if len(items) == 0 {
				v.t.Errorf("%s lists nothing: the test proves nothing about it", r.pattern)
			}
			if method == http.MethodGet {
				s.onePerPage(r, auth, path, items)
			}
		}
	}
}

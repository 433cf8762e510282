package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// reply is a request's outcome with what [service.request] leaves out.
type reply struct {
	status int
	header http.Header
	body   string
}

func (s *service) do(method, path, token string, header map[string]string, body string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, strings.NewReader(body))
	must(s.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := s.server.Client().Do(req)
	must(s.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(s.t, err)
	return reply{res.StatusCode, res.Header, string(data)}
}

func TestPolicyConditions(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeOperator)
	const path, required, forbidden = "/v1/policy/%27acme%27", `{"mode":"required"}`, `{"mode":"forbidden"}`
	if r := s.do("GET", path, token, nil, ""); r.status != http.StatusNotFound {
		t.Fatalf("no policy: %d", r.status)
	}
	if r := s.do("PUT", path, token, map[string]string{"If-Match": "*"}, required); r.status != http.StatusPreconditionFailed {
		t.Errorf("If-Match: * without a record: %d", r.status)
	}
	first := s.do("PUT", path, token, map[string]string{"If-None-Match": "*"}, required)
	tag := first.header.Get("ETag")
	if first.status != http.StatusOK || tag == "" {
		t.Fatalf("%+v", first)
	}
	if r := s.do("GET", path, token, nil, ""); r.header.Get("ETag") != tag {
		t.Errorf("GET has tag %s, PUT had %s", r.header.Get("ETag"), tag)
	}
	if r := s.do("GET", path, token, map[string]string{"If-None-Match": tag}, ""); r.status != http.StatusNotModified || r.body != "" {
		t.Errorf("unchanged: %d", r.status)
	}
	for name, header := range map[string]map[string]string{
		"exists":     {"If-None-Match": "*"},
		"other tag":  {"If-Match": `"0"`},
		"weak":       {"If-Match": "W/" + tag},
		"unquoted":   {"If-Match": strings.Trim(tag, `"`)},
		"not in it":  {"If-Match": `"a", "b"`},
		"is in it":   {"If-None-Match": `"a", ` + tag},
		"both wrong": {"If-Match": `"a"`, "If-None-Match": "*"},
	} {
		for _, method := range []string{"PUT", "DELETE"} {
			body := forbidden
			if method == "DELETE" {
				body = ""
			}
			if r := s.do(method, path, token, header, body); r.status != http.StatusPreconditionFailed {
				t.Errorf("%s with %s: %d", method, name, r.status)
			}
		}
	}
	second := s.do("PUT", path, token, map[string]string{"If-Match": `"a", ` + tag}, forbidden)
	if second.status != http.StatusOK || second.header.Get("ETag") == tag {
		t.Errorf("%+v", second)
	}
	if r := s.do("DELETE", path, token, map[string]string{"If-Match": tag}, ""); r.status != http.StatusPreconditionFailed {
		t.Errorf("deleted what someone had changed: %d", r.status)
	}
	if r := s.do("DELETE", path, token, map[string]string{"If-Match": second.header.Get("ETag")}, ""); r.status != http.StatusNoContent {
		t.Errorf("delete: %d", r.status)
	}
	if r := s.do("POST", "/v1/tokens/x/revoke", s.token(ScopeAdministrator), map[string]string{"If-Match": tag}, ""); r.status != http.StatusBadRequest || !strings.Contains(r.body, "precondition") {
		t.Errorf("a condition that nobody looks at: %d %s", r.status, r.body)
	}
}

func TestIdempotency(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeAdministrator)
	const body = `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`
	once := map[string]string{idempotencyHeader: "key 1"}
	first := s.do("POST", "/v1/tokens", token, once, body)
	if first.status != http.StatusCreated || first.header.Get(replayedHeader) != "" {
		t.Fatalf("%+v", first)
	}
	again := s.do("POST", "/v1/tokens", token, once, body)
	if again.status != first.status || again.body != first.body || again.header.Get(replayedHeader) != "true" ||
		again.header.Get("Content-Type") != first.header.Get("Content-Type") {
		t.Errorf("repeated: %+v", again)
	}
	if r := s.do("POST", "/v1/tokens", token, map[string]string{idempotencyHeader: "key 2"}, body); r.body == first.body || r.status != http.StatusCreated {
		t.Error("another key did nothing new")
	}
	if r := s.do("POST", "/v1/tokens", s.token(ScopeAdministrator), once, body); r.body == first.body || r.status != http.StatusCreated {
		t.Error("one caller's key is another's answer")
	}
	for name, change := range map[string][2]string{
		"body": {"/v1/tokens", strings.Replace(body, "ci", "cd", 1)}, "path": {"/v1/publishers", body},
	} {
		if r := s.do("POST", change[0], token, once, change[1]); r.status != http.StatusUnprocessableEntity || !strings.Contains(r.body, "idempotency-key-reused") {
			t.Errorf("another %s: %d %s", name, r.status, r.body)
		}
	}
	for _, bad := range []string{"\t", strings.Repeat("x", 256), "é"} {
		if r := s.do("POST", "/v1/tokens", token, map[string]string{idempotencyHeader: "k" + bad}, body); r.status != http.StatusBadRequest && r.status != http.StatusCreated || bad != "\t" && r.status == http.StatusCreated {
			t.Errorf("key %q: %d", bad, r.status)
		}
	}
	refused := s.do("POST", "/v1/publishers/none/revoke", token, once3, "")
	if r := s.do("POST", "/v1/publishers/none/revoke", token, once3, ""); refused.status != http.StatusNotFound || r.body != refused.body || r.header.Get(replayedHeader) == "" {
		t.Errorf("a refusal is an answer too: %+v", r)
	}
	s.now = s.now.Add(25 * time.Hour)
	if r := s.do("POST", "/v1/publishers/none/revoke", s.token(ScopeAdministrator), once3, ""); r.header.Get(replayedHeader) != "" {
		t.Error("remembered for more than a day")
	}
}

var once3 = map[string]string{idempotencyHeader: "key 3"}

// TestRememberedAnswersAreSealed: the database does not hold the token that an answer holds.
func TestRememberedAnswersAreSealed(t *testing.T) {
	s := newService(t)
	keep := &keeper{Store: s.config.Store}
	s.config.Store = keep
	handler, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = handler
	r := s.do("POST", "/v1/tokens", s.token(ScopeAdministrator), once3, `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`)
	var made Token
	must(t, json.Unmarshal([]byte(r.body), &made))
	if made.Secret == "" || len(keep.answer) == 0 {
		t.Fatalf("%+v", r)
	}
	if bytes.Contains(keep.answer, []byte(made.Secret)) || bytes.Contains(keep.answer, []byte("auditor")) {
		t.Error("the answer is stored in the clear")
	}
}

type keeper struct {
	Store
	answer []byte
}

func (k *keeper) CompleteRequest(ctx context.Context, id, answer []byte) error {
	k.answer = answer
	return k.Store.CompleteRequest(ctx, id, answer)
}

func TestConcurrentRepetitions(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeAdministrator)
	var mu sync.Mutex
	var wg sync.WaitGroup
	statuses := map[int]int{}
	for range 8 {
		wg.Go(func() {
			r := s.do("POST", "/v1/tokens", token, once3, `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`)
			mu.Lock()
			defer mu.Unlock()
			statuses[r.status]++
		})
	}
	wg.Wait()
	list, err := s.config.Store.ListAPITokens(t.Context(), "", 100)
	must(t, err)
	if len(list) != 2 || statuses[http.StatusCreated]+statuses[http.StatusConflict] != 8 {
		t.Errorf("%d tokens, answers %v", len(list), statuses)
	}
}

func TestAudit(t *testing.T) {
	s := newService(t)
	s.addAuthor("acme", s.author)
	operator := s.client(ScopeOperator)
	_, err := operator.SetPolicy(t.Context(), "'acme'", NewPolicy{Mode: tam.ModeRequired})
	must(t, err)
	must(t, operator.DeletePolicy(t.Context(), "'acme'"))
	auditor := s.client(ScopeAuditor)
	page, err := auditor.Audit(t.Context(), "")
	must(t, err)
	var export bytes.Buffer
	must(t, auditor.ExportAudit(t.Context(), &export))
	report, err := audit.Verify(&export)
	must(t, err)
	head, err := auditor.AuditHead(t.Context())
	must(t, err)
	if report.Head != *head || report.Entries != len(page.Items) || !report.Complete() {
		t.Errorf("export has %d entries to %v, the TAM %d to %v", report.Entries, report.Head, len(page.Items), head)
	}
	seen := ""
	for _, e := range page.Items {
		seen += fmt.Sprintf("%s by %s %q\n", e.Action, e.Via, e.Actor)
	}
	for _, want := range []string{`publisher.add by api "test"`, `policy.set by api "test"`, `policy.delete by api "test"`, `token.create by tam`} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %s in\n%s", want, seen)
		}
	}
	if strings.Contains(fmt.Sprint(page.Items), "teep_") {
		t.Error("a token is in the audit log")
	}
}

func TestDeviceFilters(t *testing.T) {
	s := newService(t)
	s.device(t.Context())
	token := s.token(ScopeAuditor)
	for query, want := range map[string]int{
		"": 1, "?status=pending": 1, "?status=blocked": 0, "?attestation=affirming": 1, "?attestation=warning": 0,
		"?status=pending&attestation=affirming": 1, "?status=": 1, "?status=x": -1, "?attestation=x": -1,
		"?ueid=0102": 1, "?ueid=0102&limit=1": 1, "?ueid=0102&after=0123": 0, "?ueid=0102&after=0122": 1, "?ueid=03": 0, "?ueid=x": -1,
		"?ueid=0102&status=blocked": -1, "?ueid=0102&attestation=warning": -1, "?ueid=0102&match=false": -1,
	} {
		r := s.do("GET", "/v1/devices"+query, token, nil, "")
		if want < 0 {
			if r.status != http.StatusBadRequest {
				t.Errorf("%s: %d", query, r.status)
			}
			continue
		}
		var p Page[Device]
		must(t, json.Unmarshal([]byte(r.body), &p))
		if len(p.Items) != want {
			t.Errorf("%s: %d devices, want %d", query, len(p.Items), want)
		}
	}
}

// TestNamesAreVisible: a name that looks like another, or that a store cannot hold, is refused.
func TestNamesAreVisible(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeAdministrator)
	for _, name := range []string{`a\u0000b`, `a\u202eb`, `a\nb`, `a\u200bb`, `\ud800`} {
		for path, body := range map[string]string{
			"/v1/publishers": `{"name":"` + name + `","keys":[],"prefixes":[]}`,
			"/v1/tokens":     `{"name":"` + name + `","scopes":["auditor"],"lifetime":"1h"}`,
		} {
			if r := s.do("POST", path, token, nil, body); r.status != http.StatusBadRequest || !strings.Contains(r.body, "not visible") {
				t.Errorf("%s %s: %d %s", path, name, r.status, r.body)
			}
		}
	}
}

// TestUnknownQueries: a parameter that a route does not have is refused, and does not pass for a filter.
func TestUnknownQueries(t *testing.T) {
	s := newService(t)
	token := s.token(ScopeAdministrator)
	for path, names := range map[string]string{
		"/v1/devices?state=blocked": "status", "/v1/devices?status=blocked&x": "status", "/v1/devices?Limit=5": "limit",
		"/v1/devices?status=blocked&status=pending": "twice", "/v1/devices?status=%zz": "percent-encode", "/v1/devices?status=blocked;limit=1": "percent-encode",
		"/v1/policy/%27a%27?after=x": "leave it out", "/v1/overview?x=1": "leave it out", "/v1/rollouts?archive=true": "archived",
	} {
		if r := s.do("GET", path, token, nil, ""); r.status != http.StatusBadRequest || !strings.Contains(r.body, `"query"`) || !strings.Contains(r.body, names) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := s.do("GET", "/v1/devices?state=x", "nobody", nil, ""); r.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", r.status)
	}
	for _, path := range []string{"/v1/livez?x=1", "/v1/devices?status=blocked&limit=5"} {
		if r := s.do("GET", path, token, nil, ""); r.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

const appManifest = "'acme'/'app'/'suit'"

// fleet adds n accepted devices with the label n=0, n=1 and so on.
func (s *service) fleet(n int) {
	s.t.Helper()
	for i := range n {
		must(s.t, s.config.Store.CommitExchange(s.t.Context(), tam.Exchange{Device: &tam.Device{
			ID: fmt.Sprintf("dev%02d", i), KeyThumbprint: bytes.Repeat([]byte{byte(i), 2}, 16), AgentKey: []byte{byte(i)},
			Status: tam.DeviceAccepted, FirstSeen: s.now, LastSeen: s.now, UEID: []byte{7, byte(i / 2)},
			Attestation: tam.Attestation{Status: attest.StatusAffirming, At: s.now},
			Labels:      map[string]string{"n": fmt.Sprint(i), "site": map[bool]string{true: "lab", false: "field"}[i%2 == 0]},
		}}))
	}
}

func (s *service) policyBodies(text func(any) string) map[string]string {
	s.t.Helper()
	s.fleet(4)
	pem, err := key(s.t, cose.AlgESP256).Public().MarshalPEM()
	must(s.t, err)
	stages := []policy.Stage{{Percent: 50, Soak: policy.Duration(time.Minute), Success: 99.5}, {Percent: 100}}
	start := s.now
	rollout := NewRollout{Name: "acme", Manifest: appManifest, Sequence: 9, Match: "true", Stages: stages, Approval: true, Start: &start,
		Windows: []policy.Window{{Days: []string{"sun"}, From: "00:00", To: "23:59", Zone: "UTC"}}}
	group := policy.Group{Match: "labels.site == 'lab'", Priority: 1, Components: []policy.Component{{Manifest: appManifest, Mode: "required", Sequence: 1}}}
	proposal := rollout
	proposal.Name, proposal.Sequence = "other", 8
	return map[string]string{
		"PUT /v1/groups/{name}":                          text(group),
		"PUT /v1/domains/{name}":                         text(policy.Domain{Owner: "acme", Manifests: []string{"'acme'/'a'", "'acme'/'b'"}}),
		"PUT /v1/removals/{name}":                        text(policy.Removal{Manifest: "'acme'/'c'", Match: "id != ''", Reason: "stolen"}),
		"PUT /v1/admissions/{name}":                      text(policy.Admission{Match: "hwmodel == '00'", Labels: map[string]string{"site": "lab"}}),
		"POST /v1/rollouts":                              text(rollout),
		"POST /v1/rollouts/{name}/abort":                 text(Withdrawal{Reason: "faulty"}),
		"POST /v1/preview":                               text(Proposal{Rollout: &proposal, MaxDevices: 3, Examples: 5}),
		"POST /v1/appraisal-policy/check":                text(NewAppraisalPolicy{Policy: anAppraisalPolicy}),
		"POST /v1/devices/{id}/replace":                  text(Replacement{Device: "dev00"}),
		"POST /v1/publishers/{name}/keys":                text(NewKeys{Keys: []string{string(pem)}}),
		"POST /v1/publishers/{name}/keys/{key}/withdraw": text(KeyWithdrawal{Reason: "lost", Remove: true}),
		"POST /v1/publishers/{name}/revocation-lists":    text(NewRevocationLists{Remove: new(bool)}),
	}
}

// policyPath gives some routes a path with something behind it, and makes the time pass that they need.
func (s *service) policyPath(pattern, path, auth string) (string, string) {
	s.t.Helper()
	switch {
	case strings.Contains(pattern, "{key}"):
		path = strings.Replace(path, strings.Repeat("00", 32), hex.EncodeToString(s.author.Thumbprint()), 1)
		if strings.HasPrefix(path, "/v1/components") {
			path = "/v1/publishers/acme/keys/" + hex.EncodeToString(s.author.Thumbprint()) + "/withdraw"
		}
	case strings.HasSuffix(pattern, "/{sequence}/devices"):
		path = "/v1/components/%27acme%27%2F%27app%27%2F%27suit%27/18446744073709551615/devices"
	case strings.HasSuffix(pattern, "/replace"):
		path = "/v1/devices/dev01/replace"
	case strings.HasSuffix(pattern, "/approve"):
		secret, _, err := IssueToken(s.t.Context(), s.config.Store, TokenRequest{Name: "second", Owner: "second@example.com", Scopes: []Scope{ScopeOperator}, Lifetime: time.Hour}, s.now, bytes.NewReader(bytes.Repeat([]byte("z"), 40)))
		must(s.t, err)
		auth = "Bearer " + secret
	case strings.HasSuffix(pattern, "/advance"):
		must(s.t, s.core().AdvanceRollouts(s.t.Context()))
	}
	return path, auth
}

func (s *service) core() *tam.TAM { return s.config.TAM.(*tam.TAM) }

func refused(t *testing.T, err error, status int, code string) *Problem {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Status != status || p.Code != code {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	return p
}

func (s *service) put(path string, v any) error {
	return s.client(ScopeOperator).call(s.t.Context(), http.MethodPut, path, v, nil)
}

func require(manifest string, priority int) policy.Group {
	return policy.Group{Match: "true", Priority: priority, Components: []policy.Component{{Manifest: manifest, Mode: tam.ModeRequired}}}
}

// TestConflictsNameBothSides: what contradicts itself is refused, and says between whom.
func TestConflictsNameBothSides(t *testing.T) {
	s := newService(t)
	must(t, s.put("/v1/groups/one", require(appManifest, 1)))
	forbid := require(appManifest, 1)
	forbid.Components[0].Mode = tam.ModeForbidden
	p := refused(t, s.put("/v1/groups/two", forbid), http.StatusConflict, "policy-conflict")
	if len(p.Conflicts) != 1 || p.Conflicts[0].Left != "group one" || p.Conflicts[0].Right != "group two" || p.Conflicts[0].Manifest != appManifest {
		t.Errorf("conflicts %+v", p.Conflicts)
	}
	forbid.Priority = 2 // now it is clear which one counts
	must(t, s.put("/v1/groups/two", forbid))
	preview, err := s.client(ScopeOperator).Preview(t.Context(), Proposal{Group: &policy.Group{Name: "three", Match: "true", Priority: 2,
		Components: []policy.Component{{Manifest: appManifest, Mode: tam.ModeRequired}}}})
	must(t, err)
	if len(preview.Conflicts) != 1 {
		t.Errorf("the preview shows %d conflicts, want 1", len(preview.Conflicts))
	}
}

func TestGroupsAreRefused(t *testing.T) {
	s := newService(t)
	for name, g := range map[string]policy.Group{
		"syntax":          {Match: "labels.site =="},
		"unknown name":    {Match: "lables.site == 'a'"},
		"type":            {Match: "id"},
		"type of compare": {Match: "id == 1"},
		"empty":           {},
		"mode":            {Match: "true", Components: []policy.Component{{Manifest: "'a'", Mode: "must"}}},
		"no target":       {Match: "true", Components: []policy.Component{{Mode: tam.ModeRequired}}},
		"no domain":       {Match: "true", Components: []policy.Component{{Domain: "nowhere", Mode: tam.ModeRequired}}},
		"identifier":      {Match: "true", Components: []policy.Component{{Manifest: "h'zz'", Mode: tam.ModeRequired}}},
		"twice":           {Match: "true", Components: []policy.Component{{Manifest: "'a'", Mode: tam.ModeRequired}, {Manifest: "h'61'", Mode: tam.ModeForbidden}}},
		"too long":        {Match: "id == '" + strings.Repeat("x", policy.MaxCondition) + "'"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			p := refused(t, s.put("/v1/groups/g", g), http.StatusUnprocessableEntity, "policy")
			if p.Detail == "" {
				t.Error("it does not say what is wrong")
			}
		})
	}
	s.t = t
	for _, name := range []string{"a%20b", "%C3%BC", strings.Repeat("x", 65), "a%2Fb"} {
		if err := s.put("/v1/groups/"+name, require("'a'", 1)); err == nil {
			t.Errorf("a group called %s was saved", name)
		}
	}
	refused(t, s.put("/v1/groups/g", policy.Group{Name: "h", Match: "true"}), http.StatusBadRequest, "name")
}

func TestRecordConditions(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(ScopeOperator), t.Context()
	put := func(header, value string) error {
		body := `{"match":"true","priority":1,"components":[]}`
		return c.sendIf(ctx, map[string]string{header: value}, http.MethodPut, "/v1/groups/g", "application/json", []byte(body), nil)
	}
	tag := func() string {
		t.Helper()
		r, err := s.config.Store.PolicyRecord(ctx, tam.KindGroup, "g")
		must(t, err)
		return revisionTag(r.Revision)
	}
	refused(t, put("If-Match", `"1"`), http.StatusPreconditionFailed, "changed")
	must(t, put("If-None-Match", "*"))
	refused(t, put("If-None-Match", "*"), http.StatusPreconditionFailed, "changed")
	first := tag()
	must(t, put("If-Match", first))
	refused(t, put("If-Match", first), http.StatusPreconditionFailed, "changed")
	refused(t, c.sendIf(ctx, map[string]string{"If-Match": first}, http.MethodDelete, "/v1/groups/g", "", nil, nil), http.StatusPreconditionFailed, "changed")
	must(t, c.sendIf(ctx, map[string]string{"If-Match": tag()}, http.MethodDelete, "/v1/groups/g", "", nil, nil))
	refused(t, c.call(ctx, http.MethodDelete, "/v1/groups/g", nil, nil), http.StatusNotFound, "not-found")
	// Who saw the group that was there before does not change the one that is there now.
	must(t, put("If-None-Match", "*"))
	refused(t, put("If-Match", first), http.StatusPreconditionFailed, "changed")
	// The tag of an answer is that of the record.
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, s.server.URL+"/v1/groups/new", strings.NewReader(`{"match":"true","priority":1,"components":[]}`))
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+s.token(ScopeOperator))
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	answer.Body.Close()
	if r, err := s.config.Store.PolicyRecord(ctx, tam.KindGroup, "new"); err != nil || answer.Header.Get("ETag") != revisionTag(r.Revision) {
		t.Errorf("tag %s of %+v, %v", answer.Header.Get("ETag"), r, err)
	}
}

func TestLabelsAndMatching(t *testing.T) {
	s := newService(t)
	s.fleet(6)
	c, ctx := s.client(ScopeOperator), t.Context()
	d, err := c.ChangeDevice(ctx, "dev01", DeviceChange{Labels: map[string]string{"site": "lab", "n": ""}})
	must(t, err)
	if d.Labels["site"] != "lab" || len(d.Labels) != 1 || d.Status != tam.DeviceAccepted {
		t.Errorf("labels %v, status %s", d.Labels, d.Status)
	}
	events, err := s.client(ScopeAuditor).Events(ctx, "dev01", "")
	must(t, err)
	if detail := events.Items[0].Detail; !strings.HasPrefix(detail, "labels n removed, site=lab by ") {
		t.Errorf("the history says %q", detail)
	}
	page, err := c.MatchingDevices(ctx, `labels[?"site"].orValue("") == "lab"`, "")
	must(t, err)
	if len(page.Items) != 4 {
		t.Errorf("%d devices are in the lab, want 4", len(page.Items))
	}
	// A label that is not there makes the condition not hold; it is no error.
	page, err = c.MatchingDevices(ctx, `labels.n == "2"`, "")
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].ID != "dev02" {
		t.Errorf("found %+v", page.Items)
	}
	_, err = c.MatchingDevices(ctx, "labels.n ==", "")
	refused(t, err, http.StatusUnprocessableEntity, "policy")
	for name, labels := range map[string]map[string]string{
		"invisible": {"a": "x\x00"}, "control in value": {"a": "a\nb"}, "long value": {"a": strings.Repeat("x", 200)},
		"name": {"a b": "x"}, "empty name": {"": "x"},
	} {
		if _, err := c.ChangeDevice(ctx, "dev02", DeviceChange{Labels: labels}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err = c.ChangeDevice(ctx, "dev02", DeviceChange{})
	refused(t, err, http.StatusBadRequest, "status")
	tees, err := c.TEEs(ctx, "0700")
	must(t, err)
	if len(tees.Items) != 2 {
		t.Errorf("%d TEEs share a UEID, want 2", len(tees.Items))
	}
}

func TestReplacementIsRefused(t *testing.T) {
	s := newService(t)
	s.fleet(8)
	c, ctx := s.client(ScopeOperator), t.Context()
	change := func(id string, f func(*tam.Device)) {
		d, err := s.config.Store.Device(ctx, id)
		must(t, err)
		f(d)
		must(t, s.config.Store.UpdateDevice(ctx, d))
	}
	refuse := func(id, old string, why string) {
		t.Helper()
		_, err := c.ReplaceDevice(ctx, id, old)
		if p := refused(t, err, http.StatusUnprocessableEntity, "replacement"); !strings.Contains(p.Detail, why) {
			t.Errorf("%s for %s: %s", id, old, p.Detail)
		}
	}
	refuse("dev00", "dev00", "same record")
	refuse("dev00", "dev02", "UEIDs differ") // of different devices
	change("dev02", func(d *tam.Device) { d.Attestation.Status = attest.StatusWarning })
	refuse("dev02", "dev03", "newest attestation")
	change("dev05", func(d *tam.Device) { d.Status = tam.DeviceBlocked })
	refuse("dev04", "dev05", "blocked")
	refuse("dev05", "dev04", "blocked")
	change("dev06", func(d *tam.Device) { d.Status = tam.DeviceRetired })
	refuse("dev07", "dev06", "retired")
	_, err := c.ReplaceDevice(ctx, "dev00", "nowhere")
	refused(t, err, http.StatusNotFound, "not-found")

	d, err := c.ReplaceDevice(ctx, "dev01", "dev00")
	must(t, err)
	if d.Replaces != "dev00" || d.Status != tam.DeviceAccepted {
		t.Errorf("%+v", d)
	}
	old, err := c.Device(ctx, "dev00")
	must(t, err)
	if old.Status != tam.DeviceRetired || old.ReplacedBy != "dev01" {
		t.Errorf("the old record is %+v", old)
	}
	refuse("dev00", "dev01", "took part")
}

func TestRolloutNeedsASecondPerson(t *testing.T) {
	s := newService(t)
	s.config.RolloutApproval = true
	handler, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = handler
	person := func(name, owner string) *Client {
		secret, _, err := IssueToken(t.Context(), s.config.Store, TokenRequest{Name: name, Owner: owner, Scopes: []Scope{ScopeOperator}, Lifetime: time.Hour}, s.now, rand.Reader)
		must(t, err)
		return &Client{BaseURL: s.server.URL, HTTP: s.server.Client(), Token: secret}
	}
	one, ctx := person("test", "ann@example.com"), t.Context()
	_, err = person("nobody's", "").CreateRollout(ctx, NewRollout{Name: "r", Manifest: appManifest, Sequence: 2, Stages: []policy.Stage{{Percent: 100}}})
	refused(t, err, http.StatusForbidden, "unknown-person")
	r, err := one.CreateRollout(ctx, NewRollout{Name: "r", Manifest: appManifest, Sequence: 2, Stages: []policy.Stage{{Percent: 100}}})
	must(t, err)
	if r.State != policy.StateProposed {
		t.Fatalf("it is %s", r.State)
	}
	_, err = one.ActOnRollout(ctx, "r", policy.ActionApprove, "")
	refused(t, err, http.StatusForbidden, "same-person")
	// Another token of the same name is the same person, as far as anybody can see.
	_, err = s.client(ScopeOperator).ActOnRollout(ctx, "r", policy.ActionApprove, "")
	refused(t, err, http.StatusForbidden, "same-person")
	_, err = person("another", "Ann@example.com").ActOnRollout(ctx, "r", policy.ActionApprove, "")
	refused(t, err, http.StatusForbidden, "same-person")
	_, err = person("nobody's", "").ActOnRollout(ctx, "r", policy.ActionApprove, "")
	refused(t, err, http.StatusForbidden, "unknown-person")
	must(t, s.core().AdvanceRollouts(ctx))
	if r, err = one.Rollout(ctx, "r"); err != nil || r.State != policy.StateProposed {
		t.Fatalf("it began without approval: %+v, %v", r, err)
	}
	two := person("second", "bob@example.com")
	r, err = two.ActOnRollout(ctx, "r", policy.ActionApprove, "")
	must(t, err)
	if r.Approver != "second" {
		t.Errorf("approved by %q", r.Approver)
	}
	_, err = two.ActOnRollout(ctx, "r", policy.ActionApprove, "")
	refused(t, err, http.StatusConflict, "rollout-state")
	_, err = two.ActOnRollout(ctx, "nothing", policy.ActionPause, "")
	refused(t, err, http.StatusNotFound, "not-found")
	_, err = two.ActOnRollout(ctx, "r", policy.ActionAbort, "")
	refused(t, err, http.StatusBadRequest, "reason")
	_, err = one.CreateRollout(ctx, NewRollout{Name: "r", Manifest: appManifest, Sequence: 3, Stages: []policy.Stage{{Percent: 100}}})
	refused(t, err, http.StatusConflict, "exists")
	_, err = one.CreateRollout(ctx, NewRollout{Name: "r2", Manifest: appManifest, Sequence: 2, Stages: []policy.Stage{{Percent: 100}}})
	refused(t, err, http.StatusUnprocessableEntity, "policy") // one is under way for this version
}

// TestDomains: a domain is of one publisher, and no manifest is in two.
func TestDomains(t *testing.T) {
	s := newService(t)
	_, err := s.core().AddPublisher(context.Background(), "acme", []*cose.Key{s.author.Public()}, []suit.ComponentID{suit.NewComponentID("acme")})
	must(t, err)
	must(t, s.put("/v1/domains/d", policy.Domain{Owner: "acme", Manifests: []string{"'acme'/'a'", "'acme'/'b'"}}))
	for name, d := range map[string]policy.Domain{
		"foreign owner":    {Owner: "nobody", Manifests: []string{"'acme'/'c'"}},
		"foreign manifest": {Owner: "acme", Manifests: []string{"'other'/'c'"}},
		"twice":            {Owner: "acme", Manifests: []string{"'acme'/'c'", "h'61636d65'/'c'"}},
		"taken":            {Owner: "acme", Manifests: []string{"'acme'/'a'"}},
		"empty":            {Owner: "acme"},
	} {
		err := s.put("/v1/domains/e", d)
		if err == nil {
			t.Errorf("%s: saved", name)
			continue
		}
		refused(t, err, http.StatusUnprocessableEntity, "policy")
	}
	must(t, s.put("/v1/groups/g", policy.Group{Match: "true", Components: []policy.Component{{Domain: "d", Mode: tam.ModeRequired}}}))
	refused(t, s.client(ScopeOperator).call(t.Context(), http.MethodDelete, "/v1/domains/d", nil, nil), http.StatusUnprocessableEntity, "policy")
}

// TestTokensHaveOwners: who makes a token without saying for whom has one more, and not a second person.
func TestTokensHaveOwners(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	secret, _, err := IssueToken(ctx, s.config.Store, TokenRequest{Name: "root", Owner: "ann@example.com", Scopes: []Scope{ScopeAdministrator}, Lifetime: time.Hour}, s.now, rand.Reader)
	must(t, err)
	ann := &Client{BaseURL: s.server.URL, HTTP: s.server.Client(), Token: secret}
	for owner, want := range map[string]string{"": "ann@example.com", "bob@example.com": "bob@example.com"} {
		made, err := ann.AddToken(ctx, NewToken{Name: "new", Owner: owner, Scopes: []Scope{ScopeOperator}, Lifetime: Duration(time.Hour)})
		must(t, err)
		if made.Owner != want {
			t.Errorf("a token for %q is owned by %q", owner, made.Owner)
		}
	}
	for _, owner := range []string{"a\nb", " ann@example.com", strings.Repeat("a", 257)} {
		if _, err := ann.AddToken(ctx, NewToken{Name: "new", Owner: owner, Scopes: []Scope{ScopeOperator}, Lifetime: Duration(time.Hour)}); err == nil {
			t.Errorf("a token for %q was made", owner)
		}
	}
	list, err := s.config.Store.AuditEntries(ctx, 0, 100)
	must(t, err)
	if last := list[len(list)-1]; !strings.Contains(last.Detail, `owned by "`) {
		t.Errorf("the audit log does not say whose it is: %q", last.Detail)
	}
}

// rolloutKinds are the kinds of event of a rollout, oldest first.
func (s *service) rolloutKinds(name string) (kinds []tam.EventKind) {
	s.t.Helper()
	page, err := s.client(ScopeAuditor).FeedEvents(s.t.Context(), "")
	must(s.t, err)
	for _, e := range page.Items {
		if e.Rollout == name {
			if e.Device != "" || e.Detail == "" || e.At.IsZero() {
				s.t.Errorf("event %+v", e)
			}
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// TestRolloutIsToldOf: whoever follows the feed learns of every step of a rollout, of those that a person takes and
// of those that it takes by itself.
func TestRolloutIsToldOf(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.fleet(4)
	advance := func() {
		t.Helper()
		for range 3 {
			must(t, s.core().AdvanceRollouts(ctx))
		}
	}
	act := func(c *Client, name string, a policy.Action) {
		t.Helper()
		_, err := c.ActOnRollout(ctx, name, a, "why")
		must(t, err)
	}
	new := NewRollout{Name: "one", Manifest: appManifest, Sequence: 9, Stages: []policy.Stage{{Percent: 50, Soak: policy.Duration(time.Hour)}, {Percent: 100, Soak: policy.Duration(time.Hour)}}}
	first := s.client(ScopeOperator)
	_, err := first.CreateRollout(ctx, new)
	must(t, err)
	advance()
	entries, err := s.config.Store.AuditEntries(ctx, 0, 1000)
	must(t, err)
	var said []string
	for _, e := range entries {
		if e.Action == "rollout.progress" {
			said = append(said, e.Detail)
		}
	}
	if want := []string{"stage 1 opened: 50 percent", "its devices are being counted", "its 0 devices were counted"}; !slices.Equal(said, want) {
		t.Errorf("the audit log says %q, not %q", said, want)
	}
	act(first, "one", policy.ActionPause)
	act(first, "one", policy.ActionResume)
	act(first, "one", policy.ActionAdvance)
	act(first, "one", policy.ActionAdvance)
	if got, want := fmt.Sprint(s.rolloutKinds("one")), "[rollout-created rollout-started rollout-paused rollout-resumed rollout-stage rollout-done]"; got != want {
		t.Errorf("told of\n%s, not of\n%s", got, want)
	}
	new.Name, new.Sequence = "two", 10
	_, err = first.CreateRollout(ctx, new)
	must(t, err)
	advance()
	must(t, s.config.Store.CommitExchange(ctx, tam.Exchange{Counts: []tam.RolloutCount{{Rollout: "two", Progress: policy.ProgressFailed, Devices: 1}}}))
	advance()
	act(first, "two", policy.ActionArchive)
	if got, want := fmt.Sprint(s.rolloutKinds("two")), "[rollout-created rollout-started rollout-stopped rollout-archived]"; got != want {
		t.Errorf("told of\n%s, not of\n%s", got, want)
	}
	_, err = first.AddWebhook(ctx, NewWebhook{URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventRolloutStopped}})
	refused(t, err, http.StatusForbidden, "scope")
	_, err = s.client(ScopeAdministrator).AddWebhook(ctx, NewWebhook{URL: "https://example.com/hook", Kinds: []tam.EventKind{tam.EventRolloutStopped}})
	must(t, err)
}

// TestRolloutsAreTidiedUp: what ended can be archived, and removed once that changes nothing for any device.
func TestRolloutsAreTidiedUp(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.addAuthor("acme", s.author)
	c := s.client(ScopeOperator)
	new := NewRollout{Name: "one", Manifest: appManifest, Sequence: 1, Stages: []policy.Stage{{Percent: 100}}}
	_, err := c.CreateRollout(ctx, new)
	must(t, err)
	_, err = s.client(ScopePublisher).Publish(ctx, s.envelope(1, s.author))
	must(t, err)
	for _, a := range []func() error{
		func() error { _, err := c.ActOnRollout(ctx, "one", policy.ActionArchive, ""); return err },
		func() error { return c.DeleteRollout(ctx, "one") },
	} {
		if err := a(); err == nil || !strings.Contains(err.Error(), "scheduled") {
			t.Errorf("one that may still happen: %v", err)
		}
	}
	_, err = c.ActOnRollout(ctx, "one", policy.ActionAbort, "wrong build")
	must(t, err)
	// Its version is kept from devices by this rollout alone.
	if err := c.DeleteRollout(ctx, "one"); err == nil || !strings.Contains(err.Error(), "withdraw the version first") {
		t.Errorf("an aborted one whose version would get loose: %v", err)
	}
	_, err = c.ActOnRollout(ctx, "one", policy.ActionArchive, "")
	must(t, err)
	if _, err := c.ActOnRollout(ctx, "one", policy.ActionArchive, ""); err == nil {
		t.Error("archived twice")
	}
	for _, want := range []struct{ list, archived int }{{0, 1}, {0, 0}} {
		list, err := c.Rollouts(ctx, "")
		must(t, err)
		archived, err := c.ArchivedRollouts(ctx, "")
		must(t, err)
		if len(list.Items) != want.list || len(archived.Items) != want.archived {
			t.Errorf("%d rollouts and %d archived ones, want %+v", len(list.Items), len(archived.Items), want)
		}
		if want.archived == 1 {
			must(t, c.Withdraw(ctx, appManifest, 1, "faulty"))
			must(t, c.DeleteRollout(ctx, "one"))
		}
	}
	refused(t, c.DeleteRollout(ctx, "one"), http.StatusNotFound, "not-found")
	// A name under which devices were counted is not used again.
	must(t, s.config.Store.CommitExchange(ctx, tam.Exchange{Counts: []tam.RolloutCount{{Rollout: "one", Progress: policy.ProgressFailed, Devices: 1}}}))
	new.Sequence = 2
	_, err = c.CreateRollout(ctx, new)
	refused(t, err, http.StatusConflict, "exists")
	// One that is done and for everybody makes no difference.
	new.Name = "two"
	_, err = c.CreateRollout(ctx, new)
	must(t, err)
	_, err = s.client(ScopePublisher).Publish(ctx, s.envelope(2, s.author))
	must(t, err)
	must(t, s.core().AdvanceRollouts(ctx))
	_, err = c.ActOnRollout(ctx, "two", policy.ActionAdvance, "")
	must(t, err)
	must(t, c.DeleteRollout(ctx, "two"))
	status, _ := s.request("GET", "/v1/rollouts?archived=perhaps", "Bearer "+c.Token, nil, "")
	if status != http.StatusBadRequest {
		t.Errorf("archived=perhaps: %d", status)
	}
}

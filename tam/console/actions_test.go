package console

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// sends posts a form and wants to be led to a page.
func (s *service) sends(c *http.Client, csrf, path, to string, form url.Values) {
	s.t.Helper()
	form.Set("csrf", csrf)
	if r := s.post(c, path, form); r.status != http.StatusSeeOther || r.header.Get("Location") != Prefix+to {
		s.t.Errorf("POST %s: %d to %q: %s", path, r.status, r.header.Get("Location"), alertIn(r.body))
	}
}

// refused posts a form and wants it to be shown again, filled in, with a text that says why.
func (s *service) refused(c *http.Client, csrf, path string, form url.Values, status int, why string, kept ...string) {
	s.t.Helper()
	form.Set("csrf", csrf)
	r := s.post(c, path, form)
	shown := html.UnescapeString(r.body)
	if r.status != status || !strings.Contains(shown, why) || !strings.Contains(r.body, `role="alert"`) {
		s.t.Errorf("POST %s: %d: %s", path, r.status, alertIn(r.body))
	}
	for _, text := range kept {
		if !strings.Contains(shown, text) {
			s.t.Errorf("POST %s: what was written is gone: %q", path, text)
		}
	}
	inspect(s.t, path, r.body)
}

func alertIn(body string) string {
	return regexp.MustCompile(`(?s)role="alert">.*?</div>`).FindString(body)
}

// tagIn is the entity tag that the form of a page carries.
func (s *service) tagIn(c *http.Client, path string) string {
	s.t.Helper()
	found := regexp.MustCompile(`name="tag" value="([^"]*)"`).FindStringSubmatch(s.get(c, path).body)
	if found == nil {
		s.t.Fatalf("%s carries no entity tag", path)
	}
	return html.UnescapeString(found[1])
}

// TestRecordsAreNotOverwritten: what somebody saved since a form was opened stays, for every kind of record.
func TestRecordsAreNotOverwritten(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	must(t, s.store.AddPublisher(t.Context(), tam.Publisher{Name: "other", Prefixes: []suit.ComponentID{suit.NewComponentID("other")}, Created: s.now}))
	manifest := suit.NewComponentID("acme", hostile).String()
	for path, form := range map[string]url.Values{
		"groups":     {"name": {"edge"}, "match": {`hwversion == "x"`}, "priority": {"4"}, "components": {"available 'acme'/'new'"}},
		"domains":    {"name": {"edge"}, "owner": {"other"}, "manifests": {"'other'/'a'\r\n'other'/'b'"}},
		"admissions": {"name": {"edge"}, "match": {`oemid == "pen:1"`}, "labels": {"site=here"}},
		"removals":   {"name": {"edge"}, "target": {"'acme'/'leaks'"}, "reason": {"other"}},
		"policies":   {"manifest": {manifest}, "mode": {"available"}, "staged": {"yes"}},
	} {
		page := path + "/edge"
		if path == "policies" {
			page = path + "/" + url.PathEscape(manifest)
		}
		form.Set("tag", s.tagIn(c, page))
		s.sends(c, csrf, path, path, form)
		s.refused(c, csrf, path, form, http.StatusPreconditionFailed, "")
		form.Del("tag")
		form.Set("new", "yes")
		s.refused(c, csrf, path, form, http.StatusPreconditionFailed, "")
	}
	a, err := s.store.Assignment(t.Context(), suit.NewComponentID("acme", hostile))
	must(t, err)
	if !a.Staged || a.Mode != tam.ModeAvailable {
		t.Errorf("%+v", a)
	}
}

// TestFormsComeBackFilledIn: what cannot be saved says why, what to do, and keeps what was written.
func TestFormsComeBackFilledIn(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeAdministrator)
	for _, f := range []struct {
		path   string
		form   url.Values
		status int
		why    string
		kept   string
	}{
		{"groups", url.Values{"name": {"x"}, "match": {"labels.site =="}, "new": {"y"}}, 422, "condition", "labels.site =="},
		{"groups", url.Values{"name": {"x"}, "match": {"true"}, "priority": {"high"}, "new": {"y"}}, 422, "whole number", "high"},
		{"groups", url.Values{"name": {"x"}, "match": {"true"}, "components": {"have it"}, "new": {"y"}}, 422, "not a mode", "have it"},
		{"domains", url.Values{"name": {"x"}, "owner": {"nobody"}, "manifests": {"'acme'/'a'"}, "new": {"y"}}, 422, "nobody", "'acme'/'a'"},
		{"domains", url.Values{"name": {"<b>"}, "owner": {hostile}, "manifests": {"'acme'"}, "new": {"y"}}, 422, "name", "'acme'"},
		{"admissions", url.Values{"name": {"x"}, "match": {"true"}, "labels": {"site"}, "new": {"y"}}, 422, "NAME=VALUE", "site"},
		{"admissions", url.Values{"name": {"x"}, "match": {"("}, "new": {"y"}}, 422, "condition", "("},
		{"removals", url.Values{"name": {"x"}, "target": {"'acme'"}, "new": {"y"}}, 422, "reason", "'acme'"},
		{"removals", url.Values{"name": {"x"}, "target": {"'acme'"}, "reason": {"r"}, "sequence": {"two"}, "new": {"y"}}, 422, "digits", "two"},
		{"policies", url.Values{"manifest": {"'acme"}, "mode": {"required"}, "new": {"y"}}, 400, "identifier", "'acme"},
		{"policies", url.Values{"manifest": {"'acme'/'a'"}, "mode": {"perhaps"}, "new": {"y"}}, 400, "mode", "'acme'/'a'"},
		{"rollouts", url.Values{"name": {"x"}, "manifest": {"'acme'/'none'"}, "sequence": {"1"}, "stages": {"all"}}, 422, "line 1", "'acme'/'none'"},
		{"publishers", url.Values{"name": {"x"}, "prefixes": {"'acme'"}, "keys": {"none"}}, 422, "PEM", "none"},
		{"webhooks", url.Values{"url": {"http://plain.example/"}}, 400, "https", "http://plain.example/"},
		{"tokens", url.Values{"name": {"x"}, "days": {"30"}}, 422, "scope", "x"},
		{"tokens", url.Values{"name": {"x"}, "days": {"ever"}, "scope": {"auditor"}}, 422, "how long", "x"},
	} {
		s.refused(c, csrf, f.path, f.form, f.status, f.why, f.kept)
	}
}

// TestPrivateKeysAreNotSentBack: who pastes the wrong key finds it nowhere in the answer.
func TestPrivateKeysAreNotSentBack(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeAdministrator)
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	secret, err := key.MarshalPEM()
	must(t, err)
	line := strings.Split(string(secret), "\n")[1]
	for _, path := range []string{"publishers", "publishers/" + url.PathEscape(hostile) + "/keys"} {
		r := s.post(c, path, url.Values{"csrf": {csrf}, "name": {"x"}, "prefixes": {"'acme'"}, "keys": {string(secret)}})
		if r.status < 400 || strings.Contains(html.UnescapeString(r.body), line) || strings.Contains(s.log.String(), line) {
			t.Errorf("%s: %d, or the key is in the answer", path, r.status)
		}
	}
}

// TestPublishers trusts a publisher and a further key, withdraws one of them, and revokes it.
func TestPublishers(t *testing.T) {
	s := newService(t)
	c, csrf := s.login(api.ScopeAdministrator)
	var texts, ids []string
	for range 2 {
		key, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
		must(t, err)
		text, err := key.Public().MarshalPEM()
		must(t, err)
		texts, ids = append(texts, string(text)), append(ids, hex.EncodeToString(key.Thumbprint()))
	}
	name := `Acme & "Sons" / <b>`
	path := "publishers/" + url.PathEscape(name)
	s.sends(c, csrf, "publishers", path, url.Values{"name": {name}, "prefixes": {"'acme'\r\n'other'"}, "keys": {texts[0]}})
	s.sends(c, csrf, path+"/keys", path, url.Values{"keys": {texts[1]}})
	key := path + "/keys/" + ids[0]
	s.sends(c, csrf, key, key, url.Values{"reason": {"it <b>leaked"}, "remove": {"yes"}})
	p, err := s.store.Publisher(t.Context(), name)
	must(t, err)
	if len(p.Prefixes) != 2 || len(p.Withdrawn) != 1 || !p.Withdrawn[0].Remove {
		t.Errorf("%+v", p)
	}
	for _, page := range []string{path, key} {
		r := s.get(c, page)
		if !strings.Contains(r.body, "it &lt;b&gt;leaked") {
			t.Errorf("%s does not say why the key was withdrawn", page)
		}
		inspect(t, page, r.body)
	}
	s.sends(c, csrf, path+"/revoke", path, url.Values{})
	if r := s.get(c, path); !strings.Contains(r.body, "revoked") || strings.Contains(r.body, "Revoke the publisher") {
		t.Error("the page does not show that the publisher is revoked")
	}
	for _, missing := range []string{"publishers/nobody", path + "/keys/" + strings.Repeat("0", 64), path + "/keys/x"} {
		if r := s.get(c, missing); r.status != http.StatusNotFound {
			t.Errorf("%s: %d", missing, r.status)
		}
	}
}

// TestSecretsAreShownOnce: of a token and of a webhook, in the answer to their making and nowhere else.
func TestSecretsAreShownOnce(t *testing.T) {
	s := newService(t)
	c, csrf := s.login(api.ScopeAdministrator)
	secretOf := func(r reply) string {
		t.Helper()
		found := regexp.MustCompile(`(?s)<pre class="secret[^>]*>([^<]+)</pre>`).FindStringSubmatch(r.body)
		if r.status != http.StatusCreated || found == nil || r.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d, %s", r.status, alertIn(r.body))
		}
		inspect(t, "secret", r.body)
		return html.UnescapeString(found[1])
	}
	token := secretOf(s.post(c, "tokens", url.Values{"csrf": {csrf}, "name": {hostile[:40]}, "scope": {"auditor", "operator"}, "days": {"7"}, "owner": {"ada@example"}}))
	hook := secretOf(s.post(c, "webhooks", url.Values{"csrf": {csrf}, "url": {"https://events.example/%3Cb%3E"}, "kind": {"failed"}}))
	for _, path := range []string{"tokens", "webhooks", "audit"} {
		r := s.get(c, path)
		if strings.Contains(r.body, token) || strings.Contains(r.body, hook) {
			t.Errorf("%s shows a secret again", path)
		}
		inspect(t, path, r.body)
	}
	if strings.Contains(s.log.String(), token) || strings.Contains(s.log.String(), hook) {
		t.Error("a secret is in the log")
	}
	list, err := s.store.ListAPITokens(t.Context(), "", 10)
	must(t, err)
	n := 0
	for _, made := range list {
		if made.Owner == "ada@example" {
			n++
			s.sends(c, csrf, "tokens/"+made.ID+"/revoke", "tokens", url.Values{})
		}
	}
	if r := s.post(s.browser(), "login", url.Values{"token": {token}}); n != 1 || r.status != http.StatusUnauthorized {
		t.Errorf("the revoked token of %d logs in: %d", n, r.status)
	}
	hooks, err := s.store.ListWebhooks(t.Context(), "", 10)
	must(t, err)
	s.sends(c, csrf, "webhooks/"+hooks[0].ID+"/delete", "webhooks", url.Values{})
	if r := s.get(c, "webhooks"); !strings.Contains(r.body, "There is no webhook") {
		t.Error("the webhook is still there")
	}
}

// TestRecordsAreRemoved: a group, a domain, a rule, a removal and a deposit go, and their lists say what next.
func TestRecordsAreRemoved(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	for path, field := range map[string]string{"groups": "", "domains": "delete", "admissions": "delete", "removals": "lift"} {
		if path == "groups" {
			continue // a rollout names it
		}
		for _, tag := range []string{"", `"another"`} { // somebody else changed it since it was shown
			if r := s.post(c, path, url.Values{"csrf": {csrf}, "name": {"edge"}, "tag": {tag}, field: {"yes"}}); r.status != http.StatusPreconditionFailed {
				t.Errorf("%s with the tag %q: %d %s", path, tag, r.status, alertIn(r.body))
			}
		}
		s.sends(c, csrf, path, path, url.Values{"name": {"edge"}, "tag": {s.tagIn(c, path+"/edge")}, field: {"yes"}})
		if r := s.get(c, path); !strings.Contains(r.body, "There is no") && !strings.Contains(r.body, "Nothing is removed") {
			t.Errorf("%s still lists it", path)
		}
	}
	if r := s.post(c, "groups", url.Values{"csrf": {csrf}, "name": {"edge"}, "tag": {s.tagIn(c, "groups/edge")}, "delete": {"yes"}}); r.status < 400 || !strings.Contains(r.body, "spring") {
		t.Errorf("a group that a rollout names is removed: %d %s", r.status, alertIn(r.body))
	}
	for _, id := range []string{"0123", "4567"} {
		s.sends(c, csrf, "deposits/"+id+"/remove", "deposits", url.Values{})
	}
	if r := s.post(c, "deposits/0123/remove", url.Values{"csrf": {csrf}}); r.status != http.StatusNotFound {
		t.Errorf("a deposit that is gone: %d", r.status)
	}
}

// TestDeviceTakesAPlace: one record of a device takes the place of another.
func TestDeviceTakesAPlace(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	s.sends(c, csrf, "devices/0123/replace", "devices/0123", url.Values{"old": {"4567"}})
	if d, err := s.store.Device(t.Context(), "4567"); err != nil || d.Status != tam.DeviceRetired || d.ReplacedBy != "0123" {
		t.Errorf("%+v, %v", d, err)
	}
	if r := s.post(c, "devices/0123/replace", url.Values{"csrf": {csrf}, "old": {"nobody"}}); r.status != http.StatusNotFound {
		t.Errorf("in the place of nobody: %d", r.status)
	}
}

// TestEveryScopeAlone: what a scope alone may do here is what the API lets it do; nothing is open by default.
func TestEveryScopeAlone(t *testing.T) {
	s := newFilled(t, hostile)
	for _, scope := range []api.Scope{api.ScopeOperator, api.ScopeAuditor, api.ScopePublisher} {
		c, csrf := s.login(scope)
		for i, r := range routes() {
			p := paths()[i]
			if p[1] == "logout" || p[0] == "POST" && (&visit{caller: &api.Caller{Scopes: []api.Scope{scope}}}).may(r.scopes...) {
				continue // that would be done
			}
			var got reply
			if p[0] == "GET" {
				got = s.get(c, p[1])
			} else {
				got = s.post(c, p[1], url.Values{"csrf": {csrf}})
			}
			allowed := (&visit{caller: &api.Caller{Scopes: []api.Scope{scope}}}).may(r.scopes...)
			if allowed == (got.status == http.StatusForbidden) {
				t.Errorf("%s alone, %s %s: %d", scope, p[0], p[1], got.status)
			}
		}
	}
}

// TestPreviews: what somebody wrote so far is looked at, and nothing is saved.
func TestPreviews(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Device: &tam.Device{ID: "89ab", KeyThumbprint: []byte("89ab"), AgentKey: []byte{1}, Status: tam.DevicePending, FirstSeen: s.now, LastSeen: s.now, HWVersion: "new"}}))
	must(t, s.store.AddPublisher(t.Context(), tam.Publisher{Name: "other", Prefixes: []suit.ComponentID{suit.NewComponentID("other")}, Created: s.now}))
	before, err := s.store.AuditHead(t.Context())
	must(t, err)
	for _, f := range []struct {
		path string
		form url.Values
		want string
	}{
		{"groups", url.Values{"match": {"true"}, "new": {"y"}}, "3 devices are chosen"},
		{"domains", url.Values{"owner": {"other"}, "manifests": {"'other'/'a'"}, "new": {"y"}}, "0 devices would change"},
		{"domains", url.Values{"owner": {"nobody"}, "manifests": {"'acme'"}, "new": {"y"}}, "nobody"},
		{"removals", url.Values{"target": {suit.NewComponentID("acme", hostile).String()}, "new": {"y"}}, "3 devices would change"},
		{"policies", url.Values{"manifest": {"'acme'/'other'"}, "mode": {"forbidden"}, "new": {"y"}}, "would change"},
		{"admissions", url.Values{"match": {`hwversion == "new"`}, "new": {"y"}}, "1 pending device"},
		{"admissions", url.Values{"match": {`hwversion == "old"`}, "new": {"y"}}, "None of the devices"},
		{"admissions", url.Values{"match": {""}, "new": {"y"}}, "no condition"},
		{"admissions", url.Values{"match": {"("}, "new": {"y"}}, "condition"},
	} {
		f.form.Set("csrf", csrf)
		f.form.Set("preview", "yes")
		r := s.post(c, f.path, f.form)
		if r.status >= 500 || !strings.Contains(r.body, f.want) {
			t.Errorf("%s %v: %d, %s", f.path, f.form, r.status, regexp.MustCompile(`(?s)<section id="preview".*?</section>`).FindString(r.body))
		}
		inspect(t, f.path, r.body)
	}
	after, err := s.store.AuditHead(t.Context())
	must(t, err)
	if after != before {
		t.Error("a preview changed something")
	}
}

// TestPreviewsGoOn: further devices are looked at on demand, as long as the proposal is the same.
func TestPreviewsGoOn(t *testing.T) {
	s := newFilled(t, hostile, func(c *Config) { c.PreviewDevices = 1 })
	c, csrf := s.login(api.ScopeOperator)
	look := func(preview, seen, match string) (sentence, further string) {
		t.Helper()
		r := s.post(c, "groups", url.Values{"csrf": {csrf}, "preview": {preview}, "seen": {seen}, "match": {match}, "new": {"y"}})
		inspect(t, "groups", r.body)
		if m := regexp.MustCompile(`name="seen" form="previewform" value="([^"]*)"`).FindStringSubmatch(r.body); m != nil {
			further = html.UnescapeString(m[1])
		}
		return regexp.MustCompile(`(?s)<section id="preview".*?</section>`).FindString(r.body), further
	}
	first, seen := look("yes", "", "true")
	if !strings.Contains(first, "1 device is chosen") || !strings.Contains(first, "Only the first 1 device was looked at") || seen == "" {
		t.Fatalf("%s", first)
	}
	all, more := look("further", seen, "true")
	if !strings.Contains(all, "3 devices are chosen") || !strings.Contains(all, "All 3 devices were looked at") || more != "" {
		t.Errorf("and further: %s", all)
	}
	for name, with := range map[string][2]string{"another proposal": {seen, "true || false"}, "nothing": {"", "true"}, "rubbish": {"x", "true"}, "not JSON": {"eA==", "true"}} {
		if again, _ := look("further", with[0], with[1]); !strings.Contains(again, "1 device is chosen") {
			t.Errorf("%s: %s", name, again)
		}
	}
}

// TestStoppingARollout: pause, resume and stop, with the reason kept.
func TestStoppingARollout(t *testing.T) {
	s := newFilled(t, hostile)
	c, csrf := s.login(api.ScopeOperator)
	for _, action := range []string{"pause", "resume", "pause"} {
		s.sends(c, csrf, "rollouts/spring", "rollouts/spring", url.Values{"action": {action}})
	}
	s.sends(c, csrf, "rollouts/spring", "rollouts/spring", url.Values{"action": {"abort"}, "reason": {"<b>enough"}})
	r := s.get(c, "rollouts/spring")
	if !strings.Contains(r.body, "&lt;b&gt;enough") || strings.Contains(r.body, "Stop for good") {
		t.Errorf("the page of the rollout that was stopped: %s", r.body)
	}
	s.sends(c, csrf, "rollouts/spring", "rollouts/spring", url.Values{"action": {"archive"}})
	if list, archived := s.get(c, "rollouts"), s.get(c, "rollouts?archived=true"); strings.Contains(list.body, ">spring<") || !strings.Contains(archived.body, ">spring<") {
		t.Error("the archived rollout is on the wrong list")
	}
	if st, err := s.tam.Rollout(t.Context(), "spring"); err != nil || st.State != policy.StateAborted {
		t.Errorf("%+v, %v", st, err)
	}
	s.sends(c, csrf, "rollouts/spring/remove", "rollouts", url.Values{})
	if r := s.get(c, "rollouts/spring"); r.status != http.StatusNotFound {
		t.Errorf("after it was removed: %d", r.status)
	}
}

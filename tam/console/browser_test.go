package console

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-rod/rod/lib/input"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// TestInABrowser has people look at the console and use it, in one real browser, each with cookies of their
// own.
func TestInABrowser(t *testing.T) {
	checker := axe(t)
	w := openBrowser(t)
	for name, test := range map[string]func(*testing.T, *window, string){
		"Pages": testPages, "Keyboard": testKeyboard, "Phone": testPhone, "Rollout": testRollout, "Group": testGroup,
		"Policy": testPolicy, "Events": testEvents, "Withdrawal": testWithdrawal,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, w, checker)
		})
	}
}

// tabs is how many pages are looked at beside each other.
const tabs = 3

// testPages shows every page wide and as on a phone, light and dark: nothing offends against the pages' own
// policy, nothing is asked of anybody else, hostile texts run no script, nothing is wider than the screen, and
// the accessibility checker finds nothing. With TEEP_SCREENSHOTS=DIR the pictures are kept.
func testPages(t *testing.T, w *window, checker string) {
	text, dir := hostile, os.Getenv("TEEP_SCREENSHOTS")
	if dir != "" {
		text = "camera" // pictures for people
	}
	s := newFilled(t, text)
	first := s.visitor(w)
	first.open("login")
	first.look(picture{"login", ""}, checker, dir)
	secret, _ := s.token(api.ScopeAdministrator)
	first.login(secret)
	left := make(chan picture)
	var group sync.WaitGroup
	for n := range tabs {
		p := first
		if n > 0 {
			p = first.beside()
		}
		group.Go(func() {
			for page := range left {
				p.open(page.path)
				p.look(page, checker, dir)
			}
		})
	}
	for _, page := range append(pictures(text), picture{"none", "devices/none"}) {
		left <- page
	}
	close(left)
	group.Wait()
}

// look checks the page that is open on every screen, loading it once. The contents are checked wide in light, and as
// on a phone in dark; the frame, of which a phone shows less, wide in dark too. The menu of a phone is in testPhone.
func (p *person) look(page picture, checker, dir string) {
	p.bring(checker)
	for i, screen := range []struct {
		name          string
		width, height int
		dark          bool
		where, rules  string
	}{{"", 1200, 900, false, wholePage, allRules}, {"-dark", 1200, 900, true, itsFrame, colourRules}, {"-phone-dark", 390, 844, true, wholePage, layoutRules}, {"-phone", 390, 844, false, "", ""}} {
		p.screen(screen.width, screen.height, screen.dark)
		name := page.name + screen.name
		p.narrow(name)
		if i == 0 || screen.rules != "" && !strings.HasPrefix(page.path, "new-") { // whose forms are those of what there is
			p.accessible(name, screen.where, screen.rules)
		}
		if dir == "" {
			continue
		}
		picture, err := p.page.Screenshot(true, nil)
		must(p.t, err)
		must(p.t, os.WriteFile(filepath.Join(dir, "console-"+name+".png"), picture, 0o600))
	}
}

// picture is a page to look at.
type picture struct{ name, path string }

func pictures(text string) []picture {
	var list []picture
	names := map[string]int{}
	for _, r := range routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		if method != http.MethodGet {
			continue
		}
		name := strings.Trim(strings.NewReplacer("{$}", "", "{id}", "one", "{manifest}", "one", "{message}", "one", "{name}", "one", "{sequence}", "one", "{publisher}", "one", "{key}", "one", "/", "-").
			Replace(strings.TrimPrefix(path, Prefix)), "-")
		if name == "" {
			name = "fleet"
		}
		names[name]++
		list = append(list, picture{name, concretePath(path, text)})
	}
	return list
}

// testKeyboard goes through the console without a mouse: the skip link comes first and works, every link and
// control can be reached, where the focus is can be seen, what is destructive asks once more, and a form can
// be sent.
func testKeyboard(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeAdministrator)
	p.open("devices/0123")
	focused := func() (text string, visible bool) {
		t.Helper()
		r, err := p.page.Eval(`() => { const e = document.activeElement, s = getComputedStyle(e);
			return {text: e.innerText || e.value || e.tagName, visible: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2} }`)
		must(t, err)
		return r.Value.Get("text").Str(), r.Value.Get("visible").Bool()
	}
	must(t, p.page.Keyboard.Type(input.Tab))
	if text, _ := focused(); !strings.Contains(text, "Skip") {
		t.Errorf("the first stop is %q, not the skip link", text)
	}
	must(t, p.page.Keyboard.Type(input.Enter))
	if at, err := p.page.Eval(`() => location.hash`); err != nil || at.Value.Str() != "#main" {
		t.Errorf("the skip link leads to %v (%v)", at, err)
	}
	for range 40 {
		must(t, p.page.Keyboard.Type(input.Tab))
		text, visible := focused()
		if !visible {
			t.Errorf("the focus on %q cannot be seen", text)
		}
		if text == "Block…" {
			must(t, p.page.Keyboard.Type(input.Enter))
		}
		if text == "Block the device" {
			p.leave(func() error { return p.page.Keyboard.Type(input.Enter) })
			d, err := p.store.Device(t.Context(), "0123")
			must(t, err)
			if d.Status != "blocked" {
				t.Errorf("after the button was pressed the device is %s", d.Status)
			}
			return
		}
	}
	t.Error("the button that blocks the device cannot be reached with a keyboard")
}

// testRollout previews a rollout while it is typed, creates it, sees it go on by itself, and stops it.
func testRollout(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeOperator, api.ScopeAuditor)
	p.open("new-rollout?manifest=%27acme%27%2F%27camera%27&sequence=4")
	p.write("name", "summer")
	p.write("match", `hwversion == `)
	p.await("#preview", "cannot|syntax|error|condition")
	p.write("match", `hwversion == "camera"`)
	p.await("#preview", "3 devices are chosen")
	p.write("stages", "50%\n100%")
	p.await("#preview li", "devices in this stage")
	p.press("^Create$")
	p.await("h1", "Rollout summer")
	p.await("#rollout", "scheduled")

	// Without a click, the page shows what happens meanwhile.
	must(t, p.tam.AdvanceRollouts(t.Context()))
	p.await("#rollout .state", "running")
	p.await("#rollout", "Stage 1 of 2 is the newest")
	p.await("#news", "summer: running, stage 1 of 2") // what a screen reader is told
	p.press("^Pause$")
	p.await("#rollout .state", "paused")
	p.click("summary", "Stop it for good")
	p.write("reason", "seen enough")
	p.press("Stop for good")
	p.await("#rollout .state", "aborted")
	r, err := p.tam.Rollout(t.Context(), "summer")
	must(t, err)
	if r.State != policy.StateAborted || r.Reason != "seen enough" {
		t.Errorf("the rollout is %s: %q", r.State, r.Reason)
	}
}

// testGroup writes a group that contradicts another one: the preview says so before it is saved.
func testGroup(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeOperator)
	p.open("new-group")
	p.write("name", "lab")
	p.write("match", `hwversion == "camera"`)
	p.write("components", "required 'acme'/'other'")
	p.await("#preview", "3 devices are chosen")
	p.write("components", "have 'acme'/'other' x y")
	p.await("#preview .alert", "line 1")
	p.write("components", "required 'acme'/'other'")
	p.await("#preview", "3 devices are chosen")
	p.press("^Save$")
	p.await("table", "lab")
	p.open("groups/lab")
	p.click("summary", "Remove the group")
	p.press("^Remove the group$")
	page, err := p.page.HTML()
	must(t, err)
	if strings.Contains(page, ">lab<") {
		t.Error("the group is still there")
	}
}

// testPhone opens the menu of a phone, by touch and with a key, and goes on from there.
func testPhone(t *testing.T, w *window, checker string) {
	p := loggedIn(t, w, api.ScopeAuditor)
	p.screen(390, 844, false)
	p.open("devices")
	shown := func() bool {
		t.Helper()
		r, err := p.page.Eval(`() => document.querySelector("nav").checkVisibility()`)
		must(t, err)
		return r.Value.Bool()
	}
	if shown() {
		t.Error("the menu is open before anybody asked for it")
	}
	p.click("button", "Menu")
	if !shown() {
		t.Fatal("the button opens no menu")
	}
	p.bring(checker)
	p.accessible("menu", wholePage, allRules)
	must(t, p.page.Keyboard.Type(input.Escape))
	if shown() {
		t.Error("the menu does not close with Escape")
	}
	p.click("button", "Menu")
	p.leave(func() error { p.click("nav a", "Audit"); return nil })
	p.await("h1", "Audit log")
}

// testPolicy has a policy previewed and saved, and finds that somebody else was faster.
func testPolicy(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeOperator)
	p.open("policies/%27acme%27%2F%27camera%27")
	p.click("label", "must not have it")
	p.await("#preview", "would change")
	must(t, p.store.PutAssignment(t.Context(), tam.Assignment{Manifest: suit.NewComponentID("acme", "camera"), Mode: tam.ModeAvailable}))
	p.press("^Save$")
	p.await("[role=alert]", "changed|meanwhile|reload|Reload")
	p.open("policies/%27acme%27%2F%27camera%27")
	p.click("label", "only")
	p.press("^Save$")
	p.await("table", "by rollouts only")
}

// testEvents sees an event without a click, and by its kind.
func testEvents(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeAuditor)
	p.open("events")
	p.await("#events", "camera")
	must(t, p.store.CommitExchange(t.Context(), tam.Exchange{Event: &tam.Event{DeviceID: "0123", At: p.now, Kind: tam.EventSucceeded, Detail: "it came"}}))
	p.await("#events", "it came")
	p.await("#news", "succeeded")
	p.open("events?kind=failed")
	if page, err := p.page.HTML(); err != nil || strings.Contains(page, "it came") {
		t.Errorf("an event of another kind is shown, or %v", err)
	}
}

// testWithdrawal makes a token that only publishes, sees what that person may see, and withdraws a key.
func testWithdrawal(t *testing.T, w *window, _ string) {
	p := loggedIn(t, w, api.ScopeAdministrator)
	p.open("tokens")
	p.write("name", "build server")
	p.click("label", "^ *publisher: ")
	p.press("Make the token")
	made := p.page.MustElement("pre.secret").MustText()
	p.open("publishers/camera")
	p.click("a", "^[0-9a-f]{64}$")
	p.await("#signed", "What it signed")
	p.click("summary", "Withdraw the key")
	p.write("reason", "it leaked")
	p.press("Withdraw for good")
	p.await("dl", "it leaked")

	publisher := p.visitor(w)
	publisher.login(made)
	publisher.await("h1", "Components")
	nav := publisher.page.MustElement("nav").MustText()
	if strings.Contains(nav, "Devices") || !strings.Contains(nav, "Publishers") {
		t.Errorf("a publisher is led to %q", nav)
	}
}

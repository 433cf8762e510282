package console

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/input"
	"github.com/go-rod/rod/lib/launcher"
	"github.com/go-rod/rod/lib/proto"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// chromium finds the browser, or says how to get it.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "no browser is installed: apt-get install chromium")
	return ""
}

// missing skips a test for want of a tool; where all tools have to be there, it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what + " (.ci/prerequisites test installs what tests need)")
	}
	t.Skip("skipped: " + what)
}

// axe is the source of the accessibility checker.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("accessibility/node_modules/axe-core/axe.min.js")
	if err != nil {
		missing(t, "the accessibility checker is not installed: npm ci --prefix tam/console/accessibility")
	}
	return string(source)
}

// window is a real browser.
type window struct {
	browser *rod.Browser
}

// openBrowser starts the one browser of a test and those below it.
func openBrowser(t *testing.T) *window {
	t.Helper()
	l := launcher.New()
	control, err := l.Bin(chromium(t)).Headless(true).NoSandbox(true).Leakless(false).
		Set("disable-gpu").Set("disable-dev-shm-usage").Set("hide-scrollbars").Set("disable-background-networking").
		Set("disable-component-update").Set("disable-sync").Set("disable-quic").Set("no-first-run").Launch()
	must(t, err)
	w := &window{rod.New().ControlURL(control)}
	must(t, w.browser.Connect())
	t.Cleanup(func() {
		_ = w.browser.Close()
		l.Kill()
		l.Cleanup() // waits for the browser to be gone, and removes what it wrote
	})
	return w
}

// person is somebody in front of a page of their own.
type person struct {
	*service
	context *rod.Browser // what the person's pages share: cookies
	page    *rod.Page

	mu         sync.Mutex
	complaints []string
	asked      []string
}

// visitor gives somebody a page, who shares nothing with others. The test fails in the end if a page offended
// against its own policy, or asked anybody else for anything.
func (s *service) visitor(w *window) *person {
	s.t.Helper()
	context, err := w.browser.Incognito()
	must(s.t, err)
	return s.sits(context)
}

// beside is a second page of the same person.
func (p *person) beside() *person {
	p.t.Helper()
	return p.sits(p.context)
}

// patience bounds what a person waits for in all.
const patience = 5 * time.Minute

func (s *service) sits(context *rod.Browser) *person {
	s.t.Helper()
	page, err := context.Page(proto.TargetCreateTarget{URL: "about:blank"})
	must(s.t, err)
	p := &person{service: s, context: context, page: page.Timeout(patience)}
	s.t.Cleanup(func() {
		_ = page.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.complaints {
			s.t.Errorf("the browser complains: %s", c)
		}
		for _, u := range p.asked {
			if !strings.HasPrefix(u, s.server.URL+"/") && !strings.HasPrefix(u, "data:") {
				s.t.Errorf("the browser asked for %s", u)
			}
		}
	})
	go p.page.EachEvent(
		func(e *proto.RuntimeExceptionThrown) { p.complain(e.ExceptionDetails.Text) },
		func(e *proto.LogEntryAdded) {
			// A page that refuses something is not a fault of the page.
			if e.Entry.Level == proto.LogLogEntryLevelError && !strings.Contains(e.Entry.Text, "the server responded with a status of") {
				p.complain(e.Entry.Text)
			}
		},
		func(e *proto.NetworkRequestWillBeSent) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if e.Request.URL != "about:blank" {
				p.asked = append(p.asked, e.Request.URL)
			}
		},
	)()
	return p
}

func (p *person) complain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complaints = append(p.complaints, text)
}

// open goes to a page below the console's prefix.
func (p *person) open(path string) {
	p.t.Helper()
	must(p.t, p.page.Navigate(p.server.URL+Prefix+path))
	must(p.t, p.page.WaitLoad())
}

// login types a token into the form, with nothing but a keyboard.
func (p *person) login(secret string) {
	p.t.Helper()
	p.open("login")
	field, err := p.page.Element(`input[name="token"]`)
	must(p.t, err)
	must(p.t, field.Input(secret))
	wait := p.page.WaitNavigation(proto.PageLifecycleEventNameLoad)
	must(p.t, field.Type(input.Enter))
	wait()
}

// screen sets the size of the window in pixels and the scheme of colours.
func (p *person) screen(width, height int, dark bool) {
	p.t.Helper()
	must(p.t, p.page.SetViewport(&proto.EmulationSetDeviceMetricsOverride{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600}))
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	must(p.t, proto.EmulationSetEmulatedMedia{Features: []*proto.EmulationMediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}.Call(p.page))
}

// violation is what the accessibility checker finds.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML string }
}

// What the checker looks for: everything; what the layout can change; what the colours can.
const (
	allRules    = `{type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}`
	layoutRules = `{type: "rule", values: ["color-contrast", "target-size", "link-in-text-block", "scrollable-region-focusable", "region"]}`
	colourRules = `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`
)

// accessible runs the checker over the page that is open.
func (p *person) accessible(what, which string) {
	p.t.Helper()
	found, err := p.page.Eval(`() => axe.run(document, {resultTypes: ["violations"], runOnly: ` + which + `}).then(r => JSON.stringify(r.violations))`)
	must(p.t, err)
	var violations []violation
	must(p.t, json.Unmarshal([]byte(found.Value.Str()), &violations))
	for _, v := range violations {
		first := ""
		if len(v.Nodes) > 0 {
			first = v.Nodes[0].HTML
		}
		p.t.Errorf("%s: %s: %s (%d places, first: %s)", what, v.ID, v.Help, len(v.Nodes), first)
	}
}

// bring puts the checker into the page that is open.
func (p *person) bring(checker string) {
	p.t.Helper()
	// Evaluated by the debugger: the page's own policy, which stays in force, allows no scripts.
	_, err := proto.RuntimeEvaluate{Expression: checker}.Call(p.page)
	must(p.t, err)
}

// narrow fails when the page scrolls sideways as a whole.
func (p *person) narrow(what string) {
	p.t.Helper()
	wide, err := p.page.Eval(`() => document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	must(p.t, err)
	if n := wide.Value.Int(); n > 0 {
		p.t.Errorf("%s is %d pixels wider than the screen", what, n)
	}
}

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
	s := newService(t)
	text, dir := hostile, os.Getenv("TEEP_SCREENSHOTS")
	if dir != "" {
		text = "camera" // pictures for people
	}
	s.fillWith(t.Context(), text)
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

// look checks the page that is open on every screen, loading it once.
func (p *person) look(page picture, checker, dir string) {
	p.bring(checker)
	for i, screen := range []struct {
		name          string
		width, height int
		dark          bool
		rules         string
	}{{"", 1200, 900, false, allRules}, {"-dark", 1200, 900, true, colourRules}, {"-phone-dark", 390, 844, true, layoutRules}, {"-phone", 390, 844, false, colourRules}} {
		p.screen(screen.width, screen.height, screen.dark)
		name := page.name + screen.name
		p.narrow(name)
		if i == 0 || !strings.HasPrefix(page.path, "new-") { // whose forms are those of what there is
			p.accessible(name, screen.rules)
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
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeAdministrator)
	p.login(secret)
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
			wait := p.page.WaitNavigation(proto.PageLifecycleEventNameLoad)
			must(t, p.page.Keyboard.Type(input.Enter))
			wait()
			d, err := s.store.Device(t.Context(), "0123")
			must(t, err)
			if d.Status != "blocked" {
				t.Errorf("after the button was pressed the device is %s", d.Status)
			}
			return
		}
	}
	t.Error("the button that blocks the device cannot be reached with a keyboard")
}

// await waits until an element of the page that is open shows a text.
func (p *person) await(selector, text string) {
	p.t.Helper()
	err := rod.Try(func() { p.page.Timeout(20*time.Second).MustElementR(selector, text) })
	if err != nil {
		body, _ := p.page.Eval(`() => document.body.innerText`)
		p.t.Fatalf("%s never shows %q: %v; the page is\n%v", selector, text, err, body.Value)
	}
}

// press clicks on the button of that text, and waits for the page that follows.
func (p *person) press(text string) {
	p.t.Helper()
	button, err := p.page.ElementR("button", text)
	must(p.t, err)
	wait := p.page.WaitNavigation(proto.PageLifecycleEventNameLoad)
	must(p.t, button.Click(proto.InputMouseButtonLeft, 1))
	wait()
}

// click clicks on what leads to no other page.
func (p *person) click(selector, text string) {
	p.t.Helper()
	e, err := p.page.ElementR(selector, text)
	must(p.t, err)
	must(p.t, e.Click(proto.InputMouseButtonLeft, 1))
}

func (p *person) write(id, text string) {
	p.t.Helper()
	field, err := p.page.Element("#" + id)
	must(p.t, err)
	must(p.t, field.SelectAllText())
	must(p.t, field.Input(text))
}

// testRollout previews a rollout while it is typed, creates it, sees it go on by itself, and stops it.
func testRollout(t *testing.T, w *window, _ string) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeOperator, api.ScopeAuditor)
	p.login(secret)
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
	must(t, s.tam.AdvanceRollouts(t.Context()))
	p.await("#rollout .state", "running")
	p.await("#rollout", "Stage 1 is the newest")
	p.await("#news", "summer: running, stage 1 of 2") // what a screen reader is told
	p.press("^Pause$")
	p.await("#rollout .state", "paused")
	p.click("summary", "Stop it for good")
	p.write("reason", "seen enough")
	p.press("Stop for good")
	p.await("#rollout .state", "aborted")
	r, err := s.tam.Rollout(t.Context(), "summer")
	must(t, err)
	if r.State != policy.StateAborted || r.Reason != "seen enough" {
		t.Errorf("the rollout is %s: %q", r.State, r.Reason)
	}
}

// testGroup writes a group that contradicts another one: the preview says so before it is saved.
func testGroup(t *testing.T, w *window, _ string) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeOperator)
	p.login(secret)
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
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeAuditor)
	p.login(secret)
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
	p.accessible("menu", allRules)
	must(t, p.page.Keyboard.Type(input.Escape))
	if shown() {
		t.Error("the menu does not close with Escape")
	}
	p.click("button", "Menu")
	wait := p.page.WaitNavigation(proto.PageLifecycleEventNameLoad)
	p.click("nav a", "Audit")
	wait()
	p.await("h1", "Audit log")
}

// testPolicy has a policy previewed and saved, and finds that somebody else was faster.
func testPolicy(t *testing.T, w *window, _ string) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeOperator)
	p.login(secret)
	p.open("policies/%27acme%27%2F%27camera%27")
	p.click("label", "must not have it")
	p.await("#preview", "would change")
	must(t, s.store.PutAssignment(t.Context(), tam.Assignment{Manifest: suit.NewComponentID("acme", "camera"), Mode: tam.ModeAvailable}))
	p.press("^Save$")
	p.await("[role=alert]", "changed|meanwhile|reload|Reload")
	p.open("policies/%27acme%27%2F%27camera%27")
	p.click("label", "only")
	p.press("^Save$")
	p.await("table", "by rollouts only")
}

// testEvents sees an event without a click, and by its kind.
func testEvents(t *testing.T, w *window, _ string) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeAuditor)
	p.login(secret)
	p.open("events")
	p.await("#events", "camera")
	must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Event: &tam.Event{DeviceID: "0123", At: s.now, Kind: tam.EventSucceeded, Detail: "it came"}}))
	p.await("#events", "it came")
	p.await("#news", "succeeded")
	p.open("events?kind=failed")
	if page, err := p.page.HTML(); err != nil || strings.Contains(page, "it came") {
		t.Errorf("an event of another kind is shown, or %v", err)
	}
}

// testWithdrawal makes a token that only publishes, sees what that person may see, and withdraws a key.
func testWithdrawal(t *testing.T, w *window, _ string) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor(w)
	secret, _ := s.token(api.ScopeAdministrator)
	p.login(secret)
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

	publisher := s.visitor(w)
	publisher.login(made)
	publisher.await("h1", "Components")
	nav := publisher.page.MustElement("nav").MustText()
	if strings.Contains(nav, "Devices") || !strings.Contains(nav, "Publishers") {
		t.Errorf("a publisher is led to %q", nav)
	}
}

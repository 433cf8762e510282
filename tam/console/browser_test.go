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

// person is somebody in front of a real browser.
type person struct {
	*service
	browser *rod.Browser
	page    *rod.Page

	mu         sync.Mutex
	complaints []string
	asked      []string
}

// visitor opens a real browser on the login page, and fails the test in the end if a page offended against
// its own policy, or asked anybody else for anything.
func (s *service) visitor() *person {
	s.t.Helper()
	l := launcher.New()
	control, err := l.Bin(chromium(s.t)).Headless(true).NoSandbox(true).Leakless(false).
		Set("disable-gpu").Set("disable-dev-shm-usage").Set("hide-scrollbars").Set("disable-background-networking").
		Set("disable-component-update").Set("disable-sync").Set("disable-quic").Set("no-first-run").Launch()
	must(s.t, err)
	p := &person{service: s, browser: rod.New().ControlURL(control)}
	must(s.t, p.browser.Connect())
	s.t.Cleanup(func() {
		_ = p.browser.Close()
		l.Kill()
		l.Cleanup() // waits for the browser to be gone, and removes what it wrote
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
	p.page, err = p.browser.Page(proto.TargetCreateTarget{URL: "about:blank"})
	must(s.t, err)
	p.page = p.page.Timeout(2 * time.Minute)
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

// accessible runs the checker over the page that is open.
func (p *person) accessible(what, checker string) {
	p.t.Helper()
	// Evaluated by the debugger: the page's own policy, which stays in force, allows no scripts.
	_, err := proto.RuntimeEvaluate{Expression: checker}.Call(p.page)
	must(p.t, err)
	found, err := p.page.Eval(`() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => JSON.stringify(r.violations))`)
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

// narrow fails when the page scrolls sideways as a whole.
func (p *person) narrow(what string) {
	p.t.Helper()
	wide, err := p.page.Eval(`() => document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	must(p.t, err)
	if n := wide.Value.Int(); n > 0 {
		p.t.Errorf("%s is %d pixels wider than the screen", what, n)
	}
}

// TestInABrowser shows every page in a real browser, wide and as on a phone, light and dark: nothing offends
// against the pages' own policy, nothing is asked of anybody else, hostile texts run no script, nothing is wider
// than the screen, and the accessibility checker finds nothing. With TEEP_SCREENSHOTS=DIR the pictures are kept.
func TestInABrowser(t *testing.T) {
	checker := axe(t)
	s := newService(t)
	text, dir := hostile, os.Getenv("TEEP_SCREENSHOTS")
	if dir != "" {
		text = "camera" // pictures for people
	}
	s.fillWith(t.Context(), text)
	p := s.visitor()
	p.open("login")
	p.accessible("login", checker)
	secret, _ := s.token(api.ScopeAdministrator)
	p.login(secret)
	for _, page := range pictures(text) {
		for _, screen := range []struct {
			name          string
			width, height int
			dark          bool
		}{{"", 1100, 900, false}, {"-phone-dark", 390, 844, true}} {
			p.screen(screen.width, screen.height, screen.dark)
			p.open(page.path)
			name := page.name + screen.name
			p.narrow(name)
			p.accessible(name, checker)
			if dir != "" {
				picture, err := p.page.Screenshot(true, nil)
				must(t, err)
				must(t, os.WriteFile(filepath.Join(dir, "console-"+name+".png"), picture, 0o600))
			}
		}
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
		name := strings.Trim(strings.NewReplacer("{$}", "", "{id}", "one", "{manifest}", "one", "{message}", "one", "{name}", "one", "{sequence}", "one", "/", "-").
			Replace(strings.TrimPrefix(path, Prefix)), "-")
		if name == "" {
			name = "fleet"
		}
		names[name]++
		list = append(list, picture{name, concretePath(path, text)})
	}
	return list
}

// TestByKeyboard goes through the console without a mouse: the skip link comes first and works, every link and
// control can be reached, where the focus is can be seen, and a form can be sent.
func TestByKeyboard(t *testing.T) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor()
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
		if text == "Block" {
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

func (p *person) write(id, text string) {
	p.t.Helper()
	field, err := p.page.Element("#" + id)
	must(p.t, err)
	must(p.t, field.SelectAllText())
	must(p.t, field.Input(text))
}

// TestRolloutInABrowser previews a rollout while it is typed, creates it, sees it go on by itself, and stops it.
func TestRolloutInABrowser(t *testing.T) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor()
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
	p.await("#rollout caption", "Stage 1 is the newest")
	p.press("^Pause$")
	p.await("#rollout .state", "paused")
	must(t, p.page.MustElement("summary").Click(proto.InputMouseButtonLeft, 1))
	p.write("reason", "seen enough")
	p.press("Stop for good")
	p.await("#rollout .state", "aborted")
	r, err := s.tam.Rollout(t.Context(), "summer")
	must(t, err)
	if r.State != policy.StateAborted || r.Reason != "seen enough" {
		t.Errorf("the rollout is %s: %q", r.State, r.Reason)
	}
}

// TestGroupInABrowser writes a group that contradicts another one: the preview says so before it is saved.
func TestGroupInABrowser(t *testing.T) {
	s := newService(t)
	s.fillWith(t.Context(), "camera")
	p := s.visitor()
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
	p.press("Remove the group")
	page, err := p.page.HTML()
	must(t, err)
	if strings.Contains(page, ">lab<") {
		t.Error("the group is still there")
	}
}

package console

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/input"
	"github.com/go-rod/rod/lib/launcher"
	"github.com/go-rod/rod/lib/proto"

	"github.com/go-teep/teep/tam/api"
)

// What people need to sit in front of a real browser.

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

// loggedIn is somebody with the scopes, in front of a service of their own.
func loggedIn(t *testing.T, w *window, scopes ...api.Scope) *person {
	t.Helper()
	p := newFilled(t, "camera").visitor(w)
	secret, _ := p.token(scopes...)
	p.login(secret)
	return p
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
	p.leave(func() error { return field.Type(input.Enter) })
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

// Where the checker looks.
const (
	wholePage = `document`
	itsFrame  = `{include: [["header"], ["nav"], ["footer"]]}`
)

// accessible runs the checker over the page that is open, or a part of it.
func (p *person) accessible(what, where, which string) {
	p.t.Helper()
	found, err := p.page.Eval(`() => axe.run(` + where + `, {resultTypes: ["violations"], runOnly: ` + which + `}).then(r => JSON.stringify(r.violations))`)
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

// await waits until an element of the page that is open shows a text.
func (p *person) await(selector, text string) {
	p.t.Helper()
	err := rod.Try(func() { p.page.Timeout(20*time.Second).MustElementR(selector, text) })
	if err != nil {
		shown := "not there any more"
		if body, err := p.page.Eval(`() => document.body.innerText`); err == nil {
			shown = body.Value.Str()
		}
		p.t.Fatalf("%s never shows %q: %v; the page is\n%s", selector, text, err, shown)
	}
}

// leave does what leads to another page, and waits until that is there.
func (p *person) leave(act func() error) {
	p.t.Helper()
	_, err := p.page.Eval(`() => { window.here = true }`)
	must(p.t, err)
	must(p.t, act())
	for range 600 {
		// While the page changes there may be nothing to ask.
		there, err := p.page.Eval(`() => !window.here && document.readyState === "complete"`)
		if err == nil && there.Value.Bool() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.t.Fatal("no other page comes")
}

// press clicks on the button of that text, and waits for the page that follows.
func (p *person) press(text string) {
	p.t.Helper()
	button, err := p.page.ElementR("button", text)
	must(p.t, err)
	p.leave(func() error { return button.Click(proto.InputMouseButtonLeft, 1) })
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

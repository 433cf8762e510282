package console

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/go-teep/teep/tam/policy"
)

// page is what every template gets.
type page struct {
	Title, Name string
	// Tenant is whose console it is; empty for the service's own.
	Tenant string
	// Who is logged in; empty for nobody. Navigation is where they may go.
	Who        string
	Navigation []section
	CSRF       string
	// Back is the page of the console that led here; empty when it is not known.
	Back string
	Data any
}

// parsePages reads every page with the frame and the parts that pages share.
func parsePages(base string, clock func() time.Time) (map[string]*template.Template, error) {
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "frame" || name == "parts" {
			continue
		}
		t := template.New("frame.html").Funcs(functions(clock))
		for _, part := range []string{"templates/frame.html", "templates/parts.html", file} {
			text, err := fs.ReadFile(templates, part)
			if err == nil {
				_, err = t.Parse(linkBelow(base, string(text)))
			}
			if err != nil {
				return nil, fmt.Errorf("console: %s: %w", part, err)
			}
		}
		pages[name] = t
	}
	return pages, nil
}

func functions(clock func() time.Time) template.FuncMap {
	return template.FuncMap{
		"text":     visible,
		"lines":    lines,
		"version":  versionName,
		"duration": func(d policy.Duration) string { return span(time.Duration(d)) },
		"short":    short,
		"time":     func(t time.Time) string { return moderate(t, clock()) },
		"day":      func(t time.Time) string { return t.UTC().Format("2 Jan 15:04") },
		"hour":     func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"vendor":   vendor,
		"readable": readable,
		"sentence": sentence,
		"ago":      func(t time.Time) string { return ago(clock().Sub(t)) },
		"machine":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"explain":  explain,
		"claim":    explainClaim,
		"segment":  url.PathEscape,
		"count":    count,
		"number":   func(n any) string { return grouped(plain(n)) },
		"bytes":    size,
		"join":     func(list []string) string { return visible(strings.Join(list, ", ")) },
	}
}

// render writes a page. It is made whole before the first byte is sent.
func (s *console) render(v *visit, status int, name, title string, data any) {
	p := page{Title: title, Name: name, Tenant: path.Base(s.Base), Data: data}
	if s.Base == "" {
		p.Tenant = ""
	}
	if v.session != nil && v.caller != nil {
		p.Who, p.CSRF, p.Navigation = v.caller.Name, v.session.CSRF, v.navigation(name, s.Tenants != nil)
	}
	if name == "problem" {
		p.Back = s.cameFrom(v)
	}
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, p); err != nil {
		s.Logger.ErrorContext(v.r.Context(), "console page failed", "page", name, "err", fmt.Errorf("%w: %w", errTemplate, err))
		http.Error(v.w, "This page is broken; see the TAM's log.", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // the browser may be gone; there is nobody to tell
}

// cameFrom is the page of this console that led to the request.
func (s *console) cameFrom(v *visit) string {
	from, err := url.Parse(v.r.Referer())
	if err != nil || from.Host != v.r.Host || !strings.HasPrefix(from.Path, s.Base+Prefix) ||
		v.r.Method == http.MethodGet && from.EscapedPath() == s.Base+v.r.URL.EscapedPath() {
		return ""
	}
	return from.RequestURI()
}

// visible shows what could otherwise make a text look like another one: control characters, and those
// that change the direction of what follows.
func visible(s any) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(fmt.Sprint(s), "\uFFFD") {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// lines is a text of several lines, each of them [visible].
func lines(s string) string {
	all := strings.Split(s, "\n")
	for i := range all {
		all[i] = visible(all[i])
	}
	return strings.Join(all, "\n")
}

// short is the beginning of an ID, enough for people.
func short(id string) string {
	if len(id) > 12 {
		return visible(id[:12]) + "…"
	}
	return visible(id)
}

// errTemplate says that a page is broken: a mistake in this package.
var errTemplate = errors.New("console: page is broken")

package console

import (
	"bytes"
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
	// Who is logged in; empty for nobody.
	Who  string
	CSRF string
	Data any
}

// parsePages reads every page with the frame around it.
func parsePages(base string) (map[string]*template.Template, error) {
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "frame" {
			continue
		}
		t := template.New("frame.html").Funcs(functions)
		for _, part := range []string{"templates/frame.html", file} {
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

var functions = template.FuncMap{
	"text":    visible,
	"lines":   lines,
	"version": versionName,
	"duration": func(d policy.Duration) string {
		if d == 0 {
			return ""
		}
		return time.Duration(d).String()
	},
	"short":   short,
	"time":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"explain": explain,
	"segment": url.PathEscape,
}

// render writes a page. It is made whole before the first byte is sent.
func (s *console) render(v *visit, status int, name, title string, data any) {
	p := page{Title: title, Name: name, Data: data}
	if v.session != nil && v.caller != nil {
		p.Who, p.CSRF = v.caller.Name, v.session.CSRF
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

// explain says what a verdict means for whoever has to decide.
func explain(status string) string {
	switch status {
	case "affirming":
		return "as it should be"
	case "warning":
		return "not as it should be, but no proof of harm: policy decides whether the device is served"
	case "contraindicated":
		return "the device must not be trusted: nothing is offered to it but what may heal it"
	}
	return "nothing is asserted: the device was never appraised, or nothing is known about this claim"
}

package console

import (
	"net/http"
	"strings"
)

// The console of a tenant lives below a path of its own (Config.Base). It works as if it were at [Prefix]:
// its templates are given the path in their links when they are parsed, and what an answer tells the browser
// to go to is given it here.

// below answers as h does, from below a path.
func below(base string, h http.Handler) http.Handler {
	if base == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&basedWriter{ResponseWriter: w, base: base}, r)
	})
}

// linkBelow puts the path into the links of a template.
func linkBelow(base, template string) string {
	return strings.ReplaceAll(template, `"`+Prefix, `"`+base+Prefix)
}

type basedWriter struct {
	http.ResponseWriter
	base string
}

// WriteHeader implements http.ResponseWriter.
func (w *basedWriter) WriteHeader(status int) {
	h := w.Header()
	if to := h.Get("Location"); strings.HasPrefix(to, Prefix) {
		h.Set("Location", w.base+to)
	}
	if to, ok := strings.CutPrefix(h.Get("Refresh"), "0; url="+Prefix); ok {
		h.Set("Refresh", "0; url="+w.base+Prefix+to)
	}
	w.ResponseWriter.WriteHeader(status)
}

// outside is where what is written is not given the path.
func outside(w http.ResponseWriter) http.ResponseWriter {
	if b, ok := w.(*basedWriter); ok {
		return b.ResponseWriter
	}
	return w
}

// Unwrap lets http.ResponseController reach what is beneath.
func (w *basedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

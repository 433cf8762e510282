package program

import (
	"strings"
	"unicode"
)

// Visible makes text from elsewhere fit for a terminal: it has question marks in place of what would do more than be
// read there, which are control characters, and characters that change the direction of text.
func Visible(text string) string { return Replace(text, func(rune) string { return "?" }) }

// Replace has something else in place of each character that a terminal would obey. Lines and tabs stay.
func Replace(text string, with func(rune) string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if !strings.ContainsFunc(text, obeyed) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if obeyed(r) {
			b.WriteString(with(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// obeyed characters do something in terminals. All of them are in the basic plane, which JSON can escape.
func obeyed(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

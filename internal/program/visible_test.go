package program

import "testing"

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"two\nlines\tand more":               "two\nlines\tand more",
		"Größe: 東京 🙂 e\u0301":                "Größe: 東京 🙂 e\u0301",
		"\x1b]0;title\x07":                   "?]0;title?",
		"\u009b2J":                           "?2J",
		"\x00\x7f\r\b":                       "????",
		"a\u202eb\u2066c\u200fd\u2028e":      "a?b?c?d?e",
		"not UTF-8: \xff\x9b":                "not UTF-8: \uFFFD",
		"half of a sequence at the end \xe2": "half of a sequence at the end \uFFFD",
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := Replace("a\u009bb", func(r rune) string { return "<" + string(r+0x2400) + ">" }); got != "a<\u249b>b" {
		t.Errorf("replaced: %q", got)
	}
}

package teep

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// byteOrderMark may not start a Net-Unicode text (RFC 5198 §2).
const byteOrderMark = '\uFEFF'

// NetUnicode turns any string into what msg and err-msg may hold: valid UTF-8 in normalization
// form C, without control characters, at most 128 bytes (RFC 5198 §2, TEEP §4.6). What is too
// long is cut between characters, never inside one or before its combining marks, and ends in
// an ellipsis. The result may be empty.
func NetUnicode(s string) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == byteOrderMark:
		case unicode.IsControl(r):
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	// Fields joins what line breaks and tabs left as runs of spaces.
	out := norm.NFC.String(strings.Join(strings.Fields(b.String()), " "))
	return truncateText(out, MaxText)
}

func truncateText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut, end := limit-len(ellipsis), 0
	var it norm.Iter
	it.InitString(norm.NFC, s)
	// Each step is one base character with its marks; positions are in s because s is NFC.
	for !it.Done() {
		it.Next()
		if it.Pos() > cut {
			break
		}
		end = it.Pos()
	}
	return strings.TrimRight(s[:end], " ") + ellipsis
}

// checkNetUnicode tells what keeps s from being Net-Unicode, or "". Line breaks as CR LF are
// allowed; normalization is the sender's duty and a receiver's disappointment, no more
// (RFC 5198 §2 and §3).
func checkNetUnicode(s string, sending bool) string {
	if !utf8.ValidString(s) {
		return "is not UTF-8"
	}
	if strings.HasPrefix(s, string(byteOrderMark)) {
		return "starts with a byte order mark"
	}
	for _, r := range strings.ReplaceAll(s, "\r\n", "") {
		if unicode.IsControl(r) {
			return "holds control characters"
		}
	}
	if sending && !norm.NFC.IsNormalString(s) {
		return "is not in normalization form C"
	}
	return ""
}

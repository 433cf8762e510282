package console

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-teep/teep/attest"
)

// How numbers and times are written for people.

// plain writes a number, or what a pointer points to.
func plain(n any) string {
	if v := reflect.ValueOf(n); v.Kind() == reflect.Pointer && !v.IsNil() {
		n = v.Elem().Interface()
	}
	return fmt.Sprint(n)
}

// count writes a number with what it counts.
func count(n any, one, many string) string {
	text := plain(n)
	if text == "1" {
		return "1 " + one
	}
	return grouped(text) + " " + many
}

// grouped parts the digits of a number by threes.
func grouped(digits string) string {
	if strings.Trim(digits, "0123456789") != "" {
		return digits
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size writes a number of bytes, exactly where that is short.
func size(n any) string {
	digits := plain(n)
	var amount float64
	if _, err := fmt.Sscan(digits, &amount); err != nil || amount < 10_000 {
		return count(n, "byte", "bytes")
	}
	unit := 0
	for amount >= 1000 && unit < 4 {
		amount /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %s", amount, []string{"bytes", "kB", "MB", "GB", "TB"}[unit])
}

// span writes how long something takes, and nothing for no time.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	var parts []string
	for _, unit := range []struct {
		length    time.Duration
		one, many string
	}{{day, "day", "days"}, {time.Hour, "hour", "hours"}, {time.Minute, "minute", "minutes"}, {time.Second, "second", "seconds"}} {
		if n := d / unit.length; n > 0 {
			parts = append(parts, count(int64(n), unit.one, unit.many))
			d -= n * unit.length
		}
	}
	return strings.Join(parts, " ")
}

// ago writes how long ago, or how soon, something is, in its largest unit.
func ago(d time.Duration) string {
	soon := d < 0
	d = d.Abs()
	const day = 24 * time.Hour
	var text string
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		text = span(d.Truncate(time.Second))
	case d < time.Hour:
		text = span(d.Truncate(time.Minute))
	case d < 2*day:
		text = span(d.Truncate(time.Hour))
		if d >= day {
			text = count(int64(d/time.Hour), "hour", "hours")
		}
	default:
		text = span(d.Truncate(day))
	}
	if soon {
		return "in " + text
	}
	return text + " ago"
}

// moderate writes a time, with the year where that is not this one.
func moderate(t, now time.Time) string {
	if t.UTC().Year() == now.UTC().Year() {
		return t.UTC().Format("2 Jan, 15:04:05")
	}
	return t.UTC().Format("2 Jan 2006, 15:04:05")
}

// sentence writes what a program says for people: without the name of its package, as a sentence.
func sentence(s string) string {
	for _, room := range []string{"tam: ", "policy: ", "api: "} {
		s = strings.TrimPrefix(s, room)
	}
	if s = visible(strings.TrimSpace(s)); s == "" {
		return s
	}
	first, width := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[width:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}

// vendor writes an oemid claim, given in hexadecimal, as conditions have it.
func vendor(claim string) string {
	if encoded, err := hex.DecodeString(claim); err == nil {
		if text, err := attest.FormatOEMID(encoded); err == nil {
			return visible(text)
		}
	}
	return visible(claim)
}

// readable is the text that bytes in hexadecimal are; empty when they are none.
func readable(digits string) string {
	b, err := hex.DecodeString(digits)
	if err != nil || !utf8.Valid(b) || bytes.ContainsFunc(b, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return string(b)
}

// refusal is the heading of a page that says why there is none.
func refusal(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "Not found"
	case status == http.StatusForbidden:
		return "Not allowed"
	case status >= http.StatusInternalServerError:
		return "Not possible now"
	}
	return "Not done"
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

// explainClaim says what a claim speaks of; empty for one that only its text explains.
func explainClaim(claim string) string {
	name, _, _ := strings.Cut(claim, " ")
	switch name {
	case "ueid":
		return "which device it is"
	case "hwmodel":
		return "which hardware it is"
	case "measurements":
		return "what software runs in the TEE"
	case "dbgstat":
		return "whether somebody can debug the TEE"
	case "weaknesses":
		return "what the TEE says that it lacks"
	case "tcb":
		return "whether firmware and microcode are new enough"
	case "security-lifecycle":
		return "whether the hardware is in production, or open for tests"
	case "vmpl":
		return "how privileged the agent is in its machine"
	case "guest":
		return "what the machine allows its host to do"
	case "ear_status":
		return "what the remote verifier says over all"
	case "policy":
		return "the appraisal policy of this TAM"
	}
	if strings.HasPrefix(name, "pcr-") {
		return "what the machine booted"
	}
	return ""
}

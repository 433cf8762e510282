package policy

import (
	"strings"
	"time"
)

// Window is a span of the day in which a rollout may change devices.
type Window struct {
	// Days are those on which it opens: mon tue wed thu fri sat sun; none means every day.
	Days []string `json:"days,omitempty"`
	From string   `json:"from"` // as in 22:00
	To   string   `json:"to"`   // as in 04:00; not later than From means on the next day
	// Zone is an IANA time zone such as Europe/Berlin; empty means UTC.
	Zone string `json:"zone,omitempty"`
}

const clockLayout = "15:04"

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

// Check checks the window. The error is [ErrInvalid].
func (w *Window) Check() error {
	for _, s := range []string{w.From, w.To} {
		if _, err := time.Parse(clockLayout, s); err != nil {
			return invalid("window: %q is not a time of day: write it as in 22:00", s)
		}
	}
	if _, err := time.LoadLocation(w.Zone); err != nil || strings.EqualFold(w.Zone, "local") {
		return invalid("window: %q is not a time zone: write an IANA name such as Europe/Berlin, or nothing for UTC", w.Zone)
	}
	for _, d := range w.Days {
		if _, ok := weekdays[d]; !ok {
			return invalid("window: %q is not a day: write mon, tue, wed, thu, fri, sat or sun", d)
		}
	}
	return nil
}

// Open tells whether now lies in the window, from From on and before To.
func (w *Window) Open(now time.Time) bool {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return false // it was there when the window was saved: rather late than at a wrong time
	}
	local := now.In(zone)
	from, to, at := minuteOfDay(w.From), minuteOfDay(w.To), local.Hour()*60+local.Minute()
	if from < to {
		return at >= from && at < to && w.on(local.Weekday())
	}
	// It opened today, or yesterday and reaches over midnight.
	return at >= from && w.on(local.Weekday()) || at < to && w.on(local.AddDate(0, 0, -1).Weekday())
}

func (w *Window) on(day time.Weekday) bool {
	for _, d := range w.Days {
		if weekdays[d] == day {
			return true
		}
	}
	return len(w.Days) == 0
}

func minuteOfDay(s string) int {
	t, _ := time.Parse(clockLayout, s) // checked when it was saved
	return t.Hour()*60 + t.Minute()
}

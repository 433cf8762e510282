package policy

import (
	"strings"
	"time"
)

// Window is a span of the day in which a rollout may change devices, also those that join when it is done.
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

// Open tells whether now lies in the window, from From on and before To, as the clocks of its zone show them. When these
// are changed, a window is one span all the same: a time that they show twice is the first of both, and one that they
// leave out is when they are put forward.
func (w *Window) Open(now time.Time) bool {
	start, end, ok := w.spanAround(now)
	return ok && !now.Before(start) && now.Before(end)
}

// spanAround returns the span that now lies in, or else the next one.
func (w *Window) spanAround(now time.Time) (start, end time.Time, ok bool) {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return start, end, false // it was there when the window was saved: rather late than at a wrong time
	}
	// It may have opened yesterday and reach over midnight; a week and a day later all days came. One day more, because a
	// window may lie in the hour that is left out.
	year, month, day := now.In(zone).Date()
	for d := day - 1; d <= day+8; d++ {
		if !w.on(time.Date(year, month, d, 12, 0, 0, 0, time.UTC).Weekday()) {
			continue
		}
		until := d
		if from, to := minuteOfDay(w.From), minuteOfDay(w.To); to <= from {
			until++
		}
		start, end = instant(year, month, d, w.From, zone), instant(year, month, until, w.To, zone)
		if now.Before(end) && start.Before(end) {
			return start, end, true
		}
	}
	return start, end, false
}

// instant is the first time at which the clocks of zone show a day and time, or have just jumped over it.
func instant(year int, month time.Month, day int, clock string, zone *time.Location) time.Time {
	shown := time.Date(year, month, day, 0, minuteOfDay(clock), 0, 0, time.UTC)
	// What the clocks were a day before, and are a day later, is all that they can be at that time.
	_, before := shown.AddDate(0, 0, -1).In(zone).Zone()
	_, after := shown.AddDate(0, 0, 1).In(zone).Zone()
	earlier := shown.Add(-time.Duration(max(before, after)) * time.Second).In(zone)
	later := shown.Add(-time.Duration(min(before, after)) * time.Second).In(zone)
	shows := func(t time.Time) bool {
		_, offset := t.Zone()
		return t.Add(time.Duration(offset) * time.Second).Equal(shown)
	}
	switch {
	case shows(earlier):
		return earlier
	case shows(later):
		return later
	}
	_, jump := earlier.ZoneBounds()
	return jump
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

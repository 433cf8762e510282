package console

import (
	"fmt"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// plotHours is how far back plots go.
const plotHours = 48

// The size of a plot in its own units; the style sheet scales it.
const (
	plotWidth  = 480
	plotHeight = 96
)

// axes are what a plot is read by: hours from left to right, and a number that is easy to halve at the top.
type axes struct {
	First, Last   time.Time
	Top           int64
	Width, Height int
}

// newAxes has room for the last hours and for most.
func newAxes(now time.Time, most int64) axes {
	last := now.UTC().Truncate(time.Hour)
	return axes{
		First: last.Add(-(plotHours - 1) * time.Hour), Last: last,
		Top: ceiling(most), Width: plotWidth, Height: plotHeight,
	}
}

// Half is the number at half height.
func (a axes) Half() int64 { return a.Top / 2 }

// HalfHeight is where that is.
func (a axes) HalfHeight() int { return a.Height / 2 }

// high is how high a number stands.
func (a axes) high(n int64) float64 { return float64(n) / float64(a.Top) * float64(a.Height) }

// across is where an hour begins, and how wide its bar is.
func (a axes) across(hour time.Time) (x, w float64) {
	step := float64(a.Width) / plotHours
	return hour.Sub(a.First).Hours()*step + 1, step - 2
}

// ceiling is the least even number of one digit and zeros that is not below n.
func ceiling(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for _, digit := range []int64{2, 4, 6, 8} {
			if n <= digit*unit {
				return digit * unit
			}
		}
		if n <= 10*unit {
			return 10 * unit
		}
	}
}

// plot counts something by the hour, as bars.
type plot struct {
	axes
	Title, Text string
	Class       string // of the bars: bad, or empty
	Bars        []bar
	Total, Max  int64
}

// bar is one hour.
type bar struct {
	Hour          time.Time
	Count         int64
	X, Y, W, High float64
}

// Label says in words what the bar shows.
func (b bar) Label() string {
	return fmt.Sprintf("%s: %d", b.Hour.Format("2 January 15:04 MST"), b.Count)
}

// Summary says in words what the plot shows.
func (p plot) Summary() string {
	return fmt.Sprintf("%s in the last %d hours: %d in all, at most %d in an hour", p.Text, plotHours, p.Total, p.Max)
}

func newPlot(title, text, class string, now time.Time, activity []api.Activity, kinds ...tam.EventKind) plot {
	p := plot{Title: title, Text: text, Class: class}
	first := newAxes(now, 0).First
	for n := range plotHours {
		b := bar{Hour: first.Add(time.Duration(n) * time.Hour)}
		for _, a := range activity {
			for _, k := range kinds {
				if a.Kind == k && a.Hour.Equal(b.Hour) {
					b.Count += a.Count
				}
			}
		}
		p.Total += b.Count
		p.Max = max(p.Max, b.Count)
		p.Bars = append(p.Bars, b)
	}
	p.axes = newAxes(now, p.Max)
	for n := range p.Bars {
		b := &p.Bars[n]
		b.X, b.W = p.across(b.Hour)
		b.High = p.high(b.Count)
		b.Y = plotHeight - b.High
	}
	return p
}

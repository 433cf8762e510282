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

// plot counts something by the hour, as bars.
type plot struct {
	Title, Text   string
	Class         string // of the bars: bad, or empty
	Bars          []bar
	Total, Max    int64
	Width, Height int
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
	p := plot{Title: title, Text: text, Class: class, Width: plotWidth, Height: plotHeight}
	first := now.UTC().Truncate(time.Hour).Add(-(plotHours - 1) * time.Hour)
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
	step := float64(plotWidth) / plotHours
	for n := range p.Bars {
		b := &p.Bars[n]
		b.X, b.W = float64(n)*step+1, step-2
		if p.Max > 0 {
			b.High = float64(b.Count) / float64(p.Max) * (plotHeight - 2)
		}
		b.Y = plotHeight - b.High
	}
	return p
}

package console

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
)

// fieldPlot shows which versions of a manifest were in the field, hour by hour, as bars of stacked parts.
type fieldPlot struct {
	axes
	Manifest string
	Columns  []fieldColumn
	Parts    []fieldPart
	Rows     []fieldRow
	Summary  string
}

// fieldColumn is what the plot tells apart: the newest versions, and all others as one.
type fieldColumn struct {
	Name string
	// Devices is how many were counted last; Shade numbers the column.
	Devices int64
	Shade   int
}

// fieldPart is one column in one hour.
type fieldPart struct {
	X, Y, W, High float64
	Shade         int
	Label         string
}

// fieldRow is an hour in numbers.
type fieldRow struct {
	Hour    time.Time
	Devices []int64
}

const (
	maxFieldPlots = 6
	// maxShades is how many colours can be told apart, whatever somebody's eyes are like.
	maxShades = 4
)

// newFieldPlots makes the plots of the manifests that most devices have.
func newFieldPlots(now time.Time, counts []api.FieldCount) []fieldPlot {
	first := newAxes(now, 0).First
	byManifest, devices := map[string][]api.FieldCount{}, map[string]int64{}
	for _, c := range counts {
		if !c.Hour.Before(first) {
			byManifest[c.Manifest] = append(byManifest[c.Manifest], c)
			devices[c.Manifest] += c.Devices
		}
	}
	order := slices.SortedFunc(maps.Keys(byManifest), func(a, b string) int {
		return cmp.Or(cmp.Compare(devices[b], devices[a]), strings.Compare(a, b))
	})
	var plots []fieldPlot
	for _, manifest := range order[:min(len(order), maxFieldPlots)] {
		plots = append(plots, newFieldPlot(manifest, now, byManifest[manifest]))
	}
	return plots
}

func newFieldPlot(manifest string, now time.Time, counts []api.FieldCount) fieldPlot {
	p := fieldPlot{Manifest: manifest}
	columns := p.tellApart(counts)
	hours, most := map[time.Time][]int64{}, int64(0)
	for _, c := range counts {
		hour := c.Hour.UTC()
		if hours[hour] == nil {
			hours[hour] = make([]int64, len(p.Columns))
		}
		hours[hour][columns[c.Sequence]] += c.Devices
		most = max(most, sum(hours[hour]))
	}
	p.axes = newAxes(now, most)
	for _, hour := range slices.SortedFunc(maps.Keys(hours), time.Time.Compare) {
		p.stack(fieldRow{hour, hours[hour]})
	}
	var last []string
	for i, n := range p.Rows[len(p.Rows)-1].Devices {
		p.Columns[i].Devices = n
		last = append(last, count(n, "device", "devices")+" with "+p.Columns[i].Name)
	}
	p.Summary = "Last counted: " + strings.Join(last, ", ")
	return p
}

// tellApart makes the columns, and says which column each version is in.
func (p *fieldPlot) tellApart(counts []api.FieldCount) map[uint64]int {
	var versions []uint64
	for _, c := range counts {
		if !slices.Contains(versions, c.Sequence) {
			versions = append(versions, c.Sequence)
		}
	}
	slices.Sort(versions)
	slices.Reverse(versions)
	columns := map[uint64]int{}
	for i, v := range versions {
		n := min(i, maxShades-1)
		if columns[v] = n; n == len(p.Columns) {
			p.Columns = append(p.Columns, fieldColumn{Name: versionName(v), Shade: n})
		}
	}
	if len(versions) > maxShades {
		p.Columns[maxShades-1].Name = "all other versions"
	}
	return columns
}

// stack puts the parts of an hour on top of each other.
func (p *fieldPlot) stack(row fieldRow) {
	p.Rows = append(p.Rows, row)
	x, w := p.across(row.Hour)
	top := float64(p.Height)
	for i, n := range row.Devices {
		if n == 0 {
			continue
		}
		high := p.high(n)
		top -= high
		p.Parts = append(p.Parts, fieldPart{
			X: x, Y: top, W: w, High: high, Shade: i,
			Label: fmt.Sprintf("%s: %s with %s", row.Hour.Format("2 January 15:04 MST"), count(n, "device", "devices"), p.Columns[i].Name),
		})
	}
}

func sum(numbers []int64) (total int64) {
	for _, n := range numbers {
		total += n
	}
	return total
}

func versionName(sequence uint64) string {
	if sequence == 0 {
		return "a version that is not published here"
	}
	return fmt.Sprintf("version %d", sequence)
}

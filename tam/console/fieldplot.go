package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
)

// fieldPlot shows which versions of a manifest were in the field, hour by hour, as bars of stacked parts.
type fieldPlot struct {
	Manifest      string
	Parts         []fieldPart
	Rows          []fieldRow
	Versions      []uint64 // of the rows' columns; 0 stands for a version that is not published here
	Width, Height int
	Summary       string
	// Legend is how many devices were counted last with each version.
	Legend []fieldKey
}

// fieldKey is an entry of the legend.
type fieldKey struct {
	Version uint64
	Devices int64
	Shade   int
}

// fieldPart is one version in one hour. Shade numbers its version among those that the plot tells apart,
// from the newest on.
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
	maxShades     = 4
)

// newFieldPlots makes the plots of the manifests that most devices have.
func newFieldPlots(now time.Time, counts []api.FieldCount) []fieldPlot {
	first := now.UTC().Truncate(time.Hour).Add(-(plotHours - 1) * time.Hour)
	byManifest, newest := map[string][]api.FieldCount{}, map[string]int64{}
	for _, c := range counts {
		if !c.Hour.Before(first) {
			byManifest[c.Manifest] = append(byManifest[c.Manifest], c)
			newest[c.Manifest] += c.Devices
		}
	}
	order := slices.SortedFunc(maps.Keys(byManifest), func(a, b string) int {
		if newest[a] != newest[b] {
			return int(min(max(newest[b]-newest[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	var plots []fieldPlot
	for _, manifest := range order[:min(len(order), maxFieldPlots)] {
		plots = append(plots, newFieldPlot(manifest, first, byManifest[manifest]))
	}
	return plots
}

func newFieldPlot(manifest string, first time.Time, counts []api.FieldCount) fieldPlot {
	p := fieldPlot{Manifest: manifest, Width: plotWidth, Height: plotHeight}
	hours := map[time.Time]map[uint64]int64{}
	for _, c := range counts {
		if hours[c.Hour] == nil {
			hours[c.Hour] = map[uint64]int64{}
		}
		hours[c.Hour][c.Sequence] += c.Devices
		if !slices.Contains(p.Versions, c.Sequence) {
			p.Versions = append(p.Versions, c.Sequence)
		}
	}
	slices.Sort(p.Versions)
	slices.Reverse(p.Versions)
	most := int64(1)
	for _, versions := range hours {
		total := int64(0)
		for _, n := range versions {
			total += n
		}
		most = max(most, total)
	}
	step := float64(plotWidth) / plotHours
	for n := range plotHours {
		hour := first.Add(time.Duration(n) * time.Hour)
		versions := hours[hour]
		if versions == nil {
			continue
		}
		row, top := fieldRow{Hour: hour}, float64(plotHeight)
		for i, v := range p.Versions {
			row.Devices = append(row.Devices, versions[v])
			if versions[v] == 0 {
				continue
			}
			high := float64(versions[v]) / float64(most) * (plotHeight - 2)
			top -= high
			p.Parts = append(p.Parts, fieldPart{
				X: float64(n)*step + 1, Y: top, W: step - 2, High: high, Shade: min(i, maxShades-1),
				Label: fmt.Sprintf("%s: %d devices with %s", hour.Format("2 January 15:04 MST"), versions[v], versionName(v)),
			})
		}
		p.Rows = append(p.Rows, row)
	}
	last := p.Rows[len(p.Rows)-1]
	var now []string
	for i, v := range p.Versions {
		if last.Devices[i] > 0 {
			p.Legend = append(p.Legend, fieldKey{v, last.Devices[i], min(i, maxShades-1)})
			now = append(now, count(last.Devices[i], "device", "devices")+" with "+versionName(v))
		}
	}
	p.Summary = "Last counted: " + strings.Join(now, ", ")
	return p
}

func versionName(sequence uint64) string {
	if sequence == 0 {
		return "a version that is not published here"
	}
	return fmt.Sprintf("version %d", sequence)
}

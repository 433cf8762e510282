package console

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

func TestCeiling(t *testing.T) {
	for n, want := range map[int64]int64{0: 2, 1: 2, 2: 2, 3: 4, 8: 8, 9: 10, 10: 10, 11: 20, 240: 400, 801: 1000, 15901: 20000, 1_000_001: 2_000_000} {
		if got := ceiling(n); got != want {
			t.Errorf("above %d: %d, not %d", n, got, want)
		}
	}
}

// TestBarsStandOnTheAxes: what is counted is as high as its number says, in the hour where it belongs; what is older is not shown.
func TestBarsStandOnTheAxes(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	hour := now.Truncate(time.Hour)
	p := newPlot("Failures", "failures", "bad", now, []api.Activity{
		{Hour: hour, Kind: tam.EventFailed, Count: 30}, {Hour: hour, Kind: tam.EventAttestationFailed, Count: 10}, {Hour: hour, Kind: tam.EventAttested, Count: 1000},
		{Hour: hour.Add(-47 * time.Hour), Kind: tam.EventFailed, Count: 20}, {Hour: hour.Add(-48 * time.Hour), Kind: tam.EventFailed, Count: 500},
	}, tam.EventFailed, tam.EventAttestationFailed)
	first, last := p.Bars[0], p.Bars[len(p.Bars)-1]
	if len(p.Bars) != plotHours || p.Total != 60 || p.Max != 40 || p.Top != 40 || p.Half() != 20 || !p.First.Equal(first.Hour) || !p.Last.Equal(last.Hour) {
		t.Errorf("%+v", p)
	}
	if last.High != plotHeight || last.Y != 0 || first.Y != float64(p.HalfHeight()) || math.Abs(last.X+last.W+1-plotWidth) > 1e-9 || first.X != 1 {
		t.Errorf("the first bar is %+v, the last one %+v", first, last)
	}
}

// TestVersionsInTheFieldAreToldApart: the newest by their names, all others together, and nothing is lost.
func TestVersionsInTheFieldAreToldApart(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	var counts []api.FieldCount
	for h := range 60 {
		for v := range uint64(7) {
			counts = append(counts, api.FieldCount{Hour: now.Truncate(time.Hour).Add(time.Duration(-h) * time.Hour), Manifest: "'many'", Sequence: v, Devices: 10})
		}
	}
	counts = append(counts, api.FieldCount{Hour: now.Truncate(time.Hour), Manifest: "'few'", Sequence: 0, Devices: 1})
	plots := newFieldPlots(now, counts)
	if len(plots) != 2 || plots[0].Manifest != "'many'" {
		t.Fatalf("%+v", plots)
	}
	many, few := plots[0], plots[1]
	if len(many.Rows) != plotHours || many.Top != 80 || len(many.Columns) != maxShades || many.Columns[0].Name != "version 6" || many.Columns[3].Name != "all other versions" || many.Columns[3].Devices != 40 {
		t.Errorf("%+v", many.Columns)
	}
	for i, part := range many.Parts[:maxShades] {
		if part.Shade != i || part.High != []float64{12, 12, 12, 48}[i] {
			t.Errorf("part %d: %+v", i, part)
		}
	}
	if len(few.Columns) != 1 || !strings.Contains(few.Summary, "1 device with a version that is not published here") {
		t.Errorf("%+v", few)
	}
}

func TestHoldings(t *testing.T) {
	list := holdings([]api.InstalledCount{
		{Manifest: "'a'", Sequence: 1, Devices: 5}, {Manifest: "'b'", Sequence: 2, Devices: 1}, {Manifest: "'b'", Sequence: 9, Devices: 2},
		{Manifest: "'b'", Sequence: 0, Devices: 3}, {Manifest: "'b'", Sequence: 3, Devices: 4}, {Manifest: "'b'", Sequence: 4, Devices: 5},
	})
	if len(list) != 2 || list[0].Manifest != "'b'" || list[0].Devices != 15 || list[0].Others != 4 || len(list[0].Newest) != maxNewest || list[0].Newest[0].Sequence != 9 || list[1].Others != 0 {
		t.Errorf("%+v", list)
	}
	if holdings(nil) != nil {
		t.Error("nothing is held by somebody")
	}
}

// TestComponentsByManifest: a withdrawn version is not the newest while another is offered.
func TestComponentsByManifest(t *testing.T) {
	var d componentsData
	at := time.Now()
	for _, v := range []api.Version{
		{Manifest: "'a'", Sequence: 1, Withdrawn: &at}, {Manifest: "'a'", Sequence: 2, Withdrawn: &at},
		{Manifest: "'b'", Sequence: 1}, {Manifest: "'b'", Sequence: 2}, {Manifest: "'b'", Sequence: 3, Withdrawn: &at}, {Manifest: "'b'", Sequence: 4, NotOffered: "its key was withdrawn"},
	} {
		d.add(v)
	}
	a, b := d.Components[0], d.Components[1]
	if len(d.Components) != 2 || a.Newest.Sequence != 2 || a.Versions != 2 || a.NotOffered != 2 || b.Newest.Sequence != 2 || b.Versions != 4 || b.NotOffered != 2 {
		t.Errorf("%+v", d)
	}
}

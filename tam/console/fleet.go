package console

import (
	"net/http"
	"slices"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// fleetPage is the fleet at a glance.
type fleetPage struct {
	Statuses     []tam.DeviceStatus
	Attestations []attestationRow
	Total        int64
	// Counted is as of when Attestations are, or nil if they are of just now.
	Counted *time.Time
	Plots   []plot
	// Rollouts are those that are under way.
	Rollouts []rolloutData
	// Installed is what most devices have, MoreInstalled how many manifests there are beside it.
	Installed     []holding
	MoreInstalled int
	Field         []fieldPlot
}

// countedNow is how old a number may be without saying so.
const countedNow = 10 * time.Second

// News is what a screen reader is told when it changed.
func (p fleetPage) News() string {
	news := count(p.Total, "device", "devices")
	for _, r := range p.Rollouts {
		news += "; " + r.News()
	}
	return news
}

// attestationRow is one row of the table of counts; the last one has no attestation, and counts all.
type attestationRow struct {
	Attestation string
	Counts      []countCell
}

// countCell is one number, which leads to the devices that it counts: of a status, or of all.
type countCell struct {
	Status  tam.DeviceStatus
	Devices int64
}

// countDevices makes the table of counts, and says how many devices there are.
func (p *fleetPage) countDevices(counts []api.DeviceCount) {
	p.Statuses = []tam.DeviceStatus{tam.DeviceAccepted, tam.DevicePending, tam.DeviceBlocked, tam.DeviceRetired}
	for _, attestation := range []string{"affirming", "warning", "contraindicated", "none", ""} {
		row := attestationRow{Attestation: attestation}
		for _, status := range append(slices.Clone(p.Statuses), "") {
			cell := countCell{Status: status}
			for _, c := range counts {
				if (status == "" || c.Status == status) && (attestation == "" || c.Attestation == attestation) {
					cell.Devices += c.Devices
				}
			}
			row.Counts = append(row.Counts, cell)
			p.Total = cell.Devices
		}
		p.Attestations = append(p.Attestations, row)
	}
}

func (s *console) fleet(v *visit) error {
	if !v.may(api.ScopeOperator, api.ScopeAuditor) {
		return v.back("components") // where those begin who only publish
	}
	o, err := v.api.Overview(v.r.Context())
	if err != nil {
		return err
	}
	p := fleetPage{}
	p.countDevices(o.Devices)
	now := s.Clock()
	if now.Sub(o.CountedAt) > countedNow {
		p.Counted = &o.CountedAt
	}
	p.Plots = []plot{
		newPlot("Sessions", "attested sessions per hour", "", now, o.Activity, tam.EventAttested),
		newPlot("Failures", "failed attestations and failed updates per hour", "bad", now, o.Activity, tam.EventAttestationFailed, tam.EventFailed),
		newPlot("Updates", "updates that succeeded per hour", "", now, o.Activity, tam.EventSucceeded),
	}
	rollouts, err := v.api.Rollouts(v.r.Context(), "")
	if err != nil {
		return err
	}
	for _, r := range rollouts.Items {
		if r.State.Active() || r.State == policy.StateProposed {
			p.Rollouts = append(p.Rollouts, viewRollout(r, false))
		}
	}
	installed, err := v.installed()
	if err != nil {
		return err
	}
	p.Installed = holdings(installed)
	if n := len(p.Installed); n > maxHoldings {
		p.Installed, p.MoreInstalled = p.Installed[:maxHoldings], n-maxHoldings
	}
	field, err := api.Collect(0, "", func(after string) (*api.Page[api.FieldCount], error) { return v.api.Field(v.r.Context(), after) })
	if err != nil {
		return err
	}
	p.Field = newFieldPlots(now, field)
	s.render(v, http.StatusOK, "fleet", "Fleet", p)
	return nil
}

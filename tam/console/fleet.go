package console

import (
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// fleetPage is the fleet at a glance.
type fleetPage struct {
	Statuses     []statusRow
	Attestations []string
	Total        int64
	Plots        []plot
	// Rollouts are those that are under way; Installed is what the fleet has.
	Rollouts  []rolloutData
	Installed []api.InstalledCount
	// MoreInstalled says that these are not all.
	MoreInstalled bool
	Field         []fieldPlot
}

// News is what a screen reader is told when it changed.
func (p fleetPage) News() string {
	news := count(p.Total, "device", "devices")
	for _, r := range p.Rollouts {
		news += "; " + r.News()
	}
	return news
}

// statusRow is one row of the table of counts.
type statusRow struct {
	Status tam.DeviceStatus
	Counts []countCell
	Total  int64
}

// countCell is one number, which leads to the devices that it counts.
type countCell struct {
	Attestation string
	Devices     int64
}

func (s *console) fleet(v *visit) error {
	if !v.may(api.ScopeOperator, api.ScopeAuditor) {
		return v.back("components") // where those begin who only publish
	}
	o, err := v.api.Overview(v.r.Context())
	if err != nil {
		return err
	}
	p := fleetPage{Attestations: []string{"affirming", "warning", "contraindicated", "none"}}
	for _, status := range []tam.DeviceStatus{tam.DeviceAccepted, tam.DevicePending, tam.DeviceBlocked, tam.DeviceRetired} {
		row := statusRow{Status: status}
		for _, attestation := range p.Attestations {
			cell := countCell{Attestation: attestation}
			for _, c := range o.Devices {
				if c.Status == status && c.Attestation == attestation {
					cell.Devices += c.Devices
				}
			}
			row.Counts = append(row.Counts, cell)
			row.Total += cell.Devices
		}
		p.Total += row.Total
		p.Statuses = append(p.Statuses, row)
	}
	now := s.Clock()
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
	installed, err := v.api.Installed(v.r.Context(), "", "")
	if err != nil {
		return err
	}
	p.Installed, p.MoreInstalled = installed.Items, installed.Next != ""
	field, err := api.Collect(0, "", func(after string) (*api.Page[api.FieldCount], error) { return v.api.Field(v.r.Context(), after) })
	if err != nil {
		return err
	}
	p.Field = newFieldPlots(now, field)
	s.render(v, http.StatusOK, "fleet", "Fleet", p)
	return nil
}

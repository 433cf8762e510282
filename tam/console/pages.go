package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
)

// may tells whether the visitor has one of the scopes; the API decides, this only keeps forms from being
// shown in vain.
func (v *visit) may(scopes ...api.Scope) bool {
	return v.caller != nil && slices.ContainsFunc(append(scopes, api.ScopeAdministrator), v.caller.Has)
}

const (
	devicesPage = 50
	auditPage   = 50
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
	Field     []fieldPlot
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
		newPlot("Sessions", "attested sessions per hour", now, o.Activity, tam.EventAttested),
		newPlot("Failures", "failed attestations and failed updates per hour", now, o.Activity, tam.EventAttestationFailed, tam.EventFailed),
		newPlot("Updates", "updates that succeeded per hour", now, o.Activity, tam.EventSucceeded),
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
	installed, err := v.api.Installed(v.r.Context())
	if err != nil {
		return err
	}
	p.Installed = installed.Items
	field, err := v.api.Field(v.r.Context())
	if err != nil {
		return err
	}
	p.Field = newFieldPlots(now, field.Items)
	s.render(v, http.StatusOK, "fleet", "Fleet", p)
	return nil
}

// devicesData is a page of the list of devices.
type devicesData struct {
	Status, Attestation, Match, Next string
	Devices                          []api.Device
	// Short says that the page may be short of devices that match and come later.
	Short bool
}

func (s *console) devices(v *visit) error {
	q := v.r.URL.Query()
	d := devicesData{Status: q.Get("status"), Attestation: q.Get("attestation"), Match: strings.TrimSpace(q.Get("match"))}
	var page *api.Page[api.Device]
	var err error
	if d.Match != "" {
		page, err = v.api.MatchingDevices(v.r.Context(), d.Match, q.Get("after"))
		d.Short = true
	} else {
		page, err = v.api.FindDevices(v.r.Context(), d.Status, d.Attestation, q.Get("after"), devicesPage)
	}
	if err != nil {
		return err
	}
	d.Devices = page.Items
	if page.Next != "" {
		d.Next = url.Values{"status": {d.Status}, "attestation": {d.Attestation}, "match": {d.Match}, "after": {page.Next}}.Encode()
	}
	s.render(v, http.StatusOK, "devices", "Devices", d)
	return nil
}

func (s *console) components(v *visit) error {
	page, err := v.api.Versions(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "components", "Components", page)
	return nil
}

// componentData is a manifest with its versions and a part of its holders.
type componentData struct {
	Manifest string
	Versions []heldVersion
	// MaySee says whether to show who has them, MayWithdraw whether to show the form.
	MaySee, MayWithdraw bool
}

// heldVersion is a version with how many devices have it.
type heldVersion struct {
	api.Version
	Devices int64
}

func (s *console) component(v *visit) error {
	data := componentData{Manifest: v.r.PathValue("manifest"), MayWithdraw: v.may(api.ScopeOperator)}
	for after := ""; ; {
		page, err := v.api.Versions(v.r.Context(), after)
		if err != nil {
			return err
		}
		for _, version := range page.Items {
			if version.Manifest == data.Manifest {
				data.Versions = append(data.Versions, heldVersion{Version: version})
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.Reverse(data.Versions)
	if len(data.Versions) == 0 {
		return &api.Problem{Status: http.StatusNotFound, Detail: "Nothing was published under this identifier.", Next: "See the list of components."}
	}
	if v.may(api.ScopeOperator, api.ScopeAuditor) {
		installed, err := v.api.Installed(v.r.Context())
		if err != nil {
			return err
		}
		for _, count := range installed.Items {
			for i := range data.Versions {
				if held := &data.Versions[i]; count.Manifest == data.Manifest && count.Sequence == held.Sequence {
					held.Devices = count.Devices
				}
			}
		}
		data.MaySee = true
	}
	s.render(v, http.StatusOK, "component", "Component "+visible(data.Manifest), data)
	return nil
}

// holdersData is a page of the devices that have a version.
type holdersData struct {
	Manifest string
	Sequence uint64
	*api.Page[api.Device]
}

func (s *console) holders(v *visit) error {
	sequence, err := strconv.ParseUint(v.r.PathValue("sequence"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "That is no sequence number.", Next: "Choose a version on the page of the component."}
	}
	manifest := v.r.PathValue("manifest")
	page, err := v.api.DevicesWith(v.r.Context(), manifest, sequence, v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "holders", fmt.Sprintf("Devices with version %d of %s", sequence, visible(manifest)), holdersData{manifest, sequence, page})
	return nil
}

func (s *console) withdraw(v *visit) error {
	manifest := v.r.PathValue("manifest")
	sequence, err := strconv.ParseUint(v.r.PathValue("sequence"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "That is no sequence number.", Next: "Reload the page."}
	}
	if err := v.api.Withdraw(v.r.Context(), manifest, sequence, v.r.PostFormValue("reason")); err != nil {
		return err
	}
	return v.back("components/" + url.PathEscape(manifest))
}

// policiesData is the desired state.
type policiesData struct {
	Policies []api.Policy
	MaySet   bool
}

func (s *console) policies(v *visit) error {
	page, err := v.api.Policies(v.r.Context())
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "policies", "Policies", policiesData{page.Items, v.may(api.ScopeOperator)})
	return nil
}

func (s *console) setPolicy(v *visit) error {
	manifest, mode := strings.TrimSpace(v.r.PostFormValue("manifest")), v.r.PostFormValue("mode")
	if mode == "remove" {
		if err := v.api.DeletePolicy(v.r.Context(), manifest); err != nil {
			return err
		}
		return v.back("policies")
	}
	policy := api.NewPolicy{Mode: tam.Mode(mode), Devices: strings.Fields(strings.ReplaceAll(v.r.PostFormValue("devices"), ",", " "))}
	if _, err := v.api.SetPolicy(v.r.Context(), manifest, policy); err != nil {
		return err
	}
	return v.back("policies")
}

func (s *console) publishers(v *visit) error {
	page, err := v.api.Publishers(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "publishers", "Publishers", page)
	return nil
}

// auditData is a page of the audit log, newest first.
type auditData struct {
	Head    audit.Head
	Entries []audit.Entry
	// Before is where the page with older entries begins; 0 on the last.
	Before int64
}

func (s *console) audit(v *visit) error {
	head, err := v.api.AuditHead(v.r.Context())
	if err != nil {
		return err
	}
	from := head.Seq + 1
	if text := v.r.URL.Query().Get("before"); text != "" {
		if from, err = strconv.ParseInt(text, 10, 64); err != nil || from < 1 {
			return &api.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%q is no entry.", text), Next: "Begin with the newest entry."}
		}
	}
	after := max(0, from-1-auditPage)
	page, err := v.api.AuditFrom(v.r.Context(), after, max(1, int(min(auditPage, from-1-after))))
	if err != nil {
		return err
	}
	data := auditData{Head: *head, Entries: page.Items}
	if from == 1 {
		data.Entries = nil
	}
	slices.Reverse(data.Entries)
	if after > 0 {
		data.Before = after + 1
	}
	s.render(v, http.StatusOK, "audit", "Audit log", data)
	return nil
}

// errTemplate says that a page is broken: a mistake in this package.
var errTemplate = errors.New("console: page is broken")

package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-teep/teep/tam/api"
)

const (
	// devicesPage is how many devices a page of the list has.
	devicesPage = 50
	// devicesLookedAt is how many pages of the API are asked for devices with a condition, which is
	// evaluated for one device after the other.
	devicesLookedAt = 5
)

// devicesData is a page of the list of devices.
type devicesData struct {
	Find, Status, Attestation, Match, Next string
	Devices                                []api.Device
	// More says that the beginning of an ID is that of further devices.
	More bool
}

// Filtered tells whether not all devices are asked for.
func (d devicesData) Filtered() bool {
	return d.Find != "" || d.Status != "" || d.Attestation != "" || d.Match != ""
}

func (s *console) devices(v *visit) error {
	q := v.r.URL.Query()
	d := devicesData{Find: strings.TrimSpace(q.Get("find")), Status: q.Get("status"), Attestation: q.Get("attestation"), Match: strings.TrimSpace(q.Get("match"))}
	if d.Find != "" {
		return s.find(v, d)
	}
	d.Next = q.Get("after")
	for range devicesLookedAt {
		page, err := v.api.ListDevices(v.r.Context(), api.DeviceQuery{
			Status: d.Status, Attestation: d.Attestation, Match: d.Match, After: d.Next, Limit: devicesPage - len(d.Devices),
		})
		if err != nil {
			return err
		}
		d.Devices = append(d.Devices, page.Items...)
		if d.Next = page.Next; d.Next == "" || len(d.Devices) >= devicesPage {
			break
		}
	}
	s.render(v, http.StatusOK, "devices", "Devices", d)
	return nil
}

// find leads to the device with an ID or a UEID, or lists those with a UEID and those whose ID begins so.
func (s *console) find(v *visit, d devicesData) error {
	ctx := v.r.Context()
	find := strings.ToLower(d.Find)
	_, err := v.api.Device(ctx, find)
	if err == nil {
		return v.back("devices/" + url.PathEscape(find))
	}
	var none *api.Problem
	if !errors.As(err, &none) || none.Status >= http.StatusInternalServerError {
		return err
	}
	// What is no UEID, because it is not hexadecimal, is nobody's.
	if tees, err := v.api.TEEs(ctx, find); err == nil {
		d.Devices = tees.Items
	} else if !errors.As(err, &none) || none.Status >= http.StatusInternalServerError {
		return err
	}
	page, err := v.api.ListDevices(ctx, api.DeviceQuery{After: find, Limit: devicesPage})
	if err != nil {
		return err
	}
	for _, device := range page.Items {
		if strings.HasPrefix(device.ID, find) {
			d.Devices = append(d.Devices, device)
		}
	}
	d.More = len(d.Devices) >= devicesPage && page.Next != ""
	if len(d.Devices) == 1 {
		return v.back("devices/" + url.PathEscape(d.Devices[0].ID))
	}
	s.render(v, http.StatusOK, "devices", "Devices", d)
	return nil
}

package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-teep/teep/tam/api"
)

// devicesPage is how many devices a page of the list has.
const devicesPage = 50

// devicesData is a page of the list of devices.
type devicesData struct {
	Status, Attestation, Match, Next string
	Devices                          []api.Device
}

// Filtered tells whether not all devices are asked for.
func (d devicesData) Filtered() bool { return d.Status != "" || d.Attestation != "" || d.Match != "" }

func (s *console) devices(v *visit) error {
	q := v.r.URL.Query()
	d := devicesData{Status: q.Get("status"), Attestation: q.Get("attestation"), Match: strings.TrimSpace(q.Get("match"))}
	page, err := v.api.ListDevices(v.r.Context(), api.DeviceQuery{
		Status: d.Status, Attestation: d.Attestation, Match: d.Match, After: q.Get("after"), Limit: devicesPage,
	})
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

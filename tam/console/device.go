package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// deviceData is a device with its history.
type deviceData struct {
	api.Device
	// Timeline is its history and the messages of its sessions, newest first; Next leads to earlier
	// events.
	Timeline []chapter
	Next     string
	// MayChange says whether to show the form; Changes are the statuses that it offers.
	MayChange bool
	Changes   []statusChange
	// Policy is what it should have, and why: Decided are the manifests that make a difference to it,
	// OnRequest those that it does not have, and gets when it asks for them.
	Policy             *api.DevicePolicy
	Decided, OnRequest []api.DeviceManifest
}

// statusChange is a button.
type statusChange struct {
	Status tam.DeviceStatus
	Verb   string
	// Confirm is what to know before; empty: nothing is lost.
	Confirm string
}

func statusChanges() []statusChange {
	return []statusChange{
		{tam.DeviceAccepted, "Accept", ""},
		{tam.DeviceBlocked, "Block", "A blocked device is not answered, and keeps what it has, until it is accepted again."},
		{tam.DeviceRetired, "Retire", "A retired device has left the fleet: it is not answered, and no longer counts among those that have something."},
	}
}

func (s *console) device(v *visit) error {
	id := v.r.PathValue("id")
	d, err := v.api.Device(v.r.Context(), id)
	if err != nil {
		return err
	}
	events, err := v.api.Events(v.r.Context(), id, v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	policy, err := v.api.DevicePolicy(v.r.Context(), id)
	if err != nil {
		return err
	}
	messages, err := v.api.Messages(v.r.Context(), id, "")
	if err != nil {
		return err
	}
	story := timeline(events.Items, messages.Items, events.Next)
	v.summarize(id, story)
	data := deviceData{Device: *d, Timeline: chapters(story), Next: events.Next, Policy: policy, MayChange: v.may(api.ScopeOperator)}
	for _, m := range policy.Manifests {
		if m.Mode == tam.ModeAvailable && m.Installed == 0 && m.Rollout == "" {
			data.OnRequest = append(data.OnRequest, m)
		} else {
			data.Decided = append(data.Decided, m)
		}
	}
	for _, c := range statusChanges() {
		if c.Status != d.Status {
			data.Changes = append(data.Changes, c)
		}
	}
	s.render(v, http.StatusOK, "device", "Device "+short(d.ID), data)
	return nil
}

func (s *console) changeDevice(v *visit) error {
	id := v.r.PathValue("id")
	revision, err := strconv.ParseInt(v.r.PostFormValue("revision"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "The form is incomplete.", Next: "Reload the page."}
	}
	if label := strings.TrimSpace(v.r.PostFormValue("label")); label != "" {
		change := api.DeviceChange{Labels: map[string]string{label: strings.TrimSpace(v.r.PostFormValue("value"))}}
		if _, err := v.api.ChangeDeviceAt(v.r.Context(), id, revision, change); err != nil {
			return err
		}
		return v.back("devices/" + url.PathEscape(id))
	}
	change := api.DeviceChange{Status: tam.DeviceStatus(v.r.PostFormValue("status"))}
	if _, err := v.api.ChangeDeviceAt(v.r.Context(), id, revision, change); err != nil {
		return err
	}
	return v.back("devices/" + url.PathEscape(id))
}

func (s *console) replaceDevice(v *visit) error {
	id := v.r.PathValue("id")
	if _, err := v.api.ReplaceDevice(v.r.Context(), id, v.field("old")); err != nil {
		return err
	}
	return v.back("devices/" + url.PathEscape(id))
}

// messageData is one message of a session.
type messageData struct {
	api.DecodedMessage
	Device string
	// Opened are the parts that were encrypted in the message.
	Opened []api.MessagePart
}

func (s *console) message(v *visit) error {
	n, err := strconv.ParseInt(v.r.PathValue("message"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "That is no message.", Next: "Choose one on the page of the device."}
	}
	m, err := v.api.Message(v.r.Context(), v.r.PathValue("id"), n)
	if err != nil {
		return err
	}
	data := messageData{DecodedMessage: *m, Device: v.r.PathValue("id")}
	for _, p := range m.Parts {
		if p.Notation != "" {
			data.Opened = append(data.Opened, p)
		}
	}
	s.render(v, http.StatusOK, "message", "Message of device "+short(data.Device), data)
	return nil
}

package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-teep/teep/tam"
)

func (h *handler) listDevices(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.ListDevices(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewDevice, func(d *tam.Device) string { return d.ID }))
}

func etag(d *tam.Device) string { return strconv.Quote(strconv.FormatInt(d.Revision, 10)) }

func (h *handler) device(w http.ResponseWriter, r *http.Request) error {
	d, err := h.Store.Device(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(d))
	if r.Header.Get("If-None-Match") == etag(d) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeJSON(w, http.StatusOK, viewDevice(d))
}

// DeviceChange is what an operator changes about a device.
type DeviceChange struct {
	Status tam.DeviceStatus `json:"status"`
}

func (h *handler) changeDevice(w http.ResponseWriter, r *http.Request) error {
	var body DeviceChange
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if !body.Status.Valid() {
		return badRequest("status", fmt.Sprintf("%q is not a status.", body.Status), "Use pending, accepted, blocked or retired.")
	}
	// Devices write their record too. Unless the caller insists on a revision, the change is
	// made to whatever is newest.
	for range 5 {
		d, err := h.Store.Device(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		insists := r.Header.Get("If-Match")
		if insists != "" && insists != etag(d) {
			return tam.ErrConflict
		}
		was := d.Status
		d.Status = body.Status
		err = h.Store.CommitExchange(r.Context(), tam.Exchange{Device: d, Event: &tam.Event{
			DeviceID: d.ID, At: h.Clock(), Kind: tam.EventStatus,
			Detail: fmt.Sprintf("%s → %s by %s", was, d.Status, caller(r.Context()).Name),
		}})
		if errors.Is(err, tam.ErrConflict) && insists == "" {
			continue
		}
		if err != nil {
			return err
		}
		h.audit(r, "device status changed", "device", d.ID, "from", was, "to", d.Status)
		w.Header().Set("ETag", etag(d))
		return writeJSON(w, http.StatusOK, viewDevice(d))
	}
	return tam.ErrConflict
}

func (h *handler) events(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	before := int64(0)
	if after != "" {
		if before, err = strconv.ParseInt(after, 10, 64); err != nil || before < 1 {
			return badRequest("after", "after is not a cursor of this list.", "Use next of the page before, as it was given.")
		}
	}
	if _, err := h.Store.Device(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	list, err := h.Store.Events(r.Context(), r.PathValue("id"), before, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewEvent, func(e *tam.Event) string {
		return strconv.FormatInt(e.ID, 10)
	}))
}

func (h *handler) listPolicy(w http.ResponseWriter, r *http.Request) error {
	list, err := h.Store.Assignments(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, len(list), viewPolicy, nil))
}

// NewPolicy is what devices should have of the manifest in the path.
type NewPolicy struct {
	Mode    tam.Mode `json:"mode"`
	Devices []string `json:"devices,omitempty"`
}

func (h *handler) putPolicy(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	var body NewPolicy
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if !body.Mode.Valid() {
		return badRequest("mode", fmt.Sprintf("%q is not a mode.", body.Mode), "Use available, required or forbidden.")
	}
	if len(body.Devices) > maxPage {
		return badRequest("devices", "More than 1000 devices are listed.", "List fewer, or none for all.")
	}
	slices.Sort(body.Devices)
	a := tam.Assignment{Manifest: id, Mode: body.Mode, Devices: slices.Compact(body.Devices)}
	if err := h.Store.PutAssignment(r.Context(), a); err != nil {
		return err
	}
	h.audit(r, "policy changed", "manifest", id.String(), "mode", body.Mode, "devices", len(a.Devices))
	return writeJSON(w, http.StatusOK, viewPolicy(&a))
}

func (h *handler) deletePolicy(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	if err := h.Store.DeleteAssignment(r.Context(), id); err != nil {
		return err
	}
	h.audit(r, "policy removed", "manifest", id.String())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) addToken(w http.ResponseWriter, r *http.Request) error {
	var body NewToken
	if err := readJSON(r, &body); err != nil {
		return err
	}
	secret, t, err := IssueToken(r.Context(), h.Store, TokenRequest{
		Name: body.Name, Scopes: body.Scopes, Publisher: body.Publisher, Lifetime: time.Duration(body.Lifetime),
	}, h.Clock(), rand.Reader)
	if errors.Is(err, ErrToken) {
		return &Problem{Status: http.StatusUnprocessableEntity, Code: "token-request", Detail: err.Error()}
	}
	if err != nil {
		return err
	}
	h.audit(r, "token made", "id", t.ID, "name", t.Name, "scopes", t.Scopes)
	view := viewToken(t)
	view.Secret = secret
	return writeJSON(w, http.StatusCreated, view)
}

func (h *handler) listTokens(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.ListAPITokens(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewToken, func(t *tam.APIToken) string { return t.ID }))
}

func (h *handler) revokeToken(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := h.Store.RevokeAPIToken(r.Context(), id, h.Clock()); err != nil {
		return err
	}
	h.audit(r, "token revoked", "id", id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

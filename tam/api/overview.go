package api

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-teep/teep/tam"
)

// Health is the answer to a question for health.
type Health struct {
	Status string `json:"status"` // ok
}

func (h *handler) live(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, Health{"ok"})
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.Store.CatalogueRevision(r.Context()); err != nil {
		h.Logger.ErrorContext(r.Context(), "store is not available", "err", err)
		return &Problem{Status: http.StatusServiceUnavailable, Code: "store", Detail: "The store cannot be read.",
			Next: "See the TAM's log."}
	}
	return writeJSON(w, http.StatusOK, Health{"ok"})
}

// Overview is the fleet in numbers.
type Overview struct {
	Devices []DeviceCount `json:"devices"`
	// CountedAt is as of when: a large fleet is not counted for each who asks.
	CountedAt time.Time `json:"countedAt"`
	// Activity counts what happened in the last seven days, by the hour.
	Activity []Activity `json:"activity"`
}

// DeviceCount is how many devices have a status and an attestation.
type DeviceCount struct {
	Status      tam.DeviceStatus `json:"status"`
	Attestation string           `json:"attestation"`
	Devices     int64            `json:"devices"`
}

// Activity counts the events of one kind in one hour.
type Activity struct {
	Hour  time.Time     `json:"hour"`
	Kind  tam.EventKind `json:"kind"`
	Count int64         `json:"count"`
}

func (h *handler) overview(w http.ResponseWriter, r *http.Request) error {
	counts, at, err := h.devices.Read(r.Context())
	if err != nil {
		return err
	}
	activity, err := h.Store.ActivitySince(r.Context(), h.Clock().AddDate(0, 0, -7))
	if err != nil {
		return err
	}
	view := Overview{Devices: []DeviceCount{}, CountedAt: at, Activity: []Activity{}}
	for _, c := range counts {
		view.Devices = append(view.Devices, DeviceCount{c.Status, c.Attestation.String(), c.Devices})
	}
	for _, a := range activity {
		view.Activity = append(view.Activity, Activity(a))
	}
	return writeJSON(w, http.StatusOK, view)
}

// attestations are the values of ?attestation=.
var attestations = []string{"none", "affirming", "warning", "contraindicated"}

func deviceFilter(r *http.Request) (tam.DeviceFilter, error) {
	q := r.URL.Query()
	f := tam.DeviceFilter{Status: tam.DeviceStatus(q.Get(queryStatus)), Attestation: q.Get(queryAttestation)}
	if f.Status != "" && !f.Status.Valid() {
		return f, badRequest("status", fmt.Sprintf("%q is not a status.", f.Status), "Use pending, accepted, blocked or retired.")
	}
	if f.Attestation != "" && !slices.Contains(attestations, f.Attestation) {
		return f, badRequest("attestation", fmt.Sprintf("%q is not an attestation.", f.Attestation), "Use none, affirming, warning or contraindicated.")
	}
	return f, nil
}

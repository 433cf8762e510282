package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-teep/teep/tam"
)

func (h *handler) listPolicy(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.Assignments(r.Context())
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b tam.Assignment) int { return strings.Compare(a.Manifest.Key(), b.Manifest.Key()) })
	if after != "" {
		id, err := parseID(after)
		if err != nil {
			return err
		}
		key := id.Key()
		from, found := slices.BinarySearchFunc(list, key, func(a tam.Assignment, key string) int { return strings.Compare(a.Manifest.Key(), key) })
		if found {
			from++
		}
		list = list[from:]
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewPolicy, func(a *tam.Assignment) string { return a.Manifest.String() }))
}

func (h *handler) getPolicy(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	a, err := h.Store.Assignment(r.Context(), id)
	if err != nil {
		return err
	}
	return writePolicy(w, r, a)
}

func writePolicy(w http.ResponseWriter, r *http.Request, a *tam.Assignment) error {
	tag, err := policyETag(a)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", tag)
	if r.Method == http.MethodGet && lists(preconditionOf(r).noneMatch, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeJSON(w, http.StatusOK, viewPolicy(a))
}

// NewPolicy is what devices should have of the manifest in the path.
type NewPolicy struct {
	Mode    tam.Mode `json:"mode"`
	Devices []string `json:"devices,omitempty"`
	// Staged has versions that are published from now on reach devices by a rollout only.
	Staged bool `json:"staged,omitempty"`
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
	changed, err := h.TAM.ChangeAssignment(r.Context(), id, func(old *tam.Assignment, newest uint64) (*tam.Assignment, error) {
		a := &tam.Assignment{Manifest: id, Mode: body.Mode, Devices: slices.Compact(body.Devices)}
		if body.Staged {
			stage(a, old, newest)
		}
		return a, holds(r, old)
	})
	if err != nil {
		return err
	}
	h.log(r, "policy changed", "manifest", id.String(), "mode", body.Mode, "devices", len(changed.Devices))
	return writePolicy(w, r, changed)
}

// holds refuses a change of a policy, or nil, under the request's condition. Without one whatever is there is replaced.
func holds(r *http.Request, old *tam.Assignment) error {
	condition := preconditionOf(r)
	if !condition.given() {
		return nil
	}
	tag, err := policyETag(old)
	if err == nil && !condition.holds(tag) {
		err = tam.ErrConflict
	}
	return err
}

// stage marks from which version on devices need a rollout: where that was marked before, from the same.
func stage(a, old *tam.Assignment, newest uint64) {
	a.Staged, a.StagedFrom = true, newest
	if old != nil && old.Staged {
		a.StagedFrom = old.StagedFrom
	}
}

func (h *handler) deletePolicy(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	_, err = h.TAM.ChangeAssignment(r.Context(), id, func(old *tam.Assignment, _ uint64) (*tam.Assignment, error) { return nil, holds(r, old) })
	if err != nil {
		return err
	}
	h.log(r, "policy removed", "manifest", id.String())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

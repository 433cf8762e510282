package api

import (
	"net/http"
	"time"

	"github.com/go-teep/teep/tam"
)

// FieldCount is how many devices had a version in an hour.
type FieldCount struct {
	Hour     time.Time `json:"hour"`
	Manifest string    `json:"manifest"`
	Sequence uint64    `json:"sequence,string"`
	Devices  int64     `json:"devices"`
}

// fieldHistory is how far the history of the field reaches back.
const fieldHistory = 7 * 24 * time.Hour

func (h *handler) field(w http.ResponseWriter, r *http.Request) error {
	list, err := h.Store.FieldSince(r.Context(), h.Clock().Add(-fieldHistory))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, len(list), func(c *tam.FieldCount) FieldCount {
		return FieldCount{c.Hour.UTC(), c.Manifest.String(), c.Sequence, c.Devices}
	}, nil))
}

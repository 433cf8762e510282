package api

import (
	"net/http"
	"strings"
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
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	since, cursor := h.Clock().Add(-fieldHistory), tam.VersionCursor{}
	if after != "" {
		if since, cursor, err = parseFieldCursor(after); err != nil {
			return err
		}
	}
	list, err := h.Store.FieldSince(r.Context(), since, cursor, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, func(c *tam.FieldCount) FieldCount {
		return FieldCount{c.Hour.UTC(), c.Manifest.String(), c.Sequence, c.Devices}
	}, func(c *tam.FieldCount) string {
		return c.Hour.UTC().Format(time.RFC3339) + "@" + versionCursor(c.Manifest, c.Sequence)
	}))
}

func parseFieldCursor(s string) (time.Time, tam.VersionCursor, error) {
	text, version, _ := strings.Cut(s, "@")
	hour, err := time.Parse(time.RFC3339, text)
	if err != nil {
		version = "" // which is no cursor either
	}
	cursor, err := parseVersionCursor(version)
	return hour, cursor, err
}

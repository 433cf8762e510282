package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// EnvelopeMediaType is the media type of a SUIT envelope (SUIT §11).
const EnvelopeMediaType = "application/suit-envelope+cose"

func (h *handler) publish(w http.ResponseWriter, r *http.Request) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains([]string{EnvelopeMediaType, "application/cbor", "application/octet-stream"}, kind) {
		return &Problem{Status: http.StatusUnsupportedMediaType, Code: "media-type",
			Detail: "The request body is not a SUIT envelope.", Next: "Set Content-Type: " + EnvelopeMediaType + "."}
	}
	envelope, err := io.ReadAll(r.Body)
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return err
		}
		return badRequest("body", "The request body broke off.", "Send it again.")
	}
	v, err := h.TAM.Publish(r.Context(), envelope, caller(r.Context()).Publisher)
	if err != nil {
		return err
	}
	h.log(r, "version published", "manifest", v.Manifest.String(), "sequence", v.Sequence)
	return writeJSON(w, http.StatusCreated, viewVersion(v))
}

// log tells the log of the process what the audit log has for good.
func (h *handler) log(r *http.Request, what string, attrs ...any) {
	t := caller(r.Context())
	h.Logger.InfoContext(r.Context(), what, append(attrs, "token", t.ID, "token-name", t.Name)...)
}

func (h *handler) listVersions(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	cursor, only, err := versionRange(r, after)
	if err != nil {
		return err
	}
	list, err := h.Store.ListVersions(r.Context(), cursor, limit+1)
	if err != nil {
		return err
	}
	list = within(only, list, func(v *tam.Version) suit.ComponentID { return v.Manifest })
	notOffered, err := h.TAM.NotOffered(r.Context())
	if err != nil {
		return err
	}
	view := func(v *tam.Version) Version {
		one := viewVersion(v)
		one.NotOffered = notOffered(v)
		return one
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, view, func(v *tam.Version) string {
		return versionCursor(v.Manifest, v.Sequence)
	}))
}

// versionRange reads where a page of a list by manifest and sequence number begins, and which manifest it is limited
// to; nil for none.
func versionRange(r *http.Request, after string) (cursor tam.VersionCursor, only suit.ComponentID, err error) {
	if text := r.URL.Query().Get(queryManifest); text != "" {
		if only, err = parseID(text); err != nil {
			return cursor, nil, err
		}
		cursor = tam.VersionCursor{Manifest: only, First: true}
	}
	if after != "" {
		cursor, err = parseVersionCursor(after)
	}
	return cursor, only, err
}

// within cuts a list by manifest off where the one that it is limited to ends.
func within[T any](only suit.ComponentID, list []T, manifest func(*T) suit.ComponentID) []T {
	if only == nil {
		return list
	}
	for i := range list {
		if !manifest(&list[i]).Equal(only) {
			return list[:i]
		}
	}
	return list
}

func versionCursor(manifest suit.ComponentID, sequence uint64) string {
	return strconv.FormatUint(sequence, 10) + "@" + manifest.String()
}

func parseVersionCursor(s string) (tam.VersionCursor, error) {
	sequence, manifest, ok := strings.Cut(s, "@")
	n, err := strconv.ParseUint(sequence, 10, 64)
	id, idErr := suit.ParseComponentID(manifest)
	if !ok || err != nil || idErr != nil || len(id) == 0 {
		return tam.VersionCursor{}, badRequest("after", "after is not a cursor of this list.", "Use next of the page before, as it was given.")
	}
	return tam.VersionCursor{Manifest: id, Sequence: n}, nil
}

// Withdrawal says why a version is withdrawn.
type Withdrawal struct {
	Reason string `json:"reason"`
}

func (h *handler) withdraw(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	sequence, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil {
		return badRequest("sequence-number", fmt.Sprintf("%q is not a sequence number.", r.PathValue("sequence")), "Use the number that the list of components shows.")
	}
	var body Withdrawal
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if body.Reason == "" || len(body.Reason) > 500 {
		return badRequest("reason", "A reason of 1 to 500 bytes is missing.", "Say in a sentence why the version is withdrawn.")
	}
	if err := h.Store.WithdrawVersion(r.Context(), id, sequence, body.Reason, h.Clock()); err != nil {
		return err
	}
	h.log(r, "version withdrawn", "manifest", id.String(), "sequence", sequence, "reason", body.Reason)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) addPublisher(w http.ResponseWriter, r *http.Request) error {
	var body NewPublisher
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := printable("name", body.Name); err != nil {
		return err
	}
	keys, err := parseKeys(body.Keys)
	if err != nil {
		return err
	}
	anchors, err := parseCertificates(body.Anchors)
	if err != nil {
		return err
	}
	var prefixes []suit.ComponentID
	for _, s := range body.Prefixes {
		id, err := parseID(s)
		if err != nil {
			return err
		}
		prefixes = append(prefixes, id)
	}
	p, err := h.TAM.TrustPublisher(r.Context(), tam.NewPublisher{Name: body.Name, Keys: keys, Anchors: anchors, Prefixes: prefixes})
	if err != nil {
		return err
	}
	h.log(r, "publisher added", "name", p.Name)
	return writeJSON(w, http.StatusCreated, viewPublisher(p))
}

func (h *handler) listPublishers(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.ListPublishers(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewPublisher, func(p *tam.Publisher) string { return p.Name }))
}

func (h *handler) revokePublisher(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := h.Store.RevokePublisher(r.Context(), name, h.Clock()); err != nil {
		return err
	}
	h.log(r, "publisher revoked", "name", name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

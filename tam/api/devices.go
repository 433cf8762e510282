package api

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-teep/teep/tam"
)

func (h *handler) device(w http.ResponseWriter, r *http.Request) error {
	d, err := h.Store.Device(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", deviceETag(d))
	if lists(preconditionOf(r).noneMatch, deviceETag(d)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeJSON(w, http.StatusOK, viewDevice(d))
}

// descending reads ?after= and ?limit= of a list that goes from new to old by a number.
func descending(r *http.Request) (before int64, limit int, err error) {
	after, limit, err := page(r.URL.Query())
	if err != nil || after == "" {
		return 0, limit, err
	}
	if before, err = strconv.ParseInt(after, 10, 64); err != nil || before < 1 {
		return 0, 0, badRequest("after", "after is not a cursor of this list.", "Use next of the page before, as it was given.")
	}
	return before, limit, nil
}

func (h *handler) events(w http.ResponseWriter, r *http.Request) error {
	before, limit, err := descending(r)
	if err != nil {
		return err
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

func (h *handler) addToken(w http.ResponseWriter, r *http.Request) error {
	var body NewToken
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := printable("name", body.Name); err != nil {
		return err
	}
	if err := printable("owner", body.Owner); err != nil {
		return err
	}
	if by := caller(r.Context()); body.Owner == "" && len(by.Subjects) > 0 {
		body.Owner = by.Subjects[0] // who makes a token and does not say for whom has one more
	}
	secret, t, err := IssueToken(r.Context(), h.Store, TokenRequest{
		Name: body.Name, Scopes: body.Scopes, Publisher: body.Publisher, Owner: body.Owner, Lifetime: time.Duration(body.Lifetime),
	}, h.Clock(), rand.Reader)
	if errors.Is(err, ErrToken) {
		return &Problem{Status: http.StatusUnprocessableEntity, Code: "token-request", Detail: err.Error()}
	}
	if err != nil {
		return err
	}
	h.log(r, "token made", "id", t.ID, "name", t.Name, "owner", t.Owner, "scopes", t.Scopes)
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
	h.log(r, "token revoked", "id", id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

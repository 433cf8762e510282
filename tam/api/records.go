package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
)

// records serves one kind of policy record, whose type goes in and out as it is. Their entity tag is the
// record's revision.
type records[T any] struct {
	kind   tam.RecordKind
	name   func(*T) *string
	set    func(h *handler, r *http.Request, v T, expect int64) (int64, error)
	remove func(h *handler, r *http.Request, name string, expect int64) error
}

// recordRoutes are the four routes of a kind.
func recordRoutes[T any](path, summary string, k records[T]) []route {
	var zero T
	what, readers, operators := string(k.kind), []Scope{ScopeOperator, ScopeAuditor}, []Scope{ScopeOperator}
	if k.kind == tam.KindAdmission {
		what = "rule"
	}
	return []route{
		{pattern: "GET /v1/" + path, summary: summary, scopes: readers, query: []string{queryAfter, queryLimit}, out: Page[T]{}, handle: k.list},
		{pattern: "GET /v1/" + path + "/{name}", summary: "A " + what, scopes: readers, out: zero, conditional: true, handle: k.get},
		{pattern: "PUT /v1/" + path + "/{name}", summary: "Create or replace a " + what, scopes: operators, maxBody: maxJSON,
			in: zero, out: zero, conditional: true, handle: k.put},
		{pattern: "DELETE /v1/" + path + "/{name}", summary: "Remove a " + what, scopes: operators, status: http.StatusNoContent, conditional: true, handle: k.delete},
	}
}

func decodeRecord[T any](r *tam.PolicyRecord) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(r.Data, v); err != nil {
		return nil, fmt.Errorf("api: %s %s: %w", r.Kind, r.Name, err)
	}
	return v, nil
}

func (k records[T]) list(h *handler, w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.PolicyRecords(r.Context(), k.kind, after, limit+1)
	if err != nil {
		return err
	}
	p := Page[T]{Items: []T{}}
	for i := range list {
		if i == limit {
			p.Next = list[i-1].Name
			break
		}
		v, err := decodeRecord[T](&list[i])
		if err != nil {
			return err
		}
		p.Items = append(p.Items, *v)
	}
	return writeJSON(w, http.StatusOK, p)
}

func (k records[T]) get(h *handler, w http.ResponseWriter, r *http.Request) error {
	record, err := h.Store.PolicyRecord(r.Context(), k.kind, r.PathValue("name"))
	if err != nil {
		return err
	}
	tag := revisionTag(record.Revision)
	w.Header().Set("ETag", tag)
	if lists(preconditionOf(r).noneMatch, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	v, err := decodeRecord[T](record)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

func revisionTag(n int64) string { return strconv.Quote(strconv.FormatInt(n, 10)) }

func (k records[T]) put(h *handler, w http.ResponseWriter, r *http.Request) error {
	var v T
	if err := readJSON(r, &v); err != nil {
		return err
	}
	name := k.name(&v)
	if *name == "" {
		*name = r.PathValue("name")
	}
	if *name != r.PathValue("name") {
		return badRequest("name", "The name in the body is another than that in the path.", "Leave it out of the body.")
	}
	expect, err := h.expectation(r, k.kind)
	if err != nil {
		return err
	}
	revision, err := k.set(h, r, v, expect)
	if err != nil {
		return err
	}
	h.log(r, string(k.kind)+" set", "name", *name)
	record, err := h.Store.PolicyRecord(r.Context(), k.kind, *name)
	if err != nil {
		return err
	}
	saved, err := decodeRecord[T](record)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", revisionTag(revision))
	return writeJSON(w, http.StatusOK, saved)
}

func (k records[T]) delete(h *handler, w http.ResponseWriter, r *http.Request) error {
	expect, err := h.expectation(r, k.kind)
	if err != nil {
		return err
	}
	if err := k.remove(h, r, r.PathValue("name"), expect); err != nil {
		return err
	}
	h.log(r, string(k.kind)+" removed", "name", r.PathValue("name"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// expectation turns the request's condition into the revision that the record must have.
func (h *handler) expectation(r *http.Request, kind tam.RecordKind) (int64, error) {
	condition := preconditionOf(r)
	if !condition.given() {
		return tam.ExpectAny, nil
	}
	revision, tag := tam.ExpectNew, ""
	record, err := h.Store.PolicyRecord(r.Context(), kind, r.PathValue("name"))
	switch {
	case err == nil:
		revision, tag = record.Revision, revisionTag(record.Revision)
	case !errors.Is(err, tam.ErrNotFound):
		return 0, err
	}
	if !condition.holds(tag) {
		return 0, tam.ErrConflict
	}
	return revision, nil
}

// personOf is who makes the request, as the audit log knows them.
func personOf(r *http.Request) policy.Person {
	a, c := audit.ActorOf(r.Context()), caller(r.Context())
	return policy.Person{ID: a.ID, Name: a.Name, Subjects: c.Subjects}
}

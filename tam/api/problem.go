package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// Problem is how the API says no (RFC 9457), and the error that [Client] returns for it.
type Problem struct {
	// Status is the HTTP status.
	Status int `json:"status"`
	// Code names the kind of problem for programs; it does not change between releases.
	Code string `json:"code"`
	// Title is the status in words.
	Title string `json:"title"`
	// Detail says what was wrong with this request.
	Detail string `json:"detail"`
	// Next says what to do.
	Next string `json:"next,omitempty"`
	// Conflicts name both sides of each contradiction, where that is the problem.
	Conflicts []policy.Conflict `json:"conflicts,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%s (%d %s)", p.Detail, p.Status, p.Code)
	if p.Next != "" {
		s += " " + p.Next
	}
	return s
}

// problemMediaType is that of problem details (RFC 9457).
const problemMediaType = "application/problem+json"

// retryAfter is after how many seconds a request may be repeated that cannot be served now.
const retryAfter = "5"

func (p *Problem) write(w http.ResponseWriter) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", problemMediaType)
	switch p.Status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	case http.StatusUnauthorized: // RFC 9110 §15.5.2; client certificates have no scheme
		w.Header().Set("WWW-Authenticate", `Bearer realm="TAM operator API"`)
	}
	w.WriteHeader(p.Status)
	// The connection may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(struct {
		Type string `json:"type"`
		*Problem
	}{"urn:teep:problem:" + p.Code, p})
}

// known maps errors of the TAM to answers. Their text says what was wrong and what to do.
var known = []struct {
	err    error
	status int
	code   string
}{
	{policy.ErrInvalid, http.StatusUnprocessableEntity, "policy"},
	{policy.ErrState, http.StatusConflict, "rollout-state"},
	{policy.ErrSamePerson, http.StatusForbidden, "same-person"},
	{policy.ErrUnknownPerson, http.StatusForbidden, "unknown-person"},
	{tam.ErrReplacement, http.StatusUnprocessableEntity, "replacement"},
	{tam.ErrUnknownSigner, http.StatusUnprocessableEntity, "unknown-signer"},
	{tam.ErrTampered, http.StatusUnprocessableEntity, "tampered"},
	{tam.ErrPrefix, http.StatusUnprocessableEntity, "component-identifier"},
	{tam.ErrEnvelope, http.StatusUnprocessableEntity, "envelope"},
	{tam.ErrPublisher, http.StatusUnprocessableEntity, "publisher"},
	{tam.ErrRevocationLists, http.StatusUnprocessableEntity, "revocation-lists"},
	{tam.ErrQuota, http.StatusInsufficientStorage, "quota"},
	{tam.ErrDeposit, http.StatusUnprocessableEntity, "deposit"},
	{tam.ErrNoDistribution, http.StatusNotImplemented, "no-distribution"},
	{tam.ErrNotYourSigner, http.StatusForbidden, "other-publisher"},
	{tam.ErrSequence, http.StatusConflict, "sequence-number"},
}

// fail answers with the problem that err is.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	h.problem(r, err).write(w)
}

func (h *handler) problem(r *http.Request, err error) *Problem {
	var p *Problem
	var tooLarge *http.MaxBytesError
	var conflict *policy.ConflictError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &conflict):
		return &Problem{Status: http.StatusConflict, Code: "policy-conflict", Detail: conflict.Error(),
			Next: "Change one side of each contradiction, and look at the preview.", Conflicts: conflict.Conflicts}
	case errors.As(err, &tooLarge):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large",
			Detail: fmt.Sprintf("The request is larger than %d bytes.", tooLarge.Limit),
			Next:   "Send less, or let the manifest name a URI for the payload; the TAM's operator can raise the limit."}
	case errors.Is(err, tam.ErrNotFound):
		return &Problem{Status: http.StatusNotFound, Code: "not-found", Detail: "There is no such record.",
			Next: "List what there is, and check the spelling."}
	case errors.Is(err, tam.ErrExists):
		return &Problem{Status: http.StatusConflict, Code: "exists", Detail: "The name or one of the keys is taken.",
			Next: "Choose another one."}
	case errors.Is(err, tam.ErrConflict):
		return &Problem{Status: http.StatusPreconditionFailed, Code: "changed",
			Detail: "The record was changed by someone else meanwhile.", Next: "Read it again and repeat the change."}
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return &Problem{Status: k.status, Code: k.code, Detail: err.Error()}
		}
	}
	h.Logger.ErrorContext(r.Context(), "operator API failed", "method", r.Method, "path", r.URL.Path, "err", err)
	if tam.IsUnavailable(err) || tookTooLong(r.Context(), err) {
		return &Problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "The TAM's store does not answer.",
			Next: "Try again; nobody has to restart the TAM. If it stays so, see its log."}
	}
	return &Problem{Status: http.StatusServiceUnavailable, Code: "internal", Detail: "The TAM could not do this.",
		Next: "Try again; if it stays so, see the TAM's log."}
}

func badRequest(code, detail, next string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: code, Detail: detail, Next: next}
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("api: encoding an answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // see Problem.write
	return nil
}

package api

import (
	"net/http"
	"strconv"

	"github.com/go-teep/teep/tam/audit"
)

// auditMediaType is JSON Lines.
const auditMediaType = "application/jsonl"

// position reads ?after= where it is a sequence number.
func position(after string) (int64, error) {
	if after == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(after, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("after", "after is not a cursor of this list.", "Use next of the page before, as it was given.")
	}
	return n, nil
}

func (h *handler) listAudit(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	seq, err := position(after)
	if err != nil {
		return err
	}
	list, err := h.Store.AuditEntries(r.Context(), seq, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, func(e *audit.Entry) audit.Entry { return *e }, func(e *audit.Entry) string {
		return strconv.FormatInt(e.Seq, 10)
	}))
}

func (h *handler) auditHead(w http.ResponseWriter, r *http.Request) error {
	head, err := h.Store.AuditHead(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, head)
}

func (h *handler) exportAudit(w http.ResponseWriter, r *http.Request) error {
	seq, err := position(r.URL.Query().Get(queryAfter))
	if err != nil {
		return err
	}
	if _, err := (steppedLog{h}).AuditHead(r.Context()); err != nil {
		return err // while the answer can still say so
	}
	w.Header().Set("Content-Type", auditMediaType)
	w.Header().Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	if err := audit.Export(r.Context(), steppedLog{h}, seq, w); err != nil {
		h.Logger.ErrorContext(r.Context(), "export of the audit log broke off", "err", err)
		// The status is sent: cutting the connection is the one way left to say that this is not all.
		panic(http.ErrAbortHandler)
	}
	return nil
}

package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
)

// auditPage is how many entries of the audit log a page has.
const auditPage = 50

// auditData is a page of the audit log, newest first.
type auditData struct {
	Head    audit.Head
	Entries []audit.Entry
	// Before is where the page with older entries begins; 0 on the last.
	Before int64
}

func (s *console) audit(v *visit) error {
	head, err := v.api.AuditHead(v.r.Context())
	if err != nil {
		return err
	}
	from := head.Seq + 1
	if text := v.r.URL.Query().Get("before"); text != "" {
		if from, err = strconv.ParseInt(text, 10, 64); err != nil || from < 1 {
			return &api.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%q is no entry.", text), Next: "Begin with the newest entry."}
		}
	}
	after := max(0, from-1-auditPage)
	page, err := v.api.AuditFrom(v.r.Context(), after, max(1, int(min(auditPage, from-1-after))))
	if err != nil {
		return err
	}
	data := auditData{Head: *head, Entries: page.Items}
	if from == 1 {
		data.Entries = nil
	}
	slices.Reverse(data.Entries)
	if after > 0 {
		data.Before = after + 1
	}
	s.render(v, http.StatusOK, "audit", "Audit log", data)
	return nil
}

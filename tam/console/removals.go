package console

import (
	"net/http"
	"strings"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// removalsData is the list of emergency removals, with the form for a new one as somebody wrote it so far.
type removalsData struct {
	Removals  []policy.Removal
	Next      string
	MayChange bool

	Name, Target, Sequence, Match, Reason string
	Previewed                             previewed
}

func (s *console) removals(v *visit) error { return s.showRemovals(v, removalsData{}) }

func (s *console) showRemovals(v *visit, data removalsData) error {
	page, err := v.api.Removals(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	data.Removals, data.Next, data.MayChange = page.Items, page.Next, v.may(api.ScopeOperator)
	s.render(v, http.StatusOK, "removals", "Emergency removals", data)
	return nil
}

func (s *console) setRemoval(v *visit) error {
	field := func(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }
	data := removalsData{Name: field("name"), Target: field("target"), Sequence: field("sequence"), Match: field("match"), Reason: field("reason")}
	if v.r.PostFormValue("lift") != "" {
		if err := v.api.DeleteRemoval(v.r.Context(), data.Name); err != nil {
			return err
		}
		return v.back("removals")
	}
	r := policy.Removal{Name: data.Name, Match: data.Match, Reason: data.Reason}
	if domain, ok := strings.CutPrefix(data.Target, "domain "); ok {
		r.Domain = strings.TrimSpace(domain)
	} else {
		r.Manifest = data.Target
	}
	var err error
	r.Sequence, err = number(v, "sequence", "The sequence number")
	if v.wantsPreview() {
		if r.Name == "" {
			r.Name = "preview"
		}
		if r.Reason == "" {
			r.Reason = "preview"
		}
		if data.Previewed, err = v.preview(api.Proposal{Removal: &r}, err); err != nil {
			return err
		}
		return s.showRemovals(v, data)
	}
	if err != nil {
		return err
	}
	if _, err := v.api.SetRemoval(v.r.Context(), r); err != nil {
		return err
	}
	return v.back("removals")
}

package console

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// removalsData is the list of emergency removals.
type removalsData struct {
	Removals  []policy.Removal
	Next      string
	MayChange bool
}

func (s *console) removals(v *visit) error {
	page, err := v.api.Removals(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "removals", "Emergency removals", removalsData{page.Items, page.Next, v.may(api.ScopeOperator)})
	return nil
}

// removalForm is a removal as somebody writes it.
type removalForm struct {
	form
	Name, Target, Sequence, Match, Reason string
	// By and At are who ordered it, and when.
	By string
	At time.Time
}

func (s *console) newRemoval(v *visit) error {
	q := v.r.URL.Query()
	s.render(v, http.StatusOK, "removalform", "Order a removal", removalForm{
		form: form{New: true, MayChange: true}, Target: q.Get("target"), Sequence: q.Get("sequence"),
	})
	return nil
}

func (s *console) removal(v *visit) error {
	r, tag, err := v.api.Removal(v.r.Context(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	f := removalForm{
		form: form{Tag: tag, MayChange: v.may(api.ScopeOperator)},
		Name: r.Name, Target: r.Manifest, Match: r.Match, Reason: r.Reason, By: r.By, At: r.At,
	}
	if r.Domain != "" {
		f.Target = domainWord + r.Domain
	}
	if r.Sequence != 0 {
		f.Sequence = strconv.FormatUint(r.Sequence, 10)
	}
	s.render(v, http.StatusOK, "removalform", "Removal "+visible(r.Name), f)
	return nil
}

// domainWord is before the name of a domain where there may be a manifest too.
const domainWord = "domain "

func (f *removalForm) removal(v *visit) (policy.Removal, error) {
	r := policy.Removal{Name: f.Name, Match: f.Match, Reason: f.Reason}
	if domain, ok := strings.CutPrefix(f.Target, domainWord); ok {
		r.Domain = strings.TrimSpace(domain)
	} else {
		r.Manifest = f.Target
	}
	var err error
	r.Sequence, err = number(v, "sequence", "The sequence number")
	return r, err
}

func (s *console) setRemoval(v *visit) error {
	f := removalForm{
		form: v.formOf(api.ScopeOperator),
		Name: v.field("name"), Target: v.field("target"), Sequence: v.field("sequence"), Match: v.field("match"), Reason: v.field("reason"),
	}
	if v.r.PostFormValue("lift") != "" {
		if err := v.api.DeleteRemovalIf(v.r.Context(), f.Name, f.Tag); err != nil {
			return err
		}
		return v.back("removals")
	}
	title := "Removal " + visible(f.Name)
	if f.New {
		title = "Order a removal"
	}
	r, err := f.removal(v)
	if v.wantsPreview() {
		if r.Name == "" {
			r.Name = "preview"
		}
		if r.Reason == "" {
			r.Reason = "preview"
		}
		if f.Previewed, err = v.preview(api.Proposal{Removal: &r}, err); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "removalform", title, f)
		return nil
	}
	if err == nil {
		err = v.api.SetRemovalIf(v.r.Context(), r, f.Tag)
	}
	if err != nil {
		return s.again(v, err, &f.Refused, "removalform", title, &f)
	}
	return v.back("removals")
}

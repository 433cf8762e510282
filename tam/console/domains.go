package console

import (
	"net/http"
	"strings"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// domainsData is the list of security domains.
type domainsData struct {
	Domains   []policy.Domain
	Next      string
	MayChange bool
}

func (s *console) domains(v *visit) error {
	page, err := v.api.Domains(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "domains", "Security domains", domainsData{page.Items, page.Next, v.may(api.ScopeOperator)})
	return nil
}

// domainForm is a security domain as somebody writes it.
type domainForm struct {
	form
	Name, Owner, Manifests string
}

func (s *console) newDomain(v *visit) error {
	s.render(v, http.StatusOK, "domainform", "New security domain", domainForm{form: form{New: true, MayChange: true}})
	return nil
}

func (s *console) domain(v *visit) error {
	d, tag, err := v.api.Domain(v.r.Context(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "domainform", "Security domain "+visible(d.Name), domainForm{
		form: form{Tag: tag, MayChange: v.may(api.ScopeOperator)},
		Name: d.Name, Owner: d.Owner, Manifests: strings.Join(d.Manifests, "\n"),
	})
	return nil
}

func (s *console) setDomain(v *visit) error {
	f := domainForm{form: v.formOf(api.ScopeOperator), Name: v.field("name"), Owner: v.field("owner"), Manifests: v.area("manifests")}
	if v.r.PostFormValue("delete") != "" {
		if err := v.api.DeleteDomainIf(v.r.Context(), f.Name, f.Tag); err != nil {
			return err
		}
		return v.back("domains")
	}
	title := "Security domain " + visible(f.Name)
	if f.New {
		title = "New security domain"
	}
	d := policy.Domain{Name: f.Name, Owner: f.Owner}
	for line := range strings.Lines(f.Manifests) {
		if line = strings.TrimSpace(line); line != "" {
			d.Manifests = append(d.Manifests, line)
		}
	}
	if v.wantsPreview() {
		if d.Name == "" {
			d.Name = "preview"
		}
		var err error
		if f.Previewed, err = v.preview(api.Proposal{Domain: &d}, nil); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "domainform", title, f)
		return nil
	}
	if err := v.api.SetDomainIf(v.r.Context(), d, f.Tag); err != nil {
		return s.again(v, err, &f.Refused, "domainform", title, &f)
	}
	return v.back("domains")
}

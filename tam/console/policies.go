package console

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// policiesData is what devices should have of each manifest.
type policiesData struct {
	Policies  []api.Policy
	Next      string
	MayChange bool
}

func (s *console) policies(v *visit) error {
	page, err := v.api.Policies(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "policies", "Policies", policiesData{page.Items, page.Next, v.may(api.ScopeOperator)})
	return nil
}

// policyForm is the policy of one manifest as somebody writes it.
type policyForm struct {
	form
	Manifest, Mode, Devices string
	Staged                  bool
	StagedFrom              uint64
}

func (s *console) newPolicy(v *visit) error {
	s.render(v, http.StatusOK, "policyform", "New policy", policyForm{
		form: form{New: true, MayChange: true}, Manifest: v.r.URL.Query().Get("manifest"), Mode: string(tam.ModeRequired),
	})
	return nil
}

// policy shows the policy of a manifest, or the form for one that has none.
func (s *console) policy(v *visit) error {
	manifest := v.r.PathValue("manifest")
	p, tag, err := v.api.Policy(v.r.Context(), manifest)
	f := policyForm{form: form{Tag: tag, MayChange: v.may(api.ScopeOperator)}, Manifest: manifest, Mode: string(tam.ModeAvailable)}
	var none *api.Problem
	switch {
	case errors.As(err, &none) && none.Status == http.StatusNotFound:
	case err != nil:
		return err
	default:
		f.Mode, f.Devices, f.Staged, f.StagedFrom = string(p.Mode), strings.Join(p.Devices, "\n"), p.Staged, p.StagedFrom
	}
	s.render(v, http.StatusOK, "policyform", "Policy of "+visible(manifest), f)
	return nil
}

func (s *console) setPolicy(v *visit) error {
	f := policyForm{
		form:     v.formOf(api.ScopeOperator),
		Manifest: v.field("manifest"), Mode: v.field("mode"), Devices: v.area("devices"), Staged: v.r.PostFormValue("staged") != "",
	}
	if v.r.PostFormValue("delete") != "" {
		if err := v.api.DeletePolicyIf(v.r.Context(), f.Manifest, f.Tag); err != nil {
			return err
		}
		return v.back("policies")
	}
	title := "Policy of " + visible(f.Manifest)
	if f.New {
		title = "New policy"
	}
	devices := strings.Fields(strings.ReplaceAll(f.Devices, ",", " "))
	if v.wantsPreview() {
		var err error
		p := api.ProposedPolicy{Manifest: f.Manifest, Mode: tam.Mode(f.Mode), Devices: devices, Staged: f.Staged}
		if f.Previewed, err = v.preview(api.Proposal{Policy: &p}, nil); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "policyform", title, f)
		return nil
	}
	p := api.NewPolicy{Mode: tam.Mode(f.Mode), Devices: devices, Staged: f.Staged}
	if err := v.api.SetPolicyIf(v.r.Context(), f.Manifest, p, f.Tag); err != nil {
		return s.again(v, err, &f.Refused, "policyform", title, &f)
	}
	return v.back("policies")
}

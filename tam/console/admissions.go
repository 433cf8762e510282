package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// admissionsData is the list of rules that accept new devices.
type admissionsData struct {
	Rules     []policy.Admission
	Next      string
	MayChange bool
}

func (s *console) admissions(v *visit) error {
	page, err := v.api.Admissions(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "admissions", "Admission of new devices", admissionsData{page.Items, page.Next, v.may(api.ScopeOperator)})
	return nil
}

// admissionForm is a rule as somebody writes it.
type admissionForm struct {
	form
	Name, Match, Labels string
	LabelsHint          string
	// Waiting are some of the pending devices that it would accept; Looked says that there was a preview.
	Waiting []api.Device
	Looked  bool
	More    bool
	Problem *api.Problem
}

func (s *console) newAdmission(v *visit) error {
	s.render(v, http.StatusOK, "admissionform", "New rule", admissionForm{form: form{New: true, MayChange: true}, LabelsHint: labelsHint})
	return nil
}

func (s *console) admission(v *visit) error {
	a, tag, err := v.api.Admission(v.r.Context(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "admissionform", "Rule "+visible(a.Name), admissionForm{
		form: form{Tag: tag, MayChange: v.may(api.ScopeOperator)},
		Name: a.Name, Match: a.Match, Labels: formatLabels(a.Labels), LabelsHint: labelsHint,
	})
	return nil
}

func (s *console) setAdmission(v *visit) error {
	f := admissionForm{form: v.formOf(api.ScopeOperator), Name: v.field("name"), Match: v.field("match"), Labels: v.area("labels"), LabelsHint: labelsHint}
	if v.r.PostFormValue("delete") != "" {
		if err := v.api.DeleteAdmissionIf(v.r.Context(), f.Name, f.Tag); err != nil {
			return err
		}
		return v.back("admissions")
	}
	title := "Rule " + visible(f.Name)
	if f.New {
		title = "New rule"
	}
	labels, err := parseLabels(f.Labels)
	if v.wantsPreview() {
		if err == nil {
			err = f.look(v)
		}
		if err != nil {
			return s.again(v, err, &f.Problem, "admissionform", title, &f)
		}
		s.render(v, http.StatusOK, "admissionform", title, f)
		return nil
	}
	if err == nil {
		err = v.api.SetAdmissionIf(v.r.Context(), policy.Admission{Name: f.Name, Match: f.Match, Labels: labels}, f.Tag)
	}
	if err != nil {
		return s.again(v, err, &f.Refused, "admissionform", title, &f)
	}
	return v.back("admissions")
}

// look finds pending devices that the rule would accept.
func (f *admissionForm) look(v *visit) error {
	if f.Match == "" {
		return &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: "There is no condition yet.", Next: "Write one, for example oemid == \"pen:3704\"."}
	}
	page, err := v.api.ListDevices(v.r.Context(), api.DeviceQuery{Status: "pending", Match: f.Match, Limit: 20})
	if err != nil {
		return err
	}
	f.Looked, f.Waiting, f.More = true, page.Items, page.Next != ""
	return nil
}

const labelsHint = "Write NAME=VALUE, a line for each label, for example site=lab."

// parseLabels reads labels.
func parseLabels(text string) (map[string]string, error) {
	labels := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found || strings.TrimSpace(name) == "" {
			return nil, fault("Labels", i+1, line, labelsHint)
		}
		labels[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return labels, nil
}

// formatLabels is the inverse of parseLabels.
func formatLabels(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%s\n", name, labels[name])
	}
	return b.String()
}

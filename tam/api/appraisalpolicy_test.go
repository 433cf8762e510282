package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	appraisal "github.com/go-teep/teep/attest/policy"
)

const anAppraisalPolicy = "id: https://example.com/p\nclasses: [{oemid: \"pen:1\", affirming: [{if: \"true\"}], warning: [{if: weaknesses.size() > 0}]}]\n"

func TestCheckAppraisalPolicy(t *testing.T) {
	s := newService(t)
	client := s.client(ScopeOperator)
	found, err := client.CheckAppraisalPolicy(t.Context(), NewAppraisalPolicy{Policy: anAppraisalPolicy})
	if err != nil || found.ID != "https://example.com/p" || found.Classes != 1 || found.Rules != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	for name, policy := range map[string]string{
		"empty":           "",
		"no YAML":         "{",
		"no URI":          strings.Replace(anAppraisalPolicy, "https://example.com/p", "p", 1),
		"no classes":      "id: https://example.com/p\n",
		"unknown key":     anAppraisalPolicy + "rules: []\n",
		"unknown name":    strings.Replace(anAppraisalPolicy, "weaknesses", "weakness", 1),
		"no condition":    strings.Replace(anAppraisalPolicy, "\"true\"", "\"1 + 1\"", 1),
		"syntax":          strings.Replace(anAppraisalPolicy, "\"true\"", "\"(true\"", 1),
		"nothing affirms": strings.Replace(anAppraisalPolicy, "affirming: [{if: \"true\"}], ", "", 1),
		"no vendor":       strings.Replace(anAppraisalPolicy, "pen:1", "vendor", 1),
		"two documents":   anAppraisalPolicy + "---\n" + anAppraisalPolicy,
		"too long":        anAppraisalPolicy + strings.Repeat("#", appraisal.MaxFileBytes),
	} {
		_, err := client.CheckAppraisalPolicy(t.Context(), NewAppraisalPolicy{Policy: policy})
		var problem *Problem
		if !errors.As(err, &problem) || problem.Status != http.StatusUnprocessableEntity || problem.Code != "appraisal-policy" || len(problem.Detail) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

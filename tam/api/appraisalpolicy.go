package api

import (
	"context"
	"errors"
	"net/http"

	appraisal "github.com/go-teep/teep/attest/policy"
)

// NewAppraisalPolicy is an appraisal policy to look at before it is put in force, which whoever has the
// TAM's configuration does ("verifier.policy"; the file is read again when it changes).
type NewAppraisalPolicy struct {
	// Policy is the file: YAML with rules in CEL (package attest/policy).
	Policy string `json:"policy"`
}

// AppraisalPolicy is one that this TAM can use.
type AppraisalPolicy struct {
	ID      string `json:"id"`
	Classes int    `json:"classes"`
	Rules   int    `json:"rules"`
}

// maxAppraisalPolicy holds a file of the largest size with its line ends escaped.
const maxAppraisalPolicy = 2 * appraisal.MaxFileBytes

func appraisalPolicyRoutes() []route {
	return []route{
		{pattern: "POST /v1/appraisal-policy/check", summary: "Whether an appraisal policy could be used: syntax, names and types of every rule", scopes: []Scope{ScopeOperator},
			maxBody: maxAppraisalPolicy, in: NewAppraisalPolicy{}, out: AppraisalPolicy{}, handle: (*handler).checkAppraisalPolicy},
	}
}

func (h *handler) checkAppraisalPolicy(w http.ResponseWriter, r *http.Request) error {
	var body NewAppraisalPolicy
	if err := readJSON(r, &body); err != nil {
		return err
	}
	p, err := appraisal.Parse([]byte(body.Policy))
	if errors.Is(err, appraisal.ErrPolicy) {
		return &Problem{Status: http.StatusUnprocessableEntity, Code: "appraisal-policy", Detail: err.Error() + ".", Next: "Correct the policy and check it again."}
	}
	if err != nil {
		return err
	}
	classes, rules := p.Size()
	return writeJSON(w, http.StatusOK, AppraisalPolicy{ID: p.ID(), Classes: classes, Rules: rules})
}

// CheckAppraisalPolicy asks whether the TAM could use an appraisal policy.
func (c *Client) CheckAppraisalPolicy(ctx context.Context, p NewAppraisalPolicy) (*AppraisalPolicy, error) {
	var found AppraisalPolicy
	return &found, c.call(ctx, http.MethodPost, "/v1/appraisal-policy/check", p, &found)
}

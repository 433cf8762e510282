package console

import (
	"errors"

	"github.com/go-teep/teep/tam/api"
)

// previewDevices bounds how many devices a preview looks at while somebody types.
const previewDevices = 20_000

// previewed is what a form would do: a preview, or what is wrong with the form; neither before anybody asked.
type previewed struct {
	*api.Preview
	Problem *api.Problem
}

// preview looks at a proposal; buildErr is what was wrong with the form that it should be made of.
func (v *visit) preview(p api.Proposal, buildErr error) (previewed, error) {
	var found *api.Preview
	err := buildErr
	if err == nil {
		p.MaxDevices, p.Examples = previewDevices, 10
		found, err = v.api.Preview(v.r.Context(), p)
	}
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status < 500 {
		return previewed{Problem: problem}, nil
	}
	return previewed{Preview: found}, err
}

// wantsPreview tells whether a form was sent to see what it would do.
func (v *visit) wantsPreview() bool { return v.r.PostFormValue("preview") != "" }

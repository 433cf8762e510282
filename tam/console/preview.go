package console

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-teep/teep/tam/api"
)

// defaultPreviewDevices bounds how many devices a preview looks at while somebody types. On demand it goes on with those
// behind them, as many at a time as the API has time for.
const defaultPreviewDevices = 20_000

// previewExamples is how many changed devices are described.
const previewExamples = 10

// previewed is what a form would do: a preview, or what is wrong with the form; neither before anybody asked.
type previewed struct {
	*api.Preview
	Problem *api.Problem
	// Seen is the preview for the form to send back, when somebody wants to see further devices.
	Seen string
}

// seen is a preview so far, and a digest of what was proposed.
type seen struct {
	Preview  api.Preview
	Proposal []byte
}

// preview looks at a proposal; buildErr is what was wrong with the form that it should be made of.
func (v *visit) preview(p api.Proposal, buildErr error) (previewed, error) {
	var found *api.Preview
	err := buildErr
	digest := sha256.New()
	if err == nil {
		err = json.NewEncoder(digest).Encode(p)
	}
	before := seen{Proposal: digest.Sum(nil)}
	if err == nil {
		p.MaxDevices, p.Examples = v.previewDevices, previewExamples
		if so := v.seenSoFar(before.Proposal); so != nil {
			before.Preview, p.After, p.MaxDevices = *so, so.Next, 0
		}
		found, err = v.api.Preview(v.r.Context(), p)
	}
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status < 500 {
		return previewed{Problem: problem}, nil
	}
	if err != nil {
		return previewed{}, err
	}
	if p.After != "" {
		before.Preview.Add(found, previewExamples)
		found = &before.Preview
	}
	before.Preview = *found
	before.Preview.Examples, before.Preview.Conflicts = nil, nil // a form is small; those of the newest devices are shown
	data, err := json.Marshal(before)
	if err != nil {
		return previewed{}, fmt.Errorf("console: preview: %w", err)
	}
	return previewed{Preview: found, Seen: base64.StdEncoding.EncodeToString(data)}, nil
}

// seenSoFar is the preview that the form has already, if it is to be gone on with and is of the same proposal.
func (v *visit) seenSoFar(proposal []byte) *api.Preview {
	data, err := base64.StdEncoding.DecodeString(v.r.PostFormValue("seen"))
	if err != nil || v.r.PostFormValue("preview") != "further" {
		return nil
	}
	var so seen
	if json.Unmarshal(data, &so) != nil || string(so.Proposal) != string(proposal) || so.Preview.Next == "" {
		return nil
	}
	return &so.Preview
}

// wantsPreview tells whether a form was sent to see what it would do.
func (v *visit) wantsPreview() bool { return v.r.PostFormValue("preview") != "" }

package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// rolloutsData is the list of rollouts.
type rolloutsData struct {
	Rollouts  []rolloutData
	Next      string
	MayChange bool
}

// rolloutData is a rollout with what its page shows beside it.
type rolloutData struct {
	api.Rollout
	// Total is how many devices it has, Done how many of them have the version; Total is 0 while they
	// are counted.
	Total, Done int64
	Actions     []rolloutAction
	MayChange   bool
	MayAbort    bool
}

// rolloutAction is a button.
type rolloutAction struct {
	Action policy.Action
	Verb   string
	Danger bool
}

func (s *console) rollouts(v *visit) error {
	page, err := v.api.Rollouts(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	data := rolloutsData{Next: page.Next, MayChange: v.may(api.ScopeOperator)}
	for _, r := range page.Items {
		data.Rollouts = append(data.Rollouts, viewRollout(r, false))
	}
	s.render(v, http.StatusOK, "rollouts", "Rollouts", data)
	return nil
}

func viewRollout(r api.Rollout, mayChange bool) rolloutData {
	data := rolloutData{Rollout: r}
	for _, stage := range r.Stages {
		if stage.Total != nil {
			data.Total += *stage.Total
		}
		data.Done += stage.Counts.Succeeded
	}
	if data.MayChange = mayChange; !mayChange {
		return data
	}
	switch r.State {
	case policy.StateProposed:
		data.Actions = []rolloutAction{{policy.ActionApprove, "Approve", false}}
	case policy.StateScheduled:
		data.Actions = []rolloutAction{{policy.ActionPause, "Pause", true}}
	case policy.StateRunning:
		data.Actions = []rolloutAction{{policy.ActionPause, "Pause", true}, {policy.ActionAdvance, "Open the next stage now", false}}
	case policy.StatePaused:
		data.Actions = []rolloutAction{{policy.ActionResume, "Resume", false}}
	}
	data.MayAbort = r.State != policy.StateAborted && r.State != policy.StateStopped
	return data
}

func (s *console) rollout(v *visit) error {
	r, err := v.api.Rollout(v.r.Context(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "rollout", "Rollout "+visible(r.Name), viewRollout(*r, v.may(api.ScopeOperator)))
	return nil
}

func (s *console) actOnRollout(v *visit) error {
	name := v.r.PathValue("name")
	action := policy.Action(v.r.PostFormValue("action"))
	if _, err := v.api.ActOnRollout(v.r.Context(), name, action, v.r.PostFormValue("reason")); err != nil {
		return err
	}
	return v.back("rollouts/" + url.PathEscape(name))
}

// rolloutForm is what somebody wrote so far.
type rolloutForm struct {
	Name, Manifest, Sequence, Match, Stages, Windows, Start string
	Require, Approval                                       bool
	StagesHint, WindowsHint                                 string
	Previewed                                               previewed
}

func (s *console) newRollout(v *visit) error {
	q := v.r.URL.Query()
	s.render(v, http.StatusOK, "rolloutform", "New rollout", rolloutForm{
		Manifest: q.Get("manifest"), Sequence: q.Get("sequence"), Stages: "1% soak=1h\n10% soak=4h\n100%\n",
		StagesHint: stagesHint, WindowsHint: windowsHint,
	})
	return nil
}

func (s *console) createRollout(v *visit) error {
	form := rolloutForm{StagesHint: stagesHint, WindowsHint: windowsHint}
	for field, into := range map[string]*string{
		"name": &form.Name, "manifest": &form.Manifest, "sequence": &form.Sequence, "match": &form.Match,
		"stages": &form.Stages, "windows": &form.Windows, "start": &form.Start,
	} {
		*into = strings.TrimSpace(strings.ReplaceAll(v.r.PostFormValue(field), "\r\n", "\n"))
	}
	form.Require, form.Approval = v.r.PostFormValue("require") != "", v.r.PostFormValue("approval") != ""
	n, err := form.rollout(v)
	if v.wantsPreview() {
		if n.Name == "" {
			n.Name = "preview"
		}
		if form.Previewed, err = v.preview(api.Proposal{Rollout: &n}, err); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "rolloutform", "New rollout", form)
		return nil
	}
	if err != nil {
		return err
	}
	r, err := v.api.CreateRollout(v.r.Context(), n)
	if err != nil {
		return err
	}
	return v.back("rollouts/" + url.PathEscape(r.Name))
}

// startLayout is what browsers send of a field for date and time.
const startLayout = "2006-01-02T15:04"

func (f *rolloutForm) rollout(v *visit) (api.NewRollout, error) {
	n := api.NewRollout{Name: f.Name, Manifest: f.Manifest, Match: f.Match, Require: f.Require, Approval: f.Approval}
	var err error
	if n.Sequence, err = number(v, "sequence", "The sequence number"); err != nil {
		return n, err
	}
	if n.Stages, err = parseStages(f.Stages); err != nil {
		return n, err
	}
	if n.Windows, err = parseWindows(f.Windows); err != nil {
		return n, err
	}
	if f.Start != "" {
		at, err := time.ParseInLocation(startLayout, f.Start, time.UTC)
		if err != nil {
			return n, &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: fmt.Sprintf("%q is no time.", f.Start), Next: "Write it as in 2026-03-01T22:00, in UTC."}
		}
		n.Start = &at
	}
	return n, nil
}

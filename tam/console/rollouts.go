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
	Archived  bool // they are those off the list
	MayChange bool
}

// rolloutData is a rollout with what its page shows beside it.
type rolloutData struct {
	api.Rollout
	// Total is how many devices it has, Done how many of them have the version; Total is 0 while they
	// are counted.
	Total, Done int64
	// Shares are what its bar shows.
	Shares     []share
	Under, Bad int64 // being updated; failed, or lost their attestation
	Actions    []rolloutAction
	MayChange  bool
	// MayAdvance says whether there is a stage to open, NextDevices how many devices that has, where they
	// are counted.
	MayAdvance  bool
	NextDevices int64
	MayAbort    bool
	MayRemove   bool
}

// share is a part of a bar, in percent of its width.
type share struct {
	Class string
	X, W  float64
}

// shares parts a bar: who has it, who is being updated, where it failed.
func shares(total, done, under, bad int64) []share {
	if total == 0 {
		return nil
	}
	var parts []share
	x := 0.0
	for i, n := range []int64{done, under, bad} {
		w := 100 * float64(n) / float64(total)
		if n > 0 {
			parts = append(parts, share{[]string{"done", "under", "bad"}[i], x, w})
		}
		x += w
	}
	return parts
}

// News is what a screen reader is told when it changed.
func (r rolloutData) News() string {
	news := fmt.Sprintf("%s: %s, stage %d of %d, %d", visible(r.Name), r.State, r.Stage, len(r.Stages), r.Done)
	if r.Total > 0 {
		news += fmt.Sprintf(" of %d", r.Total)
	}
	news += " devices have the version"
	if r.Bad > 0 {
		news += fmt.Sprintf(", %d failed", r.Bad)
	}
	return news
}

// rolloutAction is a button.
type rolloutAction struct {
	Action policy.Action
	Verb   string
	Main   bool
}

func (s *console) rollouts(v *visit) error {
	list, archived := v.api.Rollouts, v.r.URL.Query().Get("archived") == "true"
	if archived {
		list = v.api.ArchivedRollouts
	}
	page, err := list(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	data := rolloutsData{Next: page.Next, Archived: archived, MayChange: v.may(api.ScopeOperator)}
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
		data.Under += stage.Counts.Offered
		data.Bad += stage.Counts.Failed + stage.Counts.Dropped
	}
	data.Shares = shares(data.Total, data.Done, data.Under, data.Bad)
	if data.MayChange = mayChange; !mayChange {
		return data
	}
	switch r.State {
	case policy.StateProposed:
		data.Actions = []rolloutAction{{policy.ActionApprove, "Approve", true}}
	case policy.StateScheduled:
		data.Actions = []rolloutAction{{policy.ActionPause, "Pause", false}}
	case policy.StateRunning:
		data.Actions = []rolloutAction{{policy.ActionPause, "Pause", false}}
		data.MayAdvance = r.Stage < len(r.Stages)
		if data.MayAdvance && r.Stages[r.Stage].Total != nil {
			data.NextDevices = *r.Stages[r.Stage].Total
		}
	case policy.StatePaused:
		data.Actions = []rolloutAction{{policy.ActionResume, "Resume", true}}
	case policy.StateDone, policy.StateStopped, policy.StateAborted:
		if r.Archived == nil {
			data.Actions = []rolloutAction{{policy.ActionArchive, "Archive", false}}
		}
	}
	data.MayRemove = r.State.Ended()
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

func (s *console) removeRollout(v *visit) error {
	if err := v.api.DeleteRollout(v.r.Context(), v.r.PathValue("name")); err != nil {
		return err
	}
	return v.back("rollouts")
}

// rolloutForm is what somebody wrote so far.
type rolloutForm struct {
	form
	Name, Manifest, Sequence, Match, Stages, Windows, Start string
	Require, Approval                                       bool
	StagesHint, WindowsHint                                 string
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
	var r *api.Rollout
	if err == nil {
		r, err = v.api.CreateRollout(v.r.Context(), n)
	}
	if err != nil {
		return s.again(v, err, &form.Refused, "rolloutform", "New rollout", &form)
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

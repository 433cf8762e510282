package api

import (
	"net/http"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// NewRollout describes a rollout to begin.
type NewRollout struct {
	Name     string `json:"name"`
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
	// Match is a condition in CEL that chooses devices; left out: all.
	Match string `json:"match,omitempty"`
	// Require has its devices install the version without asking.
	Require bool           `json:"require,omitempty"`
	Stages  []policy.Stage `json:"stages"`
	// Approval asks for a second person, also where the TAM does not.
	Approval bool `json:"approval,omitempty"`
	// Start is not before when it begins; left out: at once.
	Start   *time.Time      `json:"start,omitempty"`
	Windows []policy.Window `json:"windows,omitempty"`
}

func (n *NewRollout) rollout() policy.Rollout {
	r := policy.Rollout{
		Name: n.Name, Manifest: n.Manifest, Sequence: n.Sequence, Match: n.Match, Require: n.Require,
		Stages: n.Stages, Approval: n.Approval, Windows: n.Windows,
	}
	if n.Start != nil {
		r.Start = n.Start.UTC()
	}
	return r
}

// Rollout is a rollout with what it reached.
type Rollout struct {
	Name     string          `json:"name"`
	Revision int64           `json:"revision"` // also the ETag
	Manifest string          `json:"manifest"`
	Sequence uint64          `json:"sequence,string"`
	Match    string          `json:"match,omitempty"`
	Require  bool            `json:"require"`
	Approval bool            `json:"approval"`
	Start    *time.Time      `json:"start,omitempty"`
	Windows  []policy.Window `json:"windows"`

	State policy.State `json:"state"`
	// Archived is since when it is off the list.
	Archived *time.Time `json:"archived,omitempty"`
	// Reason says why it is stopped or aborted.
	Reason string `json:"reason,omitempty"`
	// Stage is the newest stage that is open, from 1, since StageSince.
	Stage      int        `json:"stage"`
	StageSince *time.Time `json:"stageSince,omitempty"`
	// InWindow tells whether it may change devices now.
	InWindow bool           `json:"inWindow"`
	Stages   []RolloutStage `json:"stages"`
	// Estimate is when the open stage will have enough devices, if they go on as they do.
	Estimate *time.Time    `json:"estimate,omitempty"`
	Created  time.Time     `json:"created"`
	Creator  string        `json:"creator"`
	Approver string        `json:"approver,omitempty"`
	History  []policy.Step `json:"history"`
}

// RolloutStage is a stage with where its devices are.
type RolloutStage struct {
	Percent    float64         `json:"percent,omitempty"`
	Group      string          `json:"group,omitempty"`
	Soak       policy.Duration `json:"soak,omitempty"`
	Success    float64         `json:"success"`
	Failure    float64         `json:"failure"`
	FailureMin int64           `json:"failureMin"`
	Drop       float64         `json:"drop"`
	// Total is how many devices the stage has; left out while they are counted.
	Total  *int64        `json:"total,omitempty"`
	Counts policy.Counts `json:"counts"`
}

func (h *handler) viewRollout(s *tam.RolloutStatus) Rollout {
	view := Rollout{
		Name: s.Name, Revision: s.Revision, Manifest: s.Manifest, Sequence: s.Sequence, Match: s.Match, Require: s.Require,
		Approval: s.Approval, Start: timePointer(s.Start), Windows: append([]policy.Window{}, s.Windows...),
		State: s.State, Archived: timePointer(s.Archived), Reason: s.Reason, Stage: s.Stage + 1, StageSince: timePointer(s.StageSince), InWindow: s.InWindow(h.Clock()),
		Stages: []RolloutStage{}, Estimate: timePointer(s.Estimate), Created: s.Created.UTC(),
		Creator: s.Creator.Name, Approver: s.Approver.Name, History: append([]policy.Step{}, s.History...),
	}
	for i, stage := range s.Stages {
		g := stage.Gates()
		one := RolloutStage{
			Percent: stage.Percent, Group: stage.Group, Soak: stage.Soak, Success: g.Success, Failure: g.Failure,
			FailureMin: g.FailureMin, Drop: g.Drop, Counts: s.Counts[i],
		}
		if len(s.Totals) == len(s.Stages) {
			total := max(s.Totals[i], s.Counts[i].Seen())
			one.Total = &total
		}
		view.Stages = append(view.Stages, one)
	}
	return view
}

func (h *handler) writeRollout(w http.ResponseWriter, status int, s *tam.RolloutStatus) error {
	w.Header().Set("ETag", revisionTag(s.Revision))
	return writeJSON(w, status, h.viewRollout(s))
}

func (h *handler) listRollouts(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	archived := false
	switch r.URL.Query().Get(queryArchived) {
	case "", "false":
	case "true":
		archived = true
	default:
		return badRequest(queryArchived, "archived is neither true nor false.", "Use true for those that are archived, or leave it out.")
	}
	list, err := h.TAM.Rollouts(r.Context(), archived, after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, h.viewRollout, func(s *tam.RolloutStatus) string { return s.Name }))
}

func (h *handler) rollout(w http.ResponseWriter, r *http.Request) error {
	s, err := h.TAM.Rollout(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	// The entity tag is for conditional actions. What devices do changes the answer and not the tag,
	// so that it says nothing about a copy being current.
	return h.writeRollout(w, http.StatusOK, s)
}

func (h *handler) createRollout(w http.ResponseWriter, r *http.Request) error {
	var body NewRollout
	if err := readJSON(r, &body); err != nil {
		return err
	}
	wanted := body.rollout()
	wanted.Approval = wanted.Approval || h.RolloutApproval
	s, err := h.TAM.CreateRollout(r.Context(), wanted, personOf(r))
	if err != nil {
		return err
	}
	h.log(r, "rollout created", "name", s.Name, "manifest", s.Manifest, "sequence", s.Sequence)
	return h.writeRollout(w, http.StatusCreated, s)
}

func (h *handler) abortRollout(w http.ResponseWriter, r *http.Request) error {
	var body Withdrawal
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if body.Reason == "" || len(body.Reason) > policy.MaxReason {
		return badRequest("reason", "A reason of 1 to 500 bytes is missing.", "Say in a sentence why the rollout ends.")
	}
	return h.actOnRollout(w, r, policy.ActionAbort, body.Reason)
}

func (h *handler) deleteRollout(w http.ResponseWriter, r *http.Request) error {
	expect, err := h.expectation(r, tam.KindRollout)
	if err != nil {
		return err
	}
	if expect == tam.ExpectNew {
		return tam.ErrNotFound
	}
	if err := h.TAM.DeleteRollout(r.Context(), r.PathValue("name"), personOf(r), expect); err != nil {
		return err
	}
	h.log(r, "rollout deleted", "name", r.PathValue("name"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) actOnRollout(w http.ResponseWriter, r *http.Request, a policy.Action, reason string) error {
	expect, err := h.expectation(r, tam.KindRollout)
	if err != nil {
		return err
	}
	if expect == tam.ExpectNew {
		return tam.ErrNotFound
	}
	s, err := h.TAM.ActOnRollout(r.Context(), r.PathValue("name"), a, personOf(r), reason, expect)
	if err != nil {
		return err
	}
	h.log(r, "rollout: "+string(a), "name", s.Name, "state", s.State)
	return h.writeRollout(w, http.StatusOK, s)
}

package api

import (
	"errors"
	"maps"
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// Proposal is a change to look at before it is made. Exactly one of its records or names is given.
type Proposal struct {
	Group       *policy.Group   `json:"group,omitempty"`
	DeleteGroup string          `json:"deleteGroup,omitempty"` // name
	Domain      *policy.Domain  `json:"domain,omitempty"`
	Removal     *policy.Removal `json:"removal,omitempty"`
	LiftRemoval string          `json:"liftRemoval,omitempty"` // name
	Rollout     *NewRollout     `json:"rollout,omitempty"`
	Policy      *ProposedPolicy `json:"policy,omitempty"`
	// After is the ID of a device, Preview.Next of the answer before: those behind it are looked at.
	After string `json:"after,omitempty"`
	// MaxDevices bounds how many devices are looked at, for an answer while one types; 0: as many as there is time for.
	MaxDevices int64 `json:"maxDevices,omitempty"`
	// Examples is how many changed devices are described, at most 1000; 0 means 20.
	Examples int `json:"examples,omitempty"`
}

// ProposedPolicy is what devices should have of a manifest.
type ProposedPolicy struct {
	Manifest string   `json:"manifest"`
	Mode     tam.Mode `json:"mode"`
	Devices  []string `json:"devices,omitempty"`
	// Staged has versions that are published from now on reach devices by a rollout only.
	Staged bool `json:"staged,omitempty"`
}

// Preview is what a proposal would change, with the next message of each device.
type Preview struct {
	// Devices were looked at; Complete says that behind them are no others. Where there may be, the same proposal with
	// Next as its "after" looks at them.
	Devices  int64  `json:"devices"`
	Complete bool   `json:"complete"`
	Next     string `json:"next,omitempty"`
	// Chosen is how many accepted devices are in the group, or chosen by the rollout or removal.
	Chosen int64 `json:"chosen"`
	// NotEvaluated is for how many the condition could not be evaluated, so that it does not hold.
	NotEvaluated int64 `json:"notEvaluated"`
	// Changed is how many devices would be told to do something else than now.
	Changed  int64 `json:"changed"`
	Installs int64 `json:"installs"`
	Updates  int64 `json:"updates"`
	Removals int64 `json:"removals"`
	// Stages is how many devices each stage of a rollout has.
	Stages []int64 `json:"stages"`
	// Conflicts are why it cannot be saved.
	Conflicts []policy.Conflict `json:"conflicts"`
	Examples  []PreviewedDevice `json:"examples"`
}

// PreviewedDevice is a device, and what would be different on it.
type PreviewedDevice struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels"`
	Changes []string          `json:"changes"`
}

const (
	defaultExamples = 20
	maxExamples     = 1000
)

// Add adds what a preview of further devices found, and keeps at most that many examples.
func (p *Preview) Add(o *Preview, examples int) {
	p.Devices, p.Complete, p.Next = p.Devices+o.Devices, o.Complete, o.Next
	p.Chosen, p.NotEvaluated, p.Changed = p.Chosen+o.Chosen, p.NotEvaluated+o.NotEvaluated, p.Changed+o.Changed
	p.Installs, p.Updates, p.Removals = p.Installs+o.Installs, p.Updates+o.Updates, p.Removals+o.Removals
	for i := range min(len(p.Stages), len(o.Stages)) {
		p.Stages[i] += o.Stages[i]
	}
	p.Conflicts = o.Conflicts
	p.Examples = append(p.Examples, o.Examples[:min(len(o.Examples), max(examples-len(p.Examples), 0))]...)
}

func (h *handler) preview(w http.ResponseWriter, r *http.Request) error {
	var body Proposal
	if err := readJSON(r, &body); err != nil {
		return err
	}
	p, err := body.proposal()
	if err != nil {
		return err
	}
	if body.Policy != nil && body.Policy.Staged {
		if err := h.stageProposal(r, p.Assignment); err != nil {
			return err
		}
	}
	if body.Examples == 0 {
		body.Examples = defaultExamples
	}
	if body.Examples < 0 || body.Examples > maxExamples || body.MaxDevices < 0 {
		return badRequest("limit", "examples is not a number up to 1000, or maxDevices is negative.", "Leave them out for 20 examples of all devices.")
	}
	found, err := h.TAM.Preview(r.Context(), *p, tam.PreviewOptions{
		After: body.After, MaxDevices: body.MaxDevices, Until: h.Clock().Add(h.Timeout / 2), Examples: body.Examples,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewPreview(found))
}

// stageProposal marks from which version on devices would need a rollout.
func (h *handler) stageProposal(r *http.Request, a *tam.Assignment) error {
	old, err := h.Store.Assignment(r.Context(), a.Manifest)
	if err != nil && !errors.Is(err, tam.ErrNotFound) {
		return err
	}
	newest, err := h.TAM.NewestSequence(r.Context(), a.Manifest)
	if err != nil {
		return err
	}
	stage(a, old, newest)
	return nil
}

func (b *Proposal) proposal() (*tam.Proposal, error) {
	p := &tam.Proposal{Group: b.Group, DeleteGroup: b.DeleteGroup, Domain: b.Domain, Removal: b.Removal, LiftRemoval: b.LiftRemoval}
	given := 0
	for _, is := range []bool{b.Group != nil, b.DeleteGroup != "", b.Domain != nil, b.Removal != nil, b.LiftRemoval != "", b.Rollout != nil, b.Policy != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, badRequest("proposal", "The proposal is not exactly one change.", "Give one of group, deleteGroup, domain, removal, liftRemoval, rollout and policy.")
	}
	if b.Rollout != nil {
		r := b.Rollout.rollout()
		p.Rollout = &r
	}
	if b.Policy != nil {
		id, err := parseID(b.Policy.Manifest)
		if err != nil {
			return nil, err
		}
		if !b.Policy.Mode.Valid() {
			return nil, badRequest("mode", "That is not a mode.", "Use available, required or forbidden.")
		}
		p.Assignment = &tam.Assignment{Manifest: id, Mode: b.Policy.Mode, Devices: b.Policy.Devices}
	}
	return p, nil
}

func viewPreview(p *tam.Preview) Preview {
	view := Preview{
		Devices: p.Devices, Complete: p.Complete, Next: p.Next, Chosen: p.Chosen, NotEvaluated: p.NotEvaluated, Changed: p.Changed,
		Installs: p.Installs, Updates: p.Updates, Removals: p.Gone,
		Stages: p.Stages, Conflicts: p.Conflicts, Examples: []PreviewedDevice{},
	}
	for _, d := range p.Examples {
		one := PreviewedDevice{ID: d.ID, Labels: map[string]string{}, Changes: d.Changes}
		maps.Copy(one.Labels, d.Labels)
		view.Examples = append(view.Examples, one)
	}
	return view
}

package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Action is what a person does with a rollout.
type Action string

// The actions.
const (
	ActionApprove Action = "approve"
	ActionPause   Action = "pause"
	ActionResume  Action = "resume"
	// ActionAdvance opens the next stage without waiting for its gates.
	ActionAdvance Action = "advance"
	ActionAbort   Action = "abort"
	// ActionArchive takes an ended rollout off the list. It keeps its effect.
	ActionArchive Action = "archive"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{ActionApprove, ActionPause, ActionResume, ActionAdvance, ActionAbort, ActionArchive}
}

// ErrState says that the rollout's state does not allow the action.
var ErrState = errors.New("policy: the rollout's state does not allow this")

// Begin gives a new rollout its first state.
func (r Rollout) Begin(by Person, now time.Time) Rollout {
	r.State, r.Stage, r.StageSince, r.Totals, r.Reason, r.Approver = StateScheduled, 0, time.Time{}, nil, "", Person{}
	r.Created, r.Creator, r.History = now, by, nil
	if r.Approval {
		r.State = StateProposed
	}
	return r.note(now, by.Name, "created")
}

// note appends to the history, without touching that of other copies.
func (r Rollout) note(now time.Time, by, what string) Rollout {
	r.History = append(slices.Clone(r.History), Step{now, by, what})
	if n := len(r.History) - maxHistory; n > 0 {
		r.History = r.History[n:]
	}
	return r
}

// Act returns the rollout after a person's action. reason is for an abort.
func (r Rollout) Act(a Action, by Person, reason string, now time.Time) (Rollout, error) {
	refuse := func(want string) (Rollout, error) {
		return r, fmt.Errorf("%w: it is %s, and %s is for one that is %s", ErrState, r.State, a, want)
	}
	switch a {
	case ActionApprove:
		if r.State != StateProposed {
			return refuse("proposed")
		}
		if err := by.secondTo(r.Creator); err != nil {
			return r, err
		}
		r.State, r.Approver = StateScheduled, by
	case ActionPause:
		if r.State != StateRunning && r.State != StateScheduled {
			return refuse("scheduled or running")
		}
		r.State = StatePaused
	case ActionResume:
		if r.State != StatePaused {
			return refuse("paused")
		}
		if r.State = StateRunning; r.StageSince.IsZero() {
			r.State = StateScheduled
		}
	case ActionAdvance:
		if r.State != StateRunning {
			return refuse("running")
		}
		return r.next(now, by.Name, "by hand"), nil
	case ActionAbort:
		if r.State == StateAborted || r.State == StateStopped {
			return refuse("not ended")
		}
		r.State, r.Reason = StateAborted, reason
	case ActionArchive:
		if !r.State.Ended() || !r.Archived.IsZero() {
			return refuse("done, stopped or aborted, and not archived yet")
		}
		r.Archived = now
	default:
		return r, fmt.Errorf("%w: there is no action %q: use one of %v", ErrState, a, Actions())
	}
	what := string(a)
	if reason != "" {
		what += ": " + reason
	}
	return r.note(now, by.Name, what), nil
}

// Counts is how many devices of one stage are where.
type Counts struct {
	Offered   int64 `json:"offered"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Dropped   int64 `json:"dropped"`
}

// Add counts n devices.
func (c *Counts) Add(p Progress, n int64) {
	switch p {
	case ProgressOffered:
		c.Offered += n
	case ProgressSucceeded:
		c.Succeeded += n
	case ProgressFailed:
		c.Failed += n
	case ProgressDropped:
		c.Dropped += n
	}
}

// Seen is how many devices the rollout reached.
func (c Counts) Seen() int64 { return c.Offered + c.Succeeded + c.Failed + c.Dropped }

// automatic is who opens stages and stops rollouts by thresholds.
const automatic = "teep-tam"

// Advance returns the rollout after what its devices did and the time that went by, and whether that is
// another one. counts has an entry for each stage. It takes at most one step.
func (r Rollout) Advance(counts []Counts, now time.Time) (Rollout, bool) {
	if !r.State.Active() || len(counts) < len(r.Stages) {
		return r, false
	}
	if r.StageSince.IsZero() {
		if r.State != StateScheduled || now.Before(r.Start) {
			return r, false
		}
		r.State, r.StageSince = StateRunning, now
		return r.note(now, automatic, r.opened("")), true
	}
	// Also while it is paused: what is bad does not become good by waiting.
	for i := 0; i <= r.Stage; i++ {
		if why := r.Stages[i].fault(counts[i]); why != "" {
			return r.Stop(fmt.Sprintf("stage %d: %s", i+1, why), now), true
		}
	}
	if r.State != StateRunning || !r.ready(counts[r.Stage], now) {
		return r, false
	}
	return r.next(now, automatic, ""), true
}

// Stop ends a rollout whose version is not to be given to any device.
func (r Rollout) Stop(why string, now time.Time) Rollout {
	r.State, r.Reason = StateStopped, why
	return r.note(now, automatic, "stopped: "+why)
}

// Gates returns the stage with its defaults filled in.
func (s Stage) Gates() Stage {
	s.Success, s.Failure, s.Drop = orDefault(s.Success, defaultSuccess), orDefault(s.Failure, defaultFailure), orDefault(s.Drop, defaultDrop)
	s.FailureMin = max(s.FailureMin, 1)
	return s
}

// fault says why a stage ends the rollout; empty if it does not.
func (s *Stage) fault(c Counts) string {
	answered := c.Succeeded + c.Failed + c.Dropped
	if c.Failed >= max(s.FailureMin, 1) && reaches(c.Failed, answered, orDefault(s.Failure, defaultFailure)) {
		return fmt.Sprintf("%d of %d devices that answered failed", c.Failed, answered)
	}
	if c.Dropped >= 1 && reaches(c.Dropped, answered, orDefault(s.Drop, defaultDrop)) {
		return fmt.Sprintf("the attestation of %d of %d devices dropped", c.Dropped, answered)
	}
	return ""
}

// ready tells whether the newest stage is as good as it has to be.
func (r *Rollout) ready(c Counts, now time.Time) bool {
	s := &r.Stages[r.Stage]
	if len(r.Totals) != len(r.Stages) || now.Sub(r.StageSince) < time.Duration(s.Soak) {
		return false
	}
	total := max(r.Totals[r.Stage], c.Seen())
	return total == 0 || reaches(c.Succeeded, total, orDefault(s.Success, defaultSuccess))
}

func (r Rollout) next(now time.Time, by, how string) Rollout {
	if r.Stage == len(r.Stages)-1 {
		r.State = StateDone
		return r.note(now, by, "done")
	}
	r.Stage++
	r.StageSince = now
	return r.note(now, by, r.opened(how))
}

func (r *Rollout) opened(how string) string {
	s := &r.Stages[r.Stage]
	what := fmt.Sprintf("%g percent", s.Percent)
	if s.Group != "" {
		what = "group " + s.Group
	}
	text := fmt.Sprintf("stage %d opened: %s", r.Stage+1, what)
	if how != "" {
		text += ", " + how
	}
	return text
}

// reaches tells whether part is at least percent of whole.
func reaches(part, whole int64, percent float64) bool {
	return float64(part)*100 >= float64(whole)*percent
}

func orDefault(v, otherwise float64) float64 {
	if v == 0 {
		return otherwise
	}
	return v
}

// Estimate says when the newest stage will have the share of devices that it needs, if devices go on
// as they did since it opened. It knows nothing before the first of them.
func (r *Rollout) Estimate(counts []Counts, now time.Time) (time.Time, bool) {
	if r.State != StateRunning || len(r.Totals) != len(r.Stages) || len(counts) < len(r.Stages) {
		return time.Time{}, false
	}
	s, c := &r.Stages[r.Stage], counts[r.Stage]
	soaked := r.StageSince.Add(time.Duration(s.Soak))
	total := max(r.Totals[r.Stage], c.Seen())
	missing := math.Ceil(float64(total)*orDefault(s.Success, defaultSuccess)/100) - float64(c.Succeeded)
	elapsed := now.Sub(r.StageSince)
	switch {
	case missing <= 0:
		return later(now, soaked), true
	case c.Succeeded == 0 || elapsed <= 0:
		return time.Time{}, false
	}
	wait := missing * float64(elapsed) / float64(c.Succeeded)
	if wait > float64(10*366*24*time.Hour) {
		return time.Time{}, false
	}
	// Nights and days are in the pace already; devices get nothing between the windows.
	return later(r.nextInWindow(now.Add(time.Duration(wait))), soaked), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

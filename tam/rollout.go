package tam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// RolloutStatus is a rollout with what it reached.
type RolloutStatus struct {
	policy.Rollout
	Revision int64
	// Counts has an entry for each stage.
	Counts []policy.Counts
	// Estimate is when the open stage will have enough devices; zero where nobody can know.
	Estimate time.Time
}

// CreateRollout proposes or schedules a rollout. The version may be published later: from now on it
// reaches devices by rollouts only.
func (t *TAM) CreateRollout(ctx context.Context, r policy.Rollout, by policy.Person) (*RolloutStatus, error) {
	if err := r.Check(t.compiler); err != nil {
		return nil, err
	}
	if err := by.MayPropose(&r); err != nil {
		return nil, err
	}
	r = r.Begin(by, t.clock().UTC())
	// A name is used once: what devices did under it is counted for good.
	counts, err := t.store.RolloutCounts(ctx, r.Name)
	if err == nil && len(counts) > 0 {
		err = ErrExists
	}
	if err != nil {
		return nil, err
	}
	created := &Event{Rollout: r.Name, At: r.Created, Kind: EventRolloutCreated, Detail: r.Describe()}
	revision, err := t.saveWith(ctx, KindRollout, r.Name, ExpectNew, "rollout.create", created, func(o *offer) (any, string, error) {
		return r, r.Describe(), o.mayRollOut(&r)
	})
	if errors.Is(err, ErrConflict) {
		err = ErrExists
	}
	if err != nil {
		return nil, err
	}
	t.log.InfoContext(ctx, "rollout created", "rollout", r.Name, "state", string(r.State))
	return &RolloutStatus{Rollout: r, Revision: revision, Counts: make([]policy.Counts, len(r.Stages))}, nil
}

// mayRollOut checks a new rollout against what is there.
func (o *offer) mayRollOut(r *policy.Rollout) error {
	for i, s := range r.Stages {
		if s.Group != "" && !slices.ContainsFunc(o.groups, func(g policy.Group) bool { return g.Name == s.Group }) {
			return fmt.Errorf("%w: stage %d: there is no group %q", policy.ErrInvalid, i+1, s.Group)
		}
	}
	for _, other := range o.rollouts {
		if other.Manifest == r.Manifest && other.Sequence == r.Sequence && (other.State.Active() || other.State == policy.StateProposed) {
			return fmt.Errorf("%w: rollout %s is under way for this version: abort it first", policy.ErrInvalid, other.Name)
		}
	}
	id, err := suit.ParseComponentID(r.Manifest)
	if err != nil {
		return fmt.Errorf("%w: %w", policy.ErrInvalid, err)
	}
	for _, v := range o.versions {
		if v.Sequence == r.Sequence && v.Manifest.Equal(id) && !v.Withdrawn.IsZero() {
			return fmt.Errorf("%w: sequence number %d of %s was withdrawn: publish a newer version", policy.ErrInvalid, r.Sequence, r.Manifest)
		}
	}
	return nil
}

// ActOnRollout does what a person wants with a rollout. expect is as in [TAM.SetGroup], but a rollout has
// to exist.
func (t *TAM) ActOnRollout(ctx context.Context, name string, a policy.Action, by policy.Person, reason string, expect int64) (*RolloutStatus, error) {
	for range 10 {
		s, err := t.Rollout(ctx, name)
		if err != nil {
			return nil, err
		}
		if expect != ExpectAny && s.Revision != expect {
			return nil, ErrConflict
		}
		next, err := s.Act(a, by, reason, t.clock().UTC())
		if err != nil {
			return nil, err
		}
		err = t.putRollout(ctx, s, next, "rollout."+string(a))
		if errors.Is(err, ErrConflict) && expect == ExpectAny {
			continue // it went on by itself meanwhile
		}
		if err != nil {
			return nil, err
		}
		return t.Rollout(ctx, name)
	}
	return nil, ErrConflict
}

// putRollout stores what a rollout became, and says so in the feed where that is another state or stage.
func (t *TAM) putRollout(ctx context.Context, was *RolloutStatus, r policy.Rollout, action string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("tam: rollout %s: %w", r.Name, err)
	}
	return t.store.ChangePolicy(ctx, PolicyChange{
		Kind: KindRollout, Name: r.Name, Revision: was.Revision, Data: data, Action: action, Detail: rolloutDetail(&was.Rollout, &r),
		Event: rolloutEvent(&was.Rollout, &r, t.clock()),
	})
}

// rolloutDetail is what the audit log says of a change: its newest step, or what else is new.
func rolloutDetail(was, is *policy.Rollout) string {
	switch {
	case len(is.History) > len(was.History):
		return is.History[len(is.History)-1].What
	case len(is.Totals) > len(was.Totals):
		total := int64(0)
		for _, n := range is.Totals {
			total += n
		}
		return fmt.Sprintf("its %d devices were counted", total)
	case !is.Counting.Equal(was.Counting):
		return "its devices are being counted"
	}
	return string(is.State)
}

// rolloutEvent says what happened with a rollout; nil if that is nobody's business.
func rolloutEvent(was, is *policy.Rollout, now time.Time) *Event {
	e := &Event{Rollout: is.Name, At: now}
	switch {
	case is.State != was.State:
		e.Kind = map[policy.State]EventKind{
			policy.StateScheduled: EventRolloutApproved, policy.StateRunning: EventRolloutStarted, policy.StatePaused: EventRolloutPaused,
			policy.StateDone: EventRolloutDone, policy.StateStopped: EventRolloutStopped, policy.StateAborted: EventRolloutAborted,
		}[is.State]
		if was.State == policy.StatePaused && is.State.Active() {
			e.Kind = EventRolloutResumed
		}
	case is.Stage != was.Stage:
		e.Kind = EventRolloutStage
	case is.Archived != was.Archived:
		e.Kind = EventRolloutArchived
	}
	if e.Kind == "" {
		return nil
	}
	if n := len(is.History); n > 0 {
		h := is.History[n-1]
		e.Detail = fmt.Sprintf("%s, by %s", h.What, h.By)
	}
	return e
}

// DeleteRollout removes a rollout for good. That is possible once it makes no difference to any device: it ended, and
// its version was withdrawn or never published; or it is done, and everybody gets the version. expect is as in
// [TAM.SetGroup].
func (t *TAM) DeleteRollout(ctx context.Context, name string, by policy.Person, expect int64) error {
	for range 10 {
		catalogue, o, revision, err := t.before(ctx, KindRollout, name)
		switch {
		case err != nil:
			return err
		case revision == 0:
			return ErrNotFound
		case expect != ExpectAny && revision != expect:
			return ErrConflict
		}
		n := slices.IndexFunc(o.rollouts, func(r policy.Rollout) bool { return r.Name == name })
		if n < 0 {
			continue // it came or went meanwhile
		}
		if err := o.mayForget(&o.rollouts[n]); err != nil {
			return err
		}
		err = t.store.ChangePolicy(ctx, PolicyChange{
			Kind: KindRollout, Name: name, Revision: revision, Catalogue: catalogue, Action: "rollout.delete", Detail: "removed",
			Event: &Event{Rollout: name, At: t.clock(), Kind: EventRolloutDeleted, Detail: "deleted, by " + by.Name},
		})
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// mayForget tells whether a rollout makes no difference any more.
func (o *offer) mayForget(r *policy.Rollout) error {
	if !r.State.Ended() {
		return fmt.Errorf("%w: rollout %s is %s: abort it first", policy.ErrState, r.Name, r.State)
	}
	id, err := suit.ParseComponentID(r.Manifest)
	if err != nil {
		return fmt.Errorf("%w: %w", policy.ErrInvalid, err)
	}
	for _, v := range o.versions {
		if v.Sequence != r.Sequence || !v.Manifest.Equal(id) || !v.Withdrawn.IsZero() {
			continue
		}
		staged := slices.ContainsFunc(o.assignments, func(a Assignment) bool {
			return a.Staged && a.Manifest.Equal(id) && r.Sequence > a.StagedFrom
		})
		if r.State != policy.StateDone || r.Match != "" || r.Require || staged || len(r.Windows) > 0 {
			return fmt.Errorf("%w: without rollout %s its version would reach other devices than now, or at other times: withdraw the version first, or archive the rollout", policy.ErrState, r.Name)
		}
	}
	return nil
}

// Rollout returns a rollout with its counts.
func (t *TAM) Rollout(ctx context.Context, name string) (*RolloutStatus, error) {
	record, err := t.store.PolicyRecord(ctx, KindRollout, name)
	if err != nil {
		return nil, err
	}
	return t.rolloutStatus(ctx, record)
}

// Rollouts lists rollouts by name, beginning after `after`: those that are archived, or all others.
func (t *TAM) Rollouts(ctx context.Context, archived bool, after string, limit int) ([]RolloutStatus, error) {
	list := make([]RolloutStatus, 0, limit)
	for {
		records, err := t.store.PolicyRecords(ctx, KindRollout, after, limit)
		if err != nil {
			return nil, err
		}
		for i := range records {
			after = records[i].Name
			s, err := t.rolloutStatus(ctx, &records[i])
			if err != nil {
				return nil, err
			}
			if !s.Archived.IsZero() == archived && len(list) < limit {
				list = append(list, *s)
			}
		}
		if len(records) < limit || len(list) == limit {
			return list, nil
		}
	}
}

func (t *TAM) rolloutStatus(ctx context.Context, record *PolicyRecord) (*RolloutStatus, error) {
	r, err := decodeRecord[policy.Rollout](record)
	if err != nil {
		return nil, err
	}
	counts, err := t.store.RolloutCounts(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	s := &RolloutStatus{Rollout: *r, Revision: record.Revision, Counts: make([]policy.Counts, len(r.Stages))}
	for _, c := range counts {
		if c.Stage >= 0 && c.Stage < len(s.Counts) {
			s.Counts[c.Stage].Add(c.Progress, c.Devices)
		}
	}
	if at, ok := r.Estimate(s.Counts, t.clock()); ok {
		s.Estimate = at
	}
	return s, nil
}

// reached tells whether a rollout offered the device its version already.
func (d *Device) reached(r *rollout) bool {
	return slices.ContainsFunc(d.Rollouts, func(p RolloutProgress) bool { return p.Rollout == r.Name })
}

// devicePage is how many devices are read at a time when all are looked at.
const devicePage = 1000

// eachDevice looks at devices by ID, from the one behind `after` on, until visit returns false: then it returns the ID of the
// last one. Memory does not depend on how many there are.
func (t *TAM) eachDevice(ctx context.Context, after string, visit func(*Device) bool) (last string, err error) {
	for {
		page, err := t.store.ListDevices(ctx, after, devicePage)
		if err != nil {
			return after, fmt.Errorf("tam: listing devices: %w", err)
		}
		for i := range page {
			after = page[i].ID
			if !visit(&page[i]) {
				return after, nil
			}
		}
		if len(page) < devicePage {
			return "", nil
		}
	}
}

package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/tam/policy"
)

// countingPause is how long a replica that counts the devices of a rollout is trusted to be alive: no stage is over
// before its devices are counted. It says that it is alive each countingRenewal.
const (
	countingPause   = 30 * time.Second
	countingRenewal = 10 * time.Second
)

// countingLook is after how many devices whoever counts looks after all rollouts again: one that goes wrong is not to
// wait until a large fleet is counted.
const countingLook = 20 * devicePage

// AdvanceRollouts opens the stages that are due and stops rollouts that go wrong. It is meant to be called
// every few seconds, by every replica: whoever is second finds the work done.
func (t *TAM) AdvanceRollouts(ctx context.Context) error {
	uncounted, err := t.advanceAll(ctx)
	errs := []error{err}
	for _, name := range uncounted {
		errs = append(errs, ofRollout(name, t.countRollout(ctx, name)))
	}
	return errors.Join(errs...)
}

// advanceAll advances each rollout by at most one step, and returns those whose devices nobody counts yet.
func (t *TAM) advanceAll(ctx context.Context) (uncounted []string, err error) {
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range c.rollouts {
		if !r.State.Active() {
			continue
		}
		count, err := t.advanceRollout(ctx, c, r)
		if count {
			uncounted = append(uncounted, r.Name)
		}
		errs = append(errs, ofRollout(r.Name, err))
	}
	return uncounted, errors.Join(errs...)
}

// ofRollout says which rollout an error is about. That somebody else was faster is none.
func ofRollout(name string, err error) error {
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("tam: rollout %s: %w", name, err)
}

func (t *TAM) advanceRollout(ctx context.Context, c *catalogue, r *rollout) (uncounted bool, err error) {
	s, err := t.Rollout(ctx, r.Name)
	if err != nil {
		return false, err
	}
	now := t.clock().UTC()
	next, changed := s.Advance(s.Counts, now)
	if why := c.unavailable(r.manifest.version(s.Sequence)); why != "" && s.State.Active() {
		next, changed = s.Stop(why, now), true
	}
	if changed {
		if err := t.putRollout(ctx, s, next, "rollout.progress"); err != nil {
			return false, err
		}
		t.log.InfoContext(ctx, "rollout", "rollout", r.Name, "state", string(next.State), "what", next.History[len(next.History)-1].What)
		return false, nil
	}
	return s.uncounted(now), nil
}

// unavailable says why a version will not be offered to any device again; empty if it is, or may yet be published.
func (c *catalogue) unavailable(v *Version) string {
	switch {
	case v == nil:
		return ""
	case !v.Withdrawn.IsZero():
		return "the version was withdrawn: " + v.WithdrawnReason
	case c.distrusted(v) != nil:
		return "the key that signed the version was withdrawn: " + c.distrusted(v).Reason
	}
	if p := c.publishers[v.Publisher]; p != nil && !p.Revoked.IsZero() {
		return "publisher " + p.Name + " was revoked"
	}
	return ""
}

// uncounted tells whether the devices are to be counted. Somebody who counts since a time that is yet to come had a clock
// that was set back since.
func (s *RolloutStatus) uncounted(now time.Time) bool {
	return s.State == policy.StateRunning && len(s.Totals) == 0 && now.Sub(s.Counting).Abs() > countingPause
}

// countRollout finds out how many devices each stage has.
func (t *TAM) countRollout(ctx context.Context, name string) error {
	s, err := t.Rollout(ctx, name)
	if err != nil {
		return err
	}
	now := t.clock().UTC()
	if !s.uncounted(now) {
		return nil
	}
	claimed := s.Rollout
	claimed.Counting = now
	if err := t.putRollout(ctx, s, claimed, "rollout.progress"); err != nil {
		return err // somebody else counts, or it was changed
	}
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(c.rollouts, func(r *rollout) bool { return r.Name == name })
	if n < 0 {
		return ErrNotFound
	}
	totals, seen, alive := make([]int64, len(s.Stages)), 0, now
	_, err = t.eachDevice(ctx, "", func(d *Device) bool {
		at := standing{catalogue: c, device: d, now: now}
		if stage, in := at.stageOf(c.rollouts[n]); in && d.Status == DeviceAccepted && at.concerns(c.rollouts[n]) {
			totals[stage]++
		}
		if seen++; seen%countingLook == 0 {
			if _, err := t.advanceAll(ctx); err != nil {
				t.log.ErrorContext(ctx, "rollouts, while one is counted", "err", err)
			}
		}
		if clock := t.clock(); clock.Sub(alive) >= countingRenewal {
			alive = clock
			if err := ofRollout(name, t.stillCounting(ctx, name)); err != nil {
				t.log.ErrorContext(ctx, "rollout is counted", "err", err)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return t.counted(ctx, name, totals)
}

// stillCounting keeps other replicas from counting the devices of a rollout once more.
func (t *TAM) stillCounting(ctx context.Context, name string) error {
	s, err := t.Rollout(ctx, name)
	if err != nil || len(s.Totals) > 0 || !s.State.Active() {
		return err
	}
	claimed := s.Rollout
	claimed.Counting = t.clock().UTC()
	return t.putRollout(ctx, s, claimed, "rollout.progress")
}

// counted stores how many devices each stage has, whatever became of the rollout meanwhile.
func (t *TAM) counted(ctx context.Context, name string, totals []int64) error {
	for range 10 {
		current, err := t.Rollout(ctx, name)
		if err != nil {
			return err
		}
		if len(current.Totals) > 0 || !current.State.Active() {
			return nil
		}
		counted := current.Rollout
		counted.Totals = totals
		if err := t.putRollout(ctx, current, counted, "rollout.progress"); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// stageOf is the stage that a device counts in: the one that it was offered the version in, or else the one that it is in.
func (s *standing) stageOf(r *rollout) (int, bool) {
	for _, p := range s.device.Rollouts {
		if p.Rollout == r.Name && p.Stage < len(r.Stages) {
			return p.Stage, true
		}
	}
	return s.stage(r)
}

// concerns tells whether the device is to get the version of a rollout that chose it. One that must not have the manifest,
// or is held at another version, would be waited for in vain.
func (s *standing) concerns(r *rollout) bool {
	if s.device.reached(r) {
		return true
	}
	w := s.says(r.manifest)
	if w.mode == ModeForbidden || w.sequence != 0 && w.sequence != r.Sequence || s.removed(r.manifest, max(r.Sequence, 1)) != nil {
		return false
	}
	has, installed := s.device.installed(r.manifest.id)
	if installed {
		return has.Sequence < r.Sequence
	}
	return r.Require || w.mode == ModeRequired
}

package tam

import (
	"slices"
	"time"

	"github.com/go-teep/teep/tam/policy"
)

// set enters how far a rollout came here, and counts the difference.
func (d *Device) set(n int, p policy.Progress, now time.Time) {
	r := &d.Rollouts[n]
	if r.Progress == p {
		return
	}
	d.counts = append(d.counts,
		RolloutCount{r.Rollout, r.Stage, r.Progress, -1}, RolloutCount{r.Rollout, r.Stage, p, 1})
	r.Progress, r.At = p, now
}

// enterRollouts notes which rollouts a plan serves.
func (d *Device) enterRollouts(at *standing, plan decision) {
	for _, s := range plan.install {
		if s.rollout == nil {
			continue
		}
		stage, _ := at.stage(s.rollout)
		n := slices.IndexFunc(d.Rollouts, func(r RolloutProgress) bool { return r.Manifest.Equal(s.version.Manifest) })
		if n >= 0 && d.Rollouts[n].Rollout == s.rollout.Name {
			// Offered once more. A failure stays one until the device has the version.
			if d.Rollouts[n].Progress == policy.ProgressSucceeded {
				d.set(n, policy.ProgressOffered, at.now) // it lost it
			}
			continue
		}
		one := RolloutProgress{s.rollout.Name, s.version.Manifest, s.version.Sequence, stage, policy.ProgressOffered, at.now}
		if n >= 0 {
			d.Rollouts[n] = one // of an older version: its counts stay as they are
		} else {
			d.Rollouts = append(d.Rollouts, one)
		}
		d.counts = append(d.counts, RolloutCount{one.Rollout, one.Stage, one.Progress, 1})
	}
}

// progress notes what came of an offer.
func (d *Device) progress(i Installed, p policy.Progress, now time.Time) {
	for n := range d.Rollouts {
		if r := &d.Rollouts[n]; r.Sequence == i.Sequence && r.Manifest.Equal(i.Manifest) {
			d.set(n, p, now)
		}
	}
}

// noteRollouts compares what rollouts brought with what the device, whose attestation is good, has: the
// answer to an Update may have been lost, and an attestation that dropped may have recovered.
func (d *Device) noteRollouts(now time.Time) {
	for n := range d.Rollouts {
		r := &d.Rollouts[n]
		has, ok := d.installed(r.Manifest)
		switch {
		case ok && has.Sequence >= r.Sequence:
			d.set(n, policy.ProgressSucceeded, now)
		case r.Progress == policy.ProgressDropped:
			d.set(n, policy.ProgressOffered, now)
		}
	}
}

// dropRollouts notes that the attestation, which was good, no longer is. What came last is suspected.
func (d *Device) dropRollouts(now time.Time) {
	last := -1
	for n := range d.Rollouts {
		if last < 0 || d.Rollouts[n].At.After(d.Rollouts[last].At) {
			last = n
		}
	}
	if last >= 0 {
		d.set(last, policy.ProgressDropped, now)
	}
}

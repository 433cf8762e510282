package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// State is where a rollout is.
type State string

// The states.
const (
	// StateProposed: it waits for a second person.
	StateProposed State = "proposed"
	// StateScheduled: it waits for its time.
	StateScheduled State = "scheduled"
	// StateRunning: devices of its open stages get the version.
	StateRunning State = "running"
	// StatePaused: no further device gets the version until it is resumed.
	StatePaused State = "paused"
	// StateDone: all stages are open, and devices that join get the version, in the windows.
	StateDone State = "done"
	// StateStopped: its thresholds ended it. No further device gets the version.
	StateStopped State = "stopped"
	// StateAborted: a person ended it. No further device gets the version.
	StateAborted State = "aborted"
)

// Active tells whether something may still happen by itself.
func (s State) Active() bool {
	return s == StateScheduled || s == StateRunning || s == StatePaused
}

// Ended tells whether it came to its end. One that is done still gives the version to devices that join, and
// one that was stopped or aborted keeps it from them.
func (s State) Ended() bool {
	return s == StateDone || s == StateStopped || s == StateAborted
}

// Progress is how far a rollout came on one device.
type Progress string

// What a rollout counts. A device is counted once: under what is newest of it.
const (
	ProgressOffered   Progress = "offered"
	ProgressSucceeded Progress = "succeeded"
	ProgressFailed    Progress = "failed"
	// ProgressDropped: the device had the version or was getting it, and its attestation, which was
	// good, no longer is.
	ProgressDropped Progress = "dropped"
)

// Rollout brings one version of one manifest to devices in stages.
type Rollout struct {
	Name     string `json:"name"`
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
	// Match chooses the devices; empty: all. Others do not get the version.
	Match string `json:"match,omitempty"`
	// Require has its devices install the version without asking. Without it, they get it as desired
	// state says: because they have an older one, must have it, or ask for it.
	Require bool    `json:"require,omitempty"`
	Stages  []Stage `json:"stages"`
	// Approval asks for a second person before it begins.
	Approval bool `json:"approval,omitempty"`
	// Start is not before when it begins; zero: at once.
	Start time.Time `json:"start,omitzero"`
	// Windows are when it changes devices; none: at any time.
	Windows []Window `json:"windows,omitempty"`

	State State `json:"state"`
	// Stage is the index of the newest stage that is open.
	Stage      int       `json:"stage"`
	StageSince time.Time `json:"stageSince,omitzero"`
	// Totals is how many devices each stage had when it was counted; empty before.
	Totals []int64 `json:"totals,omitempty"`
	// Counting is when somebody last said that they count the totals.
	Counting time.Time `json:"counting,omitzero"`
	Created  time.Time `json:"created,omitzero"`
	// Creator and Approver are who did it, by the IDs of the audit log.
	Creator  Person `json:"creator"`
	Approver Person `json:"approver"`
	// Reason says why it is stopped or aborted.
	Reason string `json:"reason,omitempty"`
	// Archived is since when it is off the list; it keeps its effect.
	Archived time.Time `json:"archived,omitzero"`
	History  []Step    `json:"history"`
}

// Step is an entry in a rollout's history.
type Step struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	What string    `json:"what"`
}

// Stage is one step of a rollout. Its devices are those of Group, or those below Percent, that are in
// no stage before.
type Stage struct {
	// Percent is the share of all devices of the rollout that stages up to this one reach. Which
	// devices these are depends on their IDs and on the rollout's name, and on nothing else.
	Percent float64 `json:"percent,omitempty"`
	Group   string  `json:"group,omitempty"`
	// Soak is how long the stage is open at least before the next one.
	Soak Duration `json:"soak,omitempty"`
	// Success is the share of the stage's devices, in percent, that must have the version before the
	// next stage opens; 0 means 90.
	Success float64 `json:"success,omitempty"`
	// Failure is the share of the devices that answered, in percent, from which on a stage stops the
	// rollout; 0 means 5. FailureMin is the least number of failures that may stop it; 0 means 1.
	Failure    float64 `json:"failure,omitempty"`
	FailureMin int64   `json:"failureMin,omitempty"`
	// Drop is the same for devices whose attestation drops after they got the version; 0 means 1.
	Drop float64 `json:"drop,omitempty"`
}

// The defaults of a stage's gates, in percent.
const (
	defaultSuccess = 90
	defaultFailure = 5
	defaultDrop    = 1
)

// MaxStages bounds the stages of a rollout, MaxWindows its maintenance windows.
const (
	MaxStages  = 32
	MaxWindows = 16
	maxHistory = 200
)

// Check brings a new rollout into its canonical form. The error is [ErrInvalid].
func (r *Rollout) Check(c *Compiler) error {
	if err := checkName("rollout", r.Name); err != nil {
		return err
	}
	if err := canonical(&r.Manifest); err != nil {
		return err
	}
	if r.Match != "" {
		if _, err := c.Compile(r.Match); err != nil {
			return err
		}
	}
	if len(r.Windows) > MaxWindows {
		return invalid("%d windows: at most %d are allowed", len(r.Windows), MaxWindows)
	}
	for i := range r.Windows {
		if err := r.Windows[i].Check(); err != nil {
			return err
		}
	}
	return r.checkStages()
}

func (r *Rollout) checkStages() error {
	if len(r.Stages) == 0 || len(r.Stages) > MaxStages {
		return invalid("a rollout has 1 to %d stages, not %d", MaxStages, len(r.Stages))
	}
	reached := 0.0
	for i := range r.Stages {
		s := &r.Stages[i]
		switch {
		case (s.Group == "") == (s.Percent == 0):
			return invalid("stage %d: give either percent or group", i+1)
		case s.Group == "" && !(s.Percent > reached && s.Percent <= 100):
			return invalid("stage %d: percent is that of all devices and rises: write more than %g and at most 100", i+1, reached)
		case s.Soak < 0 || time.Duration(s.Soak) > 366*24*time.Hour:
			return invalid("stage %d: soak is up to a year", i+1)
		case s.FailureMin < 0:
			return invalid("stage %d: failureMin is a number of devices", i+1)
		}
		for _, share := range []float64{s.Success, s.Failure, s.Drop} {
			if !(share >= 0 && share <= 100) {
				return invalid("stage %d: success, failure and drop are percentages, from 0 to 100", i+1)
			}
		}
		reached = max(reached, s.Percent)
	}
	if reached != 100 || r.Stages[len(r.Stages)-1].Percent != 100 {
		return invalid("the last stage has to be 100 percent: a rollout ends with all its devices; choose fewer devices with match")
	}
	return nil
}

// Describe says what the rollout is, for the audit log.
func (r *Rollout) Describe() string {
	return fmt.Sprintf("%s sequence number %d in %d stages, %s", r.Manifest, r.Sequence, len(r.Stages), r.State)
}

// buckets is how finely devices are told apart: stages can be a hundredth of a percent.
const buckets = 10_000

// bucket places a device between 0 and 100 percent of a rollout, for good.
func (r *Rollout) bucket(device string) float64 {
	sum := sha256.Sum256([]byte(r.Name + "\x00" + device))
	return float64(binary.BigEndian.Uint64(sum[:8])%buckets) * 100 / buckets
}

// StageOf returns the stage of a device that the rollout chose. inGroup tells its groups by name.
func (r *Rollout) StageOf(device string, inGroup func(string) bool) int {
	at := -1.0
	for i := range r.Stages {
		s := &r.Stages[i]
		if s.Group != "" {
			if inGroup(s.Group) {
				return i
			}
			continue
		}
		if at < 0 {
			at = r.bucket(device)
		}
		if at < s.Percent {
			return i
		}
	}
	return len(r.Stages) - 1 // not reached: the last one is 100 percent
}

// Admits tells whether devices of a stage are given the version now.
func (r *Rollout) Admits(stage int, now time.Time) bool {
	switch r.State {
	case StateDone:
		return r.InWindow(now)
	case StateRunning:
		return stage <= r.Stage && r.InWindow(now)
	}
	return false
}

// InWindow tells whether the rollout may change devices now.
func (r *Rollout) InWindow(now time.Time) bool {
	for i := range r.Windows {
		if r.Windows[i].Open(now) {
			return true
		}
	}
	return len(r.Windows) == 0
}

// nextInWindow is the first time from now on at which the rollout may change devices.
func (r *Rollout) nextInWindow(now time.Time) time.Time {
	next := time.Time{}
	for i := range r.Windows {
		start, _, ok := r.Windows[i].spanAround(now)
		if ok && !start.After(now) {
			return now
		}
		if ok && (next.IsZero() || start.Before(next)) {
			next = start
		}
	}
	if next.IsZero() {
		return now
	}
	return next
}

// Duration is a time.Duration that is written as in 30m.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write it as in 30m or 24h", text)
	}
	*d = Duration(v)
	return nil
}

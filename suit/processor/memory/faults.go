package memory

import "fmt"

// Step names one state-changing step, as counted by [Platform.CrashAt].
type Step string

// The steps.
const (
	StepWrite          Step = "write"
	StepSync           Step = "sync"
	StepAdopt          Step = "adopt"
	StepCopy           Step = "copy"
	StepSwap           Step = "swap"
	StepRemove         Step = "remove"
	StepParameters     Step = "parameters"
	StepPutManifest    Step = "put-manifest"
	StepRemoveManifest Step = "remove-manifest"
	// StepCommit is just before the new generation is durable, StepCommitted just after: the
	// device may die between making it so and saying so.
	StepCommit    Step = "commit"
	StepCommitted Step = "committed"
)

// faults is guarded by Platform.mu.
type faults struct {
	steps   int
	crashAt int
	fail    func(n int, s Step) error
	crashed bool
	boot    int
}

// CrashAt makes the device crash at the nth state-changing step from now on, counted from 1;
// 0 never. At that step and after it everything fails with [ErrCrashed] until [Platform.Restart].
func (p *Platform) CrashAt(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.steps, p.faults.crashAt = 0, n
}

// FailWith asks fail at every state-changing step whether it fails; the device lives on. The
// step is not done when fail returns an error. nil ends it.
func (p *Platform) FailWith(fail func(n int, s Step) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.steps, p.faults.fail = 0, fail
}

// Steps is the number of state-changing steps since CrashAt or FailWith, or since New.
func (p *Platform) Steps() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults.steps
}

// Restart boots the device again after a crash, or in the middle of anything: open transactions
// are gone, and so is content that was not synced.
func (p *Platform) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.crashed, p.faults.crashAt, p.faults.fail = false, 0, nil
	p.faults.boot++
}

func (p *Platform) alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.crashed {
		return ErrCrashed
	}
	return nil
}

// step counts one step; the caller holds p.mu.
func (p *Platform) step(s Step) error {
	f := &p.faults
	if f.crashed {
		return ErrCrashed
	}
	f.steps++
	if f.crashAt != 0 && f.steps >= f.crashAt {
		f.crashed = true
		return ErrCrashed
	}
	if f.fail != nil {
		if err := f.fail(f.steps, s); err != nil {
			return fmt.Errorf("memory: %s: %w", s, err)
		}
	}
	return nil
}

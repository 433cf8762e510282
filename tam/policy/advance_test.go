package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/go-teep/teep/tam/policy"
)

var (
	ann = policy.Person{ID: "1", Name: "Ann", Subjects: []string{"ann@example.com"}}
	bob = policy.Person{ID: "2", Name: "Bob", Subjects: []string{"bob@example.com"}}
)

func rollout(change ...func(*policy.Rollout)) policy.Rollout {
	r := policy.Rollout{Name: "r", Manifest: "'a'", Sequence: 1, Stages: []policy.Stage{
		{Percent: 10, Soak: policy.Duration(time.Hour), Success: 90, Failure: 20, FailureMin: 2}, {Percent: 100}}}
	for _, f := range change {
		f(&r)
	}
	return r
}

func begun(t *testing.T) policy.Rollout {
	t.Helper()
	r, changed := rollout().Begin(ann, noon).Advance(make([]policy.Counts, 2), noon)
	if !changed || r.State != policy.StateRunning || r.Stage != 0 {
		t.Fatalf("it is %s", r.State)
	}
	r.Totals = []int64{10, 90}
	return r
}

func TestAdvance(t *testing.T) {
	for _, test := range []struct {
		name    string
		counts  policy.Counts
		after   time.Duration
		want    policy.State
		stage   int
		changed bool
	}{
		{"nothing yet", policy.Counts{}, time.Hour, policy.StateRunning, 0, false},
		{"good but not soaked", policy.Counts{Succeeded: 10}, time.Hour - 1, policy.StateRunning, 0, false},
		{"too few", policy.Counts{Succeeded: 8, Offered: 2}, time.Hour, policy.StateRunning, 0, false},
		{"enough", policy.Counts{Succeeded: 9, Offered: 1}, time.Hour, policy.StateRunning, 1, true},
		{"one failure is too few to stop", policy.Counts{Succeeded: 1, Failed: 1}, 0, policy.StateRunning, 0, false},
		{"two of ten failed", policy.Counts{Succeeded: 8, Failed: 2}, 0, policy.StateStopped, 0, true},
		{"two of eleven failed", policy.Counts{Succeeded: 9, Failed: 2}, 0, policy.StateRunning, 0, false},
		{"attestation dropped", policy.Counts{Succeeded: 9, Dropped: 1}, 2 * time.Hour, policy.StateStopped, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := begun(t)
			got, changed := r.Advance([]policy.Counts{test.counts, {}}, noon.Add(test.after))
			if got.State != test.want || got.Stage != test.stage || changed != test.changed {
				t.Errorf("%s, stage %d, changed %v", got.State, got.Stage, changed)
			}
			if (got.State == policy.StateStopped) != (got.Reason != "") {
				t.Errorf("reason %q", got.Reason)
			}
		})
	}
	r := begun(t)
	r.Totals = nil
	if _, changed := r.Advance([]policy.Counts{{Succeeded: 100}, {}}, noon.Add(time.Hour)); changed {
		t.Error("a stage opened before it was known how many devices the one before has")
	}
	paused, err := begun(t).Act(policy.ActionPause, bob, "", noon)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := paused.Advance([]policy.Counts{{Succeeded: 10}, {}}, noon.Add(time.Hour)); got.Stage != 0 || got.State != policy.StatePaused {
		t.Error("a paused rollout went on")
	}
	if got, _ := paused.Advance([]policy.Counts{{Failed: 10}, {}}, noon); got.State != policy.StateStopped {
		t.Error("a paused rollout that fails was not stopped")
	}
	later := rollout(func(r *policy.Rollout) { r.Start = noon.Add(time.Hour) }).Begin(ann, noon)
	if _, changed := later.Advance(make([]policy.Counts, 2), noon.Add(time.Hour-1)); changed {
		t.Error("it began before its time")
	}
	if got, changed := later.Advance(make([]policy.Counts, 2), noon.Add(time.Hour)); !changed || got.State != policy.StateRunning {
		t.Error("it did not begin at its time")
	}
}

func TestActions(t *testing.T) {
	states := []policy.State{policy.StateProposed, policy.StateScheduled, policy.StateRunning, policy.StatePaused, policy.StateDone, policy.StateStopped, policy.StateAborted}
	allowed := map[policy.Action][]policy.State{
		policy.ActionApprove: {policy.StateProposed},
		policy.ActionPause:   {policy.StateScheduled, policy.StateRunning},
		policy.ActionResume:  {policy.StatePaused},
		policy.ActionAdvance: {policy.StateRunning},
		policy.ActionAbort:   {policy.StateProposed, policy.StateScheduled, policy.StateRunning, policy.StatePaused, policy.StateDone},
		"explode":            nil,
	}
	for action, from := range allowed {
		for _, s := range states {
			r := rollout().Begin(ann, noon)
			r.State = s
			may := false
			for _, f := range from {
				may = may || f == s
			}
			_, err := r.Act(action, bob, "why", noon)
			if may != (err == nil) || err != nil && !errors.Is(err, policy.ErrState) {
				t.Errorf("%s when %s: %v", action, s, err)
			}
		}
	}
}

// TestSecondPerson: what one person has several of, tokens and accounts, does not make two of them.
func TestSecondPerson(t *testing.T) {
	approved := func(first, second policy.Person) error {
		_, err := rollout(func(r *policy.Rollout) { r.Approval = true }).Begin(first, noon).Act(policy.ActionApprove, second, "", noon)
		return err
	}
	other := []string{"other@example.com"}
	for name, who := range map[string]policy.Person{
		"herself":                    ann,
		"the same token":             {ID: "1", Name: "Other", Subjects: other},
		"a token of the same name":   {ID: "9", Name: "Ann", Subjects: other},
		"another token":              {ID: "9", Name: "nightly", Subjects: ann.Subjects},
		"in other letters":           {ID: "9", Name: "nightly", Subjects: []string{" Ann@Example.COM"}},
		"one name of several":        {ID: "9", Name: "nightly", Subjects: []string{"https://login.example#17", "ann@example.com"}},
		"named like her":             {ID: "9", Name: "ann@example.com", Subjects: other},
		"owned by her name":          {ID: "9", Name: "nightly", Subjects: []string{"ann"}},
		"no owner, but the same key": {ID: "1", Name: "Other"},
	} {
		if err := approved(ann, who); !errors.Is(err, policy.ErrSamePerson) {
			t.Errorf("%s: approved: %v", name, err)
		}
	}
	nobody := policy.Person{ID: "7", Name: "nightly"}
	for name, pair := range map[string][2]policy.Person{"by nobody": {ann, nobody}, "of nobody": {nobody, bob}} {
		if err := approved(pair[0], pair[1]); !errors.Is(err, policy.ErrUnknownPerson) || !strings.Contains(err.Error(), "--owner") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := approved(ann, bob); err != nil {
		t.Error(err)
	}
}

func TestRolloutsAreRefused(t *testing.T) {
	c := compiler(t)
	good := rollout()
	if err := good.Check(c); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*policy.Rollout){
		"name":         func(r *policy.Rollout) { r.Name = "a b" },
		"manifest":     func(r *policy.Rollout) { r.Manifest = "" },
		"condition":    func(r *policy.Rollout) { r.Match = "id" },
		"no stages":    func(r *policy.Rollout) { r.Stages = nil },
		"not all":      func(r *policy.Rollout) { r.Stages[1].Percent = 99 },
		"falls":        func(r *policy.Rollout) { r.Stages[0].Percent = 100; r.Stages[1].Percent = 50 },
		"above all":    func(r *policy.Rollout) { r.Stages[1].Percent = 101 },
		"both":         func(r *policy.Rollout) { r.Stages[0].Group = "g" },
		"neither":      func(r *policy.Rollout) { r.Stages[0].Percent = 0 },
		"negative":     func(r *policy.Rollout) { r.Stages[0].Soak = -1 },
		"percentage":   func(r *policy.Rollout) { r.Stages[0].Failure = 101 },
		"group last":   func(r *policy.Rollout) { r.Stages = append(r.Stages, policy.Stage{Group: "g"}) },
		"window":       func(r *policy.Rollout) { r.Windows = []policy.Window{{From: "1"}} },
		"many stages":  func(r *policy.Rollout) { r.Stages = make([]policy.Stage, policy.MaxStages+1) },
		"many windows": func(r *policy.Rollout) { r.Windows = make([]policy.Window, policy.MaxWindows+1) },
	} {
		r := rollout(change)
		if err := r.Check(c); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRolloutsAreSound: whatever people and devices do, in whatever order, a rollout's stages only rise,
// what ended stays ended, nothing is admitted beyond the open stage, and older copies do not change.
func TestRolloutsAreSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rollout(func(r *policy.Rollout) { r.Approval = rapid.Bool().Draw(t, "approval") }).Begin(ann, noon)
		r.Totals = []int64{10, 90}
		now, counts := noon, make([]policy.Counts, 2)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			before, history := r, len(r.History)
			if rapid.Bool().Draw(t, "person") {
				r, _ = r.Act(rapid.SampledFrom(policy.Actions()).Draw(t, "action"), bob, "why", now)
			} else {
				now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
				counts[rapid.IntRange(0, 1).Draw(t, "stage")].Add(rapid.SampledFrom([]policy.Progress{policy.ProgressSucceeded, policy.ProgressSucceeded, policy.ProgressFailed}).Draw(t, "progress"), int64(rapid.IntRange(0, 10).Draw(t, "n")))
				r, _ = r.Advance(counts, now)
			}
			switch {
			case r.Stage < before.Stage || r.Stage >= len(r.Stages):
				t.Fatalf("stage %d after %d", r.Stage, before.Stage)
			case (before.State == policy.StateStopped || before.State == policy.StateAborted) && r.State != before.State:
				t.Fatalf("%s after %s", r.State, before.State)
			case r.State == policy.StateRunning && r.Approval && r.Approver.ID == "":
				t.Fatal("it runs without approval")
			case r.State != policy.StateDone && r.Admits(r.Stage+1, now):
				t.Fatal("a stage that is not open is admitted")
			case r.State != policy.StateDone && r.State != policy.StateRunning && r.Admits(0, now):
				t.Fatalf("devices are admitted although it is %s", r.State)
			case len(before.History) != history:
				t.Fatal("an older copy changed")
			}
		}
	})
}

func TestEstimate(t *testing.T) {
	r := begun(t)
	if _, known := r.Estimate(make([]policy.Counts, 2), noon.Add(time.Minute)); known {
		t.Error("an estimate before the first device")
	}
	at, known := r.Estimate([]policy.Counts{{Succeeded: 3}, {}}, noon.Add(time.Hour)) // 9 of 10 are needed: 6 more at 3 an hour
	if !known || !at.Equal(noon.Add(3*time.Hour)) {
		t.Errorf("%v, %v", at, known)
	}
	at, known = r.Estimate([]policy.Counts{{Succeeded: 9}, {}}, noon.Add(time.Minute))
	if !known || !at.Equal(noon.Add(time.Hour)) {
		t.Errorf("with the soak: %v, %v", at, known)
	}
	night := r
	night.Windows = []policy.Window{{From: "22:00", To: "04:00"}}
	at, known = night.Estimate([]policy.Counts{{Succeeded: 3}, {}}, noon.Add(time.Hour))
	if want := time.Date(2026, 3, 1, 22, 0, 0, 0, time.UTC); !known || !at.Equal(want) {
		t.Errorf("with windows at night: %v, %v", at, known)
	}
}

// TestWindowsHoldWhenDone: a rollout that has enough devices changes the rest of them, and those that join, in its
// windows too.
func TestWindowsHoldWhenDone(t *testing.T) {
	for _, state := range []policy.State{policy.StateRunning, policy.StateDone} {
		r := rollout(func(r *policy.Rollout) { r.Windows = []policy.Window{{From: "22:00", To: "04:00"}} })
		r.State, r.Stage = state, 1
		if r.Admits(1, noon) || !r.Admits(1, noon.Add(10*time.Hour)) {
			t.Errorf("%s: at noon %v, at ten %v", state, r.Admits(1, noon), r.Admits(1, noon.Add(10*time.Hour)))
		}
	}
}

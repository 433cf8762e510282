package tam_test

import (
	"errors"
	"testing"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// TestContradictionsAtTheSameTime: of a group and a policy that contradict each other, one is refused also when both are
// saved at the same time, on two replicas.
func TestContradictionsAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	other, _ := w.replica()
	w.publish(release{name: "app", sequence: 1, payload: "one", dependencies: []string{"lib"}})
	forbid := policy.Group{Name: "g", Match: "true", Components: []policy.Component{{Manifest: manifestID("lib").String(), Mode: tam.ModeForbidden}}}
	asked := 0
	_, err := w.tam.ChangeAssignment(ctx(), manifestID("app"), func(old *tam.Assignment, newest uint64) (*tam.Assignment, error) {
		if asked++; asked == 1 { // somebody is faster
			_, err := other.SetGroup(ctx(), forbid, tam.ExpectNew)
			must(t, err)
		}
		if old != nil || newest != 1 {
			t.Errorf("there was %+v, newest %d", old, newest)
		}
		return &tam.Assignment{Manifest: manifestID("app"), Mode: tam.ModeRequired}, nil
	})
	var conflict *policy.ConflictError
	if !errors.As(err, &conflict) || asked != 2 {
		t.Errorf("saved after %d tries: %v", asked, err)
	}
	if _, err := w.store.Assignment(ctx(), manifestID("app")); !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("the policy: %v", err)
	}
	_, err = w.tam.ChangeAssignment(ctx(), manifestID("app"), func(*tam.Assignment, uint64) (*tam.Assignment, error) { return nil, nil })
	if !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("removed what was not there: %v", err)
	}
}

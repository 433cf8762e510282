package agent

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/suit"
)

// interpreted is the name under which a program finds the application that it interprets among the
// personalization data.
const interpreted = "application"

// programOf finds what the runtime executes for an application, and its content, from what the
// application's manifest started; see the package comment. Without a suit-invoke section it is the
// application itself.
func programOf(record *state.Record, m state.Manifest, app suit.ComponentID, started []suit.ComponentID) (suit.ComponentID, [32]byte, error) {
	program := app
	if invokes(m) && !slices.ContainsFunc(started, app.Equal) {
		if len(started) == 0 {
			return nil, [32]byte{}, fmt.Errorf("%w: the manifest of %s starts nothing", ErrNotRunnable, app)
		}
		program = started[len(started)-1]
		if !loads(record, m, program, map[string]bool{}) {
			return nil, [32]byte{}, fmt.Errorf("%w: the manifest of %s starts another component", ErrNotRunnable, app)
		}
	}
	c, ok := record.Components[program.Key()]
	if !ok || c.Content == nil || c.Owner != m.Owner {
		return nil, [32]byte{}, fmt.Errorf("%w: %s is empty", ErrNotRunnable, program)
	}
	return program, c.Content.SHA256, nil
}

// loads tells whether a component is of a manifest that m depends on, with others between them or
// without, all of one owner.
func loads(record *state.Record, m state.Manifest, program suit.ComponentID, seen map[string]bool) bool {
	for _, d := range m.Dependencies {
		if seen[d.ID.Key()] {
			continue
		}
		seen[d.ID.Key()] = true
		on, ok := record.Manifests[d.ID.Key()]
		if !ok || on.Owner != m.Owner {
			continue
		}
		if slices.ContainsFunc(on.Components, program.Equal) || loads(record, on, program, seen) {
			return true
		}
	}
	return false
}

package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/link"
)

// Open starts a session with an installed Trusted Application, in the first TEE that fits and has it.
// The number it returns is the broker's; see [Broker.Invoke] and [Broker.Close].
func (b *Broker) Open(ctx context.Context, component link.ComponentID, r Requirements) (uint64, error) {
	fitting, err := b.pick(r)
	if err != nil {
		return 0, err
	}
	for _, t := range fitting {
		app, err := t.Agent.OpenSession(ctx, component)
		if errors.Is(err, link.ErrNotInstalled) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("TEE %q: %w", t.Name, err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.next++
		b.sessions[b.next] = appSession{t, app}
		return b.next, nil
	}
	return 0, link.ErrNotInstalled
}

// Invoke runs one command of an application. Errors of the application are [*link.ExitError] and
// [link.ErrTrap].
func (b *Broker) Invoke(ctx context.Context, session uint64, command string, input []byte) ([]byte, error) {
	b.mu.Lock()
	s, ok := b.sessions[session]
	b.mu.Unlock()
	if !ok {
		return nil, ErrNoSession
	}
	output, err := s.tee.Agent.Invoke(ctx, s.app, command, input)
	if errors.Is(err, link.ErrNoSession) {
		b.forget(session) // the agent restarted, or ended it
	}
	return output, err
}

// Close ends a session with an application.
func (b *Broker) Close(ctx context.Context, session uint64) error {
	s, ok := b.forget(session)
	if !ok {
		return ErrNoSession
	}
	return s.tee.Agent.CloseSession(ctx, s.app)
}

func (b *Broker) forget(session uint64) (appSession, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sessions[session]
	delete(b.sessions, session)
	return s, ok
}

package agent

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/link"
)

// session is the agent's side of one TEEP exchange: from the Ask that opened it until nothing is
// left to say. The broker names it and knows nothing of it. Agent.mu guards it.
type session struct {
	id uint64
	// tam is the name of the TAM that it is with; "" until a message told.
	tam string
	uri string
	// inbound says that the TAM opened it, by a message that came by itself; there is one such
	// session with each TAM, whose messages nothing but their signatures holds together.
	inbound bool
	// used is when the session was last heard of.
	used time.Time
	// challenge is what the TAM's attestation must answer; nil if none was demanded.
	challenge []byte
	// attested is the thumbprint of the TAM's key for which the TAM proved its state; nil if it
	// did not, or did not have to.
	attested []byte
	// appraisal is what a verifier was asked for in it; nil if it was not.
	appraisal *appraisal
	// presented says that its last QueryResponse held a result of that verifier.
	presented bool
	// rotates says that the TAM signed with several keys of one algorithm.
	rotates bool
	// bad counts invalid messages.
	bad int
	// delivers says that the last Ask carried the reply that the record keeps for the TAM.
	delivers bool
}

// openSessionLocked makes a session. Idle ones make room; if none is idle, there is no room.
func (a *Agent) openSessionLocked(tam, uri string) (*session, error) {
	if a.closed {
		return nil, ErrClosed
	}
	a.expireLocked()
	if len(a.sessions) >= a.cfg.Limits.Sessions && !a.evictLocked() {
		return nil, fmt.Errorf("%w: %d TEEP sessions are open", ErrLimit, len(a.sessions))
	}
	s := &session{tam: tam, uri: uri, used: a.now()}
	for s.id == 0 || a.sessions[s.id] != nil {
		var id [8]byte
		if _, err := io.ReadFull(a.cfg.Rand, id[:]); err != nil {
			return nil, fmt.Errorf("agent: randomness: %w", err)
		}
		s.id = binary.BigEndian.Uint64(id[:])
	}
	a.sessions[s.id] = s
	return s, nil
}

// inboundLocked finds or opens the session with a TAM that connects to the device.
func (a *Agent) inboundLocked(tam, uri string) (*session, error) {
	a.expireLocked()
	for _, s := range a.sessions {
		if s.inbound && s.tam == tam {
			s.used = a.now()
			return s, nil
		}
	}
	s, err := a.openSessionLocked(tam, uri)
	if err == nil {
		s.inbound = true
	}
	return s, err
}

// useSessionLocked finds a session and keeps it alive.
func (a *Agent) useSessionLocked(id uint64) (*session, error) {
	if a.closed {
		return nil, ErrClosed
	}
	a.expireLocked()
	s, ok := a.sessions[id]
	if !ok {
		return nil, ErrSession
	}
	s.used = a.now()
	return s, nil
}

// expireLocked ends sessions that were idle for too long. The one of the Update in progress
// stays: how long that may stall is another limit.
func (a *Agent) expireLocked() {
	deadline := a.now().Add(-a.cfg.Limits.SessionIdle)
	for id, s := range a.sessions {
		if s.used.Before(deadline) && !a.busyLocked(s) {
			delete(a.sessions, id)
		}
	}
}

// evictLocked ends the session that has been silent for longest. A broker that opens sessions
// and forgets them harms only itself.
func (a *Agent) evictLocked() bool {
	var idle []*session
	for s := range maps.Values(a.sessions) {
		if !a.busyLocked(s) {
			idle = append(idle, s)
		}
	}
	if len(idle) == 0 {
		return false
	}
	oldest := slices.MinFunc(idle, func(s, t *session) int {
		return cmp.Or(s.used.Compare(t.used), cmp.Compare(s.id, t.id))
	})
	delete(a.sessions, oldest.id)
	return true
}

func (a *Agent) busyLocked(s *session) bool { return a.run != nil && a.run.session == s.id }

// connectLocked opens a session with a TAM and returns the Ask to connect to it.
func (a *Agent) connectLocked(t *trust.TAM) (link.Ask, error) {
	uri := t.URIs[int(a.record.TAMs[t.Name].Failures%uint64(len(t.URIs)))]
	s, err := a.openSessionLocked(t.Name, uri)
	if err != nil {
		return link.Ask{}, err
	}
	return link.Ask{Session: s.id, TAMURI: uri}, nil
}

// Connected implements link.Observer: when the last broker is gone, nobody is going to bring what the
// Update in progress asked for, and the next one that comes is asked at once. Nor is a result going to
// come that a verifier was asked for.
func (a *Agent) Connected() (disconnected func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.brokers++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.brokers--; a.brokers > 0 {
			return
		}
		if a.run != nil {
			a.run.exchange.disconnect()
		}
		for _, s := range a.sessions {
			if s.appraisal != nil {
				s.appraisal.lost = true
			}
		}
	}
}

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
)

// Bounds of a component identifier that an application names.
const (
	maxParts      = 32
	maxIdentifier = 1024
)

func componentID(id link.ComponentID) (suit.ComponentID, error) {
	size := 0
	for _, part := range id {
		size += len(part)
	}
	if len(id) == 0 || len(id) > maxParts || size > maxIdentifier {
		return nil, fmt.Errorf("%w: a component identifier has 1 to %d parts and at most %d bytes", ErrLimit, maxParts, maxIdentifier)
	}
	return suit.ComponentID(id).Clone(), nil
}

// RequestTA implements link.Agent (TEEP §7.2): nothing to do for a component that is installed,
// else the TAM that the agent chooses, with a QueryResponse if the TAM's question is known.
func (a *Agent) RequestTA(ctx context.Context, r link.Request) (link.Ask, error) {
	id, err := componentID(r.Component)
	if err != nil {
		return link.Ask{}, err
	}
	want := state.Request{ID: id, MinSequence: r.MinSequence}
	a.mu.Lock()
	ask, tam, err := a.requestLocked(want, r.TAMURI)
	a.mu.Unlock()
	if err != nil || tam == nil {
		return link.Ask{}, err
	}
	if want.TAM = tam.Name; r.HasBinary && r.MinSequence > 0 && a.snapshot().Requested[want.ID.Key()].Binary == nil {
		// have-binary says which version it is of (TEEP §4.3).
		if ask = a.askForBinary(ask, want); ask.Fetch != nil {
			return ask, nil
		}
	}
	return a.unsolicited(ctx, ask, tam)
}

// requestLocked remembers the request and connects; tam is nil if there is nothing to do.
func (a *Agent) requestLocked(want state.Request, hint string) (link.Ask, *trust.TAM, error) {
	if a.closed {
		return link.Ask{}, nil, ErrClosed
	}
	key := want.ID.Key()
	if fulfils(a.record, want) {
		if _, was := a.record.Unneeded[key]; !was {
			return link.Ask{}, nil, nil
		}
		return link.Ask{}, nil, a.changeLocked(func(next *state.Record) error {
			delete(next.Unneeded, key)
			return nil
		})
	}
	tam, err := a.chooseLocked(want.ID, hint)
	if err != nil {
		return link.Ask{}, nil, err
	}
	before, again := a.record.Requested[key]
	if !again && len(a.record.Requested) >= a.cfg.Limits.Requests {
		return link.Ask{}, nil, fmt.Errorf("%w: %d components are requested and not installed", ErrLimit, len(a.record.Requested))
	}
	want.TAM = tam.Name
	if !again || before.TAM != want.TAM || before.MinSequence != want.MinSequence {
		err := a.changeLocked(func(next *state.Record) error {
			next.Requested[key] = want
			delete(next.Unneeded, key)
			return nil
		})
		if err != nil {
			return link.Ask{}, nil, err
		}
	}
	ask, err := a.connectLocked(tam)
	return ask, tam, err
}

// chooseLocked decides which TAM is to serve a component: the one that owns it; else the one that
// the hint names, if it is trusted and may; else the first that may. One that failed lately comes
// after those that did not.
func (a *Agent) chooseLocked(id suit.ComponentID, hint string) (*trust.TAM, error) {
	if c, ok := a.record.Components[id.Key()]; ok {
		tam, trusted := a.anchors.TAM(c.Owner)
		if !trusted {
			return nil, fmt.Errorf("%w: it belongs to TAM %q, which is not trusted any longer", ErrNoTAM, c.Owner)
		}
		return tam, nil
	}
	if tam, ok := a.anchors.TAMByURI(hint); ok && hint != "" && tam.MayManage(id) {
		return tam, nil
	}
	var best *trust.TAM
	for i := range a.anchors.TAMs {
		t := &a.anchors.TAMs[i]
		if t.MayManage(id) && (best == nil || a.record.TAMs[t.Name].Failures < a.record.TAMs[best.Name].Failures) {
			best = t
		}
	}
	if best == nil {
		return nil, ErrNoTAM
	}
	return best, nil
}

// unsolicited adds a QueryResponse to an Ask if the three conditions of TEEP §7.2 hold: the TAM's
// last QueryRequest had neither token nor challenge, the transport to it did not fail since, and
// its key is known and not expired.
func (a *Agent) unsolicited(ctx context.Context, ask link.Ask, tam *trust.TAM) (link.Ask, error) {
	t := a.snapshot().TAMs[tam.Name]
	q := t.Query
	if q == nil || !q.Anonymous || t.Failed || tam.MustAttest || !a.keyHolds(tam, q) {
		return ask, nil
	}
	freshness := teep.FreshnessNonce
	if q.Timestamps {
		freshness = teep.FreshnessTimestamp
	}
	known := question{items: teep.DataItem(q.DataItems), profile: profileOf(q.Profile), freshness: freshness, formats: q.Formats}
	w := &appraisal{session: ask.Session, uri: ask.TAMURI, tam: tam.Name, question: known, signer: a.message, unsolicited: true}
	if ask := a.askForResult(ctx, w); ask != nil {
		return *ask, nil
	}
	return a.respondUnsolicited(ctx, ask, tam, known)
}

func (a *Agent) respondUnsolicited(ctx context.Context, ask link.Ask, tam *trust.TAM, known question) (link.Ask, error) {
	r, err := a.response(ctx, tam, known)
	if err != nil {
		// Then the TAM asks again.
		a.log.Info("no unsolicited QueryResponse", "tam", tam.Name, "error", err)
		return ask, nil
	}
	return a.send(ask.Session, ask.TAMURI, r, a.message)
}

// askAgain has TAMs asked first before they get a QueryResponse: what was known of their keys may not hold any
// longer.
func askAgain(next *state.Record, of func(*state.Query) bool) {
	for name, t := range next.TAMs {
		if t.Query == nil || !t.Query.Anonymous || !of(t.Query) {
			continue
		}
		q := *t.Query
		q.Anonymous = false
		t.Query = &q
		next.TAMs[name] = t
	}
}

func anyAnonymous(record *state.Record, of func(*state.Query) bool) bool {
	for _, t := range record.TAMs {
		if t.Query != nil && t.Query.Anonymous && of(t.Query) {
			return true
		}
	}
	return false
}

func (a *Agent) keyHolds(tam *trust.TAM, q *state.Query) bool {
	if !q.KeyExpires.IsZero() {
		return a.now().Before(q.KeyExpires)
	}
	return slices.ContainsFunc(tam.Keys, func(k *cose.Key) bool { return string(k.Thumbprint()) == string(q.Key) })
}

// UnrequestTA implements link.Agent. What is installed stays until its TAM unlinks it, but it is
// not run any longer; the TAM is told, if it is trusted still.
func (a *Agent) UnrequestTA(ctx context.Context, component link.ComponentID) (link.Ask, error) {
	id, err := componentID(component)
	if err != nil {
		return link.Ask{}, err
	}
	a.mu.Lock()
	ask, tam, err := a.unrequestLocked(id)
	a.mu.Unlock()
	if err != nil {
		return link.Ask{}, err
	}
	a.closeReplaced()
	if tam == nil {
		return link.Ask{}, nil
	}
	return a.unsolicited(ctx, ask, tam)
}

func (a *Agent) unrequestLocked(id suit.ComponentID) (link.Ask, *trust.TAM, error) {
	if a.closed {
		return link.Ask{}, nil, ErrClosed
	}
	key := id.Key()
	_, requested := a.record.Requested[key]
	_, already := a.record.Unneeded[key]
	installed := a.record.Installed(id)
	if requested || installed && !already {
		err := a.changeLocked(func(next *state.Record) error {
			delete(next.Requested, key)
			if installed {
				next.Unneeded[key] = id
			}
			return nil
		})
		if err != nil {
			return link.Ask{}, nil, err
		}
	}
	if !installed {
		return link.Ask{}, nil, nil
	}
	tam, trusted := a.anchors.TAM(a.record.Components[key].Owner)
	if !trusted {
		return link.Ask{}, nil, nil
	}
	ask, err := a.connectLocked(tam)
	return ask, tam, err
}

// RequestPolicyCheck implements link.Agent (TEEP §7.2). It names one thing to do at a time, until
// there is none: an Update to go on with, an answer to give without the Attestation Result that did not
// come, an answer that may not have arrived, then each TAM that is due.
func (a *Agent) RequestPolicyCheck(ctx context.Context) (link.Ask, error) {
	if ask, ok, err := a.resume(ctx); ok || err != nil {
		return ask, err
	}
	if ask, ok, err := a.giveUpAppraisal(ctx); ok || err != nil {
		return ask, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return link.Ask{}, ErrClosed
	}
	if ask, err := a.undeliveredLocked(); ask != nil || err != nil {
		return *ask, err
	}
	for i := range a.anchors.TAMs {
		t := &a.anchors.TAMs[i]
		if !a.dueLocked(t) {
			continue
		}
		err := a.changeLocked(func(next *state.Record) error {
			known := next.TAMs[t.Name]
			known.Name, known.LastContact = t.Name, a.now()
			next.TAMs[t.Name] = known
			return nil
		})
		if err != nil {
			return link.Ask{}, err
		}
		a.round[t.Name] = a.now()
		return a.connectLocked(t)
	}
	clear(a.round)
	return link.Ask{}, nil
}

// roundPause is how long a TAM that was named in a round of policy checks is not named again, unless
// the round ends before. A broker that gives a round up ends none.
const roundPause = time.Minute

// undeliveredLocked returns an Ask with a finished answer that the broker did not get, or could
// not deliver.
func (a *Agent) undeliveredLocked() (*link.Ask, error) {
	for _, name := range slices.Sorted(maps.Keys(a.record.TAMs)) {
		t := a.record.TAMs[name]
		tam, trusted := a.anchors.TAM(name)
		if t.Reply == nil || a.handed[name] || !trusted || a.now().Before(t.NotBefore) {
			continue
		}
		ask, err := a.connectLocked(tam)
		if err != nil {
			return &link.Ask{}, err
		}
		return a.replyLocked(ask.Session, ask.TAMURI, name, t.Reply), nil
	}
	return nil, nil
}

// dueLocked tells whether a TAM should be contacted now: after the interval, or sooner if it still
// has to serve a request. The one whose Update is in progress is not disturbed.
func (a *Agent) dueLocked(tam *trust.TAM) bool {
	t := a.record.TAMs[tam.Name]
	now := a.now()
	if now.Before(t.NotBefore) || a.run != nil && a.run.tam.Name == tam.Name {
		return false
	}
	if named, ok := a.round[tam.Name]; ok && now.Sub(named) < roundPause && !now.Before(named) {
		return false
	}
	if t.Failed && t.LastContact.Before(t.NotBefore) {
		return true // the back-off is over, and this is the next attempt
	}
	wait := a.cfg.Policy.Interval
	for _, q := range a.record.Requested {
		if q.TAM == tam.Name {
			const sooner = 24 // once an hour where once a day is the rule
			wait = min(wait, max(a.cfg.Policy.RetryMin, a.cfg.Policy.Interval/sooner))
		}
	}
	// A clock that was set back must not silence the agent for long.
	since := now.Sub(t.LastContact)
	return t.LastContact.IsZero() || since >= wait || since < 0
}

// ProcessError implements link.Agent: the message to the TAM, or the connection, failed. The
// session ends; the TAM is tried again later, at its next URI, and others first.
func (a *Agent) ProcessError(_ context.Context, session uint64, tamURI, reason string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.useSessionLocked(session)
	if err != nil {
		return err
	}
	a.log.Warn("transport to the TAM failed", "tam", s.tam, "uri", s.uri, "reported", brief(tamURI), "reason", brief(reason))
	if !a.busyLocked(s) {
		delete(a.sessions, session)
	}
	if s.delivers {
		delete(a.handed, s.tam)
	}
	return a.changeLocked(func(next *state.Record) error {
		t := next.TAMs[s.tam]
		t.Name, t.Failed = s.tam, true
		t.Failures++
		t.NotBefore = a.now().Add(a.backOff(t.Failures))
		next.TAMs[s.tam] = t
		return nil
	})
}

// backOff doubles with each failure in a row.
func (a *Agent) backOff(failures uint64) time.Duration {
	wait := a.cfg.Policy.RetryMin
	for i := uint64(1); i < failures && wait < a.cfg.Policy.RetryMax; i++ {
		wait *= 2
	}
	return min(wait, a.cfg.Policy.RetryMax)
}

package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/link"
)

const (
	// maxPassport bounds an Attestation Result that a TAM passes back, in bytes.
	maxPassport = 16 << 10
	// rememberedUpdates is how many finished Updates of a TAM are told from new ones.
	rememberedUpdates = 128
)

var (
	errBusy = teep.NewProtocolError(teep.ErrTemporaryError, "another Update is in progress; send this one again later", nil)
	// errSuperseded ends an Update in favour of another one.
	errSuperseded = errors.New("agent: another Update took its place")
)

// acceptUpdate handles an Update (TEEP §7.2.2). The answer comes only after the work is done: if
// the work needs the world outside, the Ask for that comes first.
//
// An Update that nobody asked for is as good as any other: the TAM may know what it wants. One that
// was finished before is a replay, which sequence numbers catch only in part (an uninstall has
// none); it is answered with the answer it had, if that may have been lost, and refused otherwise.
func (a *Agent) acceptUpdate(ctx context.Context, m *received, u *teep.Update) (*link.Ask, teep.Message, error) {
	if !slices.ContainsFunc(a.suites(), m.opened.Suite.Equal) || m.opened.Multiple {
		return nil, nil, a.wrongSuite("an Update has to be of the selected cipher suite")
	}
	if err := a.checkAttested(m); err != nil {
		return nil, nil, err
	}
	id := updateID(m.raw)
	if ask, err := a.replayed(m, id); ask != nil || err != nil {
		return ask, nil, err
	}
	switch {
	case len(u.Manifests) > a.cfg.Limits.Manifests, len(u.UnneededManifests) > a.cfg.Limits.Manifests:
		text := fmt.Sprintf("more than %d manifests in one Update", a.cfg.Limits.Manifests)
		return nil, nil, teep.NewProtocolError(teep.ErrPermanentError, text, nil)
	}
	if u.ErrorCode == teep.ErrAttestationRequired {
		a.resultRefused(m.session, m.tam.Name)
	}
	if err := a.noteUpdate(m.tam.Name, u); err != nil {
		return nil, nil, err
	}
	if len(u.Manifests)+len(u.UnneededManifests) == 0 {
		return nil, &teep.Success{Token: u.Token}, nil
	}
	r, err := a.start(ctx, m, u, id)
	if err != nil {
		return nil, nil, err
	}
	ask, err := a.wait(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return &ask, nil, nil
}

func updateID(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:16]
}

// replayed answers an Update that was finished before.
func (a *Agent) replayed(m *received, id []byte) (*link.Ask, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.record.TAMs[m.tam.Name]
	i := slices.IndexFunc(t.Updates, func(done []byte) bool { return slices.Equal(done, id) })
	switch {
	case i < 0:
		return nil, nil
	case i == len(t.Updates)-1 && t.Reply != nil:
		return a.replyLocked(m.session, m.uri, m.tam.Name, t.Reply), nil
	}
	return nil, teep.NewProtocolError(teep.ErrPermanentError, "this Update was processed before", nil)
}

// replyLocked hands a finished reply to the broker.
func (a *Agent) replyLocked(session uint64, uri, tam string, reply []byte) *link.Ask {
	if s, ok := a.sessions[session]; ok {
		s.delivers = true
	}
	a.handed[tam] = true
	return &link.Ask{Session: session, TAMURI: uri, Message: reply}
}

// noteUpdate keeps what an Update says beside its manifests: the Attestation Result that comes
// back (TEEP §4.4), and an error with the last QueryResponse, which decides when to try again
// (TEEP §4.6).
func (a *Agent) noteUpdate(name string, u *teep.Update) error {
	passport := u.AttestationPayload != nil && u.ErrorCode == 0 && len(u.AttestationPayload) <= maxPassport
	if !passport && u.ErrorCode == 0 {
		return nil
	}
	if u.ErrorCode != 0 {
		a.log.Warn("the TAM reports an error", "tam", name, "code", u.ErrorCode.String(), "text", brief(u.ErrorMessage), "language", u.ErrorLanguage)
	}
	now := a.now()
	return a.change(func(next *state.Record) error {
		t := next.TAMs[name]
		t.Name = name
		if passport {
			t.Passport = &state.Passport{Format: u.AttestationFormat, Result: u.AttestationPayload, Received: now}
		}
		switch u.ErrorCode {
		case 0:
		case teep.ErrAttestationRequired:
			// If it was a passport that did not satisfy, it will not next time either.
			t.Passport = nil
			t.NotBefore = now.Add(a.cfg.Policy.RetryMin)
		case teep.ErrPermanentError:
			t.NotBefore = now.Add(a.cfg.Policy.RetryMax)
		default:
			t.NotBefore = now.Add(a.cfg.Policy.RetryMin)
		}
		next.TAMs[name] = t
		return nil
	})
}

// start makes an Update the one in progress: it is written down before it is begun.
func (a *Agent) start(ctx context.Context, m *received, u *teep.Update, id []byte) (*run, error) {
	for {
		r, wait, err := a.claim(m, u, id)
		if err != nil || r != nil {
			return r, err
		}
		// Another Update gives way; it stops at its next step.
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// claim starts the Update, or joins the run that has it already, or tells another run to give
// way and returns its end to wait for.
func (a *Agent) claim(m *received, u *teep.Update, id []byte) (*run, <-chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, nil, ErrClosed
	}
	r := newRun(a, m, m.session, u, id)
	if now := a.run; now != nil {
		if now.tam.Name == m.tam.Name && slices.Equal(now.id, id) {
			now.session = m.session
			return now, nil, nil
		}
		if now.exchange.stalled(a.now()) <= a.patience(now.tam.Name == m.tam.Name) {
			return nil, nil, errBusy
		}
		a.log.Warn("a stalled Update gives way to another", "tam", now.tam.Name, "to", m.tam.Name)
		now.cancel(errSuperseded)
		return nil, now.ended, nil
	}
	if p := a.record.Pending; p != nil {
		if p.TAM != m.tam.Name && a.now().Sub(p.Since) <= a.cfg.Limits.UpdateStall {
			return nil, nil, errBusy
		}
		if sha256.Sum256(m.raw) != p.Message.SHA256 {
			if err := a.changeLocked(func(next *state.Record) error { next.Pending = nil; return nil }); err != nil {
				return nil, nil, err
			}
		}
	}
	if a.record.Pending == nil {
		if err := a.writeDownLocked(m); err != nil {
			return nil, nil, err
		}
	}
	a.beginLocked(r)
	return r, nil, nil
}

// patience is how long a fetch of the Update in progress may have been with the broker when
// another Update comes: a TAM that sends its next one has given up on the last.
func (a *Agent) patience(sameTAM bool) time.Duration {
	if sameTAM {
		return a.cfg.Limits.FetchStall
	}
	return a.cfg.Limits.UpdateStall
}

// writeDownLocked makes the message durable and pending. Before, it removes blobs that the record
// does not name, unless they are of Updates of the same TAM that failed: what this Update finds by
// digest without fetching it is thus its own, and nobody else's.
func (a *Agent) writeDownLocked(m *received) error {
	a.dropBinaryLocked() // sweeping would take what it is written to
	const patience = 4
	if a.leftover != m.tam.Name || a.failures > patience {
		named := a.record.Blobs()
		if err := a.store.Sweep(func(sum [32]byte) bool { return named[sum] }); err != nil {
			return fmt.Errorf("agent: sealed state: %w", err)
		}
		a.leftover, a.failures = "", 0
	}
	w, err := a.store.CreateBlob()
	if err != nil {
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	if _, err := w.Write(m.raw); err != nil {
		return errors.Join(fmt.Errorf("agent: sealed state: %w", err), w.Abort())
	}
	sum, size, err := w.Commit()
	if err != nil {
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	return a.changeLocked(func(next *state.Record) error {
		next.Pending = &state.Pending{Message: state.Content{SHA256: sum, Size: size}, TAM: m.tam.Name, Since: a.now()}
		return nil
	})
}

func (a *Agent) beginLocked(r *run) {
	a.dropBinaryLocked()
	a.run = r
	a.running.Add(1)
	go r.process()
}

// wait returns what the Update in progress asks for next.
func (a *Agent) wait(ctx context.Context, r *run) (link.Ask, error) {
	ask, err := r.exchange.next(ctx, a.now)
	if err != nil {
		return link.Ask{}, err
	}
	return a.hand(r, ask)
}

// hand completes an ask of a run with the session that it is for.
func (a *Agent) hand(r *run, ask link.Ask) (link.Ask, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case ask.Fetch != nil:
		ask.Session = r.session
		return ask, nil
	case ask.Message != nil:
		uri := r.tam.URIs[0]
		if s, ok := a.sessions[r.session]; ok {
			uri = s.uri
		}
		return *a.replyLocked(r.session, uri, r.tam.Name, ask.Message), nil
	case a.closed:
		return link.Ask{}, ErrClosed
	case errors.Is(context.Cause(r.ctx), errTrustReplaced):
		return link.Ask{}, errTrustReplaced
	}
	return link.Ask{}, errSuperseded
}

// Deliver implements link.Agent.
func (a *Agent) Deliver(ctx context.Context, c link.Chunk) (link.Ask, error) {
	a.mu.Lock()
	s, err := a.useSessionLocked(c.Session)
	if b := a.binary; err == nil && b != nil && b.session == s.id {
		a.mu.Unlock()
		return a.deliverBinary(ctx, c)
	}
	r := a.run
	if err == nil && (r == nil || r.session != s.id) {
		err = fmt.Errorf("%w: no Update is in progress in this session", ErrFetch)
	}
	a.mu.Unlock()
	if err != nil {
		return link.Ask{}, err
	}
	if err := r.exchange.deliver(c); err != nil {
		return link.Ask{}, err
	}
	return a.wait(ctx, r)
}

// resume goes on with what was begun: it asks again for what the broker never brought, or begins
// the Update again that was pending when the agent was killed. ok is false if there is nothing.
func (a *Agent) resume(ctx context.Context) (ask link.Ask, ok bool, err error) {
	a.mu.Lock()
	r := a.run
	if r != nil {
		a.mu.Unlock()
		if ask, ok = r.exchange.reissue(a.now(), a.cfg.Limits.FetchStall); !ok {
			return link.Ask{}, false, nil
		}
		ask, err = a.hand(r, ask)
		return ask, true, err
	}
	r, err = a.reviveLocked()
	a.mu.Unlock()
	if err != nil || r == nil {
		return link.Ask{}, false, err
	}
	ask, err = a.wait(ctx, r)
	return ask, true, err
}

// reviveLocked begins the pending Update again. It is validated anew: its TAM may not be trusted
// any longer. What cannot be begun is dropped, and the TAM will ask how things are.
func (a *Agent) reviveLocked() (*run, error) {
	p := a.record.Pending
	if p == nil || a.closed {
		return nil, nil
	}
	m, u, err := a.pendingLocked(p)
	if err == nil && p.Attempts >= a.cfg.Limits.Attempts {
		err = fmt.Errorf("begun %d times and never finished", p.Attempts)
	}
	if err != nil {
		a.log.Error("pending Update dropped", "tam", p.TAM, "error", err)
		return nil, a.changeLocked(func(next *state.Record) error { next.Pending = nil; return nil })
	}
	s, err := a.openSessionLocked(m.tam.Name, m.tam.URIs[0])
	if err != nil {
		return nil, err
	}
	if err := a.changeLocked(func(next *state.Record) error { next.Pending.Attempts++; return nil }); err != nil {
		return nil, err
	}
	a.log.Info("pending Update goes on", "tam", m.tam.Name, "attempt", p.Attempts+1)
	r := newRun(a, m, s.id, u, updateID(m.raw))
	a.beginLocked(r)
	return r, nil
}

func (a *Agent) pendingLocked(p *state.Pending) (*received, *teep.Update, error) {
	blob, err := a.store.OpenBlob(p.Message.SHA256)
	if err != nil {
		return nil, nil, err
	}
	defer blob.Close()
	raw, err := io.ReadAll(io.LimitReader(blob, int64(a.cfg.Limits.Message)+1))
	if err != nil {
		return nil, nil, err
	}
	keys := a.anchors.TAMKeys(a.now(), a.crls)
	opened, err := teep.Open(raw, keys, a.openOptions())
	if err != nil {
		return nil, nil, err
	}
	tam, expires, ok := keys.Sender(opened.Key)
	u, isUpdate := opened.Message.(*teep.Update)
	if !ok || !isUpdate || tam.Name != p.TAM {
		return nil, nil, ErrUntrusted
	}
	return &received{raw: raw, opened: opened, tam: tam, expires: expires, signer: a.signerFor(opened.Algorithm)}, u, nil
}

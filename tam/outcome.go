package tam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// success handles a Success: what the Update ordered is done (TEEP §7.1.2).
func (t *TAM) success(ctx context.Context, s *sender, m *teep.Success) ([]byte, error) {
	return t.outcome(ctx, s, m.Token, m.SUITReports, func(d *Device, p PendingUpdate, reports []*suit.Report) (EventKind, string) {
		now := t.clock()
		failed := failedReports(reports)
		var done []string
		for _, i := range p.Offered {
			// A Success with a report of a failure contradicts itself: the report decides.
			if r := failed[string(p.reportedDigest(i))]; r != nil {
				d.recordFailure(i.Manifest, i.Sequence, now, t.policy.PermanentPause, describeFailure(r))
				d.progress(i, policy.ProgressFailed, now)
				continue
			}
			d.setInstalled(i)
			d.settle(p, i.Manifest)
			d.clearFailure(i.Manifest, i.Sequence)
			d.progress(i, policy.ProgressSucceeded, now)
			done = append(done, fmt.Sprintf("installed %v sequence number %d", i.Manifest, i.Sequence))
		}
		for _, id := range p.Unlinked {
			d.setRemoved(id)
			d.dropDelivery(id)
			d.clearFailure(id, 0)
			done = append(done, fmt.Sprintf("removed %v", id))
		}
		return EventSucceeded, strings.Join(done, ", ")
	})
}

// agentError handles an Error whose signature holds.
func (t *TAM) agentError(ctx context.Context, s *sender, m *teep.Error) ([]byte, error) {
	t.logAgentError(ctx, s, m)
	if m.Token != nil {
		if _, err := t.tokens.check(ctx, m.Token, purposeUpdate, s.key.Thumbprint()); err == nil {
			reply, err := t.updateFailed(ctx, s, m)
			if err != nil || m.Code != teep.ErrAttestationRequired {
				return reply, err
			}
			// Nothing failed. The agent wants to know first who sends it Updates.
			return t.negotiate(ctx, s, s.key.Thumbprint(), m)
		}
		tok, err := t.tokens.check(ctx, m.Token, purposeQuery, nil)
		if err != nil {
			return t.drop(ctx, s, "Error without a request of this TAM", err)
		}
		err = t.useUp(ctx, s, answered{consume: Consumption{ID: tok.id, Expires: tok.expires}})
		if errors.Is(err, ErrConsumed) {
			return t.drop(ctx, s, "replayed", err)
		}
		if err != nil {
			return nil, err
		}
	}
	// An answer to a QueryRequest. Without a token nothing in it is fresh, so nothing of it is stored.
	return t.negotiate(ctx, s, s.key.Thumbprint(), m)
}

// logAgentError gives operators what the agent says. ERR_BAD_CERTIFICATE and
// ERR_CERTIFICATE_EXPIRED concern the TAM's own keys, which only they can renew.
func (t *TAM) logAgentError(ctx context.Context, s *sender, m *teep.Error) {
	level := slog.LevelWarn
	if m.Code == teep.ErrBadCertificate || m.Code == teep.ErrCertificateExpired {
		level = slog.LevelError
	}
	agent := "unknown"
	if s != nil {
		agent = DeviceID(s.key.Thumbprint())
	}
	t.log.LogAttrs(ctx, level, "agent reports an error", slog.String("agent", agent),
		slog.String("code", m.Code.String()), slog.String("msg", m.Message), slog.String("lang", m.Language))
}

// updateFailed handles an Error that answers an Update: what failed is not offered to the device
// again for a while, everything else stays on offer (TEEP §4.6).
func (t *TAM) updateFailed(ctx context.Context, s *sender, m *teep.Error) ([]byte, error) {
	return t.outcome(ctx, s, m.Token, m.SUITReports, func(d *Device, p PendingUpdate, reports []*suit.Report) (EventKind, string) {
		now := t.clock()
		pause := t.pause(m.Code)
		why := m.Code.String()
		if m.Message != "" {
			why += ": " + m.Message
		}
		failed := failedReports(reports)
		for _, i := range p.Offered {
			digest := p.reportedDigest(i)
			r := failed[string(digest)]
			switch {
			case r != nil:
				d.recordFailure(i.Manifest, i.Sequence, now, pause, describeFailure(r))
			case succeeded(reports, digest):
				d.setInstalled(i)
				d.settle(p, i.Manifest)
				d.clearFailure(i.Manifest, i.Sequence)
				d.progress(i, policy.ProgressSucceeded, now)
				continue
			case len(failed) == 0 && pause > 0:
				// Nothing says which one it was.
				d.recordFailure(i.Manifest, i.Sequence, now, pause, why)
			default:
				continue
			}
			// What the device calls temporary says nothing about the version.
			if m.Code != teep.ErrTemporaryError {
				d.progress(i, policy.ProgressFailed, now)
			}
		}
		if len(p.Offered) == 0 && pause > 0 {
			for _, id := range p.Unlinked {
				d.recordFailure(id, 0, now, pause, why)
			}
		}
		return EventFailed, why
	})
}

// pause is how long what failed with that code is held back (TEEP §4.6): long where nothing suggests
// that it will go better soon, shortly where the agent calls it temporary, not at all where it is
// the TAM that has to do something else first.
func (t *TAM) pause(code teep.ErrorCode) time.Duration {
	switch code {
	case teep.ErrTemporaryError:
		return t.policy.TemporaryPause
	case teep.ErrAttestationRequired:
		return 0
	}
	return t.policy.PermanentPause
}

// outcome handles what answers an Update: it finds the Update by its token, uses the token up, and
// stores what apply makes of it. The agent gets no answer.
func (t *TAM) outcome(ctx context.Context, s *sender, b []byte, encoded [][]byte, apply func(*Device, PendingUpdate, []*suit.Report) (EventKind, string)) ([]byte, error) {
	if s.device == nil {
		return t.drop(ctx, s, "answer to an Update from an unknown device", nil)
	}
	tok, err := t.tokens.check(ctx, b, purposeUpdate, s.key.Thumbprint())
	if err != nil {
		return t.drop(ctx, s, "answer without an Update of this TAM", fmt.Errorf("token: %w", err))
	}
	reports, err := t.readReports(s, encoded, b)
	if err != nil {
		return t.drop(ctx, s, "SUIT Report not acceptable", err)
	}
	if s.device.pending(tok.id) < 0 {
		// Another replica may have sent the Update since the record was read.
		if s.device, _, err = t.devices.refresh(ctx, s.key.Thumbprint()); err != nil {
			return nil, fmt.Errorf("tam: looking up a device: %w", err)
		}
	}
	for range 3 {
		d := s.device
		n := d.pending(tok.id)
		if n < 0 {
			// Agents repeat an answer of which they do not know that it arrived: no cause for alarm.
			t.log.InfoContext(ctx, "message ignored: replayed, or an answer to an Update that gave way to newer ones", "device", d.ID)
			return nil, nil
		}
		p := d.Pending[n]
		d.Pending = append(d.Pending[:n:n], d.Pending[n+1:]...)
		if p.Key != nil {
			d.TAMKey = p.Key // who answers an Update knows the key that signed it
		}
		kind, detail := apply(d, p, reports)
		d.LastSeen = t.clock()
		err := t.store.CommitExchange(ctx, d.exchange(&Event{DeviceID: d.ID, At: d.LastSeen, Kind: kind, Detail: detail}))
		if err == nil {
			d.counts = nil
			t.devices.put(d, s.key)
			s.stored = d.ID
			if o := t.outcomeOf(ctx); o != nil {
				o.Event = kind
			}
			t.log.InfoContext(ctx, "update answered", "device", d.ID, "outcome", string(kind), "detail", detail)
			return nil, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, fmt.Errorf("tam: storing an exchange: %w", err)
		}
		if s.device, _, err = t.devices.refresh(ctx, s.key.Thumbprint()); err != nil {
			return nil, fmt.Errorf("tam: looking up a device: %w", err)
		}
	}
	return nil, fmt.Errorf("tam: device %s: %w", s.device.ID, ErrConflict)
}

// failedReports indexes the reports of failures by the digest of the manifest.
func failedReports(reports []*suit.Report) map[string]*suit.Report {
	failed := make(map[string]*suit.Report)
	for _, r := range reports {
		if r.Failure != nil {
			failed[string(r.Reference.Digest.Bytes)] = r
		}
	}
	return failed
}

func succeeded(reports []*suit.Report, digest []byte) bool {
	for _, r := range reports {
		if r.Failure == nil && bytes.Equal(r.Reference.Digest.Bytes, digest) {
			return true
		}
	}
	return false
}

func describeFailure(r *suit.Report) string {
	f := r.Failure
	return fmt.Sprintf("%v in %v at offset %d, component %d", f.Reason, f.Record.Section, f.Record.Offset, f.Record.ComponentIndex)
}

// readReports opens SUIT Reports and checks their nonce against the token of the message that they
// answer, where it had one (TEEP §7.1.1, §7.1.2).
func (t *TAM) readReports(s *sender, encoded [][]byte, token []byte) ([]*suit.Report, error) {
	reports := make([]*suit.Report, 0, len(encoded))
	for i, data := range encoded {
		r, err := t.openReport(s, data)
		if err != nil {
			return nil, fmt.Errorf("SUIT Report %d: %w", i, err)
		}
		if token != nil && !bytes.Equal(r.Nonce, token) {
			return nil, fmt.Errorf("SUIT Report %d: nonce is not the token of the message that it answers", i)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

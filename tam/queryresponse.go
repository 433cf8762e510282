package tam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// answered is what a QueryResponse answers: the request that the token or challenge stands for.
type answered struct {
	items   teep.DataItem
	nonce   []byte // expected in the attestation payload; nil: freshness by timestamp
	token   []byte // of the QueryRequest; nil when it had a challenge
	consume Consumption
	// timestamped says that the payload is fresh by its timestamp, and what is used up is open yet.
	timestamped bool
	// resultOnly says that the payload must be an Attestation Result: that its nonce was used up
	// says nothing against it, as it would against Evidence.
	resultOnly bool
}

// queryResponse handles a QueryResponse whose signature holds (TEEP §7.1.1).
func (t *TAM) queryResponse(ctx context.Context, s *sender, m *teep.QueryResponse) ([]byte, error) {
	a, err := t.matchRequest(ctx, s, m)
	if err != nil {
		return t.drop(ctx, s, "QueryResponse without a request of this TAM", err)
	}
	err = teep.CheckQueryResponse(&teep.QueryRequest{Token: a.token, DataItems: a.items}, m)
	if err == nil {
		_, err = t.readReports(s, m.SUITReports, a.token)
	}
	if err != nil {
		u := teep.AsUpdate(err)
		if protocol := (*teep.ProtocolError)(nil); !errors.As(err, &protocol) {
			u.ErrorCode, u.ErrorMessage = teep.ErrPermanentError, err.Error()
		}
		return t.refuse(ctx, s, a, u.ErrorCode, u.ErrorMessage, err)
	}
	t.logFormats(ctx, s, m)
	t.noteKey(s, m.Extensions)
	// Two messages of one device may race. The loser looks at the device anew; if what it lost
	// to was the same message, its challenge is used up now.
	for range 3 {
		reply, err := t.answer(ctx, s, m, a)
		if errors.Is(err, ErrConsumed) {
			presented, ok := t.presented(s)
			if !ok || a.timestamped || a.token != nil {
				return t.drop(ctx, s, "replayed", err)
			}
			// The challenge was answered with the Evidence that this result is about.
			if err := t.lookAgain(ctx, s); err != nil {
				return nil, err
			}
			a = presented
			continue
		}
		if !errors.Is(err, ErrConflict) {
			return reply, err
		}
		if err := t.lookAgain(ctx, s); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("tam: device %s: %w", DeviceID(s.key.Thumbprint()), ErrConflict)
}

// lookAgain reads the sender's newest record.
func (t *TAM) lookAgain(ctx context.Context, s *sender) (err error) {
	s.device, _, err = t.devices.refresh(ctx, s.key.Thumbprint())
	if errors.Is(err, ErrNotFound) {
		s.device, err = nil, nil // what changed was the record that it would have taken the place of
	}
	if err != nil {
		return fmt.Errorf("tam: looking up a device: %w", err)
	}
	return nil
}

// matchRequest finds out which QueryRequest is answered, from the token in the message or the
// challenge in the attestation payload.
func (t *TAM) matchRequest(ctx context.Context, s *sender, m *teep.QueryResponse) (answered, error) {
	if m.Token != nil {
		tok, err := t.tokens.check(ctx, m.Token, purposeQuery, nil)
		s.asked = tok.issued
		return answered{
			items: teep.DataItem(tok.request), nonce: m.Token, token: m.Token,
			consume: Consumption{ID: tok.id, Expires: tok.expires},
		}, err
	}
	if s.payload.nonce != nil {
		tok, err := t.tokens.check(ctx, s.payload.nonce, purposeChallenge, nil)
		if presented, ok := t.presented(s); err != nil && ok {
			return presented, nil
		}
		s.asked = tok.issued
		return answered{
			items: teep.DataItem(tok.request), nonce: s.payload.nonce,
			consume: Consumption{ID: tok.id, Expires: tok.expires},
		}, err
	}
	if !t.policy.AcceptTimestamps || s.payload.data == nil {
		return answered{}, errors.New("neither token nor challenge")
	}
	// Fresh by timestamp: what is used up shows when it is known whether it is Evidence.
	return answered{items: teep.DataAttestation | t.policy.items(), timestamped: true}, nil
}

// usedOnce is what a payload that is fresh by its timestamp uses up. Evidence counts once. An
// Attestation Result is a passport that is shown more than once: there it is the message that counts
// once. The verifier bounds their age, after which they need no remembering.
func (t *TAM) usedOnce(s *sender, evidence bool) Consumption {
	if !evidence {
		return Consumption{ID: s.message(), Expires: t.clock().Add(2 * t.policy.MaxResultAge)}
	}
	sum := sha256.Sum256(s.payload.data)
	return Consumption{ID: [16]byte(sum[:16]), Expires: t.clock().Add(2 * t.policy.MaxEvidenceAge)}
}

// presented is the reading of a message whose payload may be an Attestation Result that the agent was
// given before: whatever nonce is in it, it is fresh by its timestamp (RFC 9334 §10).
func (t *TAM) presented(s *sender) (answered, bool) {
	if !t.policy.AcceptTimestamps || s.payload.data == nil || t.results == nil || !t.results.Accepts(s.payload.format) {
		return answered{}, false
	}
	return answered{items: teep.DataAttestation | t.policy.items(), timestamped: true, resultOnly: true}, true
}

// answer appraises, decides, and commits everything as one step.
func (t *TAM) answer(ctx context.Context, s *sender, m *teep.QueryResponse, a answered) ([]byte, error) {
	now := t.clock()
	var result *attest.Result
	wasEvidence := false
	d := s.device
	if s.payload.data != nil {
		var err error
		if result, wasEvidence, err = t.appraise(ctx, s, a); err == nil {
			d, err = t.attested(s, result, now)
		}
		if a.timestamped {
			a.consume = t.usedOnce(s, wasEvidence)
		}
		if a.resultOnly && errors.Is(err, attest.ErrUntrusted) {
			// Evidence that was used up, or the result of a stranger.
			return t.drop(ctx, s, "replayed", err)
		}
		if err != nil {
			return t.attestationFailed(ctx, s, a, attestationFault(err), err)
		}
		if !t.good(result.Status) {
			s.device = d
			return t.attestationFailed(ctx, s, a, "attestation: "+describeReasons(result), fmt.Errorf("appraisal: %v", result.Status))
		}
	}
	if d == nil || !t.good(d.Attestation.Status) || now.Sub(d.Attestation.At) > t.policy.ReattestAfter {
		if err := t.useUp(ctx, s, a); err != nil {
			return nil, err
		}
		return t.queryRequest(ctx, query{signers: t.suite(s), attested: true})
	}
	if !d.served() { // since the message was opened
		return t.drop(ctx, s, string(d.Status), errNotServed)
	}
	if err := t.admit(ctx, s, d); err != nil {
		return nil, err
	}
	if !d.served() {
		return t.drop(ctx, s, string(d.Status), errNotServed)
	}
	if d.Status == DevicePending {
		if err := t.commit(ctx, s, a, d, EventAttested, "waits to be accepted by an operator"); err != nil {
			return nil, err
		}
		t.log.InfoContext(ctx, "device is pending", "device", d.ID)
		return nil, nil
	}
	return t.bringToState(ctx, s, m, a, d, result, wasEvidence)
}

// describeReasons names the claims that spoiled an appraisal.
func describeReasons(r *attest.Result) string {
	var bad []string
	for _, reason := range r.Reasons {
		if reason.Status != attest.StatusAffirming && reason.Status != attest.StatusNone {
			bad = append(bad, reason.Claim+": "+reason.Text)
		}
	}
	if len(bad) == 0 {
		return r.Status.String()
	}
	return strings.Join(bad, "; ")
}

// bringToState decides what an attested device must change and says so in an Update; a device that
// is as it should be gets no answer (TEEP §7.1.1.1, cases 2 and 3).
func (t *TAM) bringToState(ctx context.Context, s *sender, m *teep.QueryResponse, a answered, d *Device, result *attest.Result, wasEvidence bool) ([]byte, error) {
	now := t.clock()
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return nil, err
	}
	if m.TrustedComponents != nil {
		reported, err := readTrustedComponents(m.TrustedComponents)
		if err != nil {
			return t.refuse(ctx, s, a, teep.ErrPermanentError, err.Error(), err)
		}
		var attested []attest.Component
		if result != nil {
			attested = result.Components
		}
		d.Inventory = c.inventory(d.Inventory, reported, attested)
		d.forgetDeliveries()
	}
	d.LastSeen = now
	if s.tamKey != nil {
		d.TAMKey = s.tamKey
	}
	if d.deliveries, err = t.deliveries(ctx, c, d); err != nil {
		return nil, err
	}
	d.noteRollouts(now)
	plan := decide(c, d, wishes{m.RequestedComponents, t.developersUnneeded(m.UnneededManifests)}, now)
	d.enterRollouts(&standing{catalogue: c, device: d, now: now}, plan)
	for _, note := range plan.notes {
		t.log.InfoContext(ctx, "not done", "device", d.ID, "why", note)
	}
	u := &teep.Update{}
	if wasEvidence && t.policy.PassResults && result.Token != nil {
		u.AttestationFormat, u.AttestationPayload = passportFormat(result.MediaType), result.Token
	}
	if plan.empty() && u.AttestationPayload == nil {
		err := t.commit(ctx, s, a, d, EventAttested, "nothing to change")
		return nil, err
	}
	if err := t.fillUpdate(ctx, u, plan); err != nil {
		return nil, err
	}
	t.wrapUpdate(u, d)
	signer, err := t.signerFor(s)
	if err != nil {
		return nil, err
	}
	if err := t.promise(ctx, u, s, d, plan, signer); err != nil {
		return nil, err
	}
	reply, err := t.signWith(u, signer)
	if err != nil {
		return nil, err
	}
	if err := t.commit(ctx, s, a, d, EventUpdateSent, plan.describe()); err != nil {
		return nil, err
	}
	t.log.InfoContext(ctx, "update sent", "device", d.ID, "what", plan.describe())
	return reply, nil
}

// passportFormat is the attestation-payload-format of a result: absent when it is the default.
func passportFormat(mediaType string) string {
	if teep.IsEATFormat(mediaType) {
		return ""
	}
	return mediaType
}

// promise gives the Update its token, and the device the record of it.
func (t *TAM) promise(ctx context.Context, u *teep.Update, s *sender, d *Device, plan decision, signer cose.Signer) error {
	b, tok, err := t.tokens.issue(ctx, purposeUpdate, 0, s.key.Thumbprint())
	if err != nil {
		return err
	}
	u.Token = b
	p := PendingUpdate{Token: tok.id, Expires: tok.expires, Unlinked: plan.unlink, Key: signer.Public().Thumbprint()}
	for _, s := range plan.install {
		p.Offered = append(p.Offered, s.version.installed())
	}
	d.noteDeliveries(&p, plan.install)
	d.addPending(p, t.clock())
	return nil
}

// describe says what an Update does, for the history.
func (d *decision) describe() string {
	var parts []string
	for _, s := range d.install {
		parts = append(parts, fmt.Sprintf("install %v sequence number %d", s.version.Manifest, s.version.Sequence))
	}
	for _, id := range d.unlink {
		parts = append(parts, fmt.Sprintf("remove %v", id))
	}
	if parts == nil {
		return "Attestation Result passed on"
	}
	return strings.Join(parts, ", ")
}

// commit uses up the token or challenge, and stores the device and an entry of its history.
func (t *TAM) commit(ctx context.Context, s *sender, a answered, d *Device, kind EventKind, detail string) error {
	x := d.exchange(&Event{DeviceID: d.ID, At: t.clock(), Kind: kind, Detail: s.note + detail})
	x.Consume, x.Replaced = &a.consume, s.replaced
	err := t.store.CommitExchange(ctx, x)
	if err == nil {
		d.counts = nil
		t.devices.put(d, s.key)
		s.stored = d.ID
		if o := t.outcomeOf(ctx); o != nil {
			o.Event = kind
		}
		t.devices.forget(s.replaced)
	}
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrConsumed) {
		return fmt.Errorf("tam: storing an exchange: %w", err)
	}
	return err
}

// attestationFailed answers a device that could not prove to be healthy: with the updates that may
// heal it and what emergency removals take, or with ERR_ATTESTATION_REQUIRED (TEEP §7.1.1.1, case 1). A known device's record tells
// of it. A stranger leaves no trace in the store: anybody can be one.
func (t *TAM) attestationFailed(ctx context.Context, s *sender, a answered, text string, cause error) ([]byte, error) {
	d := s.device
	if errors.Is(cause, attest.ErrNotFresh) {
		d = nil // anybody can send what a device said long ago: its record stays as it is
	}
	heal, err := t.healing(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, note := range heal.notes {
		t.log.InfoContext(ctx, "not done", "agent", DeviceID(s.key.Thumbprint()), "why", note)
	}
	signer, err := t.signerFor(s)
	if err != nil {
		return nil, err
	}
	u := &teep.Update{}
	if heal.empty() {
		u.ErrorCode = teep.ErrAttestationRequired
		u.ErrorMessage = teep.NetUnicode(text)
	} else if err := t.fillUpdate(ctx, u, heal); err != nil {
		return nil, err
	}
	if d != nil {
		t.wrapUpdate(u, d)
		if !heal.empty() {
			if err := t.promise(ctx, u, s, d, heal, signer); err != nil {
				return nil, err
			}
		}
		d.LastSeen = t.clock()
		if t.good(d.Attestation.Status) {
			d.dropRollouts(d.LastSeen)
			d.Attestation.Status = attest.StatusContraindicated
			d.Attestation.Reasons = []attest.Reason{{Claim: "attestation", Status: attest.StatusContraindicated, Text: text}}
		}
		if err := t.commit(ctx, s, a, d, EventAttestationFailed, text); err != nil {
			return nil, err
		}
	}
	if d == nil {
		if err := t.useUp(ctx, s, a); err != nil {
			return nil, err
		}
	}
	t.log.LogAttrs(ctx, slog.LevelWarn, "attestation failed", slog.String("agent", DeviceID(s.key.Thumbprint())),
		slog.String("reason", text), slog.Any("err", cause), slog.Int("healing", len(heal.install)), slog.Int("removing", len(heal.unlink)))
	return t.signWith(u, signer)
}

// useUp uses up the token or challenge of a QueryResponse that changes no record: the first answer is
// the last one, whatever became of it (TEEP §7.1). What a stranger answers is not remembered, for anybody
// can be one; nor is a payload that is fresh by its timestamp before it is known to be good.
func (t *TAM) useUp(ctx context.Context, s *sender, a answered) error {
	if s.device == nil || a.timestamped {
		return nil
	}
	err := t.store.CommitExchange(ctx, Exchange{Consume: &a.consume})
	if err != nil && !errors.Is(err, ErrConsumed) {
		return fmt.Errorf("tam: using up a token: %w", err)
	}
	return err
}

// refuse answers a QueryResponse that is authentic and not as it must be with an Update that says
// so (TEEP §7.1.1). It has no token: nothing is expected back.
func (t *TAM) refuse(ctx context.Context, s *sender, a answered, code teep.ErrorCode, text string, cause error) ([]byte, error) {
	if err := t.useUp(ctx, s, a); errors.Is(err, ErrConsumed) {
		return t.drop(ctx, s, "replayed", err)
	} else if err != nil {
		return nil, err
	}
	if _, err := t.drop(ctx, s, "QueryResponse refused", cause); err != nil {
		return nil, err
	}
	return t.sign(&teep.Update{ErrorCode: code, ErrorMessage: teep.NetUnicode(text)}, s)
}

package tam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// sender is who sent the message that is being processed.
type sender struct {
	// key verified the message; alg is that of its cipher suite, which the answer uses too.
	key *cose.Key
	alg cose.Algorithm
	// tamKey is the thumbprint of the key of this TAM that the sender says it knows; nil: it does not say.
	tamKey []byte
	// device is the sender's record, nil when the TAM does not know it yet.
	device *Device
	// payload is what the message carried as attestation-payload.
	payload attestationPayload
	raw     []byte // the message
	// stored is the ID of the device of which something was stored; empty: nothing was. asked is when
	// the QueryRequest was issued that the message answers.
	stored string
	asked  time.Time
	// replaced is the record that a new device takes the place of, and note what is to be said of
	// its admission in its history.
	replaced *Device
	note     string
}

// message identifies a message by what its sender signed and the first half of the signature. The
// second half of an ECDSA signature can be changed by anybody without making it invalid, and so
// can the unprotected header.
func (s *sender) message() [16]byte {
	h := sha256.New()
	if payload, err := cose.UnverifiedPayload(s.raw); err == nil {
		h.Write(payload)
	}
	var parts []cbor.RawMessage
	var signature []byte
	message := s.raw
	if message[0]>>5 == 6 {
		var tag cbor.RawTag
		if cbor.Unmarshal(message, &tag) == nil {
			message = tag.Content
		}
	}
	// A message of another shape was not verified, and a COSE_Sign has its signatures deeper down.
	if cbor.Unmarshal(message, &parts) == nil && len(parts) == 4 && cbor.Unmarshal(parts[3], &signature) == nil {
		h.Write(signature[:len(signature)/2])
	}
	return [16]byte(h.Sum(nil)[:16])
}

// ProcessTeepMessage handles one message from an agent and returns the answer, which is empty when
// there is nothing to say. Invalid, late, replayed and foreign messages are dropped: logged with the
// reason and answered with nothing (TEEP §7.1). An error means that the TAM could not do its work;
// the message may be sent again.
func (t *TAM) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	if t.observer == nil {
		return t.processMessage(ctx, msg)
	}
	return t.observed(ctx, func(ctx context.Context) ([]byte, error) { return t.processMessage(ctx, msg) })
}

func (t *TAM) processMessage(ctx context.Context, msg []byte) ([]byte, error) {
	keys := &agentKeys{ctx: ctx, tam: t, msg: msg}
	opened, err := teep.Open(msg, keys, teep.OpenOptions{Algorithms: t.keys.Load().accepted})
	if keys.err != nil {
		return nil, keys.err
	}
	if keys.chain != nil {
		return t.drop(ctx, nil, "certificate", keys.chain)
	}
	if err != nil {
		if errors.Is(err, cose.ErrUnknownSigner) {
			return t.strangersMessage(ctx, msg, keys.keyID, err)
		}
		return t.drop(ctx, nil, "invalid", err)
	}
	s := &sender{key: opened.Key, alg: opened.Algorithm, device: keys.device, payload: keys.payload, raw: msg}
	if o := t.outcomeOf(ctx); o != nil {
		o.Type, o.Device = opened.Message.Type(), DeviceID(s.key.Thumbprint())
	}
	if opened.Multiple {
		return t.drop(ctx, s, "invalid", errMultiple)
	}
	if !s.device.served() {
		// An operator may have changed that since the record was read.
		if s.device, _, err = t.devices.refresh(ctx, s.key.Thumbprint()); err != nil {
			return nil, fmt.Errorf("tam: looking up a device: %w", err)
		}
		if !s.device.served() {
			return t.drop(ctx, s, string(s.device.Status), errNotServed)
		}
	}
	arrived := t.clock()
	reply, err := t.process(ctx, s, opened.Message)
	if err == nil {
		t.record(s, arrived, msg, reply)
	}
	return reply, err
}

// process handles a message whose signature holds, of a device that is served.
func (t *TAM) process(ctx context.Context, s *sender, message teep.Message) (reply []byte, err error) {
	switch m := message.(type) {
	case *teep.QueryResponse:
		if m.AttestationPayload != nil && s.payload.data == nil {
			// What cannot be read here cannot be appraised either, which will say why.
			s.payload, err = t.openAttestationPayload(m.AttestationFormat, m.AttestationPayload)
			if err == nil && m.Token == nil {
				err = t.peek(&s.payload) // for the challenge
			}
			if err != nil {
				t.log.DebugContext(ctx, "attestation payload could not be read", "err", err)
			}
		}
		return t.queryResponse(ctx, s, m)
	case *teep.Success:
		return t.success(ctx, s, m)
	case *teep.Error:
		return t.agentError(ctx, s, m)
	}
	return t.drop(ctx, s, "invalid", fmt.Errorf("a %v is not for a TAM", message.Type()))
}

// errMultiple says that an agent did not use one of the suites that it can select (TEEP §8.1).
var errMultiple = errors.New("a COSE_Sign, which is of no cipher suite that a TAM here offers: agents sign with COSE_Sign1")

var errNotServed = errors.New("the operator does not serve this device")

// drop logs why a message is ignored, unless too many are. Causes come from parsers and hold no payload. Where the cause
// is the TAM's own store, the message is not ignored but fails.
func (t *TAM) drop(ctx context.Context, s *sender, reason string, err error) ([]byte, error) {
	if own := (*storeError)(nil); errors.As(err, &own) {
		return nil, own
	}
	if IsUnavailable(err) {
		return nil, err
	}
	if o := t.outcomeOf(ctx); o != nil {
		o.Ignored = reason
	}
	limit := t.strangers
	if s != nil { // so that garbage does not hide what is signed
		limit = t.senders
	}
	withheld, ok := limit.next(t.clock())
	if !ok {
		return nil, nil
	}
	attrs := []slog.Attr{slog.String("reason", reason), slog.Any("err", err)}
	if s != nil {
		attrs = append(attrs, slog.String("agent", DeviceID(s.key.Thumbprint())))
	}
	if withheld > 0 {
		attrs = append(attrs, slog.Int64("not-logged", withheld))
	}
	t.log.LogAttrs(ctx, slog.LevelWarn, "message ignored", attrs...)
	return nil, nil
}

// agentKeys finds the key of a message's sender: the key of a known device by the kid, else the one
// that the attestation payload names in its cnf claim. The latter is only a candidate. Whoever can
// sign with it holds that key; what the key is worth is for the appraisal to say, which binds it
// to the attested device (TEEP §7.1.1.1).
type agentKeys struct {
	ctx context.Context
	tam *TAM
	msg []byte

	keyID   []byte // as claimed
	device  *Device
	payload attestationPayload
	chain   error // the certificate chain is not acceptable
	err     error // the store failed
}

// VerifiersFor implements [cose.KeySource]. The payload of a known device is not looked at here: its
// kid is enough.
func (a *agentKeys) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	a.keyID = h.KeyID()
	candidate, err := a.certifiedKey(h)
	if err != nil {
		a.chain = err
		return nil
	}
	key, err := a.knownKey(a.keyID)
	if key == nil && err == nil {
		if candidate == nil {
			candidate = a.payloadKey()
		}
		if key = candidate; key == nil {
			return nil
		}
		if len(a.keyID) != 32 {
			var known *cose.Key
			if known, err = a.knownKey(key.Thumbprint()); known != nil {
				key = known
			}
		}
	}
	if err != nil {
		a.err = err
		return nil
	}
	v, err := key.VerifierFor(alg)
	if err != nil {
		return nil
	}
	return []cose.Verifier{v}
}

// certifiedKey is the key that the message's certificate chain leads to; nil without a chain.
func (a *agentKeys) certifiedKey(h cose.Headers) (*cose.Key, error) {
	if a.tam.certs == nil {
		return nil, nil
	}
	chain, err := h.X5Chain()
	if err != nil || chain == nil {
		return nil, err
	}
	leaf, err := a.tam.certs.Validate(chain)
	if err != nil {
		return nil, err
	}
	return cose.NewPublicKey(leaf.PublicKey)
}

// knownKey looks the device up; nil when there is none.
func (a *agentKeys) knownKey(thumbprint []byte) (*cose.Key, error) {
	if len(thumbprint) != 32 {
		return nil, nil
	}
	d, key, err := a.tam.devices.get(a.ctx, thumbprint)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tam: looking up a device: %w", err)
	}
	a.device = d
	return key, nil
}

// payloadKey takes the agent's key out of the attestation-payload of a QueryResponse that is not
// verified yet; nil if there is none. No more of the message than that is looked at.
func (a *agentKeys) payloadKey() *cose.Key {
	format, data, err := unverifiedPayload(a.msg)
	if err == nil && data != nil {
		if a.payload, err = a.tam.openAttestationPayload(format, data); err == nil {
			err = a.tam.peek(&a.payload)
		}
	}
	if err != nil {
		a.tam.log.DebugContext(a.ctx, "attestation payload could not be read", "err", err)
	}
	return a.payload.agentKey
}

func unverifiedPayload(msg []byte) (format string, payload []byte, err error) {
	data, err := cose.UnverifiedPayload(msg)
	if err != nil {
		return "", nil, err
	}
	var parts []cbor.RawMessage
	if err := cbor.Unmarshal(data, &parts); err != nil || len(parts) != 2 {
		return "", nil, err // only a QueryResponse of two elements carries one
	}
	var kind teep.MessageType
	if err := cbor.Unmarshal(parts[0], &kind); err != nil || kind != teep.TypeQueryResponse {
		return "", nil, err
	}
	var options struct {
		Payload []byte `cbor:"7,keyasint,omitempty"`
		Format  string `cbor:"13,keyasint,omitempty"`
	}
	err = cbor.Unmarshal(parts[1], &options)
	return options.Format, options.Payload, err
}

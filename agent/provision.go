package agent

import (
	"bytes"
	"context"
	"fmt"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/link"
)

// provision makes the first record. Who can start the agent for the first time decides whom it
// trusts; that is the manufacturer or the administrator (RFC 9397 §5.1).
func (a *Agent) provision() error {
	if len(bytes.TrimSpace(a.cfg.Trust)) == 0 {
		return fmt.Errorf("%w: this TEE has none yet: give a trust anchor file at the first start", ErrProvisioning)
	}
	set, signed, err := a.parseTrust(a.cfg.Trust)
	if err != nil {
		return err
	}
	if signed {
		// It must be able to speak for itself: the next set will have to be signed by the
		// administrator whom this one names.
		if set, err = a.openFirst(a.cfg.Trust); err != nil {
			return err
		}
	}
	anchors, err := set.Encode()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.replaceLocked(state.New(anchors)); err != nil {
		return err
	}
	a.anchors = set
	a.log.Info("trust anchors provisioned", "version", set.Version, "tams", len(set.TAMs), "signers", len(set.Signers), "verifiers", len(set.Verifiers))
	return nil
}

// isSigned tells a COSE_Sign1 from YAML text: no YAML begins with the byte of CBOR tag 18 or of
// an array of four.
func isSigned(data []byte) bool {
	return len(data) > 0 && (data[0] == 0xd2 || data[0] == 0x84)
}

// parseTrust reads a set in YAML; of a signed one it only tells that it is.
func (a *Agent) parseTrust(data []byte) (set *trust.Set, signed bool, err error) {
	if isSigned(data) {
		return nil, true, nil
	}
	set, err = trust.ParseYAML(data, a.cfg.ReadTrustFile)
	return set, false, err
}

func (a *Agent) openFirst(data []byte) (*trust.Set, error) {
	set, err := trust.OpenSelfSigned(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvisioning, err)
	}
	return set, nil
}

// adoptTrust compares the configured set with the sealed one at a later start.
func (a *Agent) adoptTrust() error {
	if len(bytes.TrimSpace(a.cfg.Trust)) == 0 {
		return nil
	}
	set, signed, err := a.parseTrust(a.cfg.Trust)
	if err != nil {
		return err
	}
	if signed {
		return a.ReplaceTrustAnchors(context.Background(), a.cfg.Trust)
	}
	if set.Equal(a.anchors) {
		return nil
	}
	return fmt.Errorf("%w: the file (version %d) differs from the anchors that are sealed in this TEE (version %d): "+
		"a change has to be signed by the device administrator and have a higher version; "+
		"sign the new set, or start without a trust anchor file to keep the sealed one", ErrProvisioning, set.Version, a.anchors.Version)
}

// ReplaceTrustAnchors implements link.Agent: it puts a new set of trust anchors in force. It must be signed
// by the administrator whom the set in force names, and have a higher version; the set in force again
// changes nothing. Who brings it does not matter (RFC 9397 §5.1).
//
// What removed TAMs installed stays installed, and belongs to them still. An Update in progress stops,
// and goes on at the next RequestPolicyCheck if it may under the new set.
func (a *Agent) ReplaceTrustAnchors(_ context.Context, signed []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if self, err := trust.OpenSelfSigned(signed); err == nil && self.Equal(a.anchors) {
		return nil
	}
	set, err := trust.Open(signed, a.anchors.Administrator)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProvisioning, err)
	}
	if set.Equal(a.anchors) {
		return nil
	}
	if set.Version <= a.anchors.Version {
		return fmt.Errorf("%w: the signed set has version %d and the one in force %d: sign it with a higher version",
			ErrProvisioning, set.Version, a.anchors.Version)
	}
	// The agent must be able to start with it.
	if err := a.checkPolicy(set); err != nil {
		return fmt.Errorf("%w: %w", ErrProvisioning, err)
	}
	anchors, err := set.Encode()
	if err != nil {
		return err
	}
	before := a.anchors.Version
	if err := a.changeLocked(func(next *state.Record) error {
		next.Anchors = anchors
		askAgain(next, func(*state.Query) bool { return true })
		return nil
	}); err != nil {
		return err
	}
	a.anchors = set
	a.log.Info("trust anchors replaced", "version", set.Version, "before", before)
	if a.run != nil {
		a.run.cancel(errTrustReplaced)
	}
	for id, s := range a.sessions {
		if _, trusted := set.TAM(s.tam); !trusted && !a.busyLocked(s) {
			delete(a.sessions, id)
		}
	}
	return nil
}

// errTrustReplaced ends what was begun under trust anchors that are not in force any longer.
var errTrustReplaced error = &sentinel{"agent: the trust anchors were replaced meanwhile: check policy to go on", link.ErrBusy}

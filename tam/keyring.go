package tam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// KeyRing are the keys of a TAM at one time. While keys are rotated it has several of one algorithm, and
// devices that know one of them are served.
type KeyRing struct {
	// Signers sign the TAM's messages; a [cose.Certified] one sends its certificates along. ESP256 and
	// Ed25519 are mandatory for a TAM (TEEP §8.1); these two make up the offer in a QueryRequest, further
	// ones are used with agents that ask for them, or offered too where Policy.OfferAll says so. Of
	// several of one algorithm all sign the QueryRequests, and the rest of a session is signed with the
	// one that the agent knows. The first is used where that is not known.
	Signers []cose.Signer
	// DecryptionKeys are the private ECDH keys that agents encrypt Evidence and SUIT Reports
	// to, the current one first. Empty: encrypted ones are refused.
	DecryptionKeys []*cose.Key
}

// keyRing is a KeyRing in the form in which it is used. It does not change.
type keyRing struct {
	signers  map[cose.Algorithm][]cose.Signer
	offered  []cose.Signer // of ESP256 and Ed25519: what a first QueryRequest is signed with
	accepted []cose.Algorithm
	decrypt  []*cose.Key
}

// newKeyRing checks what a TAM needs of its keys.
func newKeyRing(k KeyRing, offerAll, olderPeersToo bool) (*keyRing, error) {
	r := &keyRing{signers: make(map[cose.Algorithm][]cose.Signer), decrypt: slices.Clone(k.DecryptionKeys)}
	for i, s := range k.Signers {
		if s == nil {
			return nil, fmt.Errorf("tam: Config.Signers[%d] is nil", i)
		}
		alg := s.Algorithm()
		if olderPeers(alg) && !olderPeersToo {
			return nil, fmt.Errorf("tam: Config.Signers[%d] is for %v, which leaves the curve open: use the fully specified algorithm, or set InsecureOlderPeers for agents of earlier drafts", i, alg)
		}
		if findSigner(r.signers[alg], s.Public().Thumbprint()) != nil {
			return nil, fmt.Errorf("tam: two signers for %v with the same key: give each key once", alg)
		}
		if r.signers[alg] == nil {
			r.accepted = append(r.accepted, alg)
		}
		r.signers[alg] = append(r.signers[alg], s)
	}
	for _, suite := range teep.MandatoryCipherSuites() {
		alg, _ := suite.Sign1Algorithm()
		if r.signers[alg] == nil {
			return nil, fmt.Errorf("tam: no signer for %v: a TAM needs one for ESP256 and one for Ed25519 (TEEP §8.1)", alg)
		}
		r.offered = append(r.offered, r.signers[alg]...)
	}
	for _, alg := range r.accepted {
		// Agents of earlier drafts can read nothing else.
		if (offerAll || olderPeers(alg)) && !slices.Contains(r.offered, r.signers[alg][0]) {
			r.offered = append(r.offered, r.signers[alg]...)
		}
	}
	if len(r.offered) > cose.MaxSigners {
		return nil, fmt.Errorf("tam: %d keys sign each QueryRequest, and agents read %d signatures: retire keys of earlier rotations", len(r.offered), cose.MaxSigners)
	}
	return r, nil
}

// findSigner returns the signer of the key with that thumbprint, or nil.
func findSigner(signers []cose.Signer, thumbprint []byte) cose.Signer {
	for _, s := range signers {
		if thumbprint != nil && bytes.Equal(s.Public().Thumbprint(), thumbprint) {
			return s
		}
	}
	return nil
}

// SetKeys replaces the TAM's keys: the next message is handled with the new ones. Messages on their way keep
// counting, whichever keys they were signed with, because tokens and challenges are not signed but
// authenticated with keys of their own.
func (t *TAM) SetKeys(k KeyRing) error {
	if t.distribution != nil && len(k.DecryptionKeys) == 0 {
		return errors.New("tam: Config.Distribution needs DecryptionKeys: deposits are encrypted to the first of them")
	}
	if err := t.distribution.check(k.Signers); err != nil {
		return err
	}
	r, err := newKeyRing(k, t.policy.OfferAll, t.olderPeers)
	if err != nil {
		return err
	}
	t.keys.Store(r)
	return nil
}

// signerFor chooses among the keys of the sender's cipher suite the one that it knows. An agent that knows
// this project's extension says which ([teep.ExtensionTAMKey]). Of another it is known once it answered an
// Update; one that did not answer the last may not know its key, so the next is signed with another.
func (t *TAM) signerFor(s *sender) (cose.Signer, error) {
	all := t.keys.Load().signers[s.alg]
	if len(all) == 0 {
		return nil, fmt.Errorf("tam: no signer for %v", s.alg)
	}
	if named := findSigner(all, s.tamKey); named != nil {
		return named, nil
	}
	if s.device == nil {
		return all[0], nil
	}
	if n := len(s.device.Pending); n > 0 {
		if i := slices.IndexFunc(all, func(c cose.Signer) bool { return bytes.Equal(c.Public().Thumbprint(), s.device.Pending[n-1].Key) }); i >= 0 {
			return all[(i+1)%len(all)], nil
		}
	}
	if known := findSigner(all, s.device.TAMKey); known != nil {
		return known, nil
	}
	return all[0], nil
}

// suite are the signers of a QueryRequest to the sender: all of the suite that it uses, unless it said
// which key it knows.
func (t *TAM) suite(s *sender) []cose.Signer {
	all := t.keys.Load().signers[s.alg]
	if named := findSigner(all, s.tamKey); named != nil {
		return []cose.Signer{named}
	}
	return all
}

// noteKey takes in which of the TAM's keys the sender says that it knows.
func (t *TAM) noteKey(s *sender, extensions map[uint64]teep.RawMessage) {
	key, err := teep.TAMKey(extensions)
	if err != nil {
		t.log.Warn("an option that is not understood is ignored", "label", teep.ExtensionTAMKey, "err", err)
		return
	}
	s.tamKey = key
}

// sign protects a message to the sender with its cipher suite and a key that it knows.
func (t *TAM) sign(m teep.Message, s *sender) ([]byte, error) {
	signer, err := t.signerFor(s)
	if err != nil {
		return nil, err
	}
	return t.signWith(m, signer)
}

func (t *TAM) signWith(m teep.Message, signer cose.Signer) ([]byte, error) {
	data, err := teep.Protect(t.rand, m, signer)
	if err != nil {
		return nil, fmt.Errorf("tam: protecting a %v: %w", m.Type(), err)
	}
	return data, nil
}

// KeyUse is how many devices were last known to know a key of the TAM.
type KeyUse struct {
	// Devices are those in service; the newest of them was heard of at LastSeen.
	Devices  int64
	LastSeen time.Time
}

// CountKeyUse counts, by the thumbprint of the TAM's key, the devices in service that last accepted a message
// under it. It reads every device: it is for the moment before a key is retired.
func CountKeyUse(ctx context.Context, devices Overview) (map[string]KeyUse, error) {
	const page = 1000
	use := map[string]KeyUse{}
	for after := ""; ; {
		list, err := devices.FindDevices(ctx, DeviceFilter{}, after, page)
		if err != nil {
			return nil, fmt.Errorf("tam: reading the devices: %w", err)
		}
		for i := range list {
			d := &list[i]
			after = d.ID
			if d.TAMKey == nil || d.Status == DeviceRetired || d.Status == DeviceBlocked {
				continue
			}
			u := use[string(d.TAMKey)]
			u.Devices++
			if d.LastSeen.After(u.LastSeen) {
				u.LastSeen = d.LastSeen
			}
			use[string(d.TAMKey)] = u
		}
		if len(list) < page {
			return use, nil
		}
	}
}

// logKeys says which keys are in use.
func (r *keyRing) logKeys(log *slog.Logger) {
	for _, alg := range r.accepted {
		for _, s := range r.signers[alg] {
			log.Debug("signing key", "alg", alg.String(), "key", s.Public().String())
		}
	}
}

// CheckKeys says what is wrong with keys before a TAM is given them.
func CheckKeys(k KeyRing) error {
	_, err := newKeyRing(k, false, true)
	return err
}

// UnreadableDeposits lists the IDs of the deposits that none of the keys opens.
func UnreadableDeposits(ctx context.Context, deposits Deposits, keys []*cose.Key) (ids []string, err error) {
	for after := ""; ; {
		page, err := deposits.ListDeposits(ctx, after, cataloguePage)
		if err != nil {
			return nil, fmt.Errorf("tam: reading the deposits: %w", err)
		}
		for i := range page {
			after = page[i].ID
			if _, err := suit.RecoverPayloadKey(page[i].EncryptionInfo, cose.DecryptKeys(keys)); err != nil {
				ids = append(ids, page[i].ID)
			}
		}
		if len(page) < cataloguePage {
			return ids, nil
		}
	}
}

package appraisal

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/attest"
)

// Store answers from collateral in memory. It is safe for concurrent use; readers see either the
// old or the new content of a Replace, and never wait.
type Store struct {
	index atomic.Pointer[index]
}

type index struct {
	endorsements  map[string]*Endorsement // by thumbprint
	manufacturers []Manufacturer
	references    map[string][]Reference // by class
	tcb           map[string][]TCBLevel  // by class
}

// NewStore makes a Store of the given collateral; without any it trusts nobody.
func NewStore(all ...*Collateral) (*Store, error) {
	s := &Store{}
	if err := s.Replace(all...); err != nil {
		return nil, err
	}
	return s, nil
}

// Replace makes the given collateral the whole content of the store. On error the old content
// stays. The collateral must not be changed afterwards.
//
// Where several files endorse one key, they must name the same device, and a revocation by any
// of them counts.
func (s *Store) Replace(all ...*Collateral) error {
	x := &index{endorsements: map[string]*Endorsement{}, references: map[string][]Reference{}, tcb: map[string][]TCBLevel{}}
	for _, c := range all {
		c = c.settled()
		for i := range c.Endorsements {
			if err := x.endorse(c.Endorsements[i]); err != nil {
				return err
			}
		}
		x.manufacturers = append(x.manufacturers, c.Manufacturers...)
		for _, r := range c.References {
			x.references[r.Class.key()] = append(x.references[r.Class.key()], r)
		}
		for _, l := range c.TCBLevels {
			x.tcb[l.Class.key()] = append(x.tcb[l.Class.key()], l)
		}
	}
	s.index.Store(x)
	return nil
}

func (x *index) endorse(e Endorsement) error {
	if e.Key == nil || e.Key.Public() == nil {
		return fmt.Errorf("%w: the endorsement of device %x by %s has no public key", ErrCollateral, e.UEID, e.Owner)
	}
	thumbprint := string(e.Key.Thumbprint())
	old, ok := x.endorsements[thumbprint]
	switch {
	case !ok:
		x.endorsements[thumbprint] = &e
	case !bytes.Equal(old.UEID, e.UEID):
		return fmt.Errorf("%w: one attestation key is endorsed for device %x by %s and for device %x by %s",
			ErrCollateral, old.UEID, old.Owner, e.UEID, e.Owner)
	case old.Revoked != "":
	case e.Revoked != "" || e.Expires.After(old.Expires):
		x.endorsements[thumbprint] = &e
	}
	return nil
}

// EndorsementFor implements [Endorsements]. The result is shared and must not be changed.
func (s *Store) EndorsementFor(thumbprint []byte) (*Endorsement, error) {
	return s.index.Load().endorsements[string(thumbprint)], nil
}

// EndorsementsOf implements [DeviceEndorsements]. The elements are shared and must not be changed.
func (s *Store) EndorsementsOf(ueid []byte) ([]*Endorsement, error) {
	var found []*Endorsement
	for _, e := range s.index.Load().endorsements {
		if bytes.Equal(e.UEID, ueid) {
			found = append(found, e)
		}
	}
	return found, nil
}

// Manufacturers implements [Endorsements]. The result is shared and must not be changed.
func (s *Store) Manufacturers() ([]Manufacturer, error) { return s.index.Load().manufacturers, nil }

// ReferencesFor implements [References]. The result is shared and must not be changed.
func (s *Store) ReferencesFor(class Class) ([]Reference, error) {
	return s.index.Load().references[class.key()], nil
}

// expired tells whether an end has come; zero never comes.
func expired(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// Check says why an endorsement does not count at a time, or nil.
func (e *Endorsement) Check(now time.Time) error {
	switch {
	case e.Revoked != "":
		return fmt.Errorf("%w: the attestation key of device %x was revoked by %s: %s", attest.ErrUntrusted, e.UEID, e.Owner, e.Revoked)
	case expired(e.Expires, now):
		return fmt.Errorf("%w: the endorsement of device %x by %s expired at %s; load a newer one",
			attest.ErrUntrusted, e.UEID, e.Owner, e.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// Match compares a measured component with the references of its class and says what it is worth
// and why. Of several references with the digest, unexpired ones count, and of those the worst.
// Nothing matches by name or version alone. The reference is nil when none matches.
func Match(refs []Reference, name string, digest Digest, now time.Time) (*Reference, attest.Reason) {
	claim := "measurements " + name
	var best, old *Reference
	for i := range refs {
		r := &refs[i]
		switch {
		case r.Name != name || r.Algorithm != digest.Algorithm || subtle.ConstantTimeCompare(r.Digest, digest.Value) != 1:
		case expired(r.Expires, now):
			old = r
		case best == nil || r.Status > best.Status:
			best = r
		}
	}
	switch {
	case best != nil:
		return best, attest.Reason{Claim: claim, Status: best.Status, Text: best.text()}
	case old != nil:
		return nil, attest.Reason{Claim: claim, Status: attest.StatusContraindicated,
			Text: fmt.Sprintf("the reference value of %s %s by %s expired at %s", old.Name, old.Version, old.Owner, old.Expires.UTC().Format(time.RFC3339))}
	}
	return nil, attest.Reason{Claim: claim, Status: attest.StatusContraindicated,
		Text: fmt.Sprintf("the measurement %x is not among the reference values of this class", digest.Value)}
}

func (r *Reference) text() string {
	text := fmt.Sprintf("%s %s, known to %s", r.Name, r.Version, r.Owner)
	if r.Why != "" {
		text += ": " + r.Why
	}
	return text
}

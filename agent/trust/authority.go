package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/suit/processor"
)

// Authority is what the signers of the set may do, in the terms of the SUIT processor (SUIT §9), at the
// time now and under X.509 revocation lists in DER. It serves one run.
//
// A key counts as it is. A certificate chain has to lead to an authority of a signer, each certificate of
// it valid at that time and on no list, the end entity's made for signatures and, if it has extended key
// usages, for signing code: authorities certify servers and people too. The certificates of manifests that are
// installed may have ended since, which says nothing about what was signed before; but not have been revoked.
func (s *Set) Authority(now time.Time, crls [][]byte) *Authority {
	a := &Authority{set: s, now: now, crls: crls, seen: &chainsSeen{certified: map[string][]*Signer{}}}
	for i := range s.Signers {
		a.keys = append(a.keys, s.Signers[i].Keys...)
	}
	return a
}

// Authority implements [processor.InstalledAuthority]. It is safe for concurrent use.
type Authority struct {
	set  *Set
	now  time.Time
	crls [][]byte
	keys keyList
	// ended accepts certificates that were valid once.
	ended bool
	seen  *chainsSeen
}

var (
	_ processor.InstalledAuthority = (*Authority)(nil)
	_ cose.ReasonedKeySource       = (*Authority)(nil)
)

// chainsSeen is what a run learned from chains that are valid.
type chainsSeen struct {
	mu        sync.Mutex
	certified map[string][]*Signer // by thumbprint of the end entity's key
	shown     []*x509.Certificate
}

// Installed implements processor.InstalledAuthority.
func (a *Authority) Installed() processor.Authority {
	installed := *a
	installed.ended = true
	return &installed
}

// VerifiersFor implements cose.KeySource.
func (a *Authority) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	found, _ := a.VerifiersOrReason(alg, h)
	return found
}

// VerifiersOrReason implements cose.ReasonedKeySource.
func (a *Authority) VerifiersOrReason(alg cose.Algorithm, h cose.Headers) ([]cose.Verifier, error) {
	found := a.keys.VerifiersFor(alg, h)
	chain, err := h.X5Chain()
	if err != nil {
		return found, fmt.Errorf("%w: %w", ErrBadCertificate, err)
	}
	if len(chain) == 0 {
		return found, nil
	}
	key, err := a.certified(chain)
	if err != nil {
		return found, err
	}
	v, err := key.VerifierFor(alg)
	if err != nil {
		return found, fmt.Errorf("%w: the key of the end entity does not fit: %w", ErrBadCertificate, err)
	}
	return append(found, v), nil
}

// certified validates a chain to each authority, and notes for whom its key signs.
func (a *Authority) certified(chain [][]byte) (key *cose.Key, err error) {
	failure, said := fmt.Errorf("%w: no signer is anchored by a certificate authority", ErrBadCertificate), -1
	for i := range a.set.Signers {
		signer := &a.set.Signers[i]
		for _, authority := range signer.Authorities {
			leaf, err := a.validate(chain, authority)
			if err == nil || errors.Is(err, cose.ErrCertificateRevoked) {
				a.seen.show(revocation.Issuers([]*x509.Certificate{authority}, chain))
			}
			if err == nil {
				key, err = cose.NewPublicKey(leaf.PublicKey)
			}
			if err != nil {
				if n := telling(err); n > said {
					failure, said = certificateError(err), n
				}
				continue
			}
			a.seen.note(key, signer)
		}
	}
	if key == nil {
		return nil, newChainError(chain, failure)
	}
	return key, nil
}

// validate validates a chain as of now, and of what is installed else as of when one of its certificates ended.
func (a *Authority) validate(chain [][]byte, authority *x509.Certificate) (*x509.Certificate, error) {
	leaf, err := validate(chain, authority, a.now, a.crls, x509.ExtKeyUsageCodeSigning)
	if !a.ended || !errors.Is(err, cose.ErrCertificateExpired) {
		return leaf, err
	}
	for _, der := range append([][]byte{authority.Raw}, chain...) {
		c, parseErr := x509.ParseCertificate(der)
		if parseErr != nil {
			return nil, err
		}
		if leaf, then := validate(chain, authority, c.NotAfter, a.crls, x509.ExtKeyUsageCodeSigning); then == nil {
			return leaf, nil
		} else if !errors.Is(then, cose.ErrCertificateExpired) {
			err = then
		}
	}
	return nil, err
}

func (s *chainsSeen) show(issuers []*x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, issuers...)
}

func (s *chainsSeen) note(key *cose.Key, signer *Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := string(key.Thumbprint()); !slices.Contains(s.certified[id], signer) {
		s.certified[id] = append(s.certified[id], signer)
	}
}

// Shown are the issuers below authorities that manifests showed, for [revocation.Renew].
func (a *Authority) Shown() []*x509.Certificate {
	a.seen.mu.Lock()
	defer a.seen.mu.Unlock()
	return a.seen.shown
}

// Rights implements processor.Authority: those of the signer that has the key, and of those whose authorities
// certified it.
func (a *Authority) Rights(key *cose.Key) (processor.Rights, bool) {
	if key == nil {
		return processor.Rights{}, false
	}
	signers := a.seen.of(key)
	if own, ok := a.set.Signer(key); ok {
		signers = append(signers, own)
	}
	var r processor.Rights
	for _, s := range signers {
		r.Components = append(r.Components, s.rights().Components...)
	}
	return r, len(signers) > 0
}

func (s *chainsSeen) of(key *cose.Key) []*Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.certified[string(key.Thumbprint())])
}

func (s *Signer) rights() processor.Rights {
	var r processor.Rights
	for _, prefix := range s.Components {
		r.Components = append(r.Components, processor.ComponentRights{
			Prefix: prefix, Commands: s.Commands, Parameters: s.Parameters,
		})
	}
	return r
}

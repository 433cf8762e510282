package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/link"
)

// errRevocations says that revocation lists that were brought are not taken.
var errRevocations error = &sentinel{"agent: revocation lists", link.ErrRefused}

// RenewRevocationLists implements link.Agent: it puts the X.509 CRLs in force that the certificate chains of
// TAMs are held against, files with one list in DER or several in PEM. They come from outside and are
// believed as far as their issuers signed them; none may be older than the list of its issuer that it
// replaces, and one that is left out stays in force. The lists of the authorities that the trust anchors
// name, and of issuers below them that chains have shown, are part of sealed state, and outlive a restart.
func (a *Agent) RenewRevocationLists(_ context.Context, files [][]byte) error {
	var lists [][]byte
	for _, data := range files {
		more, err := revocation.Parse(data)
		if err != nil {
			return fmt.Errorf("%w: %w", errRevocations, err)
		}
		lists = append(lists, more...)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	before := len(a.crls)
	if err := a.renewLocked(lists, nil); err != nil {
		return err
	}
	if len(lists) > 0 {
		a.log.Info("revocation lists renewed", "brought", len(lists), "before", before, "in force", len(a.crls), "kept", len(a.record.Revocations))
	}
	return nil
}

// renewLocked puts lists in force; shown are issuers that a chain has shown.
func (a *Agent) renewLocked(lists [][]byte, shown []*x509.Certificate) error {
	before := a.crls
	if before == nil {
		before = a.record.Revocations
	}
	issuers, err := a.issuersLocked()
	if err != nil {
		return err
	}
	r, err := revocation.Renew(before, lists, a.anchors.Authorities(), append(issuers, shown...))
	if err != nil {
		return fmt.Errorf("%w: %w", errRevocations, err)
	}
	certified := func(q *state.Query) bool { return !q.KeyExpires.IsZero() }
	affected := !slices.EqualFunc(r.InForce, before, bytes.Equal) && anyAnonymous(a.record, certified)
	if affected || !slices.EqualFunc(r.Kept, a.record.Revocations, bytes.Equal) || !slices.EqualFunc(r.Issuers, a.record.RevocationIssuers, bytes.Equal) {
		if err := a.changeLocked(func(next *state.Record) error {
			next.Revocations, next.RevocationIssuers = r.Kept, r.Issuers
			if affected {
				askAgain(next, certified)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	a.crls = r.InForce
	return nil
}

// issuersLocked are the issuers below authorities that are remembered.
func (a *Agent) issuersLocked() ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, der := range a.record.RevocationIssuers {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("agent: sealed state: issuer of a revocation list: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// noteIssuers keeps the lists in force of issuers that a chain has shown.
func (a *Agent) noteIssuers(shown []*x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := slices.ContainsFunc(shown, func(c *x509.Certificate) bool {
		known := slices.ContainsFunc(a.record.RevocationIssuers, func(der []byte) bool { return bytes.Equal(der, c.Raw) })
		return !known && a.listedLocked(c)
	})
	if !fresh || a.closed {
		return
	}
	// The others may be what leads from there to an authority.
	if err := a.renewLocked(nil, shown); err != nil && !errors.Is(err, ErrClosed) {
		a.log.Error("revocation lists of an issuer below an authority not kept", "error", err)
	}
}

// listedLocked tells whether a list in force is signed by an issuer.
func (a *Agent) listedLocked(issuer *x509.Certificate) bool {
	return slices.ContainsFunc(a.crls, func(der []byte) bool {
		list, err := x509.ParseRevocationList(der)
		return err == nil && bytes.Equal(list.RawIssuer, issuer.RawSubject) && list.CheckSignatureFrom(issuer) == nil
	})
}

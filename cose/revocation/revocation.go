// Package revocation keeps X.509 certificate revocation lists (RFC 5280 §5) in force: newer ones take the place of
// older ones of the same issuer, and none that is left out is forgotten. Package cose holds chains against them.
package revocation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
)

// What lists are refused for.
var (
	// ErrInvalid says that lists cannot be used as they are.
	ErrInvalid = errors.New("revocation lists")
	// ErrOlder says that a list is older than the one of its issuer that is in force.
	ErrOlder = errors.New("the revocation list is older than the one in force")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// MaxLists bounds the lists that are in force at a time.
const MaxLists = 64

// Parse reads the X.509 CRLs of one file (RFC 5280 §5), one in DER or any number in
// PEM, and returns them in DER. Signatures are checked when a list is used: only then is it known
// which certificate is its issuer's.
func Parse(data []byte) ([][]byte, error) {
	var all [][]byte
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		all = [][]byte{data}
	}
	for rest := data; len(all) == 0 || len(rest) < len(data); {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, invalid("a PEM block of type %q; X509 CRL is expected", block.Type)
		}
		all, rest, data = append(all, block.Bytes), after, rest
	}
	for _, der := range all {
		if _, err := x509.ParseRevocationList(der); err != nil {
			return nil, invalid("not an X.509 CRL in DER or PEM: %v", err)
		}
	}
	if len(all) == 0 || len(all) > MaxLists {
		return nil, invalid("%d lists, 1 to %d can be used", len(all), MaxLists)
	}
	return all, nil
}

// MaxSize bounds the lists that outlive a restart, in bytes together.
const MaxSize = 1 << 20

// Lists are the lists that are in force, all in DER.
type Lists struct {
	InForce [][]byte
	// Kept are those in force whose issuer is known, in the same order: they are to outlive a restart.
	Kept [][]byte
	// Issuers are the certificates below the authorities that signed some of Kept, and those by which they
	// lead to an authority.
	Issuers [][]byte
}

// Renew puts new lists in the place of those that are in force. A list of an issuer of
// which none comes stays: whoever can bring files could take a revocation back by leaving one
// out. For the same reason none may be older than what it replaces, by number and by date, and one
// in the name of a known issuer has to be signed by it.
//
// Known issuers are the authorities, and those of issuers that lead to one: chains of messages show
// them. Until a chain does, what others signed is in force and not kept, because it cannot be checked.
func Renew(before, lists [][]byte, authorities, issuers []*x509.Certificate) (*Lists, error) {
	old, err := parseLists(before)
	if err != nil {
		return nil, err
	}
	next, err := parseLists(lists)
	if err != nil {
		return nil, err
	}
	issuers = below(authorities, issuers)
	known := append(slices.Clone(authorities), issuers...)
	for _, list := range next {
		if err := checkIssuer(list, authorities, issuers); err != nil {
			return nil, err
		}
		if err := checkNewer(old, list); err != nil {
			return nil, err
		}
	}
	for _, list := range old {
		switch {
		case slices.ContainsFunc(next, func(n *x509.RevocationList) bool { return sameIssuer(n, list) }):
		case checkIssuer(list, authorities, issuers) != nil:
			// It was not known yet whose it is not.
		default:
			next = append(next, list)
		}
	}
	if len(next) > MaxLists {
		return nil, invalid("%d lists, at most %d can be in force", len(next), MaxLists)
	}
	r := &Lists{}
	size := 0
	for _, list := range next {
		r.InForce = append(r.InForce, list.Raw)
		if IsSigned(list, known) {
			r.Kept = append(r.Kept, list.Raw)
			size += len(list.Raw)
		}
	}
	if size > MaxSize {
		return nil, invalid("%d bytes together, at most %d can be kept: have the authority issue lists of their own for parts of what it certifies", size, MaxSize)
	}
	for _, issuer := range issuers {
		signs := func(l *x509.RevocationList) bool { return IsSigned(l, []*x509.Certificate{issuer}) }
		if !slices.ContainsFunc(next, signs) {
			continue
		}
		for _, c := range lead(authorities, issuers, issuer) {
			if !slices.ContainsFunc(r.Issuers, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
				r.Issuers = append(r.Issuers, c.Raw)
			}
		}
	}
	return r, nil
}

// below returns the certificates that lead to an authority, whether or not they are valid any longer: what
// they revoked stays revoked.
func below(authorities, certificates []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certificates), func(c *x509.Certificate) bool {
		return !c.IsCA || lead(authorities, certificates, c) == nil
	})
}

// lead is a way from a certificate to an authority, which is left out; nil if there is none.
func lead(authorities, between []*x509.Certificate, c *x509.Certificate) []*x509.Certificate {
	o := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: c.NotAfter,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, a := range authorities {
		o.Roots.AddCert(a)
	}
	for _, b := range between {
		o.Intermediates.AddCert(b)
	}
	paths, err := c.Verify(o)
	if err != nil {
		return nil
	}
	return paths[0][:len(paths[0])-1]
}

func parseLists(lists [][]byte) ([]*x509.RevocationList, error) {
	all := make([]*x509.RevocationList, len(lists))
	for i, der := range lists {
		var err error
		if all[i], err = x509.ParseRevocationList(der); err != nil {
			return nil, invalid("not an X.509 CRL in DER: %v", err)
		}
	}
	return all, nil
}

// sameIssuer goes by name and key, as cose.IsIssuer does.
func sameIssuer(a, b *x509.RevocationList) bool {
	return bytes.Equal(a.RawIssuer, b.RawIssuer) && (len(a.AuthorityKeyId) == 0 || len(b.AuthorityKeyId) == 0 || bytes.Equal(a.AuthorityKeyId, b.AuthorityKeyId))
}

// checkIssuer refuses a list that somebody else made in the name of a known issuer: as the newest one it
// would keep the real ones out. An issuer below an authority may have got a new key under its old name,
// whose lists are others; an authority's key is what the anchors say.
func checkIssuer(list *x509.RevocationList, authorities, issuers []*x509.Certificate) error {
	named := slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return bytes.Equal(a.RawSubject, list.RawIssuer) }) ||
		slices.ContainsFunc(issuers, func(i *x509.Certificate) bool { return cose.IsIssuer(i, list) })
	if named && !IsSigned(list, append(slices.Clone(authorities), issuers...)) {
		return invalid("the revocation list in the name of %s is not signed by it", list.Issuer)
	}
	return nil
}

// IsSigned tells whether one of the issuers signed a list.
func IsSigned(list *x509.RevocationList, issuers []*x509.Certificate) bool {
	return slices.ContainsFunc(issuers, func(a *x509.Certificate) bool {
		return cose.IsIssuer(a, list) && list.CheckSignatureFrom(a) == nil
	})
}

func checkNewer(inForce []*x509.RevocationList, list *x509.RevocationList) error {
	older := slices.ContainsFunc(inForce, func(now *x509.RevocationList) bool {
		return sameIssuer(now, list) && (list.ThisUpdate.Before(now.ThisUpdate) || lowerNumber(list, now))
	})
	if !older {
		return nil
	}
	return fmt.Errorf("%w: %w: number %v of %s of %s",
		ErrInvalid, ErrOlder, list.Number, list.Issuer, list.ThisUpdate.UTC().Format("2006-01-02 15:04"))
}

// lowerNumber compares CRL numbers, which rise with each list of an issuer (RFC 5280 §5.2.3). One without a
// number is lower than one with.
func lowerNumber(list, now *x509.RevocationList) bool {
	return now.Number != nil && (list.Number == nil || list.Number.Cmp(now.Number) < 0)
}

// Issuers are the certificates of a chain in DER that lead to one of the authorities, both ends aside.
func Issuers(authorities []*x509.Certificate, chain [][]byte) []*x509.Certificate {
	var all []*x509.Certificate
	for _, der := range chain[min(1, len(chain)):] {
		if c, err := x509.ParseCertificate(der); err == nil && !slices.ContainsFunc(authorities, c.Equal) {
			all = append(all, c)
		}
	}
	return below(authorities, all)
}

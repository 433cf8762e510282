package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// ErrOlderList says that a revocation list is older than the one of its issuer that is in force.
var ErrOlderList = errors.New("the revocation list is older than the one in force")

// maxRevocationLists bounds the lists that are in force at a time.
const maxRevocationLists = 64

// ParseRevocationLists reads the X.509 CRLs of one file (RFC 5280 §5), one in DER or any number in
// PEM, and returns them in DER. Signatures are checked when a list is used: only then is it known
// which certificate is its issuer's.
func ParseRevocationLists(data []byte) ([][]byte, error) {
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
			return nil, invalid("revocation list: a PEM block of type %q; X509 CRL is expected", block.Type)
		}
		all, rest, data = append(all, block.Bytes), after, rest
	}
	for _, der := range all {
		if _, err := x509.ParseRevocationList(der); err != nil {
			return nil, invalid("revocation list: not an X.509 CRL in DER or PEM: %v", err)
		}
	}
	if len(all) == 0 || len(all) > maxRevocationLists {
		return nil, invalid("revocation list: %d lists, 1 to %d can be used", len(all), maxRevocationLists)
	}
	return all, nil
}

// MaxRevocationSize bounds the lists that outlive a restart, in bytes together.
const MaxRevocationSize = 1 << 20

// RenewRevocationLists puts new lists in the place of those that are in force. A list of an issuer of
// which none comes stays: whoever can bring files could take a revocation back by leaving one
// out. For the same reason none may be older than what it replaces, and one in the name of an
// authority has to be signed by it. All are in DER.
//
// kept are those lists in force that an authority signed, in the order of inForce: they are to outlive
// a restart. What certificates below an authority revoke cannot be checked before a chain shows
// them, and so is not kept.
func RenewRevocationLists(before, lists [][]byte, authorities []*x509.Certificate) (inForce, kept [][]byte, err error) {
	old, err := parseLists(before)
	if err != nil {
		return nil, nil, err
	}
	next, err := parseLists(lists)
	if err != nil {
		return nil, nil, err
	}
	for _, list := range next {
		if err := checkIssuer(list, authorities); err != nil {
			return nil, nil, err
		}
		if err := checkNewer(old, list); err != nil {
			return nil, nil, err
		}
	}
	for _, list := range old {
		if !slices.ContainsFunc(next, func(n *x509.RevocationList) bool { return sameIssuer(n, list) }) {
			next = append(next, list)
		}
	}
	if len(next) > maxRevocationLists {
		return nil, nil, invalid("revocation lists: %d, at most %d can be in force", len(next), maxRevocationLists)
	}
	size := 0
	for _, list := range next {
		inForce = append(inForce, list.Raw)
		if signedByOne(list, authorities) {
			kept = append(kept, list.Raw)
			size += len(list.Raw)
		}
	}
	if size > MaxRevocationSize {
		return nil, nil, invalid("revocation lists: %d bytes together, at most %d can be kept: have the authority issue lists of their own for parts of what it certifies", size, MaxRevocationSize)
	}
	return inForce, kept, nil
}

func parseLists(lists [][]byte) ([]*x509.RevocationList, error) {
	all := make([]*x509.RevocationList, len(lists))
	for i, der := range lists {
		var err error
		if all[i], err = x509.ParseRevocationList(der); err != nil {
			return nil, invalid("revocation list: %v", err)
		}
	}
	return all, nil
}

func sameIssuer(a, b *x509.RevocationList) bool { return bytes.Equal(a.RawIssuer, b.RawIssuer) }

// checkIssuer refuses a list that somebody else made in the name of an authority: as the newest one it
// would keep the real ones out.
func checkIssuer(list *x509.RevocationList, authorities []*x509.Certificate) error {
	named := slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return bytes.Equal(a.RawSubject, list.RawIssuer) })
	if named && !signedByOne(list, authorities) {
		return invalid("the revocation list in the name of %s is not signed by it", list.Issuer)
	}
	return nil
}

func signedByOne(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	return slices.ContainsFunc(authorities, func(a *x509.Certificate) bool {
		return bytes.Equal(a.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(a) == nil
	})
}

func checkNewer(inForce []*x509.RevocationList, list *x509.RevocationList) error {
	older := slices.ContainsFunc(inForce, func(now *x509.RevocationList) bool {
		return sameIssuer(now, list) && list.ThisUpdate.Before(now.ThisUpdate)
	})
	if !older {
		return nil
	}
	return fmt.Errorf("%w: %w: that of %s of %s",
		ErrInvalid, ErrOlderList, list.Issuer, list.ThisUpdate.UTC().Format("2006-01-02 15:04"))
}

package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
)

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

// CheckNewer refuses revocation lists that are older than those in force of the same issuer: whoever
// can bring a file could take a revocation back with an old one.
func CheckNewer(inForce, lists [][]byte) error {
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return invalid("revocation list: %v", err)
		}
		older := slices.ContainsFunc(inForce, func(der []byte) bool {
			now, err := x509.ParseRevocationList(der)
			return err == nil && bytes.Equal(now.RawIssuer, list.RawIssuer) && list.ThisUpdate.Before(now.ThisUpdate)
		})
		if older {
			return fmt.Errorf("%w: the revocation list of %s of %s is older than the one in force",
				ErrInvalid, list.Issuer, list.ThisUpdate.UTC().Format("2006-01-02 15:04"))
		}
	}
	return nil
}

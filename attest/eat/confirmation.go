package eat

import (
	"crypto/subtle"
	"fmt"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// Confirmation methods (RFC 8747 §7.2, RFC 9679 §5.6).
const (
	confirmKey        int64 = 1 // COSE_Key
	confirmKeyID      int64 = 3 // kid
	confirmThumbprint int64 = 5 // ckt: SHA-256 thumbprint
)

// Confirmation is the cnf claim: the key whose possession the bearer of the token proves. TEEP
// names it by kid, which is the thumbprint of the key (TEEP §5); the key itself and ckt are read
// too. Where several are given, all must name the same key.
//
//	cnf = { ? 1 => COSE_Key, ? 3 => bstr, ? 5 => bstr }
type Confirmation struct {
	Key        *cose.Key
	KeyID      []byte
	Thumbprint []byte
}

// Confirm names a key as TEEP does.
func Confirm(k *cose.Key) *Confirmation { return &Confirmation{KeyID: k.Thumbprint()} }

func parseConfirmation(data []byte) (*Confirmation, error) {
	methods, err := scanClaims(data, maxClaims)
	if err != nil {
		return nil, malformed("cnf", err)
	}
	c := &Confirmation{}
	for _, m := range methods {
		method, raw := m.label, m.value
		var err error
		switch method {
		case confirmKey:
			c.Key, err = cose.ParseKey(raw)
			if err == nil && (c.Key.IsPrivate() || c.Key.Public() == nil) {
				err = fmt.Errorf("the key is not a public key")
			}
		case confirmKeyID:
			c.KeyID, err = parseBytes(raw, 1, MaxTextBytes)
		case confirmThumbprint:
			c.Thumbprint, err = parseBytes(raw, 32, 32)
		default:
			err = fmt.Errorf("confirmation method %d is not supported; use kid (3), COSE_Key (1) or ckt (5)", method)
		}
		if err != nil {
			return nil, malformed("cnf", err)
		}
	}
	if c.Key == nil && c.KeyID == nil && c.Thumbprint == nil {
		return nil, malformed("cnf", fmt.Errorf("no confirmation method"))
	}
	return c, nil
}

// Names checks that the claim names k: nil, or [attest.ErrKeyBinding] and why. hashes are the
// digest algorithms that a kid may be made with, those of the SUIT profiles in use (TEEP
// §7.1.1.1); none means SHA-256.
func (c *Confirmation) Names(k *cose.Key, hashes ...cose.Algorithm) error {
	if c == nil || k == nil || k.Public() == nil {
		return fmt.Errorf("%w: there is no cnf claim, or no public key to compare it with", attest.ErrKeyBinding)
	}
	if len(hashes) == 0 {
		hashes = []cose.Algorithm{cose.AlgSHA256}
	}
	named := false
	if c.Key != nil {
		if !c.Key.Equal(k) {
			return fmt.Errorf("%w: cnf holds another key", attest.ErrKeyBinding)
		}
		named = true
	}
	if c.Thumbprint != nil {
		if subtle.ConstantTimeCompare(c.Thumbprint, k.Thumbprint()) != 1 {
			return fmt.Errorf("%w: cnf holds the thumbprint of another key", attest.ErrKeyBinding)
		}
		named = true
	}
	if c.KeyID != nil {
		if !isThumbprint(c.KeyID, k, hashes) {
			return fmt.Errorf("%w: the kid %x in cnf is not the thumbprint (RFC 9679) of key %x", attest.ErrKeyBinding, c.KeyID, k.Thumbprint())
		}
		named = true
	}
	if !named {
		return fmt.Errorf("%w: cnf is empty", attest.ErrKeyBinding)
	}
	return nil
}

func isThumbprint(kid []byte, k *cose.Key, hashes []cose.Algorithm) bool {
	for _, h := range hashes {
		want, err := k.ThumbprintWith(h)
		if err == nil && subtle.ConstantTimeCompare(kid, want) == 1 {
			return true
		}
	}
	return false
}

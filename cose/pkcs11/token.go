//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// What PKCS #11 3.0 calls CKM_EDDSA and CKK_EC_EDWARDS.
const (
	mechanismEdDSA = 0x1057
	keyTypeEdwards = 0x40
)

// Open finds the key in its token and logs in.
func Open(l Location) (Key, error) {
	module := pkcs11.New(l.Module)
	if module == nil {
		return nil, fmt.Errorf("%w: %s is no PKCS #11 library", ErrNotFound, l.Module)
	}
	k := &tokenKey{module: module, where: l}
	err := k.open()
	if err == nil {
		k.public, err = k.readPublic()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pkcs11: token %q: %w", l.Token, err), k.Close())
	}
	return k, nil
}

// tokenKey is one key in a session of its own.
type tokenKey struct {
	module      *pkcs11.Ctx
	where       Location
	initialized bool
	public      crypto.PublicKey

	mu      sync.Mutex // a session signs one thing at a time
	session *pkcs11.SessionHandle
	private pkcs11.ObjectHandle
}

// open begins a session and finds the private key.
func (k *tokenKey) open() error {
	l := k.where
	// Another key of the same library may be open.
	err := k.module.Initialize()
	if err == nil {
		k.initialized = true
	} else if !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return err
	}
	slot, err := k.slot(l.Token)
	if err != nil {
		return err
	}
	session, err := k.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	k.session = &session
	err = k.module.Login(session, pkcs11.CKU_USER, l.PIN)
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)):
		return fmt.Errorf("log in: the PIN in the file that pin-source names is wrong (tokens lock themselves after a few attempts): %w", err)
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)):
		return fmt.Errorf("log in: the token has locked itself after wrong PINs; its security officer can set a new one: %w", err)
	case err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
		return fmt.Errorf("log in: %w", err)
	}
	k.private, err = k.find(pkcs11.CKO_PRIVATE_KEY, l.Object, l.ID)
	return err
}

// lost tells errors that a new session mends: the token was away for a while, or another user of the library
// ended it.
func lost(err error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	switch uint(code) {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT:
		return true
	}
	return false
}

// reopen begins a new session in place of one that was lost. It has to lead to the same key.
func (k *tokenKey) reopen() error {
	_ = k.module.CloseSession(*k.session) // it is lost
	err := k.open()
	if err == nil {
		var public crypto.PublicKey
		if public, err = k.readPublic(); err == nil && !public.(interface{ Equal(x crypto.PublicKey) bool }).Equal(k.public) {
			err = errors.New("the token has another key by now")
		}
	}
	if err != nil {
		return fmt.Errorf("token %q: the session was lost, and could not be begun again: %w", k.where.Token, err)
	}
	return nil
}

func (k *tokenKey) slot(label string) (uint, error) {
	slots, err := k.module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := k.module.GetTokenInfo(slot); err == nil && info.Label == label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%w: none of the %d tokens has this label", ErrNotFound, len(slots))
}

// find wants exactly one object.
func (k *tokenKey) find(class uint, label string, id []byte) (pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if err := k.module.FindObjectsInit(*k.session, template); err != nil {
		return 0, err
	}
	found, _, err := k.module.FindObjects(*k.session, 2)
	if err := errors.Join(err, k.module.FindObjectsFinal(*k.session)); err != nil {
		return 0, err
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("%w: no key with label %q and id %x", ErrNotFound, label, id)
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("several keys have label %q and id %x: give the other one of the two, too", label, id)
}

// readPublic reads the public half, which belongs to the private one by its identifier.
func (k *tokenKey) readPublic() (crypto.PublicKey, error) {
	private, err := k.module.GetAttributeValue(*k.session, k.private, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_ID, nil), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return nil, err
	}
	object, err := k.find(pkcs11.CKO_PUBLIC_KEY, "", private[0].Value)
	if err != nil {
		return nil, fmt.Errorf("public half: %w", err)
	}
	values, err := k.module.GetAttributeValue(*k.session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, fmt.Errorf("public half: %w", err)
	}
	var point cryptobyte.String
	edwards := keyType(private[1].Value) == keyTypeEdwards
	wrapped := cryptobyte.String(values[1].Value)
	if edwards && len(wrapped) == ed25519.PublicKeySize {
		point = wrapped // keys that were imported, in some tokens
	} else if !wrapped.ReadASN1(&point, asn1.OCTET_STRING) || !wrapped.Empty() {
		return nil, errors.New("public half: its point is no OCTET STRING")
	}
	if edwards {
		if len(point) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("public half: %d bytes: of the Edwards curves Ed25519 is supported", len(point))
		}
		return ed25519.PublicKey(point), nil
	}
	curve, err := namedCurve(values[0].Value)
	if err != nil {
		return nil, err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("public half: %w", err)
	}
	return public, nil
}

// keyType reads a CK_ULONG, which has the size and byte order of the machine.
func keyType(value []byte) uint64 {
	switch len(value) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(value))
	case 8:
		return binary.NativeEndian.Uint64(value)
	}
	return math.MaxUint64
}

func namedCurve(params []byte) (elliptic.Curve, error) {
	var oid cryptobyte.String
	der := cryptobyte.String(params)
	if der.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		switch string(oid) {
		case "\x2a\x86\x48\xce\x3d\x03\x01\x07":
			return elliptic.P256(), nil
		case "\x2b\x81\x04\x00\x22":
			return elliptic.P384(), nil
		}
	}
	return nil, fmt.Errorf("the key is on curve %x: P-256, P-384 and Ed25519 are supported", params)
}

// Public implements crypto.Signer.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer: of a digest for ECDSA, of the message for Ed25519. Randomness is the
// token's.
func (k *tokenKey) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	mechanism := uint(pkcs11.CKM_ECDSA)
	if _, ok := k.public.(ed25519.PublicKey); ok {
		mechanism = mechanismEdDSA
	}
	signature, err := k.sign(mechanism, message)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: sign: %w", err)
	}
	if mechanism == mechanismEdDSA {
		return signature, nil
	}
	return asASN1(signature)
}

func (k *tokenKey) sign(mechanism uint, message []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session == nil {
		return nil, errors.New("the key was closed")
	}
	signature, err := k.signInSession(mechanism, message)
	if lost(err) {
		if err := k.reopen(); err != nil {
			return nil, err
		}
		return k.signInSession(mechanism, message)
	}
	return signature, err
}

func (k *tokenKey) signInSession(mechanism uint, message []byte) ([]byte, error) {
	if err := k.module.SignInit(*k.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, k.private); err != nil {
		return nil, err
	}
	return k.module.Sign(*k.session, message)
}

// asASN1 converts r || s, as tokens give it, to what crypto.Signer promises.
func asASN1(signature []byte) ([]byte, error) {
	if len(signature) == 0 || len(signature)%2 != 0 {
		return nil, fmt.Errorf("pkcs11: the token returned a signature of %d bytes", len(signature))
	}
	half := len(signature) / 2
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[:half]))
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[half:]))
	})
	return b.Bytes()
}

// Close ends the session. A second call does nothing.
func (k *tokenKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	if k.session != nil {
		if err = k.module.CloseSession(*k.session); lost(err) {
			err = nil // there is nothing left to close
		}
		k.session = nil
	}
	if k.initialized {
		if e := k.module.Finalize(); !lost(e) {
			err = errors.Join(err, e)
		}
		k.initialized = false
	}
	return err
}

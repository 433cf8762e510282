package cose

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/go-teep/teep/internal/cbor"
)

// KeyType is the kty of a COSE_Key.
type KeyType int64

// Key types (RFC 9053 §7, RFC 8778 §4, and the IANA registry for AKP).
const (
	KeyTypeOKP       KeyType = 1
	KeyTypeEC2       KeyType = 2
	KeyTypeSymmetric KeyType = 4
	KeyTypeHSSLMS    KeyType = 5
	KeyTypeAKP       KeyType = 7
)

// Curve is the crv of an OKP or EC2 key (RFC 9053 §7.1).
type Curve int64

// Curves.
const (
	CurveP256    Curve = 1
	CurveP384    Curve = 2
	CurveX25519  Curve = 4
	CurveEd25519 Curve = 6
)

// KeyOp is one of the permitted uses in key_ops (RFC 9052 §7.1).
type KeyOp int64

// Key operations.
const (
	KeyOpSign       KeyOp = 1
	KeyOpVerify     KeyOp = 2
	KeyOpEncrypt    KeyOp = 3
	KeyOpDecrypt    KeyOp = 4
	KeyOpWrapKey    KeyOp = 5
	KeyOpUnwrapKey  KeyOp = 6
	KeyOpDeriveKey  KeyOp = 7
	KeyOpDeriveBits KeyOp = 8
	KeyOpMACCreate  KeyOp = 9
	KeyOpMACVerify  KeyOp = 10
)

// Parameters of a COSE_Key.
const (
	keyLabelType   int64 = 1
	keyLabelID     int64 = 2
	keyLabelAlg    int64 = 3
	keyLabelOps    int64 = 4
	keyLabelBaseIV int64 = 5

	keyLabelCurve int64 = -1 // OKP, EC2
	keyLabelX     int64 = -2 // OKP, EC2
	keyLabelY     int64 = -3 // EC2
	keyLabelD     int64 = -4 // OKP, EC2
	keyLabelK     int64 = -1 // Symmetric
	keyLabelPub   int64 = -1 // AKP, HSS-LMS
	keyLabelSeed  int64 = -2 // AKP
)

// Key is a COSE_Key: a public key, a private key, or a symmetric key.
//
//	COSE_Key = {
//	    1 => tstr / int,          ; kty
//	    ? 2 => bstr,              ; kid
//	    ? 3 => tstr / int,        ; alg
//	    ? 4 => [+ (tstr / int) ], ; key_ops
//	    ? 5 => bstr,              ; Base IV
//	    * label => values
//	}
//
// A Key is checked when it is made (a public point lies on its curve, a private key fits its
// public part), does not change afterwards, and is used through a pointer. Its text and log forms
// show no secrets. MarshalCBOR and MarshalPEM of a private or symmetric key do contain them.
type Key struct {
	kty    KeyType
	kid    []byte
	alg    Algorithm
	ops    []KeyOp
	curve  Curve
	x, y   []byte                  // OKP, EC2
	secret []byte                  // d of OKP and EC2, k of Symmetric, seed of AKP
	opaque []byte                  // public key of AKP and HSS-LMS
	extra  map[any]cbor.RawMessage // parameters that this package does not interpret

	public  crypto.PublicKey  // nil for Symmetric
	private crypto.PrivateKey // nil for public keys

	thumbOnce sync.Once
	thumb     []byte
}

// ParseKey reads an encoded COSE_Key. Unknown parameters are kept.
func ParseKey(data []byte) (*Key, error) {
	if len(data) > MaxKeyBytes {
		return nil, fmt.Errorf("%w: %w: a key of %d bytes, at most %d are read", ErrKey, ErrTooLarge, len(data), MaxKeyBytes)
	}
	var params map[any]cbor.RawMessage
	if err := cbor.Unmarshal(data, &params); err != nil {
		return nil, fmt.Errorf("%w: not a COSE_Key map: %w", ErrKey, err)
	}
	if params == nil {
		return nil, fmt.Errorf("%w: not a COSE_Key map", ErrKey)
	}
	return parseKeyParams(params)
}

func parseKeyParams(params map[any]cbor.RawMessage) (*Key, error) {
	k := &Key{}
	p := keyParams{rest: params}
	p.take(keyLabelType, &k.kty)
	k.kid = p.takeBytes(keyLabelID)
	p.take(keyLabelAlg, &k.alg)
	p.take(keyLabelOps, &k.ops)
	switch k.kty {
	case KeyTypeOKP, KeyTypeEC2:
		p.take(keyLabelCurve, &k.curve)
		k.x = p.takeBytes(keyLabelX)
		if k.kty == KeyTypeEC2 {
			k.takeY(&p)
		}
		k.secret = p.takeBytes(keyLabelD)
	case KeyTypeSymmetric:
		k.secret = p.takeBytes(keyLabelK)
	case KeyTypeAKP:
		k.opaque = p.takeBytes(keyLabelPub)
		k.secret = p.takeBytes(keyLabelSeed)
	case KeyTypeHSSLMS:
		k.opaque = p.takeBytes(keyLabelPub)
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := p.checkRest(); err != nil {
		return nil, err
	}
	k.extra = p.rest
	if len(k.kid) > maxKeyIDBytes {
		return nil, fmt.Errorf("%w: %w: kid of %d bytes, at most %d are read", ErrKey, ErrTooLarge, len(k.kid), maxKeyIDBytes)
	}
	return k, k.materialize()
}

// keyParams takes the interpreted parameters out of a key map; what remains is carried along.
type keyParams struct {
	rest map[any]cbor.RawMessage
	err  error
}

func (p *keyParams) take(label int64, v any) bool {
	raw, ok := p.rest[label]
	if !ok || p.err != nil {
		return false
	}
	delete(p.rest, label)
	if err := cbor.Unmarshal(raw, v); err != nil {
		p.err = fmt.Errorf("%w: parameter %d has the wrong type or is not registered as an integer", ErrKey, label)
		return false
	}
	return true
}

func (p *keyParams) takeBytes(label int64) []byte {
	raw, ok := p.rest[label]
	if !ok || p.err != nil {
		return nil
	}
	delete(p.rest, label)
	c := cursor{rest: raw}
	b, err := c.bytes("key parameter")
	if err != nil {
		p.err = fmt.Errorf("%w: parameter %d is not a byte string", ErrKey, label)
	}
	return bytes.Clone(b)
}

func (p *keyParams) checkRest() error {
	for label := range p.rest {
		if _, err := normalLabel(label); err != nil {
			return fmt.Errorf("%w: a parameter label is neither an integer nor a text", ErrKey)
		}
	}
	return nil
}

// MarshalCBOR encodes the key deterministically, with its private or symmetric part if it has one.
// Use Public first where that must not happen.
func (k *Key) MarshalCBOR() ([]byte, error) {
	params := make(map[any]any, 8+len(k.extra))
	for l, v := range k.extra {
		params[l] = v
	}
	params[keyLabelType] = k.kty
	if k.kid != nil {
		params[keyLabelID] = k.kid
	}
	if k.alg != 0 {
		params[keyLabelAlg] = k.alg
	}
	if k.ops != nil {
		params[keyLabelOps] = k.ops
	}
	switch k.kty {
	case KeyTypeOKP, KeyTypeEC2:
		params[keyLabelCurve], params[keyLabelX] = k.curve, k.x
		if k.kty == KeyTypeEC2 {
			params[keyLabelY] = k.y
		}
		if k.secret != nil {
			params[keyLabelD] = k.secret
		}
	case KeyTypeSymmetric:
		params[keyLabelK] = k.secret
	case KeyTypeAKP, KeyTypeHSSLMS:
		params[keyLabelPub] = k.opaque
		if k.secret != nil {
			params[keyLabelSeed] = k.secret
		}
	}
	out, err := cbor.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return out, nil
}

// UnmarshalCBOR is ParseKey for keys inside other structures.
func (k *Key) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseKey(data)
	if err != nil {
		return err
	}
	k.copyFrom(parsed)
	return nil
}

// copyFrom copies everything but the thumbprint, which is computed anew.
func (k *Key) copyFrom(o *Key) {
	k.thumbOnce = sync.Once{}
	k.kty, k.kid, k.alg, k.ops, k.curve = o.kty, o.kid, o.alg, o.ops, o.curve
	k.x, k.y, k.secret, k.opaque, k.extra = o.x, o.y, o.secret, o.opaque, o.extra
	k.public, k.private = o.public, o.private
}

func (k *Key) derive(change func(*Key)) *Key {
	d := new(Key)
	d.copyFrom(k)
	change(d)
	return d
}

// Public returns the key without its private part and without key_ops, which speak of the private
// part. It returns nil for a symmetric key, which has no public part.
func (k *Key) Public() *Key {
	switch {
	case k.kty == KeyTypeSymmetric:
		return nil
	case k.private == nil:
		return k
	}
	return k.derive(func(d *Key) { d.secret, d.private, d.ops, d.extra = nil, nil, nil, nil })
}

// WithKeyID returns a copy of the key with another kid, or without one for nil.
func (k *Key) WithKeyID(kid []byte) *Key {
	return k.derive(func(d *Key) { d.kid = bytes.Clone(kid) })
}

// WithAlgorithm returns a copy of the key that is restricted to alg (RFC 9052 §7.1).
func (k *Key) WithAlgorithm(alg Algorithm) (*Key, error) {
	if err := k.fits(alg); err != nil {
		return nil, err
	}
	return k.derive(func(d *Key) { d.alg = alg }), nil
}

// Type is the kty of the key.
func (k *Key) Type() KeyType { return k.kty }

// Curve is the crv of an OKP or EC2 key, zero for others.
func (k *Key) Curve() Curve { return k.curve }

// KeyID is the kid that the key declares, or nil. The caller must not modify it.
func (k *Key) KeyID() []byte { return k.kid }

// EffectiveKeyID is the kid that the key declares, or else its thumbprint; nil for a symmetric key
// without kid, because a thumbprint would reveal something about it.
func (k *Key) EffectiveKeyID() []byte {
	if k.kid != nil || k.kty == KeyTypeSymmetric {
		return k.kid
	}
	return k.Thumbprint()
}

// IsPrivate tells whether the key holds a private or symmetric part.
func (k *Key) IsPrivate() bool { return k.secret != nil || k.private != nil }

// Alg is the algorithm that the key declares, or else the natural one of its type: ESP256 for
// P-256, ESP384 for P-384, Ed25519, ECDH-ES+A128KW for X25519. It is zero for a symmetric key
// that declares none.
func (k *Key) Alg() Algorithm {
	if k.alg != 0 {
		return k.alg
	}
	switch k.curve {
	case CurveP256:
		return AlgESP256
	case CurveP384:
		return AlgESP384
	case CurveEd25519:
		return AlgEd25519
	case CurveX25519:
		return AlgECDHESA128KW
	}
	if k.kty == KeyTypeHSSLMS {
		return AlgHSSLMS
	}
	return 0
}

// Equal tells whether both keys have the same public part, or the same value when symmetric.
// Key identifiers and algorithms do not matter.
func (k *Key) Equal(o *Key) bool {
	if k == nil || o == nil {
		return k == o
	}
	return k.kty == o.kty && bytes.Equal(k.Thumbprint(), o.Thumbprint())
}

// allows tells whether key_ops, when present, permit one of the operations.
func (k *Key) allows(ops ...KeyOp) error {
	if k.ops == nil {
		return nil
	}
	for _, op := range ops {
		if slices.Contains(k.ops, op) {
			return nil
		}
	}
	return fmt.Errorf("%w: key_ops of the key do not permit this operation", ErrKey)
}

// SignsOnly tells that the key cannot be encrypted to, by its type, curve, alg or key_ops. An elliptic curve
// key that says nothing of its use, as in PEM, may serve both.
func (k *Key) SignsOnly() bool {
	switch {
	case k == nil:
		return false
	case k.kty == KeyTypeAKP, k.kty == KeyTypeHSSLMS, k.curve == CurveEd25519, k.alg.IsSignature():
		return true
	case k.kty == KeyTypeSymmetric:
		return k.ops != nil && k.allows(KeyOpEncrypt, KeyOpDecrypt, KeyOpWrapKey, KeyOpUnwrapKey) != nil
	}
	// The public key of a key agreement has an empty list (RFC 9053 §6.3.1).
	return len(k.ops) > 0 && k.allows(KeyOpDeriveKey, KeyOpDeriveBits) != nil
}

// String names the key by type and thumbprint. It shows nothing of a private or symmetric part.
func (k *Key) String() string {
	if k == nil {
		return "<no key>"
	}
	name, what := "kty "+fmt.Sprint(int64(k.kty)), "public"
	switch {
	case k.kty == KeyTypeSymmetric:
		return "symmetric key kid=" + hex.EncodeToString(k.kid)
	case k.curve == CurveP256:
		name = "P-256"
	case k.curve == CurveP384:
		name = "P-384"
	case k.curve == CurveEd25519:
		name = "Ed25519"
	case k.curve == CurveX25519:
		name = "X25519"
	case k.kty == KeyTypeAKP, k.kty == KeyTypeHSSLMS:
		name = k.Alg().String()
	}
	if k.IsPrivate() {
		what = "private"
	}
	return name + " " + what + " key " + hex.EncodeToString(k.Thumbprint())
}

// GoString keeps %#v from showing the fields.
func (k *Key) GoString() string { return "cose.Key(" + k.String() + ")" }

// Format keeps every other verb from showing the fields.
func (k *Key) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		fmt.Fprint(f, k.GoString())
		return
	}
	fmt.Fprint(f, k.String())
}

// LogValue keeps structured logs from showing the fields.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

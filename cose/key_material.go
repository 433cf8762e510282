package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"fmt"
	"io"

	"filippo.io/mldsa"
	"github.com/go-teep/teep/internal/cbor"
)

// takeY reads the y-coordinate, or the sign bit of a compressed point (RFC 9053 §7.1.1), which is
// resolved at once so that a Key always holds both coordinates.
func (k *Key) takeY(p *keyParams) {
	raw, ok := p.rest[keyLabelY]
	if !ok || p.err != nil || raw[0]>>5 == majorBytes {
		k.y = p.takeBytes(keyLabelY)
		return
	}
	var odd bool
	if p.take(keyLabelY, &odd); p.err != nil {
		return
	}
	curve, size := k.curve.elliptic()
	if curve == nil || len(k.x) != size {
		return // materialize says what is wrong
	}
	compressed := append([]byte{2}, k.x...)
	if odd {
		compressed[0] = 3
	}
	_, y := elliptic.UnmarshalCompressed(curve, compressed)
	if y == nil {
		p.err = fmt.Errorf("%w: compressed point is not on the curve", ErrKey)
		return
	}
	k.y = y.FillBytes(make([]byte, size))
}

func (c Curve) elliptic() (curve elliptic.Curve, coordinateBytes int) {
	switch c {
	case CurveP256:
		return elliptic.P256(), 32
	case CurveP384:
		return elliptic.P384(), 48
	}
	return nil, 0
}

// materialize checks the parameters and makes the keys of the standard library from them, once.
func (k *Key) materialize() error {
	var err error
	switch k.kty {
	case KeyTypeEC2:
		err = k.materializeEC2()
	case KeyTypeOKP:
		err = k.materializeOKP()
	case KeyTypeSymmetric:
		if n := len(k.secret); n < minSymmetricKeyBytes || n > maxSymmetricKeyBytes {
			return fmt.Errorf("%w: symmetric key of %d bytes, %d to %d are accepted", ErrKey, n, minSymmetricKeyBytes, maxSymmetricKeyBytes)
		}
	case KeyTypeAKP:
		err = k.materializeMLDSA()
	case KeyTypeHSSLMS:
		err = k.materializeHSSLMS()
	case 0:
		return fmt.Errorf("%w: kty is missing", ErrKey)
	default:
		return fmt.Errorf("%w: kty %d is not supported; OKP (1), EC2 (2), Symmetric (4), HSS-LMS (5) and AKP (7) are", ErrKey, k.kty)
	}
	if err == nil && k.alg != 0 {
		err = k.fits(k.alg)
	}
	return err
}

func (k *Key) materializeEC2() error {
	curve, size := k.curve.elliptic()
	if curve == nil {
		return fmt.Errorf("%w: EC2 curve %d is not supported; P-256 (1) and P-384 (2) are", ErrKey, k.curve)
	}
	if k.secret != nil {
		if len(k.secret) != size {
			return fmt.Errorf("%w: d has %d bytes, this curve needs %d", ErrKey, len(k.secret), size)
		}
		private, err := ecdsa.ParseRawPrivateKey(curve, k.secret)
		if err != nil {
			return fmt.Errorf("%w: d is not a valid scalar", ErrKey)
		}
		k.private = private
		if k.x == nil && k.y == nil { // RFC 9053 §7.1.1 only recommends them for private keys
			return k.setPoint(&private.PublicKey)
		}
	}
	if len(k.x) != size || len(k.y) != size {
		return fmt.Errorf("%w: x and y have %d and %d bytes, this curve needs %d", ErrKey, len(k.x), len(k.y), size)
	}
	point := append(append([]byte{4}, k.x...), k.y...)
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return fmt.Errorf("%w: the point is not on the curve", ErrKey)
	}
	k.public = public
	if private, ok := k.private.(*ecdsa.PrivateKey); ok && !private.PublicKey.Equal(public) {
		return fmt.Errorf("%w: d does not fit x and y", ErrKey)
	}
	return nil
}

func (k *Key) setPoint(public *ecdsa.PublicKey) error {
	point, err := public.Bytes()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	half := len(point) / 2
	k.x, k.y, k.public = point[1:1+half], point[1+half:], public
	return nil
}

func (k *Key) materializeOKP() error {
	const size = 32
	if k.curve != CurveEd25519 && k.curve != CurveX25519 {
		return fmt.Errorf("%w: OKP curve %d is not supported; X25519 (4) and Ed25519 (6) are", ErrKey, k.curve)
	}
	if k.secret != nil && len(k.secret) != size || k.x != nil && len(k.x) != size || k.x == nil && k.secret == nil {
		return fmt.Errorf("%w: x and d of this curve have %d bytes", ErrKey, size)
	}
	var x []byte
	if k.curve == CurveEd25519 {
		k.public = ed25519.PublicKey(k.x)
		if k.secret != nil {
			private := ed25519.NewKeyFromSeed(k.secret)
			x, k.private, k.public = private[size:], private, private.Public()
		}
	} else if k.secret != nil {
		private, err := ecdh.X25519().NewPrivateKey(k.secret)
		if err != nil {
			return fmt.Errorf("%w: d is not a valid scalar", ErrKey)
		}
		x, k.private, k.public = private.PublicKey().Bytes(), private, private.PublicKey()
	} else {
		public, err := ecdh.X25519().NewPublicKey(k.x)
		if err != nil {
			return fmt.Errorf("%w: x is not a valid point", ErrKey)
		}
		k.public = public
	}
	if k.x != nil && x != nil && !bytes.Equal(k.x, x) {
		return fmt.Errorf("%w: d does not fit x", ErrKey)
	}
	if k.x == nil {
		k.x = bytes.Clone(x)
	}
	return nil
}

// fits tells whether an algorithm may be used with this type of key.
func (k *Key) fits(alg Algorithm) error {
	if k == nil {
		return fmt.Errorf("%w: no key for %v", ErrKey, alg)
	}
	ok := false
	switch alg.specific() {
	case AlgESP256:
		ok = k.kty == KeyTypeEC2 && k.curve == CurveP256
	case AlgESP384:
		ok = k.kty == KeyTypeEC2 && k.curve == CurveP384
	case AlgEd25519:
		ok = k.kty == KeyTypeOKP && k.curve == CurveEd25519
	case AlgECDHESA128KW, AlgECDHESA256KW:
		ok = k.kty == KeyTypeEC2 || k.curve == CurveX25519
	case AlgA128GCM, AlgA128CTR, AlgA128KW:
		ok = k.kty == KeyTypeSymmetric && len(k.secret) == 16
	case AlgA256GCM, AlgA256CTR, AlgA256KW, AlgChaCha20Poly1305:
		ok = k.kty == KeyTypeSymmetric && len(k.secret) == 32
	case AlgHMAC256, AlgDirect:
		ok = k.kty == KeyTypeSymmetric
	case AlgMLDSA65:
		ok = k.kty == KeyTypeAKP
	case AlgHSSLMS:
		ok = k.kty == KeyTypeHSSLMS
	default:
		return fmt.Errorf("%w %v is not supported with keys", ErrAlgorithm, alg)
	}
	if !ok {
		return fmt.Errorf("%w %v does not fit a key of kty %d, curve %d", ErrAlgorithm, alg, k.kty, k.curve)
	}
	if k.alg != 0 && k.alg.specific() != alg.specific() {
		return fmt.Errorf("%w %v: the key is restricted to %v", ErrAlgorithm, alg, k.alg)
	}
	return nil
}

// NewPublicKey makes a Key from an *ecdsa.PublicKey (P-256 or P-384), an ed25519.PublicKey, an
// *ecdh.PublicKey (P-256, P-384 or X25519) or an *mldsa.PublicKey (ML-DSA-65).
func NewPublicKey(public crypto.PublicKey) (*Key, error) {
	k := &Key{}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p == nil || k.setCurve(p.Curve) != nil {
			return nil, fmt.Errorf("%w: this elliptic curve is not supported; P-256 and P-384 are", ErrKey)
		}
		if err := k.setPoint(p); err != nil {
			return nil, err
		}
	case ed25519.PublicKey:
		k.kty, k.curve, k.x = KeyTypeOKP, CurveEd25519, bytes.Clone(p)
	case *ecdh.PublicKey:
		if err := k.setECDH(p); err != nil {
			return nil, err
		}
	case *mldsa.PublicKey:
		k.kty, k.alg, k.opaque = KeyTypeAKP, AlgMLDSA65, p.Bytes()
	default:
		return nil, fmt.Errorf("%w: public keys of type %T are not supported; P-256, P-384, Ed25519, X25519 and ML-DSA-65 are", ErrKey, public)
	}
	return k, k.materialize()
}

func (k *Key) setCurve(curve elliptic.Curve) error {
	k.kty = KeyTypeEC2
	switch curve {
	case elliptic.P256():
		k.curve = CurveP256
	case elliptic.P384():
		k.curve = CurveP384
	default:
		return ErrKey
	}
	return nil
}

func (k *Key) setECDH(p *ecdh.PublicKey) error {
	raw := p.Bytes()
	switch p.Curve() {
	case ecdh.X25519():
		k.kty, k.curve, k.x = KeyTypeOKP, CurveX25519, raw
		return nil
	case ecdh.P256():
		k.curve = CurveP256
	case ecdh.P384():
		k.curve = CurveP384
	default:
		return fmt.Errorf("%w: this ECDH curve is not supported; P-256, P-384 and X25519 are", ErrKey)
	}
	half := len(raw) / 2
	k.kty, k.x, k.y = KeyTypeEC2, raw[1:1+half], raw[1+half:]
	return nil
}

// NewPrivateKey makes a Key from an *ecdsa.PrivateKey, an ed25519.PrivateKey, an *ecdh.PrivateKey
// or an *mldsa.PrivateKey, of the curves that NewPublicKey takes.
func NewPrivateKey(private crypto.PrivateKey) (*Key, error) {
	var k *Key
	var secret []byte
	var err error
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		if k, err = NewPublicKey(&p.PublicKey); err == nil {
			secret, err = p.Bytes()
		}
	case ed25519.PrivateKey:
		if len(p) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("%w: an Ed25519 private key of %d bytes", ErrKey, len(p))
		}
		k, err = NewPublicKey(p.Public())
		secret = p.Seed()
	case *ecdh.PrivateKey:
		k, err = NewPublicKey(p.PublicKey())
		secret = p.Bytes()
	case *mldsa.PrivateKey:
		k, err = NewPublicKey(p.PublicKey())
		secret = p.Bytes()
	default:
		return nil, fmt.Errorf("%w: private keys of type %T are not supported; P-256, P-384, Ed25519, X25519 and ML-DSA-65 are", ErrKey, private)
	}
	if err != nil {
		return nil, err
	}
	k.secret = secret
	return k, k.materialize()
}

// NewSymmetricKey makes a Key from 16 to 1024 bytes, which are copied. It panics for any other
// length, because a key of a wrong length is a fault of the program, not of its input: read keys
// from outside with ParseKey.
func NewSymmetricKey(secret []byte) *Key {
	k := &Key{kty: KeyTypeSymmetric, secret: bytes.Clone(secret)}
	if err := k.materialize(); err != nil {
		panic(err)
	}
	return k
}

// GenerateKey makes a fresh key for alg from rand: a private key for a signature algorithm, a
// P-256 private key for ECDH-ES, a symmetric key for the others. The key is restricted to alg,
// except that the natural algorithm of its type is not written into it.
func GenerateKey(rand io.Reader, alg Algorithm) (*Key, error) {
	k, err := generate(rand, alg)
	if err != nil {
		return nil, err
	}
	if k.Alg() != alg {
		return k.WithAlgorithm(alg)
	}
	return k, nil
}

func generate(rand io.Reader, alg Algorithm) (*Key, error) {
	switch alg.specific() {
	case AlgESP256, AlgECDHESA128KW, AlgECDHESA256KW:
		return generateEC2(rand, CurveP256)
	case AlgESP384:
		return generateEC2(rand, CurveP384)
	case AlgEd25519:
		return generateSecret(rand, &Key{kty: KeyTypeOKP, curve: CurveEd25519}, ed25519.SeedSize)
	case AlgMLDSA65:
		return generateSecret(rand, &Key{kty: KeyTypeAKP, alg: AlgMLDSA65}, mldsa.PrivateKeySize)
	case AlgHMAC256, AlgA256GCM, AlgA256CTR, AlgA256KW, AlgChaCha20Poly1305:
		return generateSecret(rand, &Key{kty: KeyTypeSymmetric}, 32)
	case AlgA128GCM, AlgA128CTR, AlgA128KW:
		return generateSecret(rand, &Key{kty: KeyTypeSymmetric}, 16)
	}
	return nil, fmt.Errorf("%w: keys for %v cannot be generated", ErrAlgorithm, alg)
}

func generateSecret(rand io.Reader, k *Key, size int) (*Key, error) {
	k.secret = make([]byte, size)
	if _, err := io.ReadFull(rand, k.secret); err != nil {
		return nil, fmt.Errorf("%w: reading randomness: %w", ErrKey, err)
	}
	return k, k.materialize()
}

// generateEC2 draws scalars until one is in range. The standard library's generators ignore the
// reader that they are given, and keys that come from a caller's generator must really come from it.
func generateEC2(rand io.Reader, curve Curve) (*Key, error) {
	_, size := curve.elliptic()
	for range 64 { // for P-256 and P-384 a single draw misses with a probability below 2^-32
		k, err := generateSecret(rand, &Key{kty: KeyTypeEC2, curve: curve}, size)
		if k == nil || err == nil {
			return k, err
		}
	}
	return nil, fmt.Errorf("%w: the source of randomness does not yield a valid scalar", ErrKey)
}

// CryptoPublic returns the public part as an *ecdsa.PublicKey, ed25519.PublicKey, *ecdh.PublicKey
// (X25519) or *mldsa.PublicKey.
func (k *Key) CryptoPublic() (crypto.PublicKey, error) {
	if k.public == nil {
		return nil, fmt.Errorf("%w: a key of kty %d has no public key in the standard library's terms", ErrKey, k.kty)
	}
	return k.public, nil
}

// CryptoPrivate returns the private part as an *ecdsa.PrivateKey, ed25519.PrivateKey,
// *ecdh.PrivateKey (X25519) or *mldsa.PrivateKey.
func (k *Key) CryptoPrivate() (crypto.PrivateKey, error) {
	if k.private == nil {
		return nil, fmt.Errorf("%w: this is not a private key", ErrKey)
	}
	return k.private, nil
}

// Symmetric returns the value of a symmetric key. The caller must not modify it.
func (k *Key) Symmetric() ([]byte, error) {
	if k.kty != KeyTypeSymmetric {
		return nil, fmt.Errorf("%w: this is not a symmetric key", ErrKey)
	}
	return k.secret, nil
}

// ParseKeySetCBOR reads a COSE_KeySet (RFC 9052 §7): an array of keys. Keys of types that this
// package does not support are refused like malformed ones.
func ParseKeySetCBOR(data []byte) ([]*Key, error) {
	var raw []cbor.RawMessage
	if err := cbor.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%w: not a COSE_KeySet: %w", ErrKey, err)
	}
	keys := make([]*Key, len(raw))
	for i, r := range raw {
		k, err := ParseKey(r)
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i, err)
		}
		keys[i] = k
	}
	return keys, nil
}

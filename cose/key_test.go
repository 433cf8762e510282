package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
)

func allKeyAlgorithms() []cose.Algorithm {
	return []cose.Algorithm{
		cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgMLDSA65, cose.AlgECDHESA128KW, cose.AlgECDHESA256KW,
		cose.AlgHMAC256, cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgA128KW, cose.AlgA256KW, cose.AlgChaCha20Poly1305,
		cose.AlgA128CTR, cose.AlgA256CTR, cose.AlgES256, cose.AlgES384, cose.AlgEdDSA,
	}
}

func TestKeyRoundTrip(t *testing.T) {
	for _, alg := range allKeyAlgorithms() {
		k := newKey(t, alg, 5).WithKeyID([]byte("some kid"))
		if k.Alg() != alg || !k.IsPrivate() {
			t.Errorf("%v: generated %v", alg, k)
		}
		variants := []*cose.Key{k}
		if public := k.Public(); public != nil {
			if public.IsPrivate() || !public.Equal(k) {
				t.Errorf("%v: public part %v", alg, public)
			}
			variants = append(variants, public)
		}
		for _, v := range variants {
			encoded, err := v.MarshalCBOR()
			if err != nil {
				t.Fatal(err)
			}
			back, err := cose.ParseKey(encoded)
			if err != nil {
				t.Fatalf("%v: %v", alg, err)
			}
			again, err := back.MarshalCBOR()
			if err != nil || !bytes.Equal(again, encoded) || !back.Equal(v) || back.Alg() != alg || back.IsPrivate() != v.IsPrivate() {
				t.Errorf("%v: %x became %x (%v)", alg, encoded, again, err)
			}
		}
	}
}

// The same reader gives the same key: keys really come from the randomness that was passed in.
func TestGenerateKeyUsesTheReader(t *testing.T) {
	for _, alg := range allKeyAlgorithms() {
		if !newKey(t, alg, 1).Equal(newKey(t, alg, 1)) {
			t.Errorf("%v: same randomness, another key", alg)
		}
		if newKey(t, alg, 1).Equal(newKey(t, alg, 2)) {
			t.Errorf("%v: other randomness, same key", alg)
		}
		if _, err := cose.GenerateKey(bytes.NewReader(make([]byte, 7)), alg); !errors.Is(err, cose.ErrKey) {
			t.Errorf("%v: short randomness: %v", alg, err)
		}
	}
	_, err := cose.GenerateKey(bytes.NewReader(make([]byte, 1<<16)), cose.AlgESP256)
	wantErr(t, err, cose.ErrKey) // zero is not a scalar
	_, err = cose.GenerateKey(rand.Reader, cose.AlgHSSLMS)
	wantErr(t, err, cose.ErrAlgorithm)
}

func TestPEMRoundTrip(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgMLDSA65} {
		k := newKey(t, alg, 6)
		for _, v := range []*cose.Key{k, k.Public()} {
			text, err := v.MarshalPEM()
			if err != nil {
				t.Fatal(err)
			}
			back, err := cose.ParsePEM(text)
			if err != nil || !back.Equal(v) || back.IsPrivate() != v.IsPrivate() || back.Alg() != alg {
				t.Errorf("%v: %v, %v", alg, back, err)
			}
		}
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := cose.NewPrivateKey(x)
	if err != nil || k.Curve() != cose.CurveX25519 {
		t.Fatal(err)
	}
	text, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := cose.ParsePEM(text); err != nil || !back.Equal(k) {
		t.Errorf("X25519: %v, %v", back, err)
	}
	_, err = newKey(t, cose.AlgHMAC256, 1).MarshalPEM()
	wantErr(t, err, cose.ErrKey)
}

func TestParsePEMRefused(t *testing.T) {
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p224)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}})
	for name, tt := range map[string]struct {
		data []byte
		text string
	}{
		"nothing":        {nil, "no PEM block"},
		"not PEM":        {[]byte("ssh-ed25519 AAAA"), "no PEM block"},
		"parameters":     {block("EC PARAMETERS", []byte{1}), "no PEM block"},
		"P-224":          {block("EC PRIVATE KEY", sec1), "P-256 and P-384"},
		"RSA":            {block("PUBLIC KEY", pkix), "not supported"},
		"RSA PKCS #1":    {block("RSA PRIVATE KEY", []byte{1}), "pkcs8"},
		"certificate":    {block("CERTIFICATE", []byte{1}), "-pubkey"},
		"encrypted":      {block("ENCRYPTED PRIVATE KEY", []byte{1}), "passphrase"},
		"encrypted SEC1": {encrypted, "passphrase"},
		"garbage PKCS8":  {block("PRIVATE KEY", []byte("secret")), "PKCS #8"},
		"garbage PKIX":   {block("PUBLIC KEY", []byte{1, 2}), "PKIX"},
		"garbage SEC1":   {block("EC PRIVATE KEY", []byte("secret")), "SEC 1"},
		"too large":      {bytes.Repeat([]byte("-"), cose.MaxKeyBytes+1), "over the limit"},
	} {
		_, err := cose.ParsePEM(tt.data)
		if !errors.Is(err, cose.ErrKey) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseKeyRefused(t *testing.T) {
	good := rfcKeyMeriadoc(t)
	encoded, err := good.Public().MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	x := unhex(t, "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
	y := unhex(t, "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
	one := append(make([]byte, 31), 1)
	type m = map[any]any
	for name, v := range map[string]any{
		"not a map":                 []int{1},
		"null":                      nil,
		"empty":                     m{},
		"kty text":                  m{1: "EC2"},
		"kty unknown":               m{1: 3},
		"EC2 without anything":      m{1: 2},
		"EC2 without y":             m{1: 2, -1: 1, -2: x},
		"EC2 point off the curve":   m{1: 2, -1: 1, -2: x, -3: x},
		"EC2 compressed off curve":  m{1: 2, -1: 1, -2: bytes.Repeat([]byte{0xff}, 32), -3: true},
		"EC2 y is a number":         m{1: 2, -1: 1, -2: x, -3: 1},
		"EC2 P-521":                 m{1: 2, -1: 3, -2: x, -3: y},
		"EC2 short x":               m{1: 2, -1: 1, -2: x[1:], -3: y},
		"EC2 wrong curve":           m{1: 2, -1: 2, -2: x, -3: y},
		"EC2 d of another key":      m{1: 2, -1: 1, -2: x, -3: y, -4: one},
		"EC2 d zero":                m{1: 2, -1: 1, -2: x, -3: y, -4: make([]byte, 32)},
		"EC2 d is the order":        m{1: 2, -1: 1, -2: x, -3: y, -4: p256Order().Bytes()},
		"EC2 short d":               m{1: 2, -1: 1, -2: x, -3: y, -4: []byte{1}},
		"EC2 with an OKP algorithm": m{1: 2, 3: -19, -1: 1, -2: x, -3: y},
		"EC2 with unknown alg":      m{1: 2, 3: -4711, -1: 1, -2: x, -3: y},
		"EC2 with text alg":         m{1: 2, 3: "ES256", -1: 1, -2: x, -3: y},
		"kid text":                  m{1: 2, 2: "kid", -1: 1, -2: x, -3: y},
		"kid too long":              m{1: 2, 2: make([]byte, 2000), -1: 1, -2: x, -3: y},
		"key_ops text":              m{1: 2, 4: []string{"sign"}, -1: 1, -2: x, -3: y},
		"label is a boolean":        m{1: 2, -1: 1, -2: x, -3: y, true: 1},
		"OKP without x":             m{1: 1, -1: 6},
		"OKP short x":               m{1: 1, -1: 6, -2: x[1:]},
		"OKP Ed448":                 m{1: 1, -1: 7, -2: x},
		"OKP d of another key":      m{1: 1, -1: 6, -2: x, -4: y},
		"OKP X25519 d of another":   m{1: 1, -1: 4, -2: x, -4: y},
		"symmetric without k":       m{1: 4},
		"symmetric short":           m{1: 4, -1: make([]byte, 15)},
		"symmetric long":            m{1: 4, -1: make([]byte, 1025)},
		"symmetric wrong size":      m{1: 4, 3: 1, -1: make([]byte, 32)},
		"AKP without alg":           m{1: 7, -1: make([]byte, 1952)},
		"AKP of another alg":        m{1: 7, 3: -48, -1: make([]byte, 1312)},
		"AKP short":                 m{1: 7, 3: -49, -1: make([]byte, 1951)},
		"AKP short seed":            m{1: 7, 3: -49, -2: make([]byte, 31)},
		"AKP seed of another key":   m{1: 7, 3: -49, -1: make([]byte, 1952), -2: make([]byte, 32)},
		"too large":                 m{1: 2, -1: 1, -2: x, -3: y, 99: make([]byte, cose.MaxKeyBytes)},
	} {
		if k, err := cose.ParseKey(mustEncode(t, v)); err == nil {
			t.Errorf("%s: accepted as %v", name, k)
		} else if !errors.Is(err, cose.ErrKey) && !errors.Is(err, cose.ErrAlgorithm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range encoded {
		if _, err := cose.ParseKey(encoded[:n]); !errors.Is(err, cose.ErrKey) {
			t.Errorf("truncated to %d: %v", n, err)
		}
	}
	_, err = cose.ParseKey(append(bytes.Clone(encoded), 0))
	wantErr(t, err, cose.ErrKey)
}

func TestCompressedAndPartialKeys(t *testing.T) {
	k := rfcKeyMeriadoc(t)
	x := unhex(t, "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
	d := unhex(t, "aff907c99f9ad3aae6c4cdf21122bce2bd68b5283e6907154ad911840fa208cf")
	for name, v := range map[string]map[int]any{
		"compressed": {1: 2, -1: 1, -2: x, -3: false},
		"only d":     {1: 2, -1: 1, -4: d},
	} {
		got, err := cose.ParseKey(mustEncode(t, v))
		if err != nil || !got.Equal(k) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	other, err := cose.ParseKey(mustEncode(t, map[int]any{1: 2, -1: 1, -2: x, -3: true}))
	if err != nil || other.Equal(k) {
		t.Errorf("the other point: %v", err)
	}
	extra, err := cose.ParseKey(mustEncode(t, map[any]any{1: 2, -1: 1, -4: d, "label": "kept", -70000: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if encoded, err := extra.MarshalCBOR(); err != nil || !bytes.Contains(encoded, []byte("kept")) {
		t.Errorf("unknown parameters are lost: %x, %v", encoded, err)
	}
}

func TestKeyOpsAreEnforced(t *testing.T) {
	x := rfcKeyMeriadoc(t)
	d := unhex(t, "aff907c99f9ad3aae6c4cdf21122bce2bd68b5283e6907154ad911840fa208cf")
	onlyDerive, err := cose.ParseKey(mustEncode(t, map[int]any{1: 2, -1: 1, -4: d, 4: []cose.KeyOp{cose.KeyOpDeriveKey}}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = onlyDerive.Signer()
	wantErr(t, err, cose.ErrKey)
	onlySign, err := cose.ParseKey(mustEncode(t, map[int]any{1: 2, -1: 1, -4: d, 4: []cose.KeyOp{cose.KeyOpSign}}))
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := cose.Encrypt(rand.Reader, []byte("p"), cose.AlgA128GCM, []cose.Recipient{cose.ECDHESRecipient(x.Public(), "")}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{onlySign}, cose.DecryptOptions{})
	wantErr(t, err, cose.ErrKey)
	verifyOnly, err := cose.ParseKey(mustEncode(t, map[int]any{1: 4, -1: make([]byte, 32), 4: []cose.KeyOp{cose.KeyOpMACVerify}}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = cose.Mac0(nil, verifyOnly, cose.SignOptions{})
	wantErr(t, err, cose.ErrKey)
	if _, err := verifyOnly.Verifier(); err != nil {
		t.Error(err)
	}
}

func TestRestrictedKeys(t *testing.T) {
	k := newKey(t, cose.AlgECDHESA128KW, 1)
	_, err := k.Signer()
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = k.SignerFor(cose.AlgESP256)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = k.VerifierFor(cose.AlgESP256)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewKeySet(k)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewKeySet(nil)
	wantErr(t, err, cose.ErrKey)
	_, err = newKey(t, cose.AlgESP256, 1).Public().Signer()
	wantErr(t, err, cose.ErrKey)
	_, err = newKey(t, cose.AlgESP256, 1).WithAlgorithm(cose.AlgEd25519)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = newKey(t, cose.AlgESP256, 1).Public().CryptoPrivate()
	wantErr(t, err, cose.ErrKey)
	_, err = newKey(t, cose.AlgHMAC256, 1).CryptoPublic()
	wantErr(t, err, cose.ErrKey)
	_, err = newKey(t, cose.AlgESP256, 1).Symmetric()
	wantErr(t, err, cose.ErrKey)
	_, err = cose.NewPublicKey("text")
	wantErr(t, err, cose.ErrKey)
	_, err = cose.NewPrivateKey(nil)
	wantErr(t, err, cose.ErrKey)
}

// No verb, and no logger, shows a secret.
func TestKeysDoNotShowSecrets(t *testing.T) {
	for _, alg := range allKeyAlgorithms() {
		k := newKey(t, alg, 8)
		encoded, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k)
		text := log.String()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			text += fmt.Sprintf(verb, k) + "\n"
		}
		if len(text) > 2000 {
			t.Errorf("%v: %d characters", alg, len(text))
		}
		for i := 0; i+8 <= len(encoded); i++ {
			if window := fmt.Sprintf("%x", encoded[i:i+8]); strings.Contains(text, window) && !strings.Contains(fmt.Sprintf("%x", k.Thumbprint()), window) {
				t.Fatalf("%v: shows part of the key", alg)
			}
		}
	}
}

// A Key variable that is decoded into twice is the second key, thumbprint included.
func TestUnmarshalCBORTwice(t *testing.T) {
	var k cose.Key
	for seed := range byte(2) {
		want := newKey(t, cose.AlgESP256, seed)
		if err := k.UnmarshalCBOR(mustEncode(t, want)); err != nil || !k.Equal(want) {
			t.Errorf("%v, %v", &k, err)
		}
	}
}

func TestParseKeySet(t *testing.T) {
	a, b := newKey(t, cose.AlgESP256, 1), newKey(t, cose.AlgEd25519, 2)
	keys, err := cose.ParseKeySetCBOR(mustEncode(t, []*cose.Key{a, b}))
	if err != nil || len(keys) != 2 || !keys[0].Equal(a) || !keys[1].Equal(b) {
		t.Errorf("%v, %v", keys, err)
	}
	_, err = cose.ParseKeySetCBOR(mustEncode(t, []any{a, map[int]int{1: 3}}))
	wantErr(t, err, cose.ErrKey)
	_, err = cose.ParseKeySetCBOR(mustEncode(t, a))
	wantErr(t, err, cose.ErrKey)
}

func TestAlgorithmNames(t *testing.T) {
	for _, alg := range allKeyAlgorithms() {
		if back, err := cose.ParseAlgorithm(alg.String()); err != nil || back != alg {
			t.Errorf("%v: %v, %v", alg, back, err)
		}
	}
	_, err := cose.ParseAlgorithm("ROT13")
	wantErr(t, err, cose.ErrAlgorithm)
	if s := cose.Algorithm(-4711).String(); s != "-4711" {
		t.Error(s)
	}
}

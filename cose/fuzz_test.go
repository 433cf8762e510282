package cose_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
)

// haveVectors keeps fuzz targets useful in a checkout without the vectors.
func haveVectors() bool {
	_, err := os.Stat("../../shared/vectors")
	return err == nil || os.Getenv("TEEP_VECTORS") != ""
}

// A message that verifies says what was signed, whatever else was done to it.
func FuzzVerify(f *testing.F) {
	k := newKey(f, cose.AlgEd25519, 1)
	mac := cose.NewSymmetricKey(make([]byte, 32))
	set := newSet(f, k, mac)
	f.Add(sign1(f, k, "payload", cose.SignOptions{}))
	f.Add(sign1(f, k, "payload", cose.SignOptions{Untagged: true, ContentType: "a/b", X5Chain: [][]byte{{1}, {2}}}))
	multi, err := cose.SignMulti(rand.Reader, []byte("payload"), []cose.Signer{newSigner(f, k)}, cose.SignOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(multi)
	tagged, err := cose.Mac0([]byte("payload"), mac, cose.SignOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tagged)
	if haveVectors() {
		for _, name := range vectors.Names(f, "teep-es256", "_cose.cbor") {
			f.Add(vectors.Read(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		for _, verify := range []func([]byte, cose.KeySource, cose.VerifyOptions) (*cose.Verified, error){cose.Verify, cose.VerifyMac0} {
			v, err := verify(msg, set, cose.VerifyOptions{})
			if (err == nil) != (v != nil) {
				t.Fatalf("%v, %v", v, err)
			}
			if err == nil && string(v.Payload) != "payload" {
				t.Fatalf("a forgery verified: %x", v.Payload)
			}
		}
		if p, err := cose.UnverifiedPayload(msg); err == nil && !bytes.Contains(msg, p) {
			t.Fatal("payload is not in the message")
		}
		if body, _, err := cose.UnverifiedHeaders(msg); err == nil {
			_, _ = body.X5Chain()
			_, _, _, _ = body.KeyID(), body.ContentType(), body.IV(), body.Protected.Algorithm()
			headersAreStable(t, body.Protected)
			headersAreStable(t, body.Unprotected)
		}
		if !bytes.Equal(msg, before) {
			t.Fatal("the message was modified")
		}
	})
}

// headersAreStable: what was parsed encodes to what parses to the same.
func headersAreStable(t *testing.T, h cose.Header) {
	t.Helper()
	first, err := h.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	var again cose.Header
	if err := again.UnmarshalCBOR(first); err != nil {
		t.Fatalf("%x: %v", first, err)
	}
	second, err := again.MarshalCBOR()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%x became %x (%v)", first, second, err)
	}
}

// A key that parses encodes to a key that is the same and encodes the same.
func FuzzParseKey(f *testing.F) {
	for _, alg := range allKeyAlgorithms() {
		k := newKey(f, alg, 1)
		f.Add(must(k.WithKeyID([]byte("kid")).MarshalCBOR()))
		if public := k.Public(); public != nil {
			f.Add(must(public.MarshalCBOR()))
		}
		if text, err := k.MarshalPEM(); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := cose.ParsePEM(data); err == nil {
			keyIsStable(t, k)
		}
		if k, err := cose.ParseKey(data); err == nil {
			keyIsStable(t, k)
		}
	})
}

func keyIsStable(t *testing.T, k *cose.Key) {
	t.Helper()
	first, err := k.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	back, err := cose.ParseKey(first)
	if err != nil {
		t.Fatalf("%x: %v", first, err)
	}
	second, err := back.MarshalCBOR()
	if err != nil || !bytes.Equal(first, second) || !back.Equal(k) || back.IsPrivate() != k.IsPrivate() {
		t.Fatalf("%x became %x (%v)", first, second, err)
	}
	_, _ = k.Signer()
	_, _ = k.Verifier()
	_ = k.String()
}

// What decrypts is what was encrypted, for the authenticated algorithms.
func FuzzDecrypt(f *testing.F) {
	kek, ecdh, direct := newKey(f, cose.AlgA128KW, 1), newKey(f, cose.AlgECDHESA128KW, 2), newKey(f, cose.AlgA128GCM, 3)
	keys := cose.DecryptKeys{kek, ecdh}
	to := []cose.Recipient{cose.A128KWRecipient(kek), cose.ECDHESRecipient(ecdh.Public(), "o")}
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgChaCha20Poly1305} {
		msg, _, err := cose.Encrypt(rand.Reader, []byte("plaintext"), alg, to, cose.EncryptOptions{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
	}
	msg, _, err := cose.Encrypt0(rand.Reader, []byte("plaintext"), direct, cose.AlgA128GCM, cose.EncryptOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	if haveVectors() {
		for _, name := range vectors.Names(f, "suit-encryption", "info-es-ecdh-aes-gcm.hex") {
			f.Add(vectors.Hex(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		for _, detached := range [][]byte{nil, []byte("a detached ciphertext")} {
			if p, err := cose.Decrypt(msg, detached, keys, cose.DecryptOptions{KDFOther: "o"}); err == nil && string(p) != "plaintext" {
				t.Fatalf("a forgery decrypted: %x", p)
			}
			if p, err := cose.Decrypt0(msg, detached, direct, cose.DecryptOptions{}); err == nil && string(p) != "plaintext" {
				t.Fatalf("a forgery decrypted: %x", p)
			}
			_, _ = cose.Decrypt(msg, detached, keys, cose.DecryptOptions{KDFOther: "o", Algorithms: contentAlgorithms()})
		}
		if m, err := cose.ParseEncrypt(msg); err == nil {
			if len(m.RecipientKeyIDs()) != m.Recipients() || m.Recipients() == 0 {
				t.Fatal("recipients do not count")
			}
			headersAreStable(t, m.Headers.Protected)
			headersAreStable(t, m.Headers.Unprotected)
		}
		if !bytes.Equal(msg, before) {
			t.Fatal("the message was modified")
		}
	})
}

package cose_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/vectors"
)

const suitPlaintext = "This is a real firmware image."

func suitKeys(t *testing.T) cose.DecryptKeys {
	return cose.DecryptKeys{
		cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16)).WithKeyID([]byte("kid-1")),
		vectorKey(t, "teep_agent"),
	}
}

func suitDecryptOptions() cose.DecryptOptions {
	return cose.DecryptOptions{
		KDFOther:   "SUIT Payload Encryption",
		Algorithms: []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR},
	}
}

// The four examples of suit-firmware-encryption, in memory and as streams.
func TestSUITEncryptionVectors(t *testing.T) {
	for _, name := range []string{"aes-kw-aes-ctr", "aes-kw-aes-gcm", "es-ecdh-aes-ctr", "es-ecdh-aes-gcm"} {
		t.Run(name, func(t *testing.T) {
			info := vectors.Hex(t, "suit-encryption/suit-encryption-info-"+name+".hex")
			ciphertext := vectors.Hex(t, "suit-encryption/encrypted-payload-"+name+".hex")
			plaintext, err := cose.Decrypt(info, ciphertext, suitKeys(t), suitDecryptOptions())
			if err != nil || string(plaintext) != suitPlaintext {
				t.Fatalf("plaintext %q, error %v", plaintext, err)
			}

			m, err := cose.ParseEncrypt(info)
			if err != nil {
				t.Fatal(err)
			}
			key, err := m.ContentKey(suitKeys(t), suitDecryptOptions())
			if err != nil {
				t.Fatal(err)
			}
			r, err := cose.NewContentReader(m.Algorithm(), key, m.IV(), m.AAD(nil), bytes.NewReader(ciphertext), int64(len(ciphertext)))
			if err != nil {
				t.Fatal(err)
			}
			if streamed, err := io.ReadAll(r); err != nil || string(streamed) != suitPlaintext {
				t.Fatalf("streamed %q, error %v", streamed, err)
			}
		})
	}
}

func TestSUITEncryptionVectorsRefused(t *testing.T) {
	read := func(name string) (info, ciphertext []byte) {
		return vectors.Hex(t, "suit-encryption/suit-encryption-info-"+name+".hex"),
			vectors.Hex(t, "suit-encryption/encrypted-payload-"+name+".hex")
	}
	other := suitDecryptOptions()
	other.KDFOther = "SUIT Report Encryption"
	info, ciphertext := read("es-ecdh-aes-gcm")
	_, err := cose.Decrypt(info, ciphertext, suitKeys(t), other)
	wantErr(t, err, cose.ErrDecrypt)

	// AES-CTR authenticates nothing and has to be asked for.
	info, ciphertext = read("aes-kw-aes-ctr")
	secure := suitDecryptOptions()
	secure.Algorithms = nil
	_, err = cose.Decrypt(info, ciphertext, suitKeys(t), secure)
	wantErr(t, err, cose.ErrAlgorithm)

	info, ciphertext = read("aes-kw-aes-gcm")
	_, err = cose.Decrypt(info, ciphertext, cose.DecryptKeys{vectorKey(t, "tam")}, suitDecryptOptions())
	wantErr(t, err, cose.ErrNoKey)
	wrong := cose.NewSymmetricKey(bytes.Repeat([]byte("b"), 16)).WithKeyID([]byte("kid-1"))
	_, err = cose.Decrypt(info, ciphertext, cose.DecryptKeys{wrong}, suitDecryptOptions())
	wantErr(t, err, cose.ErrDecrypt)
	_, err = cose.Decrypt(info, nil, suitKeys(t), suitDecryptOptions())
	wantErr(t, err, cose.ErrPayload)
	for i := range ciphertext {
		_, err = cose.Decrypt(info, flip(ciphertext, i, 0), suitKeys(t), suitDecryptOptions())
		wantErr(t, err, cose.ErrDecrypt)
	}
}

// authBlocks returns the digest and the COSE objects of a SUIT envelope's authentication wrapper.
func authBlocks(t *testing.T, envelope []byte) (digest []byte, blocks [][]byte) {
	t.Helper()
	var tag cbor.RawTag
	if cbor.Unmarshal(envelope, &tag) == nil {
		envelope = tag.Content
	}
	var members map[any]cbor.RawMessage
	if err := cbor.Unmarshal(envelope, &members); err != nil {
		t.Fatal(err)
	}
	var wrapper []byte
	if err := cbor.Unmarshal(members[int64(2)], &wrapper); err != nil {
		t.Fatal(err)
	}
	var items [][]byte
	if err := cbor.Unmarshal(wrapper, &items); err != nil || len(items) < 2 {
		t.Fatalf("authentication wrapper: %v", err)
	}
	return items[0], items[1:]
}

func TestSUITSignatureVectors(t *testing.T) {
	keys := newSet(t, vectorKey(t, "trust_anchor"))
	wrong := newSet(t, vectorKey(t, "tam"))
	names := vectors.Names(t, "suit", ".suit")
	names = append(names, vectors.Names(t, "suit-trust-domains", ".suit")...)
	for _, name := range names {
		digest, blocks := authBlocks(t, vectors.Read(t, name))
		for _, block := range blocks {
			v, err := cose.Verify(block, keys, cose.VerifyOptions{DetachedPayload: digest})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if v.Algorithm != cose.AlgESP256 || !v.Key.Equal(vectorKey(t, "trust_anchor")) {
				t.Errorf("%s: verified as %v by %v", name, v.Algorithm, v.Key)
			}
			_, err = cose.Verify(block, wrong, cose.VerifyOptions{DetachedPayload: digest})
			wantErr(t, err, cose.ErrSignature)
			_, err = cose.Verify(block, keys, cose.VerifyOptions{DetachedPayload: flip(digest, 5, 1)})
			wantErr(t, err, cose.ErrSignature)
		}
	}
}

// Older peers sign with -7 and name the signer by thumbprint.
func TestOlderPeerVectors(t *testing.T) {
	keys := newSet(t, vectorKey(t, "tam"), vectorKey(t, "teep_agent"), vectorKey(t, "verifier"))
	older := cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgES256}}
	for _, name := range vectors.Names(t, "teep-es256", "_cose.cbor") {
		msg := vectors.Read(t, name)
		v, err := cose.Verify(msg, keys, older)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(v.Key.Thumbprint(), v.Headers.KeyID()) || v.Algorithm != cose.AlgES256 {
			t.Errorf("%s: key %v for kid %x, algorithm %v", name, v.Key, v.Headers.KeyID(), v.Algorithm)
		}
		want := vectors.Read(t, strings.Replace(name, "_cose.cbor", ".cbor", 1))
		if !bytes.Equal(v.Payload, want) {
			t.Errorf("%s: payload is not that of the unprotected message", name)
		}
		_, err = cose.Verify(msg, keys, cose.VerifyOptions{})
		wantErr(t, err, cose.ErrAlgorithm)
		_, err = cose.Verify(msg, newSet(t, newKey(t, cose.AlgESP256, 1)), older)
		wantErr(t, err, cose.ErrUnknownSigner)
	}
}

// RFC 9679 §6.
func TestThumbprintVector(t *testing.T) {
	k := rfcKeyMeriadoc(t)
	const want = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
	for _, variant := range []*cose.Key{k, k.Public(), k.WithKeyID(nil)} {
		if got := hex.EncodeToString(variant.Thumbprint()); got != want {
			t.Errorf("thumbprint %s, want %s", got, want)
		}
	}
	long, err := k.ThumbprintWith(cose.AlgSHA512)
	if err != nil || len(long) != 64 {
		t.Errorf("SHA-512 thumbprint of %d bytes, %v", len(long), err)
	}
	_, err = k.ThumbprintWith(cose.AlgESP256)
	wantErr(t, err, cose.ErrAlgorithm)
}

// COSE_Sign1 of RFC 9052 Appendix C.2.1, and the working group's example with external data.
func TestSign1Vectors(t *testing.T) {
	keys := newSet(t, rfcKey11(t))
	o := cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgES256}}
	plain := unhex(t, `d28443a10126a10442313154546869732069732074686520636f6e74656e742e
		58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e
		2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36`)
	v, err := cose.Verify(plain, keys, o)
	if err != nil || string(v.Payload) != "This is the content." {
		t.Fatalf("%v", err)
	}
	external := unhex(t, `D28443A10126A10442313154546869732069732074686520636F6E74656E742E
		5840EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A551CE5705B793914348E1
		55388B10C4F1B59A6733EAB416870A945111A4B2FBDBEF33A77234B1DEFF2F9B`)
	_, err = cose.Verify(external, keys, o)
	wantErr(t, err, cose.ErrSignature)
	o.ExternalAAD = unhex(t, "11aa22bb33cc44dd55006699")
	if _, err = cose.Verify(external, keys, o); err != nil {
		t.Error(err)
	}
	_, err = cose.Verify(plain, keys, o)
	wantErr(t, err, cose.ErrSignature)
}

// The working group's ECDH-ES+A128KW example: content key, key wrap and KDF context without "other".
func TestECDHWrapVector(t *testing.T) {
	msg := unhex(t, `D8608443A10101A1054C02D1F7E6F26C43D4868D87CE582464F84D913BA60A76
		070A9A48F26E97E863E2852948658F0811139868826E89218A75715B818344A101381CA2
		20A401022001215820ECDBCEC636CC1408A503BBF6B7311B900C9AED9C5B71503848C89A
		07D0EF6F5B225820D6D1586710C02203E4E53B20DC7B233CA4C8B6853467B9FB8244A384
		0ACCD6020458246D65726961646F632E6272616E64796275636B406275636B6C616E642E
		6578616D706C655818D23BCA11C3F8E35BF6F81412794E159772E946FF4FB31BD1`)
	keys := cose.DecryptKeys{rfcKeyMeriadoc(t)}
	plaintext, err := cose.Decrypt(msg, nil, keys, cose.DecryptOptions{})
	if err != nil || string(plaintext) != "This is the content." {
		t.Fatalf("%q, %v", plaintext, err)
	}
	m, err := cose.ParseEncrypt(msg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := m.ContentKey(keys, cose.DecryptOptions{})
	if err != nil || hex.EncodeToString(key) != "b2353161740aacf1f7163647984b522a" {
		t.Errorf("content key %x, %v", key, err)
	}
	if got := hex.EncodeToString(m.AAD(nil)); got != "8367456e637279707443a1010140" {
		t.Errorf("Enc_structure %s", got)
	}
	for i := range msg {
		for bit := range byte(8) {
			if plaintext, err := cose.Decrypt(flip(msg, i, bit), nil, keys, cose.DecryptOptions{}); err == nil && string(plaintext) != "This is the content." {
				t.Errorf("byte %d bit %d changed: plaintext %q", i, bit, plaintext)
			}
		}
	}
}

func TestMac0Vector(t *testing.T) {
	msg := unhex(t, `D18443A10105A054546869732069732074686520636F6E74656E742E5820A1A8
		48D3471F9D61EE49018D244C824772F223AD4F935293F1789FC3A08D8C58`)
	key := cose.NewSymmetricKey(unhex(t, "849B57219DAE48DE646D07DBB533566E976686457C1491BE3A76DCEA6C427188"))
	v, err := cose.VerifyMac0(msg, newSet(t, key), cose.VerifyOptions{})
	if err != nil || string(v.Payload) != "This is the content." {
		t.Fatal(err)
	}
	again, err := cose.Mac0(v.Payload, key, cose.SignOptions{})
	if err != nil || !bytes.Equal(again, msg) {
		t.Errorf("made %x, %v", again, err)
	}
	for i := range msg {
		for bit := range byte(8) {
			if _, err := cose.VerifyMac0(flip(msg, i, bit), newSet(t, key), cose.VerifyOptions{}); err == nil {
				t.Errorf("byte %d bit %d changed and accepted", i, bit)
			}
		}
	}
}

func TestPEMVectors(t *testing.T) {
	for _, name := range []string{"tam", "teep_agent", "trust_anchor", "verifier"} {
		k := vectorKey(t, name)
		private, err := k.CryptoPrivate()
		if err != nil || !k.IsPrivate() || k.Alg() != cose.AlgESP256 {
			t.Errorf("%s: %v, %v", name, k, err)
		}
		if _, ok := private.(*ecdsa.PrivateKey); !ok {
			t.Errorf("%s: %T", name, private)
		}
	}
}

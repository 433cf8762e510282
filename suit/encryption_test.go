package suit_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
)

func decrypt(info []byte, keys cose.DecryptKeys, ciphertext []byte) ([]byte, error) {
	r, err := suit.DecryptPayload(info, keys, bytes.NewReader(ciphertext), int64(len(ciphertext)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func agentKey(t testing.TB) *cose.Key {
	t.Helper()
	key, err := cose.ParsePEM(vectors.Read(t, "keys/teep_agent_prime256v1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The examples of the firmware encryption text all encrypt the same words.
func TestEncryptionVectors(t *testing.T) {
	kek := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))
	for name, key := range map[string]*cose.Key{
		"aes-kw-aes-ctr": kek, "aes-kw-aes-gcm": kek,
		"es-ecdh-aes-ctr": agentKey(t), "es-ecdh-aes-gcm": agentKey(t),
	} {
		info := vectors.Hex(t, "suit-encryption/suit-encryption-info-"+name+".hex")
		ciphertext := vectors.Hex(t, "suit-encryption/encrypted-payload-"+name+".hex")
		plaintext, err := decrypt(info, cose.DecryptKeys{key}, ciphertext)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Contains(plaintext, []byte("real firmware image")) {
			t.Errorf("%s: decrypts to %q", name, plaintext)
		}
		if strings.HasSuffix(name, "gcm") {
			ciphertext[0] ^= 1
			if p, err := decrypt(info, cose.DecryptKeys{key}, ciphertext); !errors.Is(err, cose.ErrDecrypt) || len(p) > 0 {
				t.Errorf("%s: changed ciphertext gives %q, %v", name, p, err)
			}
		}
	}
}

// Each byte of each encryption info and ciphertext is changed in turn. Under AES-GCM that gives the plaintext or
// nothing; under AES-CTR, which authenticates nothing, it must not crash, and the manifest's digest decides.
func TestEncryptionVectorsWithEachByteFlipped(t *testing.T) {
	kek := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))
	for name, key := range map[string]*cose.Key{
		"aes-kw-aes-ctr": kek, "aes-kw-aes-gcm": kek, "es-ecdh-aes-ctr": agentKey(t), "es-ecdh-aes-gcm": agentKey(t),
	} {
		info := vectors.Hex(t, "suit-encryption/suit-encryption-info-"+name+".hex")
		ciphertext := vectors.Hex(t, "suit-encryption/encrypted-payload-"+name+".hex")
		want, err := decrypt(info, cose.DecryptKeys{key}, ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(info) + len(ciphertext) {
			both := append(bytes.Clone(info), ciphertext...)
			both[i] ^= 1 << (i % 8)
			got, err := decrypt(both[:len(info)], cose.DecryptKeys{key}, both[len(info):])
			if strings.HasSuffix(name, "gcm") && err == nil && !bytes.Equal(got, want) {
				t.Fatalf("%s, byte %d: decrypts to %q", name, i, got)
			}
		}
	}
}

func TestEncryptedManifestVector(t *testing.T) {
	e, err := suit.ParseEnvelope(vectors.Read(t, "suit-encryption/aes-kw-write.suit"))
	if err != nil {
		t.Fatal(err)
	}
	mac := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 32))
	a, err := e.Verify(keySet(t), suit.VerifyOptions{MACKeys: keySet(t, mac)})
	if err != nil {
		t.Fatal(err)
	}
	wrong := cose.NewSymmetricKey(bytes.Repeat([]byte("b"), 32))
	if _, err := e.Verify(keySet(t), suit.VerifyOptions{MACKeys: keySet(t, wrong)}); !errors.Is(err, suit.ErrUnauthorized) {
		t.Errorf("another MAC key gives %v", err)
	}
	var info, content []byte
	a.Manifest.Install.Commands.Walk(func(c *suit.Command) bool {
		if i, ok := c.Parameters.EncryptionInfo(); ok {
			info = i
		}
		if d, ok := c.Parameters.Content(); ok {
			content = d
		}
		return true
	})
	kek := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))
	plaintext, err := decrypt(info, cose.DecryptKeys{kek}, content)
	if err != nil || len(plaintext) == 0 {
		t.Fatalf("decrypts to %q, %v", plaintext, err)
	}
	profile, err := suit.ProfileByName("suit-sha256-hmac-a128kw-a128ctr")
	if err != nil {
		t.Fatal(err)
	}
	// The example uses A128GCM, which no profile combines with A128KW.
	if err := profile.CheckEncryptionInfo(info); !errors.Is(err, suit.ErrProfile) {
		t.Errorf("got %v, want ErrProfile", err)
	}
}

func TestPersonalizationVector(t *testing.T) {
	a := verified(t, vector{name: "personalization", data: vectors.Hex(t, "teep/suit_personalization.hex.txt")}, trustAnchor(t))
	var params, want suit.Parameters
	a.Manifest.Install.Commands.Walk(func(c *suit.Command) bool { params.Override(c.Parameters); return true })
	a.Manifest.Validate.Commands.Walk(func(c *suit.Command) bool { want.Override(c.Parameters); return true })
	info, _ := params.EncryptionInfo()
	content, _ := params.Content()
	plaintext, err := decrypt(info, cose.DecryptKeys{agentKey(t)}, content)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := want.Digest()
	if size, _ := want.Size(); !digest.Matches(plaintext) || uint64(len(plaintext)) != size {
		t.Errorf("config.json decrypts to %q, which has another digest or size", plaintext)
	}
	// Known faults stay faults: the dependency lies beyond the components, and its image size
	// is that of the tagged envelope although the envelope is untagged.
	if n := a.Manifest.Common.IndexCount(); n != 2 || len(a.Manifest.Common.Components) != 1 {
		t.Errorf("index count is %d", n)
	}
	var dep suit.Parameters
	a.Manifest.DependencyResolution.Commands.Walk(func(c *suit.Command) bool { dep.Override(c.Parameters); return true })
	uri := vectors.Hex(t, "teep/suit_uri.hex.txt")
	if size, _ := dep.Size(); size != 389 || len(uri) != 387 {
		t.Errorf("image size says %d, the envelope has %d bytes", size, len(uri))
	}
	e, err := suit.ParseEnvelope(uri)
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := dep.Digest(); !d.Equal(e.Digest) {
		t.Error("the dependency has another digest")
	}
}

func TestEncryptPayload(t *testing.T) {
	plaintext := bytes.Repeat([]byte("payload "), 100_000)
	ec, x25519 := generate(t, cose.AlgECDHESA128KW), generate(t, cose.AlgECDHESA128KW)
	keys := []*cose.Key{ec, x25519, cose.NewSymmetricKey(bytes.Repeat([]byte{1}, 16)), cose.NewSymmetricKey(bytes.Repeat([]byte{2}, 32))}
	recipients := make([]cose.Recipient, len(keys))
	for i, k := range keys {
		r, err := suit.PayloadRecipient(k)
		if err != nil {
			t.Fatal(err)
		}
		recipients[i] = r
	}
	stranger := cose.NewSymmetricKey(bytes.Repeat([]byte{3}, 16))
	for _, alg := range []cose.Algorithm{cose.AlgA128CTR, cose.AlgA256CTR, cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305} {
		var out bytes.Buffer
		info, err := suit.EncryptPayload(rand.Reader, bytes.NewReader(plaintext), &out, alg, recipients...)
		if err != nil {
			t.Fatalf("%v: %v", alg, err)
		}
		var p suit.Parameters
		if err := p.SetEncryptionInfo(info); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		for i, k := range keys {
			got, err := decrypt(info, cose.DecryptKeys{k}, out.Bytes())
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%v: recipient %d decrypts %d bytes, %v", alg, i, len(got), err)
			}
		}
		if _, err := decrypt(info, cose.DecryptKeys{stranger}, out.Bytes()); err == nil {
			t.Errorf("%v: a stranger decrypts", alg)
		}
		if alg.IsAuthenticated() {
			for _, at := range []int{0, out.Len() / 2, out.Len() - 1} {
				changed := bytes.Clone(out.Bytes())
				changed[at] ^= 1
				if got, err := decrypt(info, cose.DecryptKeys{ec}, changed); err == nil || len(got) > 0 {
					t.Errorf("%v: byte %d was changed, and %d bytes are readable (%v)", alg, at, len(got), err)
				}
			}
			if got, err := decrypt(info, cose.DecryptKeys{ec}, out.Bytes()[:out.Len()-1]); err == nil || len(got) > 0 {
				t.Errorf("%v: truncated ciphertext gives %d bytes", alg, len(got))
			}
		}
	}
}

// A payload that was encrypted once reaches a further device through an encryption info of its
// own (trust domains §9.3).
func TestRewrapContentKey(t *testing.T) {
	tam, device := generate(t, cose.AlgECDHESA128KW), generate(t, cose.AlgECDHESA128KW)
	toTAM, err := suit.PayloadRecipient(tam.Public())
	if err != nil {
		t.Fatal(err)
	}
	toDevice, err := suit.PayloadRecipient(device.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR, cose.AlgChaCha20Poly1305} {
		var out bytes.Buffer
		info, err := suit.EncryptPayload(rand.Reader, strings.NewReader("secret"), &out, alg, toTAM)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decrypt(info, cose.DecryptKeys{device}, out.Bytes()); err == nil {
			t.Fatal("the device decrypts what is for the TAM")
		}
		key, err := suit.RecoverPayloadKey(info, cose.DecryptKeys{tam})
		if err != nil {
			t.Fatal(err)
		}
		if key.Algorithm() != alg {
			t.Errorf("algorithm is %v, want %v", key.Algorithm(), alg)
		}
		if err := key.Encrypt(strings.NewReader("other"), io.Discard); err == nil {
			t.Error("a recovered content key encrypts another payload")
		}
		again, err := key.EncryptionInfo(rand.Reader, toDevice)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decrypt(again, cose.DecryptKeys{device}, out.Bytes()); err != nil || string(got) != "secret" {
			t.Errorf("%v: the device decrypts %q, %v", alg, got, err)
		}
	}
}

func TestEncryptPayloadRefuses(t *testing.T) {
	key := generate(t, cose.AlgECDHESA128KW)
	to, err := suit.PayloadRecipient(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := suit.EncryptPayload(rand.Reader, strings.NewReader(""), io.Discard, cose.AlgESP256, to); !errors.Is(err, cose.ErrAlgorithm) {
		t.Errorf("a signature algorithm gives %v", err)
	}
	if _, err := suit.EncryptPayload(rand.Reader, strings.NewReader(""), io.Discard, cose.AlgA128GCM); err == nil {
		t.Error("no recipient is accepted")
	}
	if _, err := suit.PayloadRecipient(cose.NewSymmetricKey(make([]byte, 24))); err == nil {
		t.Error("a key of 24 bytes is accepted")
	}
	attached, _, err := cose.Encrypt(rand.Reader, []byte("x"), cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt(attached, cose.DecryptKeys{key}, nil); suit.ReasonFor(err) != suit.ReasonCOSEUnsupported {
		t.Errorf("attached ciphertext gives %v", err)
	}
	if _, err := decrypt([]byte{0xff}, cose.DecryptKeys{key}, nil); suit.ReasonFor(err) != suit.ReasonCOSEUnsupported {
		t.Errorf("garbage gives %v", err)
	}
}

func TestProfiles(t *testing.T) {
	want := [][4]int64{{-16, 5, -3, -65534}, {-16, -9, -29, -65534}, {-16, -19, -29, -65534}, {-16, -9, -29, 1},
		{-16, -19, -29, 24}, {-16, -46, -5, -65532}}
	for i, p := range suit.Profiles() {
		data := enc(t, p)
		if !bytes.Equal(data, enc(t, want[i])) {
			t.Errorf("%s encodes to %x", p.Name, data)
		}
		var back suit.Profile
		if err := back.UnmarshalCBOR(data); err != nil || back != p {
			t.Errorf("%s decodes to %+v, %v", p.Name, back, err)
		}
	}
	var other suit.Profile
	if err := other.UnmarshalCBOR(enc(t, []int{-16, -9, -29, 3})); err != nil || other.Name != "" {
		t.Errorf("an unnamed profile is %+v, %v", other, err)
	}
	for _, bad := range []any{[]int{-16, -9, -29}, []int{-16, -9, -29, 1, 1}, "suit", []any{"a", 1, 1, 1}} {
		if err := other.UnmarshalCBOR(enc(t, bad)); err == nil {
			t.Errorf("%v is accepted as a profile", bad)
		}
	}
	if _, err := suit.ProfileByName("suit-sha256"); err == nil {
		t.Error("an unknown profile has been found")
	}
}

func TestProfileCheck(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	to, err := suit.PayloadRecipient(generate(t, cose.AlgECDHESA128KW).Public())
	if err != nil {
		t.Fatal(err)
	}
	info, err := suit.EncryptPayload(rand.Reader, strings.NewReader("x"), io.Discard, cose.AlgA128GCM, to)
	if err != nil {
		t.Fatal(err)
	}
	m := simpleManifest()
	var p suit.Parameters
	if err := p.SetEncryptionInfo(info); err != nil {
		t.Fatal(err)
	}
	m.Install.Commands = append(suit.Sequence{suit.OverrideParameters(p)}, m.Install.Commands...)
	for _, alg := range []cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384} {
		e := built(t, suit.Builder{Manifest: m, Hash: alg, Severable: []suit.Label{suit.LabelText}})
		if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
			t.Fatal(err)
		}
		for _, profile := range suit.Profiles() {
			err := profile.Check(e)
			fits := alg == cose.AlgSHA256 && profile.Name == "suit-sha256-esp256-ecdh-a128gcm"
			if fits && err != nil {
				t.Errorf("%s: %v", profile.Name, err)
			}
			if !fits && !errors.Is(err, suit.ErrProfile) {
				t.Errorf("%s with %v: got %v, want ErrProfile", profile.Name, alg, err)
			}
		}
	}
}

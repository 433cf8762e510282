package teetest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"reflect"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tee"
)

func testIdentity(t *testing.T, b *bench) {
	id := b.tee.Identity()
	if n := len(id.UEID); n < 7 || n > 33 {
		t.Errorf("UEID has %d bytes, not 7 to 33", n)
	}
	if len(id.Measurement) != 32 {
		t.Errorf("measurement has %d bytes, not the 32 of SHA-256", len(id.Measurement))
	}
	if len(id.HWModel) > 32 {
		t.Errorf("hwmodel has %d bytes, at most 32 are allowed", len(id.HWModel))
	}
	if id.DeviceID == ([16]byte{}) {
		t.Error("the device has no device identifier")
	}
	if _, counted := b.tee.Store().(tee.Counter); !counted && len(id.Weaknesses) == 0 {
		t.Error("a TEE without a monotonic counter states no weakness")
	}
	id.UEID[1] ^= 1
	if bytes.Equal(id.UEID, b.tee.Identity().UEID) {
		t.Error("a caller can change the TEE's identity")
	}
	id.UEID[1] ^= 1
	b.restart(t)
	if again := b.tee.Identity(); !reflect.DeepEqual(id, again) {
		t.Errorf("identity changed at restart:\n%+v\n%+v", id, again)
	}
}

var signingUses = []tee.KeyUse{tee.KeyAgent, tee.KeyAttestation, tee.KeyReport}

func testKeys(t *testing.T, b *bench) {
	thumbprints := map[string]tee.KeyUse{}
	for _, use := range append(signingUses, tee.KeyEncryption) {
		public, err := b.tee.Keys().Public(use)
		must(t, err)
		if public.IsPrivate() {
			t.Errorf("Public(%s) is private", use)
		}
		if other, dup := thumbprints[string(public.Thumbprint())]; dup {
			t.Errorf("%s and %s are one key", use, other)
		}
		thumbprints[string(public.Thumbprint())] = use
	}
	for _, use := range signingUses {
		testSigner(t, b, use)
	}
	_, err := b.tee.Keys().Signer(tee.KeyEncryption)
	want(t, "a signer for the encryption key", err, tee.ErrNotExist)
	_, err = b.tee.Keys().Signer("another")
	want(t, "a signer for an unknown use", err, tee.ErrNotExist)
	_, err = b.tee.Keys().Public("another")
	want(t, "a key for an unknown use", err, tee.ErrNotExist)
	testDecryption(t, b)

	b.restart(t)
	for _, use := range append(signingUses, tee.KeyEncryption) {
		public, err := b.tee.Keys().Public(use)
		must(t, err)
		if thumbprints[string(public.Thumbprint())] != use {
			t.Errorf("the %s key changed at restart", use)
		}
	}
}

func testSigner(t *testing.T, b *bench, use tee.KeyUse) {
	signer, err := b.tee.Keys().Signer(use)
	must(t, err)
	public, err := b.tee.Keys().Public(use)
	must(t, err)
	if signer.Public().IsPrivate() || !signer.Public().Equal(public) {
		t.Errorf("the signer for %s has another public key, or shows the private one", use)
	}
	message := []byte("to be signed")
	signature, err := signer.Sign(rand.Reader, message)
	must(t, err)
	verifier, err := public.Verifier()
	must(t, err)
	if err := verifier.Verify(message, signature); err != nil {
		t.Errorf("signature of the %s key: %v", use, err)
	}
	if verifier.Verify([]byte("something else"), signature) == nil {
		t.Errorf("signature of the %s key fits anything", use)
	}
}

func testDecryption(t *testing.T, b *bench) {
	private, err := b.tee.Keys().Decryption()
	must(t, err)
	public, err := b.tee.Keys().Public(tee.KeyEncryption)
	must(t, err)
	if !private.IsPrivate() || !private.Public().Equal(public) {
		t.Error("the decryption key does not belong to the public one")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		encoded, err := private.MarshalCBOR()
		must(t, err)
		if bytes.Contains(fmt.Appendf(nil, verb, private), encoded[len(encoded)-16:]) {
			t.Errorf("printing the decryption key with %s shows it", verb)
		}
	}
	if public.Alg() != cose.AlgECDHESA128KW && public.Alg() != 0 {
		t.Errorf("the encryption key is for %v", public.Alg())
	}
}

func testTwoDevices(t *testing.T, a, b *bench) {
	if bytes.Equal(a.tee.Identity().UEID, b.tee.Identity().UEID) {
		t.Error("two devices have one UEID")
	}
	for _, use := range append(signingUses, tee.KeyEncryption) {
		ka, err := a.tee.Keys().Public(use)
		must(t, err)
		kb, err := b.tee.Keys().Public(use)
		must(t, err)
		if ka.Equal(kb) {
			t.Errorf("two devices have one %s key", use)
		}
	}
}

package hsslms_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose/hsslms"
)

//go:embed testdata/rfc8554-test-case-1.hex
var testCase1 string

const tenthAmendment = "The powers not delegated to the United States by the Constitution, nor prohibited by it to the States, " +
	"are reserved to the States respectively, or to the people.\n"

func vector(tb testing.TB) (publicKey, signature []byte) {
	tb.Helper()
	var digits strings.Builder
	for line := range strings.Lines(testCase1) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.TrimSpace(line))
		}
	}
	all, err := hex.DecodeString(digits.String())
	if err != nil {
		tb.Fatal(err)
	}
	return all[:hsslms.PublicKeySize], all[hsslms.PublicKeySize:]
}

func TestVector(t *testing.T) {
	publicKey, signature := vector(t)
	if err := hsslms.Verify(publicKey, []byte(tenthAmendment), signature); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreRefused(t *testing.T) {
	publicKey, signature := vector(t)
	message := []byte(tenthAmendment)
	for i := 0; i < len(signature); i += 97 { // odd, so all positions within a hash come up
		bad := bytes.Clone(signature)
		bad[i] ^= 1 << (i % 8)
		if err := hsslms.Verify(publicKey, message, bad); !errors.Is(err, hsslms.ErrSignature) {
			t.Errorf("byte %d of the signature changed: %v", i, err)
		}
	}
	for i := range publicKey {
		bad := bytes.Clone(publicKey)
		bad[i] ^= 1
		if err := hsslms.Verify(bad, message, signature); err == nil {
			t.Errorf("byte %d of the public key changed", i)
		}
	}
	for i := 0; i < len(message); i += 29 {
		bad := bytes.Clone(message)
		bad[i] ^= 1
		if err := hsslms.Verify(publicKey, bad, signature); !errors.Is(err, hsslms.ErrSignature) {
			t.Errorf("byte %d of the message changed: %v", i, err)
		}
	}
}

func TestSizes(t *testing.T) {
	publicKey, signature := vector(t)
	for n := 0; n < len(signature); n += 97 {
		if err := hsslms.Verify(publicKey, []byte(tenthAmendment), signature[:n]); !errors.Is(err, hsslms.ErrSignature) {
			t.Errorf("signature of %d bytes: %v", n, err)
		}
	}
	if err := hsslms.Verify(publicKey, []byte(tenthAmendment), append(bytes.Clone(signature), 0)); !errors.Is(err, hsslms.ErrSignature) {
		t.Errorf("longer signature: %v", err)
	}
	for n := range publicKey {
		if err := hsslms.CheckPublicKey(publicKey[:n]); !errors.Is(err, hsslms.ErrPublicKey) {
			t.Errorf("public key of %d bytes: %v", n, err)
		}
	}
	for _, at := range []int{3, 7, 11} { // levels, LMS type, LM-OTS type
		for _, value := range []byte{0, 10, 255} {
			bad := bytes.Clone(publicKey)
			bad[at] = value
			if err := hsslms.CheckPublicKey(bad); !errors.Is(err, hsslms.ErrPublicKey) {
				t.Errorf("parameter %d at byte %d: %v", value, at, err)
			}
		}
	}
}

// Nothing but the vector verifies under its key, and nothing crashes.
func FuzzVerify(f *testing.F) {
	publicKey, signature := vector(f)
	f.Add(publicKey, signature)
	f.Fuzz(func(t *testing.T, key, sig []byte) {
		if hsslms.Verify(key, []byte("another message"), sig) == nil && bytes.Equal(key, publicKey) {
			t.Fatal("a forgery verified")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	publicKey, signature := vector(b)
	for b.Loop() {
		if err := hsslms.Verify(publicKey, []byte(tenthAmendment), signature); err != nil {
			b.Fatal(err)
		}
	}
}

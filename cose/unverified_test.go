package cose_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-teep/teep/cose"
)

// opened is what both readers make of a ciphertext. They must agree, in the outcome and in what
// they let out.
func opened(t *testing.T, alg cose.Algorithm, key, iv, aad, ciphertext []byte, src io.Reader) ([]byte, error) {
	t.Helper()
	r, err := cose.NewUnverifiedContentReader(alg, key, iv, aad, src)
	if err != nil {
		t.Fatal(err)
	}
	got, onePass := io.ReadAll(r)
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || onePass != nil && !errors.Is(err, onePass) {
		t.Errorf("after its end the reader goes on: %d, %v", n, err)
	}
	two, twoPass := cose.NewContentReader(alg, key, iv, aad, bytes.NewReader(ciphertext), int64(len(ciphertext)))
	if errors.Is(onePass, cose.ErrDecrypt) != errors.Is(twoPass, cose.ErrDecrypt) {
		t.Fatalf("in one pass %v, in two %v", onePass, twoPass)
	}
	if twoPass == nil {
		want, err := io.ReadAll(two)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("in two passes %d bytes, in one %d: %v", len(want), len(got), err)
		}
	}
	return got, onePass
}

// AES-GCM as a stream is that of the library, at sizes around blocks, chunks and the places where
// additional data pushes them over.
func TestGCMStreamAgainstLibrary(t *testing.T) {
	const chunk = 256 << 10
	sizes := []int{chunk - 64, chunk - 33, chunk - 32, chunk - 31, chunk - 17, chunk - 16, chunk - 15, chunk - 1, chunk, chunk + 1,
		chunk + 16, chunk + 32, 2*chunk - 48, 2*chunk - 32, 2*chunk - 16, 2 * chunk, 3*chunk + 5}
	for n := range 70 {
		sizes = append(sizes, n)
	}
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM} {
		key, iv := make([]byte, alg.KeySize()), make([]byte, 12)
		rand.Read(key)
		rand.Read(iv)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range sizes {
			plaintext, aad := make([]byte, size), make([]byte, i%50)
			rand.Read(plaintext)
			rand.Read(aad)
			ciphertext := gcm.Seal(nil, iv, plaintext, aad)
			got, err := opened(t, alg, key, iv, aad, ciphertext, bytes.NewReader(ciphertext))
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("%v: %d bytes with %d additional: %v", alg, size, len(aad), err)
			}
			for _, at := range []int{0, size / 2, len(ciphertext) - 1} {
				bad := flip(ciphertext, at, 0)
				if _, err := opened(t, alg, key, iv, aad, bad, bytes.NewReader(bad)); !errors.Is(err, cose.ErrDecrypt) {
					t.Fatalf("%v: %d bytes, byte %d flipped: %v", alg, size, at, err)
				}
			}
		}
	}
}

func TestUnverifiedReaderRefuses(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305} {
		key, iv, aad := must(newKey(t, alg, 1).Symmetric()), make([]byte, 12), []byte("aad")
		plaintext := bytes.Repeat([]byte("plaintext "), 60_000)
		whole := encryptStream(t, alg, key, iv, aad, plaintext, 100_000)
		got, err := opened(t, alg, key, iv, aad, whole, iotest.HalfReader(bytes.NewReader(whole)))
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%v: %v", alg, err)
		}
		short := encryptStream(t, alg, key, iv, aad, []byte("some plaintext"), 5)
		for i := range short {
			bad := flip(short, i, 3)
			if got, err := opened(t, alg, key, iv, aad, bad, bytes.NewReader(bad)); !errors.Is(err, cose.ErrDecrypt) || len(got) > 0 {
				t.Errorf("%v: byte %d flipped: %q, %v", alg, i, got, err)
			}
			if got, err := opened(t, alg, key, iv, aad, short[:i], bytes.NewReader(short[:i])); !errors.Is(err, cose.ErrDecrypt) || len(got) > 0 {
				t.Errorf("%v: cut to %d bytes: %q, %v", alg, i, got, err)
			}
		}
		if _, err := opened(t, alg, key, iv, nil, whole, bytes.NewReader(whole)); !errors.Is(err, cose.ErrDecrypt) {
			t.Errorf("%v: without its additional data: %v", alg, err)
		}
		// A source that breaks is not a forgery, and not the end either.
		r, err := cose.NewUnverifiedContentReader(alg, key, iv, aad, io.MultiReader(bytes.NewReader(whole[:300_000]), iotest.ErrReader(io.ErrClosedPipe)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		wantErr(t, err, io.ErrClosedPipe)
		_, err = cose.NewUnverifiedContentReader(alg, key[1:], iv, aad, bytes.NewReader(whole))
		wantErr(t, err, cose.ErrKey)
		_, err = cose.NewUnverifiedContentReader(alg, key, iv[1:], aad, bytes.NewReader(whole))
		wantErr(t, err, cose.ErrHeader)
	}
	_, err := cose.NewUnverifiedContentReader(cose.AlgESP256, nil, nil, nil, nil)
	wantErr(t, err, cose.ErrAlgorithm)
	key, iv := make([]byte, 16), make([]byte, 16)
	ciphertext := encryptStream(t, cose.AlgA128CTR, key, iv, nil, []byte("stream"), 6)
	r, err := cose.NewUnverifiedContentReader(cose.AlgA128CTR, key, iv, nil, bytes.NewReader(ciphertext))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "stream" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzStreamsAgree: whatever the ciphertext, opening it in one pass, in two, and in memory come to
// the same end.
func FuzzStreamsAgree(f *testing.F) {
	f.Add([]byte("some ciphertext and its tag......"), []byte("aad"), byte(0), uint16(20))
	f.Add([]byte{}, []byte{}, byte(1), uint16(0))
	f.Add(make([]byte, 16), make([]byte, 40), byte(2), uint16(300))
	f.Fuzz(func(t *testing.T, data, aad []byte, choice byte, good uint16) {
		alg := []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305}[int(choice)%3]
		key, iv := make([]byte, alg.KeySize()), make([]byte, alg.IVSize())
		if _, err := opened(t, alg, key, iv, aad, data, bytes.NewReader(data)); err == nil && len(data) < 16 {
			t.Fatal("opened without a tag")
		}
		plaintext := make([]byte, good)
		copy(plaintext, data)
		ciphertext := encryptStream(t, alg, key, iv, aad, plaintext, 100)
		got, err := opened(t, alg, key, iv, aad, ciphertext, iotest.OneByteReader(bytes.NewReader(ciphertext)))
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%v: %v", alg, err)
		}
	})
}

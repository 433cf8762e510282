package cose_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/go-teep/teep/cose"
	"golang.org/x/crypto/chacha20poly1305"
)

func encryptStream(t *testing.T, alg cose.Algorithm, key, iv, aad, plaintext []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := cose.NewContentWriter(alg, key, iv, aad, &out)
	if err != nil {
		t.Fatal(err)
	}
	for rest := plaintext; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := w.Write([]byte{1}); err == nil {
		t.Error("Write after Close succeeds")
	}
	return append([]byte{}, out.Bytes()...)
}

// Streams and whole messages are the same ciphertext, at sizes around blocks and chunks.
func TestStreamsAgreeWithMessages(t *testing.T) {
	const chunk = 256 << 10
	for _, alg := range contentAlgorithms() {
		for _, size := range []int{0, 1, 15, 16, 17, 63, 64, 65, 1000, chunk, 2*chunk + 17} {
			k := newKey(t, alg, 3)
			plaintext := make([]byte, size)
			rand.Read(plaintext)
			info := mustWrap(t, must(k.Symmetric()), alg)
			m, err := cose.ParseEncrypt(info)
			if err != nil {
				t.Fatal(err)
			}
			aad, iv := m.AAD(nil), m.IV()
			streamed := encryptStream(t, alg, must(k.Symmetric()), iv, aad, plaintext, 7001)
			whole, err := cose.Decrypt(info, streamed, cose.DecryptKeys{newKey(t, cose.AlgA128KW, 1)}, anyContent(""))
			if err != nil || !bytes.Equal(whole, plaintext) {
				t.Errorf("%v %d: opened in memory: %v", alg, size, err)
			}
			r, err := cose.NewContentReader(alg, must(k.Symmetric()), iv, aad, bytes.NewReader(streamed), int64(len(streamed)))
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(r, plaintext); err != nil {
				t.Errorf("%v %d: %v", alg, size, err)
			}
		}
	}
}

func mustWrap(t *testing.T, key []byte, alg cose.Algorithm) []byte {
	t.Helper()
	msg, err := cose.WrapContentKey(rand.Reader, key, alg, []cose.Recipient{cose.A128KWRecipient(newKey(t, cose.AlgA128KW, 1))},
		cose.EncryptOptions{IV: bytes.Repeat([]byte{9}, alg.IVSize())})
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// The composed ChaCha20-Poly1305 is the one of the library.
func TestChaChaStreamAgainstLibrary(t *testing.T) {
	key, iv := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 12)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	for size := range 300 {
		plaintext, aad := bytes.Repeat([]byte{3}, size), bytes.Repeat([]byte{4}, size/3)
		want := aead.Seal(nil, iv, plaintext, aad)
		if got := encryptStream(t, cose.AlgChaCha20Poly1305, key, iv, aad, plaintext, 11); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %x, library %x", size, got, want)
		}
		r, err := cose.NewContentReader(cose.AlgChaCha20Poly1305, key, iv, aad, bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}

// Nothing can be read of content whose tag does not hold.
func TestStreamsRefuseBeforePlaintext(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305} {
		k, iv, aad := must(newKey(t, alg, 1).Symmetric()), make([]byte, 12), []byte("aad")
		ciphertext := encryptStream(t, alg, k, iv, aad, []byte("some plaintext"), 5)
		for i := range ciphertext {
			r, err := cose.NewContentReader(alg, k, iv, aad, bytes.NewReader(flip(ciphertext, i, 3)), int64(len(ciphertext)))
			wantErr(t, err, cose.ErrDecrypt)
			if r != nil {
				t.Errorf("%v: a reader for a forgery", alg)
			}
		}
		other := newKey(t, alg, 2)
		for name, try := range map[string]func() error{
			"key": func() error {
				_, err := cose.NewContentReader(alg, must(other.Symmetric()), iv, aad, bytes.NewReader(ciphertext), int64(len(ciphertext)))
				return err
			},
			"aad": func() error {
				_, err := cose.NewContentReader(alg, k, iv, nil, bytes.NewReader(ciphertext), int64(len(ciphertext)))
				return err
			},
			"iv": func() error {
				_, err := cose.NewContentReader(alg, k, bytes.Repeat([]byte{1}, 12), aad, bytes.NewReader(ciphertext), int64(len(ciphertext)))
				return err
			},
			"shorter": func() error {
				_, err := cose.NewContentReader(alg, k, iv, aad, bytes.NewReader(ciphertext), int64(len(ciphertext)-1))
				return err
			},
			"no tag": func() error {
				_, err := cose.NewContentReader(alg, k, iv, aad, bytes.NewReader(ciphertext), 15)
				return err
			},
			"negative": func() error {
				_, err := cose.NewContentReader(alg, k, iv, aad, bytes.NewReader(ciphertext), -1)
				return err
			},
		} {
			if err := try(); !errors.Is(err, cose.ErrDecrypt) {
				t.Errorf("%v %s: %v", alg, name, err)
			}
		}
		_, err := cose.NewContentReader(alg, k, iv, aad, bytes.NewReader(ciphertext), int64(len(ciphertext)+1))
		wantErr(t, err, io.ErrUnexpectedEOF)
		_, err = cose.NewContentReader(alg, k[1:], iv, aad, bytes.NewReader(ciphertext), int64(len(ciphertext)))
		wantErr(t, err, cose.ErrKey)
		_, err = cose.NewContentReader(alg, k, iv[1:], aad, bytes.NewReader(ciphertext), int64(len(ciphertext)))
		wantErr(t, err, cose.ErrHeader)
	}
	_, err := cose.NewContentReader(cose.AlgESP256, nil, nil, nil, nil, 0)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewContentWriter(cose.AlgESP256, nil, nil, nil, nil)
	wantErr(t, err, cose.ErrAlgorithm)
}

// Storage that changes between the two passes is noticed before its plaintext gets out.
func TestStreamNoticesChangesAfterTheTag(t *testing.T) {
	key, iv := make([]byte, 32), make([]byte, 12)
	plaintext := make([]byte, 1<<20)
	ciphertext := encryptStream(t, cose.AlgChaCha20Poly1305, key, iv, nil, plaintext, 1<<20)
	r, err := cose.NewContentReader(cose.AlgChaCha20Poly1305, key, iv, nil, bytes.NewReader(ciphertext), int64(len(ciphertext)))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext[600_000] ^= 1
	got, err := io.ReadAll(r)
	wantErr(t, err, cose.ErrDecrypt)
	if len(got) > 600_000 || !bytes.Equal(got, plaintext[:len(got)]) {
		t.Errorf("%d bytes came out", len(got))
	}
}

func TestStreamSizeLimits(t *testing.T) {
	key, iv := make([]byte, 16), make([]byte, 12)
	_, err := cose.NewContentReader(cose.AlgA128GCM, key, iv, nil, bytes.NewReader(nil), 1<<40)
	wantErr(t, err, cose.ErrTooLarge)
	_, err = cose.NewContentReader(cose.AlgChaCha20Poly1305, make([]byte, 32), iv, nil, bytes.NewReader(nil), 1<<40)
	wantErr(t, err, cose.ErrTooLarge)
}

// Tags that were made as a stream are those that the library makes of the whole, whatever the pieces.
func TestStreamedTagsAreThoseOfTheWhole(t *testing.T) {
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		rand.Read(b)
		return b
	}
	sizes := []int{0, 1, 15, 16, 17, 31, 32, 33, 4096, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512<<10 - 32, 512<<10 - 16, 700_001}
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305} {
		for _, size := range sizes {
			key, iv, plaintext := bytesOf(alg.KeySize()), bytesOf(12), bytesOf(size)
			aad := bytesOf(size % 41)
			var aead cipher.AEAD
			var err error
			if alg == cose.AlgChaCha20Poly1305 {
				aead, err = chacha20poly1305.New(key)
			} else {
				block, blockErr := aes.NewCipher(key)
				if blockErr != nil {
					t.Fatal(blockErr)
				}
				aead, err = cipher.NewGCM(block)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := aead.Seal(nil, iv, plaintext, aad)
			for _, piece := range []int{size + 1, 1 + size/3, 64 << 10} {
				if got := encryptStream(t, alg, key, iv, aad, plaintext, piece); !bytes.Equal(got, want) {
					t.Errorf("%v: %d bytes in pieces of %d are encrypted to something else", alg, size, piece)
				}
			}
		}
	}
}

type failingWriter struct{ left int }

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWriterReportsFailures(t *testing.T) {
	for _, alg := range contentAlgorithms() {
		w, err := cose.NewContentWriter(alg, make([]byte, alg.KeySize()), make([]byte, alg.IVSize()), nil, &failingWriter{left: 5})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(make([]byte, 10))
		if err = errors.Join(err, w.Close()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%v: %v", alg, err)
		}
	}
}

// A transfer that broke is continued at any offset.
func TestCTRAtOffset(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 16)
	iv := bytes.Repeat([]byte{0xff}, 16) // the counter runs over
	plaintext := make([]byte, 300)
	whole := encryptStream(t, cose.AlgA128CTR, key, iv, nil, plaintext, 300)
	for offset := range plaintext {
		s, err := cose.NewCTR(cose.AlgA128CTR, key, iv, int64(offset))
		if err != nil {
			t.Fatal(err)
		}
		rest := bytes.Clone(whole[offset:])
		s.XORKeyStream(rest, rest)
		if !bytes.Equal(rest, plaintext[offset:]) {
			t.Fatalf("offset %d", offset)
		}
	}
	_, err := cose.NewCTR(cose.AlgA128GCM, key, iv[:12], 0)
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.NewCTR(cose.AlgA128CTR, key, iv, -1)
	wantErr(t, err, cose.ErrAlgorithm)
	r, err := cose.NewContentReader(cose.AlgA128CTR, key, iv, nil, bytes.NewReader(whole[:100]), 300)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	wantErr(t, err, io.ErrUnexpectedEOF)
}

// zeros is a large source that takes no memory.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func TestStreamedAEADMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 96 MiB")
	}
	for _, alg := range []cose.Algorithm{cose.AlgChaCha20Poly1305, cose.AlgA128GCM} {
		key, iv := make([]byte, alg.KeySize()), make([]byte, alg.IVSize())
		for name, read := range map[string]func() error{
			"two passes": func() error {
				_, err := cose.NewContentReader(alg, key, iv, nil, zeros{}, 24<<20)
				return err
			},
			"writing": func() error {
				w, err := cose.NewContentWriter(alg, key, iv, nil, io.Discard)
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, io.NewSectionReader(zeros{}, 0, 24<<20)); err != nil {
					return err
				}
				return errors.Join(w.Close(), cose.ErrDecrypt) // as the others end
			},
			"one pass": func() error {
				r, err := cose.NewUnverifiedContentReader(alg, key, iv, nil, io.NewSectionReader(zeros{}, 0, 24<<20))
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, r)
				return err
			},
		} {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			wantErr(t, read(), cose.ErrDecrypt) // zeros are no valid ciphertext
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 2<<20 {
				t.Errorf("%v in %s: 24 MiB of content took %d bytes of memory", alg, name, grown)
			}
		}
	}
}

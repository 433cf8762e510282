package cose_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/vectors"
)

// seeded is a reader for tests that need the same keys in each run.
func seeded(seed byte) io.Reader { return mathrand.NewChaCha8([32]byte{seed}) }

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func newKey(tb testing.TB, alg cose.Algorithm, seed byte) *cose.Key {
	tb.Helper()
	k, err := cose.GenerateKey(seeded(seed), alg)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func newSigner(tb testing.TB, k *cose.Key) cose.Signer {
	tb.Helper()
	s, err := k.Signer()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newSet(tb testing.TB, keys ...*cose.Key) cose.KeySet {
	tb.Helper()
	set, err := cose.NewKeySet(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func sign1(tb testing.TB, k *cose.Key, payload string, o cose.SignOptions) []byte {
	tb.Helper()
	msg, err := cose.Sign1(rand.Reader, []byte(payload), newSigner(tb, k), o)
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

func vectorKey(tb testing.TB, name string) *cose.Key {
	tb.Helper()
	k, err := cose.ParsePEM(vectors.Read(tb, "keys/"+name+"_prime256v1.pem"))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// mustEncode encodes hand-made structures that the package itself would refuse to make.
func mustEncode(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func wantErr(tb testing.TB, err error, want ...error) {
	tb.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			tb.Errorf("got error %v, want one that is %q", err, w)
		}
	}
}

// ec2 makes an encoded EC2 key from the coordinates of published examples.
func ec2(tb testing.TB, crv int, x, y, d string) *cose.Key {
	tb.Helper()
	params := map[int]any{1: 2, -1: crv, -2: unhex(tb, x), -3: unhex(tb, y)}
	if d != "" {
		params[-4] = unhex(tb, d)
	}
	k, err := cose.ParseKey(mustEncode(tb, params))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// The keys "11" and "meriadoc.brandybuck@buckland.example" of RFC 9052 Appendix C.7.
func rfcKey11(tb testing.TB) *cose.Key {
	return ec2(tb, 1,
		"bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff",
		"20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
		"57c92077664146e876760c9520d054aa93c3afb04e306705db6090308507b4d3").WithKeyID([]byte("11"))
}

func rfcKeyMeriadoc(tb testing.TB) *cose.Key {
	return ec2(tb, 1,
		"65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d",
		"1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c",
		"aff907c99f9ad3aae6c4cdf21122bce2bd68b5283e6907154ad911840fa208cf").
		WithKeyID([]byte("meriadoc.brandybuck@buckland.example"))
}

func p256Order() *big.Int {
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	return n
}

func flip(b []byte, i int, bit byte) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1 << bit
	return c
}

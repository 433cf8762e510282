package cose_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"pgregory.net/rapid"
)

func signatureAlgorithms() []cose.Algorithm {
	return []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgMLDSA65}
}

func TestSignAndVerify(t *testing.T) {
	for i, alg := range signatureAlgorithms() {
		k := newKey(t, alg, byte(i))
		o := cose.VerifyOptions{Algorithms: []cose.Algorithm{alg}}
		for _, so := range []cose.SignOptions{
			{}, {Untagged: true}, {OmitKeyID: true}, {ContentType: "application/teep+cbor"}, {ContentType: uint64(60)},
			{ExternalAAD: []byte("aad")}, {Detached: true},
		} {
			vo := o
			vo.ExternalAAD = so.ExternalAAD
			if so.Detached {
				vo.DetachedPayload = []byte("payload")
			}
			if so.ContentType != nil {
				vo.ContentTypes = []any{so.ContentType}
			}
			single := sign1(t, k, "payload", so)
			multi, err := cose.SignMulti(rand.Reader, []byte("payload"), []cose.Signer{newSigner(t, k)}, so)
			if err != nil {
				t.Fatal(err)
			}
			for _, msg := range [][]byte{single, multi} {
				v, err := cose.Verify(msg, newSet(t, k), vo)
				if err != nil {
					t.Fatalf("%v %+v: %v", alg, so, err)
				}
				if string(v.Payload) != "payload" || v.Algorithm != alg || !v.Key.Equal(k) || v.Key.IsPrivate() || v.Detached != so.Detached {
					t.Errorf("%v %+v: %+v", alg, so, v)
				}
				if so.OmitKeyID == (v.Signers[0].Headers.KeyID() != nil) {
					t.Errorf("%v %+v: kid %x", alg, so, v.Signers[0].Headers.KeyID())
				}
			}
		}
	}
}

// A signer without randomness of its own gives the same bytes each time.
func TestSign1IsDeterministic(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgEd25519, cose.AlgESP256} {
		s := newSigner(t, newKey(t, alg, 3))
		o := cose.SignOptions{ContentType: "a/b"}
		for l := range 12 {
			if err := o.Protected.Set(1000+l, "x"); err != nil {
				t.Fatal(err)
			}
			if err := o.Unprotected.Set(fmt.Sprintf("label %d", l), l); err != nil {
				t.Fatal(err)
			}
		}
		first, err := cose.Sign1(nil, []byte("payload"), s, o)
		if err != nil {
			t.Fatal(err)
		}
		if !cbor.IsDeterministic(first) {
			t.Errorf("%v: not in core deterministic encoding", alg)
		}
		for range 5 {
			again, err := cose.Sign1(nil, []byte("payload"), s, o)
			if err != nil || !bytes.Equal(first, again) {
				t.Errorf("%v: two messages of the same input differ (%v)", alg, err)
			}
		}
	}
}

func TestSeveralSigners(t *testing.T) {
	a, b, c := newKey(t, cose.AlgESP256, 1), newKey(t, cose.AlgEd25519, 2), newKey(t, cose.AlgESP384, 3)
	msg, err := cose.SignMulti(rand.Reader, []byte("p"), []cose.Signer{newSigner(t, a), newSigner(t, b)}, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		keys    cose.KeySet
		algs    []cose.Algorithm
		signers int
		err     error
	}{
		{"both known", newSet(t, a, b), nil, 2, nil},
		{"first known", newSet(t, a, c), nil, 1, nil},
		{"second known", newSet(t, c, b), nil, 1, nil},
		{"second accepted", newSet(t, a, b), []cose.Algorithm{cose.AlgEd25519}, 1, nil},
		{"none known", newSet(t, c), nil, 0, cose.ErrUnknownSigner},
		{"no keys", nil, nil, 0, cose.ErrUnknownSigner},
		{"none accepted", newSet(t, a, b), []cose.Algorithm{cose.AlgESP384}, 0, cose.ErrAlgorithm},
	} {
		v, err := cose.Verify(msg, tt.keys, cose.VerifyOptions{Algorithms: tt.algs})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if err == nil && (len(v.Signers) != tt.signers || !v.Key.Equal(v.Signers[0].Key)) {
			t.Errorf("%s: %d signers", tt.name, len(v.Signers))
		}
	}
	many := make([]cose.Signer, cose.MaxSigners+1)
	for i := range many {
		many[i] = newSigner(t, b)
	}
	_, err = cose.SignMulti(rand.Reader, nil, many, cose.SignOptions{})
	wantErr(t, err, cose.ErrMalformed)
	_, err = cose.SignMulti(rand.Reader, nil, nil, cose.SignOptions{})
	wantErr(t, err, cose.ErrMalformed)
	_, err = cose.SignMulti(rand.Reader, nil, many[:1], cose.SignOptions{X5Chain: [][]byte{{1}}})
	wantErr(t, err, cose.ErrHeader)
	_, err = cose.Sign1(rand.Reader, nil, nil, cose.SignOptions{})
	wantErr(t, err, cose.ErrKey)
	_, err = cose.Mac0(nil, nil, cose.SignOptions{})
	wantErr(t, err, cose.ErrKey)
	_, err = cose.Verify(msg, nil, cose.VerifyOptions{})
	wantErr(t, err, cose.ErrUnknownSigner)
}

// Every single-bit change of a message without unprotected parameters is refused.
func TestEveryBitCounts(t *testing.T) {
	k := newKey(t, cose.AlgEd25519, 7)
	o := cose.SignOptions{OmitKeyID: true, ContentType: "application/teep+cbor"}
	single := sign1(t, k, "some payload", o)
	multi, err := cose.SignMulti(rand.Reader, []byte("some payload"), []cose.Signer{newSigner(t, k)}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range [][]byte{single, multi} {
		for i := range msg {
			for bit := range byte(8) {
				if _, err := cose.Verify(flip(msg, i, bit), newSet(t, k), cose.VerifyOptions{}); err == nil {
					t.Errorf("byte %d bit %d of %x changed and accepted", i, bit, msg)
				}
			}
		}
		for n := range msg {
			if _, err := cose.Verify(msg[:n], newSet(t, k), cose.VerifyOptions{}); !errors.Is(err, cose.ErrMalformed) {
				t.Errorf("truncated to %d bytes: %v", n, err)
			}
		}
		_, err := cose.Verify(append(bytes.Clone(msg), 0), newSet(t, k), cose.VerifyOptions{})
		wantErr(t, err, cose.ErrMalformed)
	}
}

// With a kid in the unprotected bucket a change there may go unnoticed, but never changes what was
// signed or who signed it.
func TestUnprotectedChangesNothingSigned(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 7)
	msg := sign1(t, k, "some payload", cose.SignOptions{})
	for i := range msg {
		for bit := range byte(8) {
			v, err := cose.Verify(flip(msg, i, bit), newSet(t, k), cose.VerifyOptions{})
			if err == nil && (string(v.Payload) != "some payload" || !v.Key.Equal(k) || v.Algorithm != cose.AlgESP256) {
				t.Errorf("byte %d bit %d: verified as %+v", i, bit, v)
			}
		}
	}
}

// rawSign1 signs arbitrary buckets, so that only the defect under test is wrong with a message.
func rawSign1(t *testing.T, k *cose.Key, protected []byte, unprotected any, payload string) []byte {
	t.Helper()
	tbs := mustEncode(t, []any{"Signature1", protected, []byte{}, []byte(payload)})
	sig, err := newSigner(t, k).Sign(rand.Reader, tbs)
	if err != nil {
		t.Fatal(err)
	}
	return mustEncode(t, cbor.Tag{Number: 18, Content: []any{protected, unprotected, []byte(payload), sig}})
}

func TestHeaderRules(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 9)
	type m = map[any]any
	none := m{}
	tests := []struct {
		name        string
		protected   any
		unprotected any
		o           cose.VerifyOptions
		err         error
	}{
		{"plain", m{1: -9}, none, cose.VerifyOptions{}, nil},
		{"unknown parameters are tolerated", m{1: -9, "x": 1, -70001: 2}, m{99: []int{1}}, cose.VerifyOptions{}, nil},
		{"alg unprotected", none, m{1: -9}, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"alg in both buckets", m{1: -9}, m{1: -9}, cose.VerifyOptions{}, cose.ErrHeader},
		{"kid in both buckets", m{1: -9, 4: []byte("a")}, m{4: []byte("a")}, cose.VerifyOptions{}, cose.ErrHeader},
		{"unknown parameter in both buckets", m{1: -9, 77: 1}, m{77: 1}, cose.VerifyOptions{}, cose.ErrHeader},
		{"no alg", none, none, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"alg is a text", m{1: "ESP256"}, none, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"alg is a byte string", m{1: []byte{9}}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"alg of another type of message", m{1: 5}, none, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"MAC algorithm even when listed", m{1: 5}, none, cose.VerifyOptions{Algorithms: []cose.Algorithm{5}}, cose.ErrAlgorithm},
		{"unknown alg", m{1: -4711}, none, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"alg of another key", m{1: -19}, none, cose.VerifyOptions{}, cose.ErrUnknownSigner},
		{"ES256 not listed", m{1: -7}, none, cose.VerifyOptions{}, cose.ErrAlgorithm},
		{"ES256 listed", m{1: -7}, none, cose.VerifyOptions{Algorithms: []cose.Algorithm{-7}}, nil},
		{"ESP256 not listed", m{1: -9}, none, cose.VerifyOptions{Algorithms: []cose.Algorithm{-7}}, cose.ErrAlgorithm},

		{"crit understood by the package", m{1: -9, 2: []any{1, 3}, 3: 60}, none, cose.VerifyOptions{}, nil},
		{"crit understood by the caller", m{1: -9, 2: []any{77}, 77: 1}, none, cose.VerifyOptions{Understood: []any{77}}, nil},
		{"crit text understood by the caller", m{1: -9, 2: []any{"x"}, "x": 1}, none, cose.VerifyOptions{Understood: []any{"x"}}, nil},
		{"crit not understood", m{1: -9, 2: []any{77}, 77: 1}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"crit text not understood", m{1: -9, 2: []any{"x"}, "x": 1}, none, cose.VerifyOptions{Understood: []any{77}}, cose.ErrHeader},
		{"crit absent parameter", m{1: -9, 2: []any{77}}, none, cose.VerifyOptions{Understood: []any{77}}, cose.ErrHeader},
		{"crit unprotected parameter", m{1: -9, 2: []any{77}}, m{77: 1}, cose.VerifyOptions{Understood: []any{77}}, cose.ErrHeader},
		{"crit empty", m{1: -9, 2: []any{}}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"crit not an array", m{1: -9, 2: 77}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"crit with a byte string", m{1: -9, 2: []any{[]byte("x")}}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"crit unprotected", m{1: -9}, m{2: []any{1}}, cose.VerifyOptions{}, cose.ErrHeader},

		{"kid of wrong type", m{1: -9}, m{4: "kid"}, cose.VerifyOptions{}, cose.ErrHeader},
		{"kid of nobody", m{1: -9}, m{4: []byte("kid")}, cose.VerifyOptions{}, cose.ErrUnknownSigner},
		{"kid is the thumbprint", m{1: -9}, m{4: k.Thumbprint()}, cose.VerifyOptions{}, nil},
		{"IV and Partial IV", m{1: -9, 5: []byte("a")}, m{6: []byte("b")}, cose.VerifyOptions{}, cose.ErrHeader},
		{"label is a byte string", m{1: -9}, map[any]any{cbor.ByteString("x"): 1}, cose.VerifyOptions{}, cose.ErrHeader},
		{"unprotected is an array", m{1: -9}, []any{}, cose.VerifyOptions{}, cose.ErrMalformed},
		{"protected is an array", []any{1, -9}, none, cose.VerifyOptions{}, cose.ErrMalformed},

		{"content type as expected", m{1: -9, 3: "a/b"}, none, cose.VerifyOptions{ContentTypes: []any{60, "a/b"}}, nil},
		{"content format as expected", m{1: -9, 3: 60}, none, cose.VerifyOptions{ContentTypes: []any{60}}, nil},
		{"another content type", m{1: -9, 3: "a/c"}, none, cose.VerifyOptions{ContentTypes: []any{"a/b"}}, cose.ErrContentType},
		{"content type missing", m{1: -9}, none, cose.VerifyOptions{ContentTypes: []any{"a/b"}}, cose.ErrContentType},
		{"content type may be missing", m{1: -9}, none, cose.VerifyOptions{ContentTypes: []any{"a/b", nil}}, nil},
		{"content type unprotected", m{1: -9}, m{3: "a/b"}, cose.VerifyOptions{ContentTypes: []any{"a/b", nil}}, cose.ErrContentType},
		{"content type is a byte string", m{1: -9, 3: []byte("a/b")}, none, cose.VerifyOptions{}, cose.ErrHeader},
		{"detached payload given beside an embedded one", m{1: -9}, none, cose.VerifyOptions{DetachedPayload: []byte("p")}, cose.ErrPayload},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			protected := mustEncode(t, tt.protected)
			if x, ok := tt.protected.(m); ok && len(x) == 0 {
				protected = []byte{}
			}
			msg := rawSign1(t, k, protected, tt.unprotected, "p")
			_, err := cose.Verify(msg, newSet(t, k, newKeyNamed(t)), tt.o)
			if !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
		})
	}
}

// newKeyNamed is a bystander in key sets.
func newKeyNamed(t *testing.T) *cose.Key {
	return newKey(t, cose.AlgESP384, 77).WithKeyID([]byte("bystander"))
}

// An encoded empty map in the protected bucket is accepted and signed as a zero-length string
// (RFC 9052 §3, §4.4).
func TestEmptyProtectedMap(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 9)
	s := newSigner(t, k)
	header := mustEncode(t, map[int]int{1: -9})
	tbs := mustEncode(t, []any{"Signature", []byte{}, header, []byte{}, []byte("p")})
	sig, err := s.Sign(rand.Reader, tbs)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{{}, {0xa0}} {
		msg := mustEncode(t, cbor.Tag{Number: 98, Content: []any{body, map[int]int{}, []byte("p"), []any{[]any{header, map[int]int{}, sig}}}})
		if _, err := cose.Verify(msg, newSet(t, k), cose.VerifyOptions{}); err != nil {
			t.Errorf("protected %x: %v", body, err)
		}
	}
	made, err := cose.SignMulti(rand.Reader, []byte("p"), []cose.Signer{s}, cose.SignOptions{})
	if err != nil || !bytes.HasPrefix(made, []byte{0xd8, 98, 0x84, 0x40}) {
		t.Errorf("empty protected bucket is not a zero-length string: %x", made)
	}
}

func TestMalformedMessages(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 9)
	good := sign1(t, k, "p", cose.SignOptions{OmitKeyID: true})
	big := make(map[int]int)
	for i := range cose.MaxHeaderParameters + 1 {
		big[100+i] = i
	}
	signatures := make([]any, cose.MaxSigners+1)
	for i := range signatures {
		signatures[i] = []any{[]byte{}, map[int]int{}, []byte("sig")}
	}
	body := func(elements ...any) []byte { return mustEncode(t, elements) }
	tests := []struct {
		name string
		msg  []byte
		err  error
	}{
		{"nothing", nil, cose.ErrMalformed},
		{"not CBOR", []byte("hello, world"), cose.ErrMalformed},
		{"a map", []byte{0xa0}, cose.ErrMalformed},
		{"three elements", body([]byte{}, map[int]int{}, []byte("p")), cose.ErrMalformed},
		{"five elements", body([]byte{}, map[int]int{}, []byte("p"), []byte("s"), 1), cose.ErrMalformed},
		{"payload is a text", body([]byte{}, map[int]int{}, "p", []byte("s")), cose.ErrMalformed},
		{"signature is null", body([]byte{}, map[int]int{}, []byte("p"), nil), cose.ErrMalformed},
		{"signature is an array of integers", body([]byte{}, map[int]int{}, []byte("p"), []int{1, 2}), cose.ErrMalformed},
		{"no signatures", body([]byte{}, map[int]int{}, []byte("p"), []any{}), cose.ErrMalformed},
		{"too many signatures", body([]byte{}, map[int]int{}, []byte("p"), signatures), cose.ErrTooLarge},
		{"too many parameters", body([]byte{}, big, []byte("p"), []byte("s")), cose.ErrTooLarge},
		{"header too large", body([]byte{}, map[int][]byte{9: make([]byte, cose.MaxHeaderBytes)}, []byte("p"), []byte("s")), cose.ErrTooLarge},
		{"protected header too large", body(mustEncode(t, map[int][]byte{9: make([]byte, cose.MaxHeaderBytes)}), map[int]int{}, []byte("p"), []byte("s")), cose.ErrTooLarge},
		{"message too large", make([]byte, cose.MaxMessageBytes+1), cose.ErrTooLarge},
		{"tag of COSE_Mac0", append([]byte{0xd1}, good[1:]...), cose.ErrMalformed},
		{"tag of COSE_Sign", append([]byte{0xd8, 98}, good[1:]...), cose.ErrMalformed},
		{"two tags", append([]byte{0xd2}, good...), cose.ErrMalformed},
		{"indefinite array", append(append([]byte{0xd2, 0x9f}, good[2:]...), 0xff), cose.ErrMalformed},
		{"duplicate label", []byte{0x84, 0x40, 0xa2, 4, 0x41, 1, 4, 0x41, 2, 0x41, 0, 0x41, 0}, cose.ErrHeader},
		{"duplicate protected label", []byte{0x84, 0x45, 0xa2, 1, 0x28, 1, 0x28, 0xa0, 0x41, 0, 0x41, 0}, cose.ErrHeader},
		{"duplicate label in another encoding", []byte{0x84, 0x40, 0xa2, 4, 0x41, 1, 0x18, 4, 0x41, 2, 0x41, 0, 0x41, 0}, cose.ErrHeader},
		{"label is not UTF-8", []byte{0x84, 0x40, 0xa1, 0x61, 0xff, 0, 0x41, 0, 0x41, 0}, cose.ErrMalformed},
		{"bytes after the protected map", []byte{0x84, 0x44, 0xa1, 1, 0x28, 0, 0xa0, 0x41, 0, 0x41, 0}, cose.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := cose.Verify(tt.msg, newSet(t, k), cose.VerifyOptions{})
			wantErr(t, err, tt.err)
			if len(err.Error()) > 400 {
				t.Errorf("error text of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestWrongKeysAndData(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 1)
	a := sign1(t, k, "a", cose.SignOptions{ExternalAAD: []byte("x")})
	b := sign1(t, k, "a", cose.SignOptions{ContentType: "other", ExternalAAD: []byte("x")})
	x := cose.VerifyOptions{ExternalAAD: []byte("x")}

	_, err := cose.Verify(a, newSet(t, newKey(t, cose.AlgESP256, 2)), x)
	wantErr(t, err, cose.ErrUnknownSigner)
	_, err = cose.Verify(a, newSet(t, newKey(t, cose.AlgESP256, 2).WithKeyID(k.Thumbprint())), x)
	wantErr(t, err, cose.ErrSignature)
	_, err = cose.Verify(a, newSet(t, k), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrSignature)
	_, err = cose.Verify(a, newSet(t, k), cose.VerifyOptions{ExternalAAD: []byte("y")})
	wantErr(t, err, cose.ErrSignature)

	// The protected bucket of one message with the signature of another.
	var ma, mb cbor.RawTag
	var fa, fb []cbor.RawMessage
	for _, p := range []struct {
		msg    []byte
		tag    *cbor.RawTag
		fields *[]cbor.RawMessage
	}{{a, &ma, &fa}, {b, &mb, &fb}} {
		if err := errors.Join(cbor.Unmarshal(p.msg, p.tag), cbor.Unmarshal(p.tag.Content, p.fields)); err != nil {
			t.Fatal(err)
		}
	}
	fa[0] = fb[0]
	_, err = cose.Verify(mustEncode(t, fa), newSet(t, k), x)
	wantErr(t, err, cose.ErrSignature)

	detached := sign1(t, k, "a", cose.SignOptions{Detached: true})
	_, err = cose.Verify(detached, newSet(t, k), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrPayload)
	_, err = cose.Verify(detached, newSet(t, k), cose.VerifyOptions{DetachedPayload: []byte("b")})
	wantErr(t, err, cose.ErrSignature)
	if _, err = cose.UnverifiedPayload(detached); !errors.Is(err, cose.ErrPayload) {
		t.Error(err)
	}
	if p, err := cose.UnverifiedPayload(a); err != nil || string(p) != "a" {
		t.Errorf("%q, %v", p, err)
	}

	// A COSE_Sign1 is not a COSE_Mac0, even where a symmetric key has the same kid.
	mac := cose.NewSymmetricKey(make([]byte, 32)).WithKeyID([]byte("m"))
	macMsg, err := cose.Mac0([]byte("a"), mac, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cose.Verify(macMsg, newSet(t, mac), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrMalformed)
	_, err = cose.Verify(macMsg[1:], newSet(t, mac), cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgHMAC256}})
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.VerifyMac0(a[1:], newSet(t, k, mac), cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgESP256}})
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.VerifyMac0(macMsg, newSet(t, mac.WithKeyID([]byte("n"))), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrUnknownSigner)
	_, err = cose.Mac0([]byte("a"), k, cose.SignOptions{})
	wantErr(t, err, cose.ErrAlgorithm)
}

func TestTrialsAreBounded(t *testing.T) {
	k := newKey(t, cose.AlgEd25519, 1)
	msg := sign1(t, k, "p", cose.SignOptions{OmitKeyID: true})
	other, err := newKey(t, cose.AlgEd25519, 2).Verifier()
	if err != nil {
		t.Fatal(err)
	}
	crowd := make(cose.KeySet, cose.MaxTrials)
	for i := range crowd {
		crowd[i] = other
	}
	_, err = cose.Verify(msg, append(crowd, newSet(t, k)...), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrTooLarge)
}

func TestSignOptionsRefused(t *testing.T) {
	s := newSigner(t, newKey(t, cose.AlgESP256, 1))
	set := func(label, value any) cose.Header {
		var h cose.Header
		if err := h.Set(label, value); err != nil {
			t.Fatal(err)
		}
		return h
	}
	for name, o := range map[string]cose.SignOptions{
		"alg given":               {Protected: set(1, -9)},
		"kid given":               {Unprotected: set(4, []byte("k"))},
		"in both buckets":         {Protected: set(77, 1), Unprotected: set(77, 1)},
		"crit unprotected":        {Unprotected: set(2, []int{1})},
		"crit of an absent label": {Protected: set(2, []int{77})},
		"content type of no type": {ContentType: 1.5},
		"too many certificates":   {X5Chain: make([][]byte, cose.MaxCertificates+1)},
	} {
		if _, err := cose.Sign1(rand.Reader, nil, s, o); !errors.Is(err, cose.ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var h cose.Header
	wantErr(t, h.Set(1.5, 1), cose.ErrHeader)
	wantErr(t, h.SetRaw(1, []byte{0xff}), cose.ErrHeader)
}

func TestVerifyRoundTripProperty(t *testing.T) {
	k := newKey(t, cose.AlgEd25519, 4)
	set := newSet(t, k)
	rapid.Check(t, func(r *rapid.T) {
		payload := rapid.SliceOf(rapid.Byte()).Draw(r, "payload")
		o := cose.SignOptions{
			ExternalAAD: rapid.SliceOf(rapid.Byte()).Draw(r, "aad"),
			Untagged:    rapid.Bool().Draw(r, "untagged"),
			OmitKeyID:   rapid.Bool().Draw(r, "omit kid"),
			ContentType: rapid.StringMatching("[a-z]+/[a-z]+").Draw(r, "content type"),
		}
		for _, label := range rapid.SliceOfN(rapid.Int64Range(100, 200), 0, 5).Draw(r, "labels") {
			if err := o.Protected.Set(label, strings.Repeat("v", int(label-100))); err != nil {
				r.Fatal(err)
			}
		}
		msg, err := cose.Sign1(nil, payload, newSigner(t, k), o)
		if err != nil {
			r.Fatal(err)
		}
		v, err := cose.Verify(msg, set, cose.VerifyOptions{ExternalAAD: o.ExternalAAD})
		if err != nil || !bytes.Equal(v.Payload, payload) {
			r.Fatalf("%v", err)
		}
		if v.Headers.Protected.Len() != o.Protected.Len()+2 {
			r.Fatalf("%d protected parameters", v.Headers.Protected.Len())
		}
	})
}

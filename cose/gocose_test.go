package cose_test

import (
	"crypto"
	"crypto/rand"
	"testing"

	"github.com/go-teep/teep/cose"
	gocose "github.com/veraison/go-cose"
)

// The oracle knows the algorithms of older peers only; the structures are the same.
func oraclePairs() map[cose.Algorithm]gocose.Algorithm {
	return map[cose.Algorithm]gocose.Algorithm{
		cose.AlgES256: gocose.AlgorithmES256,
		cose.AlgES384: gocose.AlgorithmES384,
		cose.AlgEdDSA: gocose.AlgorithmEdDSA,
	}
}

type oracle struct {
	key      *cose.Key
	ours     cose.Signer
	signer   gocose.Signer
	verifier gocose.Verifier
	accept   cose.VerifyOptions
}

func newOracle(t *testing.T, ours cose.Algorithm, theirs gocose.Algorithm) oracle {
	t.Helper()
	k := newKey(t, ours, 42)
	private, err := k.CryptoPrivate()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	o := oracle{key: k, accept: cose.VerifyOptions{Algorithms: []cose.Algorithm{ours}, ExternalAAD: []byte("aad")}}
	if o.ours, err = k.SignerFor(ours); err != nil {
		t.Fatal(err)
	}
	if o.signer, err = gocose.NewSigner(theirs, private.(crypto.Signer)); err != nil {
		t.Fatal(err)
	}
	if o.verifier, err = gocose.NewVerifier(theirs, public); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSign1AgainstOracle(t *testing.T) {
	for ours, theirs := range oraclePairs() {
		o := newOracle(t, ours, theirs)

		msg, err := cose.Sign1(rand.Reader, []byte("payload"), o.ours, cose.SignOptions{ExternalAAD: []byte("aad"), ContentType: "a/b"})
		if err != nil {
			t.Fatal(err)
		}
		var read gocose.Sign1Message
		if err := read.UnmarshalCBOR(msg); err != nil {
			t.Fatalf("%v: %v", ours, err)
		}
		if err := read.Verify([]byte("aad"), o.verifier); err != nil || string(read.Payload) != "payload" {
			t.Errorf("%v: ours is not theirs: %v", ours, err)
		}
		if err := read.Verify([]byte("other"), o.verifier); err == nil {
			t.Errorf("%v: the oracle accepts anything", ours)
		}

		headers := gocose.Headers{
			Protected:   gocose.ProtectedHeader{gocose.HeaderLabelAlgorithm: theirs, "text": "label"},
			Unprotected: gocose.UnprotectedHeader{gocose.HeaderLabelKeyID: o.key.Thumbprint()},
		}
		msg, err = gocose.Sign1(rand.Reader, o.signer, headers, []byte("payload"), []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		v, err := cose.Verify(msg, newSet(t, o.key), o.accept)
		if err != nil || string(v.Payload) != "payload" {
			t.Errorf("%v: theirs is not ours: %v", ours, err)
		}
	}
}

func TestSignAgainstOracle(t *testing.T) {
	for ours, theirs := range oraclePairs() {
		o := newOracle(t, ours, theirs)
		msg, err := cose.SignMulti(rand.Reader, []byte("payload"), []cose.Signer{o.ours, o.ours}, cose.SignOptions{ExternalAAD: []byte("aad"), ContentType: uint64(60)})
		if err != nil {
			t.Fatal(err)
		}
		var read gocose.SignMessage
		if err := read.UnmarshalCBOR(msg); err != nil {
			t.Fatalf("%v: %v", ours, err)
		}
		if err := read.Verify([]byte("aad"), o.verifier, o.verifier); err != nil {
			t.Errorf("%v: ours is not theirs: %v", ours, err)
		}

		theirMsg := gocose.NewSignMessage()
		theirMsg.Payload = []byte("payload")
		signature := gocose.NewSignature()
		signature.Headers.Protected.SetAlgorithm(theirs)
		theirMsg.Signatures = append(theirMsg.Signatures, signature)
		if err := theirMsg.Sign(rand.Reader, []byte("aad"), o.signer); err != nil {
			t.Fatal(err)
		}
		encoded, err := theirMsg.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cose.Verify(encoded, newSet(t, o.key), o.accept); err != nil {
			t.Errorf("%v: theirs is not ours: %v", ours, err)
		}
	}
}

func TestKeysAgainstOracle(t *testing.T) {
	for ours := range oraclePairs() {
		k := newKey(t, ours, 42).WithKeyID([]byte("kid"))
		encoded, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		var read gocose.Key
		if err := read.UnmarshalCBOR(encoded); err != nil {
			t.Fatalf("%v: %v", ours, err)
		}
		public, err := read.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		again, err := cose.NewPublicKey(public)
		if err != nil || !again.Equal(k) {
			t.Errorf("%v: %v, %v", ours, again, err)
		}
		theirs, err := read.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		back, err := cose.ParseKey(theirs)
		if err != nil || !back.Equal(k) || !back.IsPrivate() || string(back.KeyID()) != "kid" {
			t.Errorf("%v: %v, %v", ours, back, err)
		}
	}
}

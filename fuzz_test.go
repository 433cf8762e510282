package teep

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
)

// FuzzDecode: what decodes encodes to something that decodes to the same again, whatever order and
// whatever lengths of integers the original came in; what does not decode has an answer.
func FuzzDecode(f *testing.F) {
	for _, m := range validMessages() {
		data, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, data := range draftExamples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			var pe *ProtocolError
			if !errors.As(err, &pe) {
				t.Fatalf("%T: %v", err, err)
			}
			if _, err := Encode(AsErrorMessage(err)); err != nil {
				t.Fatalf("the answer to a bad message cannot be sent: %v", err)
			}
			return
		}
		first, err := EncodeUnchecked(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("%x became %x: %v", data, first, err)
		}
		second, err := EncodeUnchecked(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%x became %x, then %x (%v)", data, first, second, err)
		}
		if len(first) > len(data) {
			t.Fatalf("%x grew to %x", data, first)
		}
	})
}

// FuzzOpen: no input passes that was not signed, and none panics.
func FuzzOpen(f *testing.F) {
	p := newParty(f, cose.AlgESP256)
	signed := make(map[string]bool)
	for _, m := range validMessages() {
		data, err := Protect(rand.Reader, m, p.signer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		payload, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		signed[string(payload)] = true
	}
	for _, name := range vectors.Names(f, "teep-es256", "_cose.cbor") {
		f.Add(vectors.Read(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := Open(data, p.keys, OpenOptions{InsecureOlderPeers: true})
		if err != nil {
			var v *ValidationError
			if !errors.As(err, &v) || v.Step < StepCBOR || v.Step > StepMessage {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if !signed[string(opened.Payload)] {
			t.Fatalf("accepted %x, which nobody signed", opened.Payload)
		}
	})
}

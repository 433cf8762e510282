package builtin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

func newKey(t testing.TB) (*cose.Key, cose.Signer) {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return k, s
}

// TestWrappedMutations cuts a wrapped token at, and flips each bit of, every position. The wrapper is
// not signed: a change of it alone may be harmless, and then the verdict is what it was. Nothing else
// is accepted.
func TestWrappedMutations(t *testing.T) {
	device, signer := newKey(t)
	_, results := newKey(t)
	agent, _ := newKey(t)
	class := appraisal.Class{OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("board")}
	id := eat.Identity{UEID: []byte{1, 2, 3, 4, 5, 6, 7, 8}, OEMID: class.OEMID, HWModel: class.HWModel, HWVersion: "1", AgentName: "teep-agent", Measurement: make([]byte, 32)}
	store, err := appraisal.NewStore(&appraisal.Collateral{Owner: "Maker",
		Endorsements: []appraisal.Endorsement{{UEID: id.UEID, Key: device.Public(), Class: class}},
		References:   []appraisal.Reference{{Class: class, Name: "teep-agent", Algorithm: cose.AlgSHA256, Digest: id.Measurement, Status: attest.StatusAffirming}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := builtin.New(builtin.Config{Collateral: store, Signer: results, Developer: "tester", Build: "1"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: signer, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("a challenge")
	bare, err := a.Attest(context.Background(), "", attest.Request{Nonce: nonce, AgentKey: agent.Public()})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := cmw.Wrap(bare)
	if err != nil {
		t.Fatal(err)
	}
	appraise := func(data []byte) (*attest.Result, error) {
		return v.Appraise(context.Background(), attest.Evidence{MediaType: cmw.MediaType, Payload: data}, attest.Expectation{Nonce: nonce, AgentKey: agent.Public()})
	}
	if r, err := appraise(wrapped.Payload); err != nil || r.Status != attest.StatusAffirming {
		t.Fatalf("%+v, %v", r, err)
	}
	token := bytes.Index(wrapped.Payload, bare.Payload)
	for at := range wrapped.Payload {
		if r, err := appraise(wrapped.Payload[:at]); err == nil || r != nil {
			t.Errorf("cut at %d: accepted", at)
		}
		for bit := range 8 {
			flipped := bytes.Clone(wrapped.Payload)
			flipped[at] ^= 1 << bit
			r, err := appraise(flipped)
			if err != nil {
				continue
			}
			if at >= token && at < token+len(bare.Payload) || !bytes.Equal(r.Nonce, nonce) || !bytes.Equal(r.UEID, id.UEID) {
				t.Errorf("bit %d of byte %d flipped: accepted", bit, at)
			}
		}
	}
	if r, err := appraise(append(bytes.Clone(wrapped.Payload), 0)); err == nil || r != nil {
		t.Error("a byte more: accepted")
	}
}

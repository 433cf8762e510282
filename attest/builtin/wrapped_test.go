package builtin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/psa"
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

// wrapping is a device whose EAT is wrapped, and who appraises it.
type wrapping struct {
	identity   eat.Identity
	collateral appraisal.Collateral
	signer     cose.Signer
	agent      *cose.Key
	nonce      []byte
}

func newWrapping(t testing.TB) *wrapping {
	t.Helper()
	device, signer := newKey(t)
	agent, _ := newKey(t)
	class := appraisal.Class{OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("board")}
	id := eat.Identity{UEID: []byte{1, 2, 3, 4, 5, 6, 7, 8}, OEMID: class.OEMID, HWModel: class.HWModel, HWVersion: "1", AgentName: "teep-agent", Measurement: make([]byte, 32)}
	return &wrapping{identity: id, signer: signer, agent: agent, nonce: []byte("a challenge"),
		collateral: appraisal.Collateral{Owner: "Maker",
			Endorsements: []appraisal.Endorsement{{UEID: id.UEID, Key: device.Public(), Class: class}},
			References:   []appraisal.Reference{{Class: class, Name: "teep-agent", Algorithm: cose.AlgSHA256, Digest: id.Measurement, Status: attest.StatusAffirming}}}}
}

// evidence is the token, bare and wrapped.
func (w *wrapping) evidence(t testing.TB) (bare, wrapped attest.Evidence) {
	t.Helper()
	a, err := eat.NewAttester(eat.AttesterConfig{Identity: w.identity, Signer: w.signer, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if bare, err = a.Attest(context.Background(), "", attest.Request{Nonce: w.nonce, AgentKey: w.agent.Public()}); err != nil {
		t.Fatal(err)
	}
	if wrapped, err = cmw.Wrap(bare); err != nil {
		t.Fatal(err)
	}
	return bare, wrapped
}

func (w *wrapping) verifier(t testing.TB) *cmw.Verifier {
	t.Helper()
	_, results := newKey(t)
	store, err := appraisal.NewStore(&w.collateral)
	if err != nil {
		t.Fatal(err)
	}
	v, err := builtin.New(builtin.Config{Collateral: store, Signer: results, Developer: "tester", Build: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWrappedBindings: a wrapper takes no binding away.
func TestWrappedBindings(t *testing.T) {
	other, otherSigner := newKey(t)
	for name, c := range map[string]struct {
		change func(*wrapping)
		expect func(*attest.Expectation)
		want   error // nil: a verdict, which is contraindicated
	}{
		"old nonce":                {nil, func(x *attest.Expectation) { x.Nonce = []byte("another challenge") }, attest.ErrNotFresh},
		"no nonce":                 {nil, func(x *attest.Expectation) { x.Nonce = nil }, attest.ErrNotFresh},
		"key that is not in cnf":   {nil, func(x *attest.Expectation) { x.AgentKey = other.Public() }, attest.ErrKeyBinding},
		"no key":                   {nil, func(x *attest.Expectation) { x.AgentKey = nil }, attest.ErrKeyBinding},
		"another device's key":     {func(w *wrapping) { w.signer = otherSigner }, nil, attest.ErrUntrusted},
		"another device's name":    {func(w *wrapping) { w.identity.UEID = []byte{1, 9, 9, 9, 9, 9, 9, 9} }, nil, attest.ErrUntrusted},
		"another class":            {func(w *wrapping) { w.identity.HWModel = []byte("other") }, nil, attest.ErrUntrusted},
		"revoked":                  {func(w *wrapping) { w.collateral.Endorsements[0].Revoked = "lost" }, nil, attest.ErrUntrusted},
		"endorsement that expired": {func(w *wrapping) { w.collateral.Endorsements[0].Expires = time.Now().Add(-time.Hour) }, nil, attest.ErrUntrusted},
		"nobody's device":          {func(w *wrapping) { w.collateral.Endorsements = nil }, nil, attest.ErrUntrusted},
		"debug mode":               {func(w *wrapping) { w.identity.Debug = eat.DebugEnabled }, nil, nil},
		"unknown measurement":      {func(w *wrapping) { w.identity.Measurement = bytes.Repeat([]byte{1}, 32) }, nil, nil},
		"software too old":         {func(w *wrapping) { w.collateral.References[0].Status = attest.StatusContraindicated }, nil, nil},
		"reference that expired":   {func(w *wrapping) { w.collateral.References[0].Expires = time.Now().Add(-time.Hour) }, nil, nil},
	} {
		w := newWrapping(t)
		if c.change != nil {
			c.change(w)
		}
		_, wrapped := w.evidence(t)
		x := attest.Expectation{Nonce: w.nonce, AgentKey: w.agent.Public()}
		if c.expect != nil {
			c.expect(&x)
		}
		r, err := w.verifier(t).Appraise(context.Background(), wrapped, x)
		switch {
		case c.want != nil && (r != nil || !errors.Is(err, c.want)):
			t.Errorf("%s: appraised: %t; %v, want %v", name, r != nil, err, c.want)
		case c.want == nil && (err != nil || r.Status != attest.StatusContraindicated):
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestWrappedDowngrade: a wrapper names the type of what is in it; a name for something that is signed less, or not
// at all, opens no other way in.
func TestWrappedDowngrade(t *testing.T) {
	w := newWrapping(t)
	bare, _ := w.evidence(t)
	v := w.verifier(t)
	claims, err := cose.UnverifiedPayload(bare.Payload)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := cose.Mac0(claims, cose.NewSymmetricKey(make([]byte, 32)), cose.SignOptions{OmitKeyID: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]attest.Evidence{
		"claims without a signature":        {MediaType: bare.MediaType, Payload: claims},
		"claims as an unsigned token":       {MediaType: "application/eat-ucs+cbor", Payload: claims},
		"claims as a result":                {MediaType: "application/ear+cwt", Payload: bare.Payload},
		"a MAC":                             {MediaType: bare.MediaType, Payload: mac},
		"under the name of a PSA token":     {MediaType: psa.MediaType, Payload: bare.Payload},
		"under the name of a TPM quote":     {MediaType: bound.TPMQuote, Payload: bare.Payload},
		"a token of another profile's name": {MediaType: "application/eat+cwt", Payload: bare.Payload},
	} {
		wrapped, err := cmw.Wrap(e)
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.Appraise(context.Background(), wrapped, attest.Expectation{Nonce: w.nonce, AgentKey: w.agent.Public()})
		if err == nil || r != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzAppraise: whatever arrives, under whatever name, is refused, or is the device's own Evidence.
func FuzzAppraise(f *testing.F) {
	w := newWrapping(f)
	bare, wrapped := w.evidence(f)
	types := []string{bare.MediaType, wrapped.MediaType, eat.BundleMediaType, bound.MediaType, ""}
	f.Add(0, bare.Payload)
	f.Add(1, wrapped.Payload)
	for i := range types {
		f.Add(i, wrapped.Payload[:len(wrapped.Payload)/2])
	}
	v := w.verifier(f)
	f.Fuzz(func(t *testing.T, kind int, data []byte) {
		r, err := v.Appraise(context.Background(), attest.Evidence{MediaType: types[uint(kind)%uint(len(types))], Payload: data}, attest.Expectation{Nonce: w.nonce, AgentKey: w.agent.Public()})
		if (r == nil) == (err == nil) {
			t.Fatal(r, err)
		}
		if r != nil && (!bytes.Equal(r.Nonce, w.nonce) || !bytes.Equal(r.UEID, w.identity.UEID)) {
			t.Fatalf("accepted: %x", data)
		}
	})
}

// TestWrappedMutations cuts a wrapped token at, and flips each bit of, every position. The wrapper is
// not signed: a change of it alone may be harmless, and then the verdict is what it was. Nothing else
// is accepted.
func TestWrappedMutations(t *testing.T) {
	w := newWrapping(t)
	bare, wrapped := w.evidence(t)
	v, nonce := w.verifier(t), w.nonce
	appraise := func(data []byte) (*attest.Result, error) {
		return v.Appraise(context.Background(), attest.Evidence{MediaType: cmw.MediaType, Payload: data}, attest.Expectation{Nonce: nonce, AgentKey: w.agent.Public()})
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
			if at >= token && at < token+len(bare.Payload) || !bytes.Equal(r.Nonce, nonce) || !bytes.Equal(r.UEID, w.identity.UEID) {
				t.Errorf("bit %d of byte %d flipped: accepted", bit, at)
			}
		}
	}
	if r, err := appraise(append(bytes.Clone(wrapped.Payload), 0)); err == nil || r != nil {
		t.Error("a byte more: accepted")
	}
}

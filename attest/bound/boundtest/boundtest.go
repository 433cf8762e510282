// Package boundtest tests evidence technologies that package bound puts together with claims: one
// device, one verifier that knows it, and the bindings that every technology has to hold.
package boundtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// Device is hardware under test and what a verifier is to know of it.
type Device struct {
	UEID     []byte
	Class    appraisal.Class
	Reporter bound.Reporter
	// Reports makes the reader of reports from what the verifier knows.
	Reports func(store *appraisal.Store) (bound.Reports, error)
	// Collateral is completed with the reference value of the agent.
	Collateral appraisal.Collateral
	Now        time.Time
	// Policy may be nil.
	Policy eat.Policy
	// Unbound is the error for claims that the report was not made for; ErrKeyBinding when nil.
	Unbound error
}

// Bench is a device and a verifier.
type Bench struct {
	testing.TB
	Device   Device
	AgentKey *cose.Key
	Nonce    []byte
	Attester *bound.Attester
	Verifier *bound.Verifier
	results  *cose.Key
}

// AgentMeasurement is the digest of the agent on every bench.
func AgentMeasurement() []byte { sum := sha256.Sum256([]byte("agent")); return sum[:] }

func key(t testing.TB) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// New makes a bench. The verifier knows the device's collateral and the agent's measurement.
func New(t testing.TB, d Device) *Bench {
	t.Helper()
	b := &Bench{TB: t, Device: d, AgentKey: key(t), Nonce: []byte("a challenge of the TAM"), results: key(t)}
	c := d.Collateral
	c.References = append([]appraisal.Reference{{Class: d.Class, Name: "teep-agent", Algorithm: cose.AlgSHA256,
		Digest: AgentMeasurement(), Status: attest.StatusAffirming}}, c.References...)
	if c.Owner == "" {
		c.Owner = "Maker"
	}
	store, err := appraisal.NewStore(&c)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return d.Now }
	if b.Attester, err = bound.NewAttester(b.Identity(), d.Reporter, now); err != nil {
		t.Fatal(err)
	}
	signer, err := b.results.Signer()
	if err != nil {
		t.Fatal(err)
	}
	claims, err := eat.NewVerifier(eat.VerifierConfig{Signer: signer, Developer: "tester", Build: "1",
		Endorsements: store, References: store, Policy: d.Policy, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	reports, err := d.Reports(store)
	if err != nil {
		t.Fatal(err)
	}
	if b.Verifier, err = bound.NewVerifier(claims, now, reports); err != nil {
		t.Fatal(err)
	}
	return b
}

// Identity is what the device's agent says of itself.
func (b *Bench) Identity() eat.Identity {
	return eat.Identity{UEID: b.Device.UEID, OEMID: b.Device.Class.OEMID, HWModel: b.Device.Class.HWModel, HWVersion: "1",
		AgentName: "teep-agent", AgentVersion: "1.2.0", Measurement: AgentMeasurement()}
}

// Request is what the TAM asks for.
func (b *Bench) Request() attest.Request {
	return attest.Request{Nonce: b.Nonce, AgentKey: b.AgentKey.Public(), Components: []attest.Component{
		{ID: [][]byte{[]byte("hello")}, ManifestURI: "https://example.com/hello.suit", ManifestDigest: bytes.Repeat([]byte{7}, 32), SequenceNumber: 3}}}
}

// Evidence has the device attest.
func (b *Bench) Evidence() attest.Evidence {
	b.Helper()
	e, err := b.Attester.Attest(context.Background(), "", b.Request())
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// Appraise has Evidence appraised as the TAM would.
func (b *Bench) Appraise(e attest.Evidence) (*attest.Result, error) {
	return b.Verifier.Appraise(context.Background(), e, attest.Expectation{Nonce: b.Nonce, AgentKey: b.AgentKey.Public(), MaxAge: time.Minute})
}

// Result appraises fresh Evidence of the device, which must be authentic.
func (b *Bench) Result() *attest.Result {
	b.Helper()
	r, err := b.Appraise(b.Evidence())
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// Says checks the verdict, and that a reason about the claim carries the status and the text.
func Says(t testing.TB, r *attest.Result, overall attest.Status, claim string, status attest.Status, text string) {
	t.Helper()
	if r.Status != overall {
		t.Errorf("the verdict is %v, want %v", r.Status, overall)
	}
	for _, reason := range r.Reasons {
		if strings.HasPrefix(reason.Claim, claim) && reason.Status == status && strings.Contains(reason.Text, text) {
			return
		}
	}
	t.Errorf("no reason says that %s is %v because %q:\n%+v", claim, status, text, r.Reasons)
}

// Refused checks that Evidence yields the error and no result.
func (b *Bench) Refused(name string, e attest.Evidence, want error) {
	b.Helper()
	if r, err := b.Appraise(e); !errors.Is(err, want) || r != nil {
		b.Errorf("%s: appraised: %t; %v, want %v", name, r != nil, err, want)
	}
}

// Parts takes Evidence apart.
func Parts(t testing.TB, e attest.Evidence) (claims, report *cmw.Record) {
	t.Helper()
	m, err := cmw.Parse(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return m.Collection.Members["claims"].Record, m.Collection.Members["report"].Record
}

// Join puts Evidence together.
func Join(t testing.TB, claims, report *cmw.Record) attest.Evidence {
	t.Helper()
	data, err := cmw.Collection{Type: bound.CollectionType, Members: map[string]cmw.Message{"claims": {Record: claims}, "report": {Record: report}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return attest.Evidence{MediaType: bound.MediaType, Payload: data}
}

// WithReport returns the Evidence with its report changed.
func WithReport(t testing.TB, e attest.Evidence, change func(report []byte) []byte) attest.Evidence {
	t.Helper()
	claims, report := Parts(t, e)
	report.Value = change(bytes.Clone(report.Value))
	return Join(t, claims, report)
}

// Bindings checks what every technology has to hold: result, challenge, key, claims and device.
func (b *Bench) Bindings() {
	b.Helper()
	e := b.Evidence()
	b.affirmed(e)
	ctx := context.Background()
	for name, c := range map[string]struct {
		x    attest.Expectation
		want error
	}{
		"old challenge":        {attest.Expectation{Nonce: []byte("another challenge"), AgentKey: b.AgentKey.Public()}, attest.ErrNotFresh},
		"no challenge, no age": {attest.Expectation{AgentKey: b.AgentKey.Public()}, attest.ErrNotFresh},
		"another agent's key":  {attest.Expectation{Nonce: b.Nonce, AgentKey: key(b).Public()}, attest.ErrKeyBinding},
		"no key":               {attest.Expectation{Nonce: b.Nonce}, attest.ErrKeyBinding},
	} {
		if r, err := b.Verifier.Appraise(ctx, e, c.x); !errors.Is(err, c.want) || r != nil {
			b.Errorf("%s: appraised: %t; %v", name, r != nil, err)
		}
	}
	b.swapped(e)
	nonce, agentKey, err := b.Verifier.Peek(e)
	if err != nil || !bytes.Equal(nonce, b.Nonce) || !agentKey.Equal(b.AgentKey) {
		b.Errorf("peek: %x, %v, %v", nonce, agentKey, err)
	}
}

// affirmed checks a result in full, as a relying party reads it.
func (b *Bench) affirmed(e attest.Evidence) {
	b.Helper()
	r, err := b.Appraise(e)
	if err != nil {
		b.Fatal(err)
	}
	if r.Status != attest.StatusAffirming {
		b.Errorf("%v: %+v", r.Status, r.Reasons)
	}
	keys, err := cose.NewKeySet(b.results.Public())
	if err != nil {
		b.Fatal(err)
	}
	relied, err := eat.CheckResult(r.Token, eat.ResultExpectation{Verifiers: keys, Key: b.AgentKey.Public(), Nonce: b.Nonce, Now: b.Device.Now})
	if err != nil {
		b.Fatal(err)
	}
	if relied.Status != attest.StatusAffirming || !bytes.Equal(relied.UEID, b.Device.UEID) || len(relied.Components) != 1 || len(relied.Reasons) == 0 {
		b.Errorf("%+v", relied)
	}
}

// swapped puts claims and report of different Evidence together.
func (b *Bench) swapped(e attest.Evidence) {
	b.Helper()
	claims, report := Parts(b, e)
	unbound := b.Device.Unbound
	if unbound == nil {
		unbound = attest.ErrKeyBinding
	}
	other := b.Identity()
	other.UEID = append([]byte{1}, bytes.Repeat([]byte{9}, 16)...)
	for name, c := range map[string]struct {
		identity eat.Identity
		request  attest.Request
		want     error
	}{
		"claims of another challenge": {b.Identity(), attest.Request{Nonce: []byte("challenge of today"), AgentKey: b.AgentKey.Public()}, unbound},
		"claims of another agent":     {b.Identity(), attest.Request{Nonce: b.Nonce, AgentKey: key(b).Public()}, unbound},
		"nothing is installed":        {b.Identity(), attest.Request{Nonce: b.Nonce, AgentKey: b.AgentKey.Public()}, unbound},
		"claims of another device":    {other, b.Request(), nil},
	} {
		base, err := eat.IdentityClaims(c.identity)
		if err != nil {
			b.Fatal(err)
		}
		said, err := base.For(c.request, b.Device.Now)
		if err != nil {
			b.Fatal(err)
		}
		encoded, err := said.Encode()
		if err != nil {
			b.Fatal(err)
		}
		swapped := *claims
		swapped.Value = encoded
		r, err := b.Appraise(Join(b, &swapped, report))
		if c.want == nil {
			c.want = err // whichever binding it is that breaks
		}
		if err == nil || !errors.Is(err, c.want) || r != nil {
			b.Errorf("%s: appraised: %t; %v", name, r != nil, err)
		}
	}
	lying, err := bound.NewAttester(other, b.Device.Reporter, func() time.Time { return b.Device.Now })
	if err != nil {
		b.Fatal(err)
	}
	le, err := lying.Attest(context.Background(), "", b.Request())
	if err != nil {
		b.Fatal(err)
	}
	b.Refused("the device says that it is another", le, attest.ErrUntrusted)
}

// Mutations appraises the Evidence truncated at, and with bits flipped in, every step-th byte: each of the
// eight in turn, or, with every, each of them alone. Nothing of it may be accepted, and every refusal is one of
// the errors of package attest.
func (b *Bench) Mutations(step int, every bool) {
	b.Helper()
	e := b.Evidence()
	for at := 0; at < len(e.Payload); at += step {
		for bit := range 8 {
			if !every && bit != at/step%8 {
				continue
			}
			flipped := bytes.Clone(e.Payload)
			flipped[at] ^= 1 << bit
			b.refusedSomehow(fmt.Sprintf("bit %d flipped", bit), at, flipped)
		}
		b.refusedSomehow("truncated", at, e.Payload[:at])
	}
}

func (b *Bench) refusedSomehow(what string, at int, data []byte) {
	b.Helper()
	r, err := b.Appraise(attest.Evidence{MediaType: bound.MediaType, Payload: data})
	if err == nil || r != nil {
		b.Errorf("%s at %d: accepted", what, at)
		return
	}
	for _, known := range []error{attest.ErrFormat, attest.ErrUnknownType, attest.ErrSignature, attest.ErrUntrusted, attest.ErrNotFresh, attest.ErrKeyBinding, attest.ErrMeasurement} {
		if errors.Is(err, known) {
			return
		}
	}
	b.Errorf("%s at %d: an error that says no binding: %v", what, at, err)
}

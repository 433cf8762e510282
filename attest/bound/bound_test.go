package bound_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

const chipReport = "application/vnd.example.chip"

// chip is hardware that signs a binding and nothing else, with a COSE key.
type chip struct {
	key      *cose.Key
	ueid     []byte
	class    appraisal.Class
	debug    eat.DebugStatus
	measured []eat.MeasuredComponent
	findings []eat.Finding
	short    int // how much of the binding it has room for
	fails    bool
}

func newChip(t testing.TB) *chip {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	oemid, err := attest.ParseOEMID("pen:64242")
	if err != nil {
		t.Fatal(err)
	}
	return &chip{key: k, ueid: append([]byte{1}, bytes.Repeat([]byte{3}, 16)...), class: appraisal.Class{OEMID: oemid, HWModel: []byte{1}}, short: bound.BindingSize}
}

func (c *chip) MediaType() string { return chipReport }

func (c *chip) Report(_ context.Context, b bound.Binding) ([]byte, error) {
	if c.fails {
		return nil, errors.New("the bus is stuck")
	}
	s, err := c.key.Signer()
	if err != nil {
		return nil, err
	}
	signature, err := s.Sign(rand.Reader, b[:c.short])
	return append(signature, b[:c.short]...), err
}

func (c *chip) Accepts(mediaType string) bool { return mediaType == chipReport }

func (c *chip) Read(_ context.Context, report []byte, _ bound.Beside) (*bound.Report, error) {
	v, err := c.key.Public().Verifier()
	if err != nil {
		return nil, err
	}
	signature, said := report[:min(64, len(report))], report[min(64, len(report)):]
	if err := v.Verify(said, signature); err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrSignature, err)
	}
	return &bound.Report{Bound: said, Authority: eat.Authority{Key: c.key.Public(), UEID: c.ueid, Class: c.class, Owner: "Maker"},
		Measurements: c.measured, Debug: c.debug, Findings: c.findings}, nil
}

func device(c *chip) boundtest.Device {
	return boundtest.Device{UEID: c.ueid, Class: c.class, Reporter: c, Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		Reports: func(*appraisal.Store) (bound.Reports, error) { return c, nil }}
}

func TestBindings(t *testing.T) { boundtest.New(t, device(newChip(t))).Bindings() }

func TestMutations(t *testing.T) { boundtest.New(t, device(newChip(t))).Mutations(1, true) }

// TestRoomForTheBinding: hardware may sign a prefix, but no less than a SHA-256 digest of it.
func TestRoomForTheBinding(t *testing.T) {
	for short, want := range map[int]bool{0: false, 8: false, 31: false, 32: true, 48: true, 64: true} {
		c := newChip(t)
		c.short = short
		b := boundtest.New(t, device(c))
		if r, err := b.Appraise(b.Evidence()); (err == nil) != want || (r != nil) != want || err != nil && !errors.Is(err, attest.ErrKeyBinding) {
			t.Errorf("%d bytes: appraised: %t, %v", short, r != nil, err)
		}
	}
	if bound.Bind(nil).Matches(make([]byte, 65)) {
		t.Error("more than a binding matches")
	}
}

func TestHardwareSpeaks(t *testing.T) {
	digest, err := appraisal.NewDigest(cose.AlgSHA256, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	c := newChip(t)
	c.debug = eat.DebugEnabled
	boundtest.Says(t, boundtest.New(t, device(c)).Result(), attest.StatusContraindicated, "dbgstat", attest.StatusContraindicated, "enabled")

	c = newChip(t)
	c.measured = []eat.MeasuredComponent{{Name: "boot", Digest: digest}}
	boundtest.Says(t, boundtest.New(t, device(c)).Result(), attest.StatusContraindicated, "measurements boot", attest.StatusContraindicated, "not among")

	c = newChip(t)
	c.measured = []eat.MeasuredComponent{{Name: "teep-agent", Digest: digest}}
	b := boundtest.New(t, device(c))
	b.Refused("the claims measure what the hardware does", b.Evidence(), attest.ErrFormat)

	for _, r := range []attest.Reason{{Claim: "tcb", Status: attest.StatusWarning}, {Claim: "tcb", Status: attest.StatusContraindicated}} {
		c = newChip(t)
		c.findings = []eat.Finding{bound.HardwareFinding(r)}
		boundtest.Says(t, boundtest.New(t, device(c)).Result(), r.Status, "tcb", r.Status, "")
	}
}

func TestRefused(t *testing.T) {
	b := boundtest.New(t, device(newChip(t)))
	e := b.Evidence()
	claims, report := boundtest.Parts(t, e)
	encode := func(m map[string]cmw.Message, typ string) attest.Evidence {
		data, err := cmw.Collection{Type: typ, Members: m}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return attest.Evidence{MediaType: bound.MediaType, Payload: data}
	}
	both := func(c, r cmw.Message) map[string]cmw.Message {
		return map[string]cmw.Message{"claims": c, "report": r}
	}
	other := func(r cmw.Record, change func(*cmw.Record)) cmw.Message { change(&r); return cmw.Message{Record: &r} }
	c, r := cmw.Message{Record: claims}, cmw.Message{Record: report}
	record, err := report.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		e    attest.Evidence
		want error
	}{
		"another media type":      {attest.Evidence{MediaType: cmw.MediaType, Payload: e.Payload}, attest.ErrUnknownType},
		"a record":                {attest.Evidence{MediaType: bound.MediaType, Payload: record}, attest.ErrFormat},
		"another collection type": {encode(both(c, r), "tag:example.com,2026:x"), attest.ErrFormat},
		"only a report":           {encode(map[string]cmw.Message{"report": r}, bound.CollectionType), attest.ErrFormat},
		"a third member":          {encode(map[string]cmw.Message{"claims": c, "report": r, "more": r}, bound.CollectionType), attest.ErrFormat},
		"other labels":            {encode(map[string]cmw.Message{"claims": c, "quote": r}, bound.CollectionType), attest.ErrFormat},
		"claims nested":           {encode(both(cmw.Message{Collection: &cmw.Collection{Members: map[string]cmw.Message{"a": c}}}, r), bound.CollectionType), attest.ErrFormat},
		"claims of another type":  {encode(both(other(*claims, func(r *cmw.Record) { r.MediaType = eat.MediaType }), r), bound.CollectionType), attest.ErrFormat},
		"claims that are no map":  {encode(both(other(*claims, func(r *cmw.Record) { r.Value = []byte{0x80} }), r), bound.CollectionType), attest.ErrFormat},
		"an endorsement":          {encode(both(c, other(*report, func(r *cmw.Record) { r.Indicator = cmw.Endorsements })), bound.CollectionType), attest.ErrFormat},
		"unknown hardware":        {encode(both(c, other(*report, func(r *cmw.Record) { r.MediaType = bound.TDXQuote })), bound.CollectionType), attest.ErrUnknownType},
		"another chip's report":   {encode(both(c, other(*report, func(r *cmw.Record) { r.Value = nil })), bound.CollectionType), attest.ErrSignature},
	} {
		b.Refused(name, x.e, x.want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Verifier.Appraise(ctx, e, attest.Expectation{Nonce: b.Nonce, AgentKey: b.AgentKey}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAttesterRefuses(t *testing.T) {
	c := newChip(t)
	b := boundtest.New(t, device(c))
	ctx := context.Background()
	if _, err := b.Attester.Attest(ctx, eat.MediaType, b.Request()); !errors.Is(err, attest.ErrUnknownType) {
		t.Error(err)
	}
	if _, err := b.Attester.Attest(ctx, bound.MediaType, attest.Request{Nonce: b.Nonce}); err == nil {
		t.Error("attested no key")
	}
	if _, err := b.Attester.Attest(ctx, "", attest.Request{Nonce: []byte("short"), AgentKey: b.AgentKey}); err == nil {
		t.Error("attested a nonce of 5 bytes")
	}
	c.fails = true
	if _, err := b.Attester.Attest(ctx, "", b.Request()); err == nil {
		t.Error("attested without a report")
	}
	if _, err := bound.NewAttester(eat.Identity{}, c, time.Now); err == nil {
		t.Error("an attester of nothing")
	}
	if _, err := bound.NewAttester(b.Identity(), nil, time.Now); err == nil {
		t.Error("an attester without hardware")
	}
	if _, err := bound.NewVerifier(nil, time.Now, c); err == nil {
		t.Error("a verifier without one of claims")
	}
}

// TestInWrapper: a cmw.Verifier finds the way by the collection's type.
func TestInWrapper(t *testing.T) {
	b := boundtest.New(t, device(newChip(t)))
	e := b.Evidence()
	v := cmw.NewVerifier(b.Verifier)
	for _, mediaType := range []string{cmw.MediaType, bound.MediaType} {
		e.MediaType = mediaType
		r, err := v.Appraise(context.Background(), e, attest.Expectation{Nonce: b.Nonce, AgentKey: b.AgentKey.Public()})
		if err != nil || r.Status != attest.StatusAffirming {
			t.Errorf("%s: %v", mediaType, err)
		}
		if _, k, err := v.Peek(e); err != nil || !k.Equal(b.AgentKey) {
			t.Errorf("%s: %v, %v", mediaType, k, err)
		}
	}
}

// FuzzPeek: what a stranger sends cannot crash the reader, and yields a format error or a key.
func FuzzPeek(f *testing.F) {
	b := boundtest.New(f, device(newChip(f)))
	f.Add(b.Evidence().Payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := b.Verifier.Peek(attest.Evidence{MediaType: bound.MediaType, Payload: data})
		if err != nil && !errors.Is(err, attest.ErrFormat) {
			t.Fatal(err)
		}
		if r, err := b.Appraise(attest.Evidence{MediaType: bound.MediaType, Payload: data}); err == nil && r == nil {
			t.Fatal("neither result nor error")
		}
	})
}

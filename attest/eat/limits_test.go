package eat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// TestTalkativeDevice: a genuine device that fills every limit of Evidence still gets a result
// that can be read, and what weighs most stays in it.
func TestTalkativeDevice(t *testing.T) {
	b := newBench(t)
	long := strings.Repeat("ü", eat.MaxTextBytes/2)
	e := b.resign(func(c *eat.Claims) {
		c.HWVersion.Text = long
		for i := range eat.MaxWeaknesses {
			c.Weaknesses = append(c.Weaknesses, fmt.Sprintf("%d%s", i, long[:1024]))
		}
		for range eat.MaxMeasurements - 1 {
			c.Measurements = append(c.Measurements, eat.Measurement{Component: &eat.MeasuredComponent{Name: long[:200],
				Digest: appraisal.Digest{Algorithm: cose.AlgSHA256, Value: make([]byte, 32)}}})
		}
		c.Submods = map[string]eat.Submodule{}
		for i := range eat.MaxSubmods {
			c.Submods[fmt.Sprintf("%d", i)] = eat.Submodule{Claims: &eat.Claims{Debug: eat.DebugDisabled}}
		}
	})
	r := b.mustAppraise(e)
	if r.Status != attest.StatusContraindicated {
		t.Error(r.Status)
	}
	got, err := eat.CheckResult(r.Token, b.relying())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Reasons) != eat.MaxReasons || got.Reasons[0].Status != attest.StatusContraindicated {
		t.Errorf("%d reasons, the first %v", len(got.Reasons), got.Reasons[0].Status)
	}
	for _, reason := range got.Reasons {
		if len(reason.Text) > 600 {
			t.Fatalf("a reason of %d bytes", len(reason.Text))
		}
	}
}

// TestDeepComponents: what a result takes over from Evidence must not push it over its own limits.
func TestDeepComponents(t *testing.T) {
	b := newBench(t)
	e := b.resign(func(c *eat.Claims) {
		deep := eat.Submodule{Claims: &eat.Claims{}}
		for range eat.MaxSubmodDepth - 1 {
			deep = eat.Submodule{Claims: &eat.Claims{Submods: map[string]eat.Submodule{"x": deep}}}
		}
		for label, s := range c.Submods {
			s.Claims.Submods = deep.Claims.Submods
			c.Submods[label] = s
		}
	})
	r := b.mustAppraise(e)
	if got, err := eat.CheckResult(r.Token, b.relying()); err != nil || len(got.Components) != len(components) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCWTTag: other encoders may put the tag of CWT around a token, and the tag of COSE_Sign1.
func TestCWTTag(t *testing.T) {
	b := newBench(t)
	token := b.evidence().Payload
	for _, tags := range [][]uint64{{61}, {18}, {61, 18}} {
		tagged := cbor.RawMessage(token)
		for i := len(tags) - 1; i >= 0; i-- {
			data, err := cbor.Marshal(cbor.RawTag{Number: tags[i], Content: tagged})
			if err != nil {
				t.Fatal(err)
			}
			tagged = data
		}
		if _, err := b.appraise(attest.Evidence{Payload: tagged}); err != nil {
			t.Errorf("%v: %v", tags, err)
		}
	}
	for _, number := range []uint64{61, 602, 98, 17} {
		twice, err := cbor.Marshal(cbor.RawTag{Number: 61, Content: mustTag(t, number, token)})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := b.appraise(attest.Evidence{Payload: twice}); err == nil {
			t.Errorf("61(%d(…)) was appraised: %v", number, r.Status)
		}
	}
}

func mustTag(t *testing.T, number uint64, content []byte) []byte {
	t.Helper()
	data, err := cbor.Marshal(cbor.RawTag{Number: number, Content: content})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestOversizeEvidenceIsNotMade: an attester says so rather than send what no one reads.
func TestOversizeEvidenceIsNotMade(t *testing.T) {
	b := newBench(t)
	many := make([]attest.Component, eat.MaxSubmods+1)
	for i := range many {
		many[i] = attest.Component{ID: [][]byte{[]byte(fmt.Sprint(i))}, ManifestDigest: make([]byte, 32)}
	}
	_, err := b.attester.Attest(context.Background(), "", attest.Request{Nonce: b.nonce, AgentKey: b.agentKey.Public(), Components: many})
	if !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
	if e, err := b.attester.Attest(context.Background(), eat.MediaType, attest.Request{Nonce: b.nonce, AgentKey: b.agentKey.Public(), Components: many[:500]}); err != nil {
		t.Error(err)
	} else if r := b.mustAppraise(e); len(r.Components) != 500 {
		t.Errorf("%d components", len(r.Components))
	}
}

package eat_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/internal/vectors"
)

func seedClaims(f *testing.F) {
	for _, name := range vectors.Names(f, "teep-es256", ".cbor") {
		f.Add(vectors.Read(f, name))
	}
	b := newBench(f)
	for _, token := range [][]byte{b.evidence().Payload, b.mustAppraise(b.evidence()).Token} {
		c, err := claimsOf(f, token).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c)
	}
}

// FuzzClaimsStable: claims that parse encode to something that means the same, and stays the same.
func FuzzClaimsStable(f *testing.F) {
	seedClaims(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := eat.ParseClaims(data)
		if err != nil {
			if !errors.Is(err, attest.ErrFormat) {
				t.Fatalf("not a format error: %v", err)
			}
			return
		}
		encoded, err := c.Encode()
		if err != nil {
			t.Fatalf("%x parsed and does not encode: %v", data, err)
		}
		again, err := eat.ParseClaims(encoded)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("%x, then %x (%v)", encoded, twice, err)
		}
	})
}

// FuzzOnlySignedEvidenceIsAppraised: no mutation of authentic Evidence yields a result.
func FuzzOnlySignedEvidenceIsAppraised(f *testing.F) {
	b := newBench(f)
	e, relying := b.evidence(), b.relying()
	f.Add(e.Payload)
	f.Add(vectors.Read(f, "teep-es256/evidence_cose.cbor"))
	f.Add(vectors.Read(f, "teep-es256/attestation_results_cose.cbor"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, mediaType := range []string{eat.MediaType, eat.BundleMediaType} {
			r, err := b.verifier.Appraise(context.Background(), attest.Evidence{MediaType: mediaType, Payload: data}, b.expectation())
			if err == nil && !bytes.Contains(data, e.Payload[len(e.Payload)-64:]) {
				t.Fatalf("a result without the signature: %+v", r)
			}
		}
		if _, err := eat.CheckResult(data, relying); err == nil {
			t.Fatal("a result that no verifier signed")
		}
	})
}

// FuzzBundle: a bundle that parses encodes to a bundle that parses to the same.
func FuzzBundle(f *testing.F) {
	f.Add([]byte("\xd9\x02\x5a\x82\x43\xd2\x84\x00\xa1\x61a\x41\xa0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := eat.ParseBundle(data)
		if err != nil {
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		c, err := eat.ParseBundle(again)
		if err != nil || !bytes.Equal(c.Token, b.Token) || len(c.Detached) != len(b.Detached) {
			t.Fatalf("%x: %v", data, err)
		}
	})
}

// TestSchema prints a token with names, and reads it back.
func TestSchema(t *testing.T) {
	b := newBench(t)
	token := b.mustAppraise(b.evidence()).Token
	text, err := edn.Format(token, edn.Options{Schema: eat.TokenSchema()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/ alg / 1: -9 / ESP256 /", "/ ueid / 256: h'01abab", "/ ear_status / 1000: 2 / affirming /",
		"/ executables / 2: 2", "/ SUIT_Reference / [", "/ measured-component /", "/ dbgstat / 263: 1 / disabled /", `"teep-agent"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if again, err := edn.Parse(text); err != nil || !bytes.Equal(again, token) {
		t.Error("the notation does not read back", err)
	}
}

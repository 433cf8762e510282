package builtin_test

import (
	"crypto/rand"
	"testing"

	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

func TestAccepts(t *testing.T) {
	store, err := appraisal.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	c := builtin.Config{Collateral: store, Signer: signer, Developer: "tester", Build: "1"}
	v, err := builtin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for mediaType, want := range map[string]bool{
		eat.MediaType: true, eat.BundleMediaType: true, cmw.MediaType: true, bound.MediaType: true, "": true,
		"application/eat+cwt": false, bound.SEVSNPReport: false, bound.TPMQuote: false, "application/cmw+json": false,
	} {
		if got := v.Accepts(mediaType); got != want {
			t.Errorf("%q: %v", mediaType, got)
		}
	}
	for name, change := range map[string]func(*builtin.Config){
		"no collateral": func(c *builtin.Config) { c.Collateral = nil },
		"no key":        func(c *builtin.Config) { c.Signer = nil },
		"no name":       func(c *builtin.Config) { c.Developer = "" },
		"no such PCR":   func(c *builtin.Config) { c.PCRs = []int{99} },
	} {
		bad := c
		change(&bad)
		if v, err := builtin.New(bad); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

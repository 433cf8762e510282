package eat_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// A device attests its agent to a verifier that knows the device and the agent's code.
func Example() {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	agentKey, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(err)
	attestationKey, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(err)
	verifierKey, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(err)
	oemid, err := attest.ParseOEMID("pen:64242")
	must(err)
	code := sha256.Sum256([]byte("the agent's code"))
	device := eat.Identity{
		UEID: []byte("\x01sixteen bytes id"), OEMID: oemid, HWModel: []byte{1}, HWVersion: "1.0",
		AgentName: "teep-agent", AgentVersion: "1.2.0", Measurement: code[:],
	}

	// Who made the device says which key is genuine and which code is expected.
	class := appraisal.Class{OEMID: oemid, HWModel: device.HWModel}
	known, err := appraisal.NewStore(&appraisal.Collateral{
		Endorsements: []appraisal.Endorsement{{Owner: "Maker", UEID: device.UEID, Key: attestationKey.Public(), Class: class}},
		References: []appraisal.Reference{{Owner: "Maker", Class: class, Name: "teep-agent", Version: "1.2.0",
			Algorithm: cose.AlgSHA256, Digest: code[:], Status: attest.StatusAffirming}},
	})
	must(err)

	attestationSigner, err := attestationKey.Signer()
	must(err)
	attester, err := eat.NewAttester(eat.AttesterConfig{Identity: device, Signer: attestationSigner, Now: time.Now, Rand: rand.Reader})
	must(err)
	verifierSigner, err := verifierKey.Signer()
	must(err)
	verifier, err := eat.NewVerifier(eat.VerifierConfig{Signer: verifierSigner, Developer: "Example", Build: "1.0",
		Endorsements: known, References: known, Now: time.Now, Rand: rand.Reader})
	must(err)

	challenge := []byte("sixteen new byte")
	evidence, err := attester.Attest(context.Background(), "", attest.Request{Nonce: challenge, AgentKey: agentKey.Public()})
	must(err)
	result, err := verifier.Appraise(context.Background(), evidence, attest.Expectation{Nonce: challenge, AgentKey: agentKey.Public()})
	must(err)
	fmt.Println(result.Status)

	_, err = verifier.Appraise(context.Background(), evidence, attest.Expectation{Nonce: []byte("another challenge"), AgentKey: agentKey.Public()})
	fmt.Println(errors.Is(err, attest.ErrNotFresh))
	// Output:
	// affirming
	// true
}

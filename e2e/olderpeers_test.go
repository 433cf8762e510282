package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/transport"
)

// es256 is a TEE of earlier drafts: its agent calls its key's algorithm ES256, and knows no other.
type es256 struct{ *sandbox.TEE }

func (t es256) Keys() tee.Keys { return es256Keys{t.TEE.Keys()} }

type es256Keys struct{ tee.Keys }

func (k es256Keys) Signer(use tee.KeyUse) (cose.Signer, error) {
	s, err := k.Keys.Signer(use)
	if err != nil || use != tee.KeyAgent {
		return s, err
	}
	return es256Signer{s}, nil
}

type es256Signer struct{ cose.Signer }

func (es256Signer) Algorithm() cose.Algorithm { return cose.AlgES256 }

// older-agent TRUST COLLATERAL COMPONENT: an agent of earlier drafts has a component installed by a TAM, whose
// collateral file it writes first; the command fails if any message of the session but the first is in
// another suite than ES256.
func olderAgent(ts *testscript.TestScript, negative bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	vendor := suit.NewVendorID("example.com")
	environment, err := sandbox.Open(ctx, sandbox.Config{
		Disk: crashfs.New(), Rand: rand.Reader, Now: time.Now,
		Measure: func() ([]byte, error) { sum := sha256.Sum256([]byte("an agent of before")); return sum[:], nil },
		Identity: sandbox.Identity{
			OEMID: []byte{0x43, 0x89, 0x48, 0x23}, HWModel: []byte("older"), HWVersion: "1", AgentName: "older", AgentVersion: "1",
			VendorID: vendor, ClassID: suit.NewClassID(suit.VendorID{UUID: vendor}, []byte("sandbox-wasm")),
		},
	})
	ts.Check(err)
	defer environment.Close()
	id := environment.Identity()
	attestation, err := environment.Keys().Signer(tee.KeyAttestation)
	ts.Check(err)
	attester, err := eat.NewAttester(eat.AttesterConfig{Signer: attestation, Now: time.Now, Rand: rand.Reader, Identity: eat.Identity{
		UEID: id.UEID, OEMID: id.OEMID, HWModel: id.HWModel, HWVersion: id.HWVersion, AgentName: id.AgentName,
		AgentVersion: id.AgentVersion, Measurement: id.Measurement, Weaknesses: id.Weaknesses,
	}})
	ts.Check(err)
	writeCollateral(ts, args[1], id, attestation.Public())
	trust, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	a, err := agent.New(agent.Config{
		TEE: es256{environment}, Attester: attester, Trust: trust, InsecureOlderPeers: true,
		ReadTrustFile: func(name string) ([]byte, error) {
			return os.ReadFile(filepath.Join(filepath.Dir(ts.MkAbs(args[0])), name))
		},
	})
	ts.Check(err)
	defer a.Close()
	client, err := transport.NewClient(transport.ClientOptions{})
	ts.Check(err)
	defer client.CloseIdleConnections()
	var suites []cose.Algorithm
	b, err := broker.New(broker.Options{
		TEEs: []broker.TEE{{Name: "older", Agent: a}}, Poster: client, Fetcher: client,
		Events: func(e broker.Event) {
			if len(e.Message) == 0 {
				return
			}
			body, signatures, err := cose.UnverifiedHeaders(e.Message)
			if err == nil && len(signatures) == 0 {
				suites = append(suites, body.Protected.Algorithm())
			}
		},
	})
	ts.Check(err)
	err = b.Request(ctx, broker.Request{Component: [][]byte{[]byte(args[2])}}, nil)
	if negative {
		if err == nil {
			ts.Fatalf("it was served")
		}
		return
	}
	ts.Check(err)
	// QueryResponse, Update and Success at least; the QueryRequest is signed once per suite.
	if len(suites) < 3 {
		ts.Fatalf("messages of one signature: %v", suites)
	}
	for _, alg := range suites {
		if alg != cose.AlgES256 {
			ts.Fatalf("suites %v", suites)
		}
	}
}

// writeCollateral has a TAM's verifier know a device, and waits until the TAM may have read it.
func writeCollateral(ts *testscript.TestScript, name string, id tee.Identity, key *cose.Key) {
	oemid, err := attest.CanonicalOEMID(id.OEMID)
	ts.Check(err)
	class := appraisal.Class{OEMID: oemid, HWModel: id.HWModel}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	all := appraisal.Collateral{
		Owner: "e2e", Expires: expires,
		Endorsements: []appraisal.Endorsement{{Owner: "e2e", UEID: id.UEID, Key: key, Class: class}},
		References: []appraisal.Reference{{
			Owner: "e2e", Class: class, Expires: expires, Name: id.AgentName, Version: id.AgentVersion, Algorithm: cose.AlgSHA256,
			Digest: id.Measurement, Status: attest.StatusAffirming, AcceptedWeaknesses: id.Weaknesses, Why: "test",
		}},
	}
	data, err := all.YAML()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	await(ts, false, []string{"text", "tam.log", "collateral read again"})
}

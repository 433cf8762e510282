package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// The agents of fleetSize devices are a process of their own: neither their work nor their garbage is the
// TAM's. They talk over the pipes of standard input and output:
//
//	agents to TAM   the verifier's public key
//	TAM to agents   introduction, then rounds of one message for each agent
//	agents to TAM   for each round the answers

const agentsVariable = "TEEP_BENCH_AGENTS"

func TestMain(m *testing.M) {
	if os.Getenv(agentsVariable) == "" {
		os.Exit(m.Run())
	}
	if err := runAgents(os.Stdin, os.Stdout); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "agents:", err)
		os.Exit(1)
	}
}

// introduction tells the agents whom to trust and what they will be given.
type introduction struct {
	TAMKeys  [][]byte
	Manifest []byte // its digest
}

type round [fleetSize][]byte

// agentProcess is the TAM's side.
type agentProcess struct {
	in  *gob.Encoder
	out *gob.Decoder
}

func startAgents(b *testing.B) (*agentProcess, *cose.Key) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), agentsVariable+"=1"), os.Stderr
	stdin, err := cmd.StdinPipe()
	check(b, err)
	stdout, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	b.Cleanup(func() {
		stdin.Close() //nolint:errcheck // which ends them
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	p := &agentProcess{gob.NewEncoder(stdin), gob.NewDecoder(stdout)}
	var verifier []byte
	check(b, p.out.Decode(&verifier))
	key, err := cose.ParseKey(verifier)
	check(b, err)
	return p, key
}

func (p *agentProcess) meet(b *testing.B, manifest []byte, keys ...*cose.Key) {
	b.Helper()
	i := introduction{Manifest: manifest}
	for _, k := range keys {
		data, err := k.MarshalCBOR()
		check(b, err)
		i.TAMKeys = append(i.TAMKeys, data)
	}
	check(b, p.in.Encode(i))
}

// answer gives every agent a message of the TAM, and returns what they say.
func (p *agentProcess) answer(b *testing.B, messages round) (answers round) {
	b.Helper()
	check(b, p.in.Encode(messages))
	check(b, p.out.Decode(&answers))
	return answers
}

func generateSigner(alg cose.Algorithm) (cose.Signer, error) {
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		return nil, err
	}
	return k.Signer()
}

func runAgents(r io.Reader, w io.Writer) error {
	in, out := gob.NewDecoder(r), gob.NewEncoder(w)
	verifier, err := generateSigner(cose.AlgESP256)
	if err != nil {
		return err
	}
	devices, err := makeDevices(verifier)
	if err != nil {
		return err
	}
	key, err := verifier.Public().MarshalCBOR()
	if err != nil {
		return err
	}
	if err := out.Encode(key); err != nil {
		return err
	}
	var i introduction
	if err := in.Decode(&i); err != nil {
		return err
	}
	var keys []*cose.Key
	for _, data := range i.TAMKeys {
		k, err := cose.ParseKey(data)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	trusted, err := cose.NewKeySet(keys...)
	if err != nil {
		return err
	}
	for {
		var messages, answers round
		if err := in.Decode(&messages); err != nil {
			return err
		}
		for n, a := range devices {
			if answers[n], err = a.answer(messages[n], trusted, i.Manifest); err != nil {
				return fmt.Errorf("agent %d: %w", n, err)
			}
		}
		if err := out.Encode(answers); err != nil {
			return err
		}
	}
}

// simulated is an agent that gets its Attestation Results from the verifier.
type simulated struct {
	key      cose.Signer
	passport attest.Passport
}

func makeDevices(ofVerifier cose.Signer) (*[fleetSize]*simulated, error) {
	oemid, err := attest.ParseOEMID("ieee:89-48-23")
	if err != nil {
		return nil, err
	}
	measurement := sha256.Sum256([]byte("agent"))
	class := appraisal.Class{OEMID: oemid, HWModel: []byte("device")}
	expires := time.Now().Add(24 * time.Hour)
	known := &appraisal.Collateral{Owner: "maker", Expires: expires, References: []appraisal.Reference{{
		Owner: "maker", Class: class, Name: "teep-agent", Version: "1", Algorithm: cose.AlgSHA256, Digest: measurement[:],
		Status: attest.StatusAffirming, Expires: expires,
	}}}
	store, err := appraisal.NewStore()
	if err != nil {
		return nil, err
	}
	verifier, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: ofVerifier, Developer: "go-teep", Build: "bench", Endorsements: store, References: store, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	var devices [fleetSize]*simulated
	for i := range devices {
		attestation, err := generateSigner(cose.AlgESP256)
		if err != nil {
			return nil, err
		}
		key, err := generateSigner(cose.AlgESP256)
		if err != nil {
			return nil, err
		}
		ueid := append([]byte{1}, fmt.Sprintf("device-%09d", i)...)
		known.Endorsements = append(known.Endorsements, appraisal.Endorsement{Owner: "maker", UEID: ueid, Key: attestation.Public(), Class: class})
		attester, err := eat.NewAttester(eat.AttesterConfig{
			Identity: eat.Identity{
				UEID: ueid, OEMID: oemid, HWModel: class.HWModel, HWVersion: "1", AgentName: "teep-agent", AgentVersion: "1",
				Measurement: measurement[:], Debug: eat.DebugDisabled,
			},
			Signer: attestation, Now: time.Now, Rand: rand.Reader,
		})
		if err != nil {
			return nil, err
		}
		devices[i] = &simulated{key, attest.Passport{Attester: attester, Verifier: verifier}}
	}
	return &devices, store.Replace(known)
}

// answer makes a QueryResponse or a Success.
func (a *simulated) answer(data []byte, trusted cose.KeySource, manifest []byte) ([]byte, error) {
	opened, err := teep.Open(data, trusted, teep.OpenOptions{})
	if err != nil {
		return nil, err
	}
	switch m := opened.Message.(type) {
	case *teep.QueryRequest:
		return a.response(m)
	case *teep.Update:
		return a.success(m, manifest)
	}
	return nil, fmt.Errorf("the TAM sent a %v", opened.Message.Type())
}

// response asks for the application and presents an Attestation Result with the token in it.
func (a *simulated) response(q *teep.QueryRequest) ([]byte, error) {
	result, err := a.passport.Attest(context.Background(), "", attest.Request{Nonce: q.Token, AgentKey: a.key.Public()})
	if err != nil {
		return nil, err
	}
	return teep.Protect(rand.Reader, &teep.QueryResponse{
		Token: q.Token, AttestationFormat: result.MediaType, AttestationPayload: result.Payload, TrustedComponents: []cbor.RawMessage{},
		RequestedComponents: []teep.RequestedComponent{{ID: teep.ComponentID(suit.NewComponentID("hello"))}},
	}, a.key)
}

func (a *simulated) success(u *teep.Update, manifest []byte) ([]byte, error) {
	if len(u.Manifests) != 1 {
		return nil, fmt.Errorf("an Update with %d manifests, %v", len(u.Manifests), u.ErrorCode)
	}
	digest := suit.Digest{Algorithm: cose.AlgSHA256, Bytes: manifest}
	report, err := (&suit.Report{Reference: suit.Reference{Digest: digest}, Nonce: u.Token}).Encode()
	if err != nil {
		return nil, err
	}
	return teep.Protect(rand.Reader, &teep.Success{Token: u.Token, SUITReports: [][]byte{report}}, a.key)
}

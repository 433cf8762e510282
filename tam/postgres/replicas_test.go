package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// challengeVerifier takes as Evidence the challenge, signed by the agent: what an appraisal finds is
// other tests' business, that it is about the right challenge is this one's.
type challengeVerifier struct{}

const mediaType = "application/x-test"

func (challengeVerifier) Accepts(m string) bool { return m == mediaType }

func (challengeVerifier) Appraise(_ context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	keys, err := cose.NewKeySet(x.AgentKey)
	if err != nil {
		return nil, err
	}
	v, err := cose.Verify(e.Payload, keys, cose.VerifyOptions{})
	if err != nil {
		return nil, attest.ErrSignature
	}
	var claims struct {
		Nonce []byte `cbor:"10,keyasint"`
	}
	if err := cbor.Unmarshal(v.Payload, &claims); err != nil {
		return nil, attest.ErrFormat
	}
	if x.Nonce == nil || !bytes.Equal(claims.Nonce, x.Nonce) {
		return nil, attest.ErrNotFresh
	}
	return &attest.Result{Status: attest.StatusAffirming, UEID: []byte("\x01device")}, nil
}

// TestChallengeIsUsedOnceAcrossReplicas: one replica issues a challenge, the answer reaches several
// replicas many times at once, and counts once.
func TestChallengeIsUsedOnceAcrossReplicas(t *testing.T) {
	server := pgtest.Start(t)
	url, blobDir, ctx := server.Database(t), t.TempDir(), t.Context()
	generate := func(alg cose.Algorithm) (*cose.Key, cose.Signer) {
		k, err := cose.GenerateKey(rand.Reader, alg)
		must(t, err)
		s, err := k.Signer()
		must(t, err)
		return k, s
	}
	esp, espSigner := generate(cose.AlgESP256)
	ed, edSigner := generate(cose.AlgEd25519)
	device, deviceSigner := generate(cose.AlgESP256)
	var stores []*postgres.Store
	var replicas []*tam.TAM
	for range 2 {
		store := open(t, url)
		blobs, err := blobfs.Open(blobDir)
		must(t, err)
		t.Cleanup(func() { blobs.Close() })
		replica, err := tam.New(ctx, tam.Config{
			Signers: []cose.Signer{espSigner, edSigner}, Verifier: challengeVerifier{}, Store: store, Blobs: blobs,
			Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		must(t, err)
		stores, replicas = append(stores, store), append(replicas, replica)
	}
	keys, err := cose.NewKeySet(esp, ed)
	must(t, err)
	answer := func(request []byte) []byte { return answerTo(t, request, keys, device, deviceSigner) }
	attested := func() (n int) {
		events, err := stores[0].Events(ctx, tam.DeviceID(device.Thumbprint()), 0, 100)
		must(t, err)
		for _, e := range events {
			if e.Kind == tam.EventAttested {
				n++
			}
		}
		return n
	}
	for round := 1; round <= 3; round++ {
		request, err := replicas[round%2].ProcessConnect(ctx)
		must(t, err)
		message := answer(request)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				if _, err := replicas[n%2].ProcessTeepMessage(context.Background(), message); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := attested(); got != round {
			t.Fatalf("after round %d the device was attested %d times", round, got)
		}
	}
}

// answerTo is the device's QueryResponse to a QueryRequest, with Evidence.
func answerTo(t *testing.T, request []byte, tamKeys cose.KeySource, device *cose.Key, signer cose.Signer) []byte {
	t.Helper()
	opened, err := teep.Open(request, tamKeys, teep.OpenOptions{Algorithms: []cose.Algorithm{cose.AlgESP256}})
	must(t, err)
	q := opened.Message.(*teep.QueryRequest)
	public, err := device.Public().MarshalCBOR()
	must(t, err)
	claims, err := cbor.Marshal(map[int]any{8: map[int]any{1: cbor.RawMessage(public)}, 10: q.Challenge})
	must(t, err)
	evidence, err := cose.Sign1(rand.Reader, claims, signer, cose.SignOptions{})
	must(t, err)
	data, err := teep.Protect(rand.Reader, &teep.QueryResponse{
		AttestationFormat: mediaType, AttestationPayload: evidence, TrustedComponents: []teep.RawMessage{},
	}, signer)
	must(t, err)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

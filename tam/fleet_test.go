package tam_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

// evidenceType is the media type of the Evidence in these tests.
const evidenceType = `application/eat+cwt; eat_profile="tag:teep.example,2026:test"`

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a TAM with everything around it.
type world struct {
	t        testing.TB
	dir      string
	clock    *clock
	config   tam.Config
	tam      *tam.TAM
	store    *sqlite.Store
	tamKeys  cose.KeySet
	attester *cose.Key // the attestation key of every honest device
	results  *cose.Key // the key of the verifier whose Attestation Results are trusted
	author   *cose.Key // the publisher "acme"
	encrypt  *cose.Key
	log      *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func key(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signer(t testing.TB, k *cose.Key) cose.Signer {
	t.Helper()
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld makes a TAM with the publisher "acme" and nothing published. change adjusts the
// configuration.
func newWorld(t testing.TB, change ...func(*tam.Config)) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		attester: key(t, cose.AlgESP256), results: key(t, cose.AlgESP256), author: key(t, cose.AlgESP256),
		encrypt: key(t, cose.AlgECDHESA128KW), log: &logBuffer{},
	}
	tamKeys := []*cose.Key{key(t, cose.AlgESP256), key(t, cose.AlgEd25519), key(t, cose.AlgESP384)}
	var err error
	w.tamKeys, err = cose.NewKeySet(tamKeys...)
	must(t, err)
	w.config = tam.Config{
		DecryptionKeys: []*cose.Key{w.encrypt},
		Verifier:       &verifier{trusted: w.attester.Public(), clock: w.clock, mediaType: evidenceType},
		Results:        &verifier{trusted: w.results.Public(), clock: w.clock, mediaType: teep.EATMediaType},
		Clock:          w.clock.read,
		Logger:         slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, k := range tamKeys {
		w.config.Signers = append(w.config.Signers, signer(t, k))
	}
	for _, f := range change {
		f(&w.config)
	}
	w.tam, w.store = w.replica()
	_, err = w.tam.AddPublisher(ctx(), "acme", []*cose.Key{w.author.Public()}, []suit.ComponentID{suit.NewComponentID("acme")})
	must(t, err)
	return w
}

func ctx() context.Context { return context.Background() }

// replica starts a further TAM process over the same store.
func (w *world) replica() (*tam.TAM, *sqlite.Store) {
	w.t.Helper()
	store, err := sqlite.Open(ctx(), sqlitetest.Database(w.t, w.dir), sqlite.Options{RelaxedDurability: true})
	must(w.t, err)
	blobs, err := blobfs.Open(filepath.Join(w.dir, "blobs"))
	must(w.t, err)
	w.t.Cleanup(func() { store.Close(); blobs.Close() })
	c := w.config
	c.Store, c.Blobs = store, blobs
	t, err := tam.New(ctx(), c)
	must(w.t, err)
	return t, store
}

// verifier appraises Evidence, or Attestation Results, that are CWTs signed by one key. It checks
// signature, freshness, binding and measurement, as a real one does.
type verifier struct {
	trusted   *cose.Key
	clock     *clock
	mediaType string
	skew      time.Duration // by which timestamps may be older than asked for
}

// claims are the claims of these tests' EATs.
type claims struct {
	Confirmation map[int]cbor.RawMessage `cbor:"8,keyasint"`
	Nonce        []byte                  `cbor:"10,keyasint,omitempty"`
	IssuedAt     int64                   `cbor:"6,keyasint,omitempty"`
	UEID         []byte                  `cbor:"256,keyasint"`
	Measurement  string                  `cbor:"-70000,keyasint"`
}

func (v *verifier) Accepts(mediaType string) bool { return mediaType == v.mediaType }

func (v *verifier) Appraise(_ context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	set, err := cose.NewKeySet(v.trusted)
	if err != nil {
		return nil, err
	}
	verified, err := cose.Verify(e.Payload, set, cose.VerifyOptions{})
	switch {
	case errors.Is(err, cose.ErrUnknownSigner):
		return nil, attest.ErrUntrusted
	case errors.Is(err, cose.ErrSignature):
		return nil, attest.ErrSignature
	case err != nil:
		return nil, fmt.Errorf("%w: %w", attest.ErrFormat, err)
	}
	var c claims
	if err := cbor.Unmarshal(verified.Payload, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrFormat, err)
	}
	if x.Nonce != nil && !bytes.Equal(c.Nonce, x.Nonce) ||
		x.Nonce == nil && v.clock.read().Sub(time.Unix(c.IssuedAt, 0)) > x.MaxAge+v.skew {
		return nil, attest.ErrNotFresh
	}
	bound, err := cose.ParseKey(c.Confirmation[1])
	if err != nil || !bound.Equal(x.AgentKey) {
		return nil, attest.ErrKeyBinding
	}
	r := &attest.Result{
		Status: attest.StatusAffirming, UEID: c.UEID, HWVersion: "1.0", Measurement: []byte(c.Measurement),
		IssuedAt: v.clock.read(), MediaType: teep.EATMediaType, Token: []byte{0xa0},
	}
	switch c.Measurement {
	case "good":
	case "old":
		r.Status = attest.StatusWarning
		r.Reasons = []attest.Reason{{Claim: "measurement", Status: attest.StatusWarning, Text: "superseded"}}
	case "debug":
		r.Status = attest.StatusContraindicated
		r.Reasons = []attest.Reason{{Claim: "dbgstat", Status: attest.StatusContraindicated, Text: "debug is on"}}
	default:
		return nil, attest.ErrMeasurement
	}
	return r, nil
}

// agent is an agent that signs for real and does what it is told by the test.
type agent struct {
	w           *world
	key         *cose.Key
	attester    *cose.Key
	ueid        []byte
	measurement string
	mediaType   string
	components  []teep.RawMessage
	requested   []teep.RequestedComponent
	unneeded    []teep.ComponentID
	encryptTo   *cose.Key
}

func (w *world) agent(alg cose.Algorithm) *agent {
	w.t.Helper()
	return &agent{
		w: w, key: key(w.t, alg), attester: w.attester, ueid: []byte("\x01device-0000000000"),
		measurement: "good", mediaType: evidenceType, components: []teep.RawMessage{},
	}
}

// requests makes the agent ask for a manifest.
func (a *agent) requests(id suit.ComponentID) *agent {
	a.requested = []teep.RequestedComponent{{ID: teep.ComponentID(id)}}
	return a
}

// has makes the agent list a component.
func (a *agent) has(id suit.ComponentID, payload string) *agent {
	a.w.t.Helper()
	digest, err := suit.NewDigest([]byte(payload)).MarshalCBOR()
	must(a.w.t, err)
	claims, err := cbor.Marshal(map[int]any{0: id, 3: digest})
	must(a.w.t, err)
	a.components = append(a.components, claims)
	return a
}

// evidence makes Evidence, or an Attestation Result, for a nonce.
func (a *agent) evidence(nonce []byte) []byte {
	a.w.t.Helper()
	public, err := a.key.Public().MarshalCBOR()
	must(a.w.t, err)
	c := claims{
		Confirmation: map[int]cbor.RawMessage{1: public}, Nonce: nonce, UEID: a.ueid, Measurement: a.measurement,
		IssuedAt: a.w.clock.read().Unix(),
	}
	payload, err := cbor.Marshal(c)
	must(a.w.t, err)
	data, err := cose.Sign1(rand.Reader, payload, signer(a.w.t, a.attester), cose.SignOptions{})
	must(a.w.t, err)
	if a.encryptTo == nil {
		return data
	}
	to := cose.ECDHESRecipient(a.encryptTo.Public(), "EAT Encryption")
	data, _, err = cose.Encrypt(rand.Reader, data, cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
	must(a.w.t, err)
	return data
}

// open checks a message of the TAM.
func (a *agent) open(data []byte) teep.Message {
	a.w.t.Helper()
	opened, err := teep.Open(data, a.w.tamKeys, teep.OpenOptions{Algorithms: []cose.Algorithm{a.key.Alg()}})
	must(a.w.t, err)
	return opened.Message
}

func (a *agent) protect(m teep.Message) []byte {
	a.w.t.Helper()
	data, err := teep.Protect(rand.Reader, m, signer(a.w.t, a.key))
	must(a.w.t, err)
	return data
}

// response makes the message that answers a QueryRequest.
func (a *agent) response(q *teep.QueryRequest) *teep.QueryResponse {
	m := &teep.QueryResponse{
		Token: q.Token, TrustedComponents: a.components,
		RequestedComponents: a.requested, UnneededManifests: a.unneeded,
	}
	if q.DataItems.Has(teep.DataAttestation) {
		m.AttestationFormat, m.AttestationPayload = a.mediaType, a.evidence(q.Challenge)
	}
	return m
}

// connect gets a QueryRequest.
func (a *agent) connect() *teep.QueryRequest {
	a.w.t.Helper()
	data, err := a.w.tam.ProcessConnect(ctx())
	must(a.w.t, err)
	return a.open(data).(*teep.QueryRequest)
}

// send gives the TAM a message and returns its answer, nil when there is none.
func (a *agent) send(m teep.Message) teep.Message {
	a.w.t.Helper()
	return a.sendRaw(a.protect(m))
}

func (a *agent) sendRaw(data []byte) teep.Message {
	a.w.t.Helper()
	reply, err := a.w.tam.ProcessTeepMessage(ctx(), data)
	must(a.w.t, err)
	if len(reply) == 0 {
		return nil
	}
	return a.open(reply)
}

// session connects, answers, and returns the TAM's answer to that.
func (a *agent) session() teep.Message {
	a.w.t.Helper()
	return a.send(a.response(a.connect()))
}

// update runs a session that must end in an Update without err-code.
func (a *agent) update() *teep.Update {
	a.w.t.Helper()
	u, ok := a.session().(*teep.Update)
	if !ok || u.ErrorCode != 0 {
		a.w.t.Fatalf("no Update; log:\n%s", a.w.log)
	}
	return u
}

// succeed answers an Update with Success and a report for each manifest.
func (a *agent) succeed(u *teep.Update) {
	a.w.t.Helper()
	m := &teep.Success{Token: u.Token}
	for _, data := range u.Manifests {
		m.SUITReports = append(m.SUITReports, a.report(data, u.Token, nil))
	}
	if reply := a.send(m); reply != nil {
		a.w.t.Fatalf("a Success was answered with a %v", reply.Type())
	}
}

func (a *agent) report(envelope, nonce []byte, f *suit.Failure) []byte {
	a.w.t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	must(a.w.t, err)
	r := &suit.Report{Reference: suit.Reference{Digest: e.Digest}, Nonce: nonce, Failure: f}
	data, err := r.Encode()
	must(a.w.t, err)
	return data
}

func (a *agent) device() *tam.Device {
	a.w.t.Helper()
	d, err := a.w.store.DeviceByKey(ctx(), a.key.Thumbprint())
	if errors.Is(err, tam.ErrNotFound) {
		return nil
	}
	must(a.w.t, err)
	return d
}

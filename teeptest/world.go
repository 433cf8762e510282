package teeptest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
	"github.com/go-teep/teep/transport"
)

// TB is what a World needs of a test; testing.TB has it.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Options of a World. The zero value is an honest world with one device.
type Options struct {
	// TAMPolicy is the TAM's; its zero value asks for attestation each time.
	TAMPolicy tam.Policy
	// AgentPolicy and AgentLimits are those of every agent.
	AgentPolicy agent.Policy
	AgentLimits agent.Limits
	// AgentAlgorithm is that of the key with which agents sign messages; 0 means ESP256.
	AgentAlgorithm cose.Algorithm
	// FurtherTAMs is how many TAMs there are beside the first; devices trust them all. See
	// [World.Further].
	FurtherTAMs int
	// MustAttest lets agents demand that the TAM attests itself first.
	MustAttest bool
	// TAMConfig and AgentConfig, if not nil, change the configuration of the TAM and of every agent
	// before they start.
	TAMConfig   func(*tam.Config)
	AgentConfig func(*agent.Config)
	// Appraiser is the verifier that every broker knows, for agents with Policy.Passports; nil means none.
	Appraiser broker.Appraiser
	// Seed decides what the relay's faults hit and what a crash leaves of a disk.
	Seed uint64
	// Logger gets what TAM and agents log; nil discards it.
	Logger *slog.Logger
}

// World is a TAM with its verifier, the publisher "developer", and devices. Its methods are for the
// goroutine of the test.
type World struct {
	// Device is the first device.
	Device *Device
	Clock  *Clock
	// Relay is between every broker and the rest of the world.
	Relay *Relay
	// URI is the TAM URI, Server the server that answers at it; payloads are served by it too.
	URI    string
	Server *httptest.Server
	// Store is the TAM's.
	Store *sqlite.Store
	// ESP256 and Ed25519 are the TAM's private message keys, Encryption its ECDH key. With them a
	// test can play the TAM by hand.
	ESP256, Ed25519, Encryption *cose.Key
	// OtherKeys are further message keys of the TAM, which devices that are added from now on trust too.
	OtherKeys []*cose.Key
	// Developer signs components; agents trust it for every component identifier.
	Developer *cose.Key
	// Verifier signs Attestation Results.
	Verifier *cose.Key
	// Distributor signs the TAM's own manifests; agents trust it for [DistributionPrefix] alone.
	Distributor *cose.Key

	// Further are the other TAMs: each a World with keys, a store, a server and a verifier of its
	// own, that shares clock, developer and devices with this one. Their Device and Relay are nil.
	Further []*World

	t       TB
	name    string // of the trust anchor
	options Options
	dir     string
	blobs   *blobfs.Store
	known   *appraisal.Store
	client  *transport.Client
	devices []*Device
	asked   asked

	mu       sync.Mutex
	tam      *tam.TAM
	facts    []*appraisal.Collateral
	classes  map[string]bool
	payloads map[string][]byte
}

// New makes a World that ends with the test.
func New(t TB, o Options) *World {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := newTAM(t, o, "tam", &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, nil)
	for i := range o.FurtherTAMs {
		w.Further = append(w.Further, newTAM(t, o, fmt.Sprintf("tam%d", i+2), w.Clock, w.Developer))
	}
	w.Relay = newRelay(w.client, w.client, o.Seed)
	w.Device = w.AddDevice("device")
	return w
}

// tams are all TAMs.
func (w *World) tams() []*World { return append([]*World{w}, w.Further...) }

// newTAM makes a TAM with what belongs to it. developer nil makes one.
func newTAM(t TB, o Options, name string, clock *Clock, developer *cose.Key) *World {
	t.Helper()
	w := &World{
		Clock: clock, t: t, name: name, options: o, dir: t.TempDir(),
		payloads: make(map[string][]byte), classes: make(map[string]bool),
	}
	for alg, k := range map[cose.Algorithm][]**cose.Key{
		cose.AlgESP256: {&w.ESP256, &w.Developer, &w.Verifier, &w.Distributor}, cose.AlgEd25519: {&w.Ed25519}, cose.AlgECDHESA128KW: {&w.Encryption},
	} {
		for _, key := range k {
			*key = w.generate(alg)
		}
	}
	if developer != nil {
		w.Developer = developer
	}
	var err error
	w.known, err = appraisal.NewStore()
	w.must(err)
	w.startTAM()
	t.Cleanup(w.stopTAM)

	mux := http.NewServeMux()
	mux.Handle("/teep", transport.NewHandler(endpoint{w}, transport.HandlerOptions{Rate: -1, Log: o.Logger}))
	mux.HandleFunc("/payloads/", w.servePayload)
	w.Server = httptest.NewServer(mux)
	t.Cleanup(w.Server.Close)
	w.URI = w.Server.URL + "/teep"
	w.client, err = transport.NewClient(transport.ClientOptions{})
	w.must(err)
	t.Cleanup(w.client.CloseIdleConnections)

	_, err = w.TAM().AddPublisher(context.Background(), "developer", []*cose.Key{w.Developer.Public()}, []suit.ComponentID{{}})
	w.must(err)
	return w
}

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("teeptest: %v", err)
	}
}

func (w *World) generate(alg cose.Algorithm) *cose.Key {
	w.t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	w.must(err)
	return k
}

func (w *World) signer(k *cose.Key) cose.Signer {
	w.t.Helper()
	s, err := k.Signer()
	w.must(err)
	return s
}

// TAM returns the TAM that runs now; [World.RestartTAM] replaces it.
func (w *World) TAM() *tam.TAM {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tam
}

func (w *World) startTAM() {
	w.t.Helper()
	ctx := context.Background()
	store, err := sqlite.Open(ctx, sqlitetest.Database(w.t, w.dir), sqlite.Options{RelaxedDurability: true})
	w.must(err)
	blobs, err := blobfs.Open(filepath.Join(w.dir, "blobs"))
	w.must(err)
	verifier, err := eat.NewVerifier(eat.VerifierConfig{
		Signer: w.signer(w.Verifier), Developer: "go-teep", Build: "teeptest",
		Endorsements: w.known, References: w.known, Now: w.Clock.Now, Rand: rand.Reader,
	})
	w.must(err)
	results, err := cose.NewKeySet(w.Verifier.Public())
	w.must(err)
	config := tam.Config{
		Signers:        []cose.Signer{w.signer(w.ESP256), w.signer(w.Ed25519)},
		DecryptionKeys: []*cose.Key{w.Encryption}, Verifier: verifier,
		Results: tam.PassportVerifier(results, w.Clock.Now), Attester: w.newTAMAttester(verifier),
		Store: store, Blobs: blobs, Policy: w.options.TAMPolicy, Clock: w.Clock.Now, Logger: w.options.Logger,
		Distribution: &tam.Distribution{Signer: w.signer(w.Distributor), Prefix: DistributionPrefix()},
	}
	if w.options.TAMConfig != nil {
		w.options.TAMConfig(&config)
	}
	t, err := tam.New(ctx, config)
	w.must(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tam, w.Store, w.blobs = t, store, blobs
}

func (w *World) stopTAM() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tam == nil {
		return
	}
	w.Store.Close() //nolint:errcheck // a crash does not even do that
	w.blobs.Close() //nolint:errcheck // as above
	w.tam = nil
}

// RestartTAM ends the TAM's process and starts a new one over the same store. All that is left of
// the old one is what it had committed.
func (w *World) RestartTAM() {
	w.t.Helper()
	w.stopTAM()
	w.startTAM()
}

// endpoint is the TAM behind the HTTP server, whichever process it is. It notes what the TAM says.
type endpoint struct{ w *World }

func (e endpoint) ProcessConnect(ctx context.Context) ([]byte, error) {
	return e.w.TAM().ProcessConnect(ctx)
}

func (e endpoint) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	reply, err := e.w.TAM().ProcessTeepMessage(ctx, msg)
	if err == nil {
		e.w.asked.note(msg, reply, append([]*cose.Key{e.w.ESP256, e.w.Ed25519}, e.w.OtherKeys...)...)
	}
	return reply, err
}

// ServePayload makes content available at a URI, which it returns.
func (w *World) ServePayload(name string, content []byte) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.payloads["/payloads/"+name] = content
	return w.Server.URL + "/payloads/" + name
}

func (w *World) servePayload(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	content, ok := w.payloads[r.URL.Path]
	w.mu.Unlock()
	if !ok {
		http.NotFound(rw, r)
		return
	}
	http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(string(content)))
}

// trust is the trust anchor file of the devices.
func (w *World) trust() []byte {
	var b strings.Builder
	block := func(k *cose.Key) string {
		pem, err := k.Public().MarshalPEM()
		w.must(err)
		return strings.ReplaceAll("|\n"+strings.TrimSpace(string(pem)), "\n", "\n        ")
	}
	b.WriteString("version: 1\ntams:\n")
	for _, t := range w.tams() {
		fmt.Fprintf(&b, "  - name: %s\n    uris: [%s]\n    encryption-key: %s\n    must-attest: %v\n    keys:\n      - %s\n      - %s\n",
			t.name, t.URI, block(t.Encryption), t.options.MustAttest, block(t.ESP256), block(t.Ed25519))
		for _, k := range t.OtherKeys {
			fmt.Fprintf(&b, "      - %s\n", block(k))
		}
	}
	fmt.Fprintf(&b, "signers:\n  - name: developer\n    keys:\n      - %s\n    components: [\"*\"]\n", block(w.Developer))
	for _, t := range w.tams() {
		fmt.Fprintf(&b, "  - name: %s\n    keys:\n      - %s\n    components: [%s]\n", t.name, block(t.Distributor), DistributionPrefix()[0])
	}
	b.WriteString("verifiers:\n")
	for _, t := range w.tams() {
		fmt.Fprintf(&b, "  - name: verifier of %s\n    keys:\n      - %s\n", t.name, block(t.Verifier))
	}
	return []byte(b.String())
}

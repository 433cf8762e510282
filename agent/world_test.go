package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// device is a TEE on a simulated disk. It survives restarts of the agent.
type device struct {
	disk    *crashfs.Disk
	store   *seal.Store
	secret  []byte
	keys    map[tee.KeyUse]*cose.Key
	runtime *testRuntime
	now     time.Time
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newDevice(t testing.TB) *device {
	d := &device{
		disk: crashfs.New(), secret: bytes.Repeat([]byte{7}, 32), runtime: &testRuntime{},
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		keys: map[tee.KeyUse]*cose.Key{
			tee.KeyAgent: newKey(t, cose.AlgESP256), tee.KeyReport: newKey(t, cose.AlgESP256),
			tee.KeyAttestation: newKey(t, cose.AlgESP256), tee.KeyEncryption: newKey(t, cose.AlgECDHESA128KW),
		},
	}
	d.boot(t)
	return d
}

func (d *device) boot(t testing.TB) {
	t.Helper()
	var err error
	if d.store, err = d.open(); err != nil {
		t.Fatal(err)
	}
}

func (d *device) open() (*seal.Store, error) {
	return seal.Open(seal.Config{Disk: d.disk, Secret: d.secret, Rand: rand.Reader})
}

func (d *device) Identity() tee.Identity {
	vendor := suit.NewVendorID("example.com")
	class := suit.NewClassID(suit.VendorID{UUID: vendor}, []byte("sandbox"))
	return tee.Identity{VendorID: vendor, ClassID: class, AgentName: "test"}
}
func (d *device) Keys() tee.Keys       { return d }
func (d *device) Store() tee.Store     { return d.store }
func (d *device) Runtime() tee.Runtime { return d.runtime }

func (d *device) Signer(use tee.KeyUse) (cose.Signer, error) { return d.keys[use].Signer() }
func (d *device) Decryption() (*cose.Key, error)             { return d.keys[tee.KeyEncryption], nil }
func (d *device) Public(use tee.KeyUse) (*cose.Key, error)   { return d.keys[use].Public(), nil }

// Attest makes evidence that a test can look into; what real Evidence holds is attest/eat's matter.
func (d *device) Attest(_ context.Context, _ string, r attest.Request) (attest.Evidence, error) {
	var ids []string
	for _, c := range r.Components {
		ids = append(ids, fmt.Sprintf("%s@%d", suit.ComponentID(c.ID), c.SequenceNumber))
	}
	text := fmt.Sprintf("nonce=%x key=%x components=%v", r.Nonce, r.AgentKey.Thumbprint(), ids)
	return attest.Evidence{MediaType: "application/x-test-evidence", Payload: []byte(text)}, nil
}
func (d *device) MediaTypes() []string { return []string{"application/x-test-evidence"} }

// testRuntime runs programs that begin with "app". Commands: "code" returns the program, "read x"
// a personalization item, "put v" and "get" the sealed storage, "wait" blocks.
type testRuntime struct{ waiting chan struct{} }

func (*testRuntime) Check(_ context.Context, code tee.Blob) error {
	head := make([]byte, 3)
	if _, err := code.ReadAt(head, 0); err != nil || string(head) != "app" {
		return fmt.Errorf("not a program")
	}
	return nil
}

func (r *testRuntime) Open(_ context.Context, app tee.Application) (tee.Session, error) {
	return &testSession{app: app, waiting: r.waiting}, nil
}

type testSession struct {
	app     tee.Application
	waiting chan struct{}
	closed  bool
}

func (s *testSession) Invoke(ctx context.Context, command string, input []byte) ([]byte, error) {
	verb, arg, _ := strings.Cut(command, " ")
	switch verb {
	case "code":
		return io.ReadAll(io.NewSectionReader(s.app.Code, 0, s.app.Code.Size()))
	case "read":
		b, ok := s.app.Personalization[arg]
		if !ok {
			return nil, fmt.Errorf("no data %q", arg)
		}
		return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	case "put":
		return nil, s.app.Data.Apply(map[string][]byte{"v": input})
	case "get":
		values, err := s.app.Data.Load()
		return values["v"], err
	case "wait":
		close(s.waiting)
		<-ctx.Done()
		return nil, tee.ErrTrap
	}
	return nil, &tee.ExitError{Code: 1}
}

func (s *testSession) Close() error { s.closed = true; return nil }

// tam is a TAM that a test plays by hand.
type tam struct {
	name, uri    string
	p256, ed     *cose.Key
	encryption   *cose.Key
	mustAttest   bool
	components   string
	noEncryption bool
}

func newTAM(t testing.TB, name string) *tam {
	return &tam{
		name: name, uri: "https://" + name + ".example/tam", p256: newKey(t, cose.AlgESP256),
		ed: newKey(t, cose.AlgEd25519), encryption: newKey(t, cose.AlgECDHESA128KW),
	}
}

func publicPEM(t testing.TB, k *cose.Key) string {
	t.Helper()
	data, err := k.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := pem.Decode(data); b == nil {
		t.Fatal("no PEM")
	}
	return strings.ReplaceAll("|\n"+strings.TrimSpace(string(data)), "\n", "\n        ")
}

// world is a device, the TAMs and signers that exist, and the servers that payloads lie on.
type world struct {
	t        testing.TB
	device   *device
	one, two *tam
	stranger *tam
	dev      *cose.Key // signs components under 'hello', 'shared', 'two'
	admin    *cose.Key
	verifier *cose.Key
	payloads map[string][]byte
	fetched  []string
	cfg      agent.Config
	agent    *agent.Agent
	version  int
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, device: newDevice(t), one: newTAM(t, "one"), two: newTAM(t, "two"), stranger: newTAM(t, "stranger"),
		dev: newKey(t, cose.AlgESP256), admin: newKey(t, cose.AlgESP256), verifier: newKey(t, cose.AlgESP256),
		payloads: map[string][]byte{}, version: 1,
	}
	t.Cleanup(func() {
		if w.agent != nil {
			w.agent.Close()
		}
	})
	return w
}

func (w *world) trust() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: %d\nadministrator: %s\ntams:\n", w.version, publicPEM(w.t, w.admin))
	for _, t := range []*tam{w.one, w.two} {
		fmt.Fprintf(&b, "  - name: %s\n    uris: [%s, %s/second]\n    keys:\n      - %s\n      - %s\n", t.name, t.uri, t.uri,
			publicPEM(w.t, t.p256), publicPEM(w.t, t.ed))
		if !t.noEncryption {
			fmt.Fprintf(&b, "    encryption-key: %s\n", publicPEM(w.t, t.encryption))
		}
		if t.mustAttest {
			b.WriteString("    must-attest: true\n")
		}
		if t.components != "" {
			fmt.Fprintf(&b, "    components: [%q]\n", t.components)
		}
	}
	fmt.Fprintf(&b, "signers:\n  - name: developer\n    keys:\n      - %s\n    components: [\"'hello'\", \"'shared'\", \"'two'\"]\n", publicPEM(w.t, w.dev))
	fmt.Fprintf(&b, "verifiers:\n  - name: appraiser\n    keys:\n      - %s\n", publicPEM(w.t, w.verifier))
	return []byte(b.String())
}

// start starts the agent, or starts it again.
func (w *world) start() *agent.Agent {
	w.t.Helper()
	a, err := w.tryStart(w.trust())
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) tryStart(trust []byte) (*agent.Agent, error) {
	if w.agent != nil {
		w.agent.Close()
		w.agent = nil
	}
	cfg := w.cfg
	cfg.TEE, cfg.Attester, cfg.Trust = w.device, w.device, trust
	cfg.Clock = func() time.Time { return w.device.now }
	a, err := agent.New(cfg)
	if err == nil {
		w.agent = a
	}
	return a, err
}

// crash ends the agent's process and its machine, and boots again without starting an agent.
func (w *world) crash(s crashfs.Survival) {
	w.t.Helper()
	w.device.disk.Crash()
	if w.agent != nil {
		w.agent.Close()
		w.agent = nil
	}
	w.device.disk = w.device.disk.Restart(s)
	w.device.boot(w.t)
}

func token(t testing.TB) []byte {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// query is a QueryRequest that offers everything and asks for what items say.
func query(t testing.TB, items teep.DataItem) *teep.QueryRequest {
	q := &teep.QueryRequest{
		CipherSuites: teep.MandatoryCipherSuites(), SUITProfiles: teep.MandatorySUITProfiles(), DataItems: items,
	}
	if items.Has(teep.DataAttestation) {
		q.Challenge = token(t)
	} else {
		q.Token = token(t)
	}
	return q
}

// protect signs a QueryRequest with both keys, as a TAM does that knows nothing of the agent, and
// anything else in the agent's suite.
func (w *world) protect(from *tam, m teep.Message) []byte {
	w.t.Helper()
	if _, ok := m.(*teep.QueryRequest); ok {
		return w.protectWith(m, from.p256, from.ed)
	}
	return w.protectWith(m, from.p256)
}

func (w *world) protectWith(m teep.Message, keys ...*cose.Key) []byte {
	w.t.Helper()
	var signers []cose.Signer
	for _, k := range keys {
		s, err := k.Signer()
		if err != nil {
			w.t.Fatal(err)
		}
		signers = append(signers, s)
	}
	data, err := teep.Protect(rand.Reader, m, signers...)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// decode opens an agent's message, which must be signed by the agent's key in its suite.
func (w *world) decode(ask link.Ask) teep.Message {
	w.t.Helper()
	if ask.Message == nil {
		w.t.Fatalf("no message in %+v", ask)
	}
	keys, err := cose.NewKeySet(w.device.keys[tee.KeyAgent].Public())
	if err != nil {
		w.t.Fatal(err)
	}
	o, err := teep.Open(ask.Message, keys, teep.OpenOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return o.Message
}

// connect asks for a policy check until the agent names the TAM.
func (w *world) connect(to *tam) link.Ask {
	w.t.Helper()
	for range 8 {
		ask, err := w.agent.RequestPolicyCheck(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasPrefix(ask.TAMURI, to.uri) && ask.Message == nil {
			return ask
		}
		if ask.TAMURI == "" && ask.Fetch == nil {
			w.device.now = w.device.now.Add(25 * time.Hour)
		}
	}
	w.t.Fatalf("the agent does not want to talk to %s", to.name)
	return link.Ask{}
}

// exchange opens a session with a TAM, passes one message in, serves the fetches and returns the
// answer.
func (w *world) exchange(from *tam, m teep.Message) teep.Message {
	w.t.Helper()
	ask := w.connect(from)
	ask, err := w.agent.ProcessTeepMessage(w.t.Context(), ask.Session, w.protect(from, m))
	if err != nil {
		w.t.Fatal(err)
	}
	ask, err = w.serve(ask)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.decode(ask)
}

// serve is an honest broker.
func (w *world) serve(ask link.Ask) (link.Ask, error) {
	for ask.Fetch != nil {
		var err error
		if ask, err = w.agent.Deliver(w.t.Context(), w.chunk(ask)); err != nil {
			return ask, err
		}
	}
	return ask, nil
}

func (w *world) chunk(ask link.Ask) link.Chunk {
	f := ask.Fetch
	c := link.Chunk{Session: ask.Session, FetchID: f.ID, Offset: f.Offset}
	payload, ok := w.payloads[f.URI]
	if !ok || f.Offset > int64(len(payload)) {
		c.Err = "404"
		return c
	}
	w.fetched = append(w.fetched, fmt.Sprintf("%s@%d", f.URI, f.Offset))
	end := min(int64(len(payload)), f.Offset+f.Length)
	c.Data, c.Last = payload[f.Offset:end], end == int64(len(payload))
	return c
}

// manifest builds and signs an envelope from a description.
func (w *world) manifest(signer *cose.Key, description string, files map[string]string) []byte {
	w.t.Helper()
	r, err := describe.Build([]byte(description), describe.Options{
		Name: "test.yaml", Rand: rand.Reader,
		ReadFile: func(name string) ([]byte, error) {
			content, ok := files[name]
			if !ok {
				return nil, fmt.Errorf("no file %q", name)
			}
			return []byte(content), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range r.Payloads {
		w.payloads[p.URI] = p.Content
	}
	s, err := signer.Signer()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.Envelope.Sign(rand.Reader, s); err != nil {
		w.t.Fatal(err)
	}
	return r.Envelope.Encode()
}

// hello is a manifest for component 'hello' with an integrated payload.
func (w *world) hello(sequence int, content string) []byte {
	return w.simple("hello", sequence, content, "integrated: true")
}

// fetchedHello is one with a payload that has to be fetched.
func (w *world) fetchedHello(sequence int, content string) []byte {
	return w.simple("hello", sequence, content, fmt.Sprintf("uri: https://dev.example/hello-%d", sequence))
}

func (w *world) simple(name string, sequence int, content, source string) []byte {
	return w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [%[1]s, manifest]
sequence-number: %[2]d
vendor: {domain: example.com}
class: {name: sandbox}
reference-uri: https://dev.example/%[1]s.suit
components:
  - id: [%[1]s]
    payload: {file: it, %[3]s}
`, name, sequence, source), map[string]string{"it": content})
}

func install(t testing.TB, manifests ...[]byte) *teep.Update {
	return &teep.Update{Token: token(t), Manifests: manifests}
}

func id(parts ...string) link.ComponentID { return link.ComponentID(suit.NewComponentID(parts...)) }

func (w *world) mustInstall(from *tam, manifests ...[]byte) {
	w.t.Helper()
	if m, ok := w.exchange(from, install(w.t, manifests...)).(*teep.Success); !ok {
		w.t.Fatalf("not installed: %v", m)
	}
}

// inventory is the tc-list that a TAM gets.
func (w *world) inventory(from *tam) []teep.RawMessage {
	w.t.Helper()
	r, ok := w.exchange(from, query(w.t, teep.DataTrustedComponents)).(*teep.QueryResponse)
	if !ok {
		w.t.Fatalf("no QueryResponse")
	}
	return r.TrustedComponents
}

// run opens an application, gives it one command and closes it.
func (w *world) run(command string, input []byte, component ...string) (string, error) {
	app, err := w.agent.OpenSession(w.t.Context(), id(component...))
	if err != nil {
		return "", err
	}
	out, err := w.agent.Invoke(w.t.Context(), app, command, input)
	if cerr := w.agent.CloseSession(w.t.Context(), app); err == nil {
		err = cerr
	}
	return string(out), err
}

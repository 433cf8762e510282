package teeptest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// Device is a TEE with its agent, and the broker outside of it.
type Device struct {
	Name string
	// Broker is the device's broker. Its calls block until they are done.
	Broker *broker.Broker
	// Link is the broker's connection to the agent, for tests that play the broker by hand.
	Link *link.Redialer

	world *World
	disk  *crashfs.Disk
	held  map[string]string // manifests seen installed, and the TAM that they belonged to
	high  map[string]uint64

	mu      sync.Mutex
	agent   *agent.Agent
	tee     *sandbox.TEE
	end     context.CancelFunc
	ctx     context.Context
	serving sync.WaitGroup
}

var errDown = errors.New("teeptest: the device is down")

// AddDevice makes a further device and has the TAM's verifier endorse it.
func (w *World) AddDevice(name string) *Device {
	w.t.Helper()
	d := &Device{
		Name: name, world: w, disk: crashfs.NewSeeded(w.options.Seed),
		held: make(map[string]string), high: make(map[string]uint64),
	}
	d.start()
	for _, t := range w.tams() {
		t.endorseClass(d.tee.Identity(), d.public(tee.KeyAttestation))
	}
	d.Link = &link.Redialer{Dial: d.dial}
	var err error
	d.Broker, err = broker.New(broker.Options{
		TEEs:   []broker.TEE{{Name: name, Agent: w.Relay.Agent(d.Link)}},
		Poster: w.Relay, Fetcher: w.Relay, Appraiser: w.options.Appraiser,
	})
	w.must(err)
	w.t.Cleanup(func() {
		d.Link.Close() //nolint:errcheck // is over
		d.stop()
	})
	w.devices = append(w.devices, d)
	return d
}

func (d *Device) start() {
	d.world.t.Helper()
	w, o := d.world, d.world.options
	vendor := suit.NewVendorID(VendorDomain)
	environment, err := sandbox.Open(context.Background(), sandbox.Config{
		Disk: d.disk, AgentAlgorithm: o.AgentAlgorithm, Rand: rand.Reader, Now: w.Clock.Now, Logger: o.Logger,
		Measure: func() ([]byte, error) { sum := sha256.Sum256([]byte("the agent of teeptest")); return sum[:], nil },
		Identity: sandbox.Identity{
			OEMID: []byte{0x43, 0x89, 0x48, 0x23}, HWModel: []byte("teeptest device"), HWVersion: "1",
			VendorID: vendor, ClassID: suit.NewClassID(suit.VendorID{UUID: vendor}, []byte(ClassName)), AgentVersion: "1.0",
		},
	})
	w.must(err)
	attester, err := newAttester(environment.Identity(), d.signer(environment, tee.KeyAttestation), w.Clock.Now)
	w.must(err)
	config := agent.Config{
		TEE: environment, Attester: attester, Trust: w.trust(), Policy: o.AgentPolicy, Limits: o.AgentLimits,
		Clock: w.Clock.Now, Logger: o.Logger,
	}
	if o.AgentConfig != nil {
		o.AgentConfig(&config)
	}
	a, err := agent.New(config)
	w.must(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agent, d.tee = a, environment
	d.ctx, d.end = context.WithCancel(context.Background())
}

func newAttester(id tee.Identity, signer cose.Signer, now func() time.Time) (*eat.Attester, error) {
	return eat.NewAttester(eat.AttesterConfig{
		Identity: eat.Identity{
			UEID: id.UEID, OEMID: id.OEMID, HWModel: id.HWModel, HWVersion: id.HWVersion,
			AgentName: id.AgentName, AgentVersion: id.AgentVersion, Measurement: id.Measurement, Weaknesses: id.Weaknesses,
		},
		Signer: signer, Now: now, Rand: rand.Reader,
	})
}

func (d *Device) signer(environment *sandbox.TEE, use tee.KeyUse) cose.Signer {
	s, err := environment.Keys().Signer(use)
	d.world.must(err)
	return s
}

func (d *Device) public(use tee.KeyUse) *cose.Key {
	k, err := d.tee.Keys().Public(use)
	d.world.must(err)
	return k
}

// endorseClass tells the verifier of an attestation key, and that what is measured is as it should
// be on devices of its class.
func (w *World) endorseClass(id tee.Identity, key *cose.Key) {
	oemid, err := attest.CanonicalOEMID(id.OEMID)
	w.must(err)
	class := appraisal.Class{OEMID: oemid, HWModel: id.HWModel}
	expires := w.Clock.Now().AddDate(100, 0, 0)
	c := &appraisal.Collateral{Owner: "teeptest", Expires: expires}
	c.Endorsements = []appraisal.Endorsement{{Owner: "teeptest", UEID: id.UEID, Key: key, Class: class}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.classes[string(id.HWModel)] {
		w.classes[string(id.HWModel)] = true
		c.References = []appraisal.Reference{{
			Owner: "teeptest", Class: class, Expires: expires, Name: id.AgentName, Version: id.AgentVersion,
			Algorithm: cose.AlgSHA256, Digest: id.Measurement, Status: attest.StatusAffirming, AcceptedWeaknesses: id.Weaknesses,
		}}
	}
	w.facts = append(w.facts, c)
	w.must(w.known.Replace(w.facts...))
}

// Endorse tells the verifier of further attestation keys and reference values.
func (w *World) Endorse(c *appraisal.Collateral) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.facts = append(w.facts, c)
	w.must(w.known.Replace(w.facts...))
}

// dial connects the broker to the agent that runs now.
func (d *Device) dial(context.Context) (io.ReadWriteCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.agent == nil {
		return nil, errDown
	}
	outside, inside := net.Pipe()
	a, ctx := d.agent, d.ctx
	d.serving.Add(1)
	go func() {
		defer d.serving.Done()
		link.Serve(ctx, inside, a, link.ServeOptions{}) //nolint:errcheck // ends with the device
	}()
	return outside, nil
}

// stop ends the agent's process.
func (d *Device) stop() {
	d.mu.Lock()
	a, environment, end := d.agent, d.tee, d.end
	d.agent, d.tee = nil, nil
	d.mu.Unlock()
	if a == nil {
		return
	}
	end()
	a.Close() //nolint:errcheck // the disk may be gone
	d.serving.Wait()
	environment.Close() //nolint:errcheck // as above
}

// Crash takes the power from the device: the agent is gone, and so is what its disk had not made
// durable, as far as survival says. [Device.Restart] brings it back.
func (d *Device) Crash() {
	d.disk.Crash()
	d.stop()
}

// CrashAt makes the device crash at the n-th step, counted from 1, in which the agent changes its
// disk. 0 takes that back.
func (d *Device) CrashAt(n int) { d.disk.CrashAt(n) }

// Crashed tells whether the device crashed since it was last started.
func (d *Device) Crashed() bool { return d.disk.Crashed() }

// Restart starts the device after a crash, or crashes it and starts it.
func (d *Device) Restart(survival crashfs.Survival) {
	d.world.t.Helper()
	d.Crash()
	d.disk = d.disk.Restart(survival)
	d.start()
}

// AgentKey is the public key that signs the agent's messages.
func (d *Device) AgentKey() *cose.Key {
	d.world.t.Helper()
	return d.public(tee.KeyAgent)
}

// ID is the name of the device at the TAM.
func (d *Device) ID() string { return tam.DeviceID(d.AgentKey().Thumbprint()) }

// Request has a component made by [World.Component] installed, as an app would.
func (d *Device) Request(ctx context.Context, name string) error {
	return d.Broker.Request(ctx, broker.Request{Component: link.ComponentID(suit.NewComponentID(name))}, nil)
}

// Unrequest says that the component is no longer needed.
func (d *Device) Unrequest(ctx context.Context, name string) error {
	return d.Broker.Unrequest(ctx, link.ComponentID(suit.NewComponentID(name)), broker.Requirements{})
}

// PolicyCheck lets the agent talk to its TAM, if it is time to.
func (d *Device) PolicyCheck(ctx context.Context) error {
	_, err := d.Broker.PolicyCheck(ctx)
	return err
}

// Invoke opens a component, gives it one command, and closes it.
func (d *Device) Invoke(ctx context.Context, name, command string, input []byte) (output []byte, err error) {
	app, err := d.Link.OpenSession(ctx, link.ComponentID(suit.NewComponentID(name)))
	if err != nil {
		return nil, err
	}
	output, err = d.Link.Invoke(ctx, app, command, input)
	return output, errors.Join(err, d.Link.CloseSession(ctx, app))
}

// Content is what an installed component holds, nil if it is not installed.
func (d *Device) Content(id suit.ComponentID) []byte {
	d.world.t.Helper()
	c := d.record().Components[id.Key()].Content
	if c == nil {
		return nil
	}
	blob, err := d.tee.Store().OpenBlob(c.SHA256)
	d.world.must(err)
	defer blob.Close()
	data, err := io.ReadAll(blob)
	d.world.must(err)
	return data
}

// record reads the sealed state, as it would be found after a crash now.
func (d *Device) record() *state.Record {
	d.world.t.Helper()
	d.mu.Lock()
	environment := d.tee
	d.mu.Unlock()
	if environment == nil {
		d.world.t.Fatalf("%v: restart it before you look into it", errDown)
	}
	data, _, err := environment.Store().LoadRecord()
	d.world.must(err)
	r, err := state.Decode(data)
	d.world.must(err)
	return r
}

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/teeptest/simulated"
	"github.com/go-teep/teep/transport"
)

// stormDevice is a simulated device, and what it knows for certain.
type stormDevice struct {
	*simulated.Device
	id string
	mu sync.Mutex
	// holds is the sequence number of what it has installed; 0: nothing.
	holds uint64
	// known says that the TAM answered a message that enrolled it. told is the newest sequence number that an
	// answered message told the TAM of.
	known bool
	told  uint64
	// made counts its Successes, answered those that the TAM answered. waiting is one of which it does not know.
	made, answered int
	waiting        []byte
	waitingFor     uint64
	// last is the newest message that the TAM answered.
	last []byte
	// wrong is what no TAM may do to it.
	wrong error
}

// storm is the load, and everything that was acknowledged to whoever makes it.
type storm struct {
	*service
	seed      uint64
	dice      *mathrand.Rand // of whoever kills
	author    cose.Signer
	verifier  *cose.Key // of the devices' maker
	transport *transport.Client
	devices   []*stormDevice

	mu       sync.Mutex
	versions map[string]uint64 // sequence numbers by manifest digest
	// published, labels, tokens and seen are what operators were told: the newest version, the newest label of each
	// device, tokens by secret, and the feed as one reader saw it.
	published uint64
	labels    map[string]int
	tokens    []string
	changes   int
	seen      []api.FeedEvent
	feedAfter string
}

const stormManifest = "'fleet'/'application'"

func stormPayload(sequence uint64) []byte { return fmt.Appendf(nil, "program %d", sequence) }

func newStorm(t *testing.T, s *service, seed uint64, devices int, verifier *cose.Key) *storm {
	t.Helper()
	signer, err := verifier.Signer()
	must(t, err)
	fleet, err := simulated.NewFleet(rand.Reader, signer)
	must(t, err)
	author, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	w := &storm{service: s, verifier: verifier, seed: seed, dice: mathrand.New(mathrand.NewPCG(seed, 1)), transport: devicesClient(t), versions: map[string]uint64{}, labels: map[string]int{}}
	w.author, err = author.Signer()
	must(t, err)
	for i := range devices {
		d, err := fleet.Device(uint32(i))
		must(t, err)
		w.devices = append(w.devices, &stormDevice{Device: d, id: tam.DeviceID(d.Key.Public().Thumbprint())})
	}
	pem, err := author.Public().MarshalPEM()
	must(t, err)
	c := s.client(s.replicas[0])
	_, err = c.AddPublisher(t.Context(), api.NewPublisher{Name: "maker", Keys: []string{string(pem)}, Prefixes: []string{"'fleet'"}})
	must(t, err)
	_, err = c.SetPolicy(t.Context(), stormManifest, api.NewPolicy{Mode: tam.ModeRequired})
	must(t, err)
	w.changes = 3 // with the token
	return w
}

// any is one of the replicas, whether it is there or not.
func (w *storm) any(r *mathrand.Rand) *replica { return w.replicas[r.IntN(len(w.replicas))] }

// envelope is a version of the application.
func (w *storm) envelope(sequence uint64) ([]byte, error) {
	built, err := describe.Build(fmt.Appendf(nil, `
manifest-component-id: [fleet, application]
sequence-number: %d
vendor: {domain: example.com}
class: {name: simulated}
components:
  - id: [fleet, program]
    payload: {file: program, uri: "https://cdn.example/program"}
`, sequence), describe.Options{Name: "application.yaml", Rand: rand.Reader, ReadFile: func(string) ([]byte, error) { return stormPayload(sequence), nil }})
	if err != nil {
		return nil, err
	}
	if err := built.Envelope.Sign(rand.Reader, w.author); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[string(built.Envelope.Digest.Bytes)] = sequence
	return built.Envelope.Encode(), nil
}

// session is one session of a device. What it was not answered, it does not know, and says again or not.
func (w *storm) session(ctx context.Context, d *stormDevice, r *mathrand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	post := func(message []byte) ([]byte, error) { return w.transport.Post(ctx, w.any(r).tamURI(), message) }
	if d.waiting != nil && r.IntN(2) == 0 {
		if _, err := post(d.waiting); err != nil {
			return err
		}
		d.told, d.last, d.waiting = max(d.told, d.waitingFor), d.waiting, nil
		d.answered++
	}
	query, err := post(nil)
	if err != nil {
		return err
	}
	q, err := simulated.Content[*teep.QueryRequest](query)
	if err != nil {
		return d.fault(err)
	}
	says := simulated.Says{Attests: !d.known}
	if d.holds > 0 {
		has, err := simulated.Component(suit.NewComponentID("fleet", "program"), stormPayload(d.holds))
		if err != nil {
			return d.fault(err)
		}
		says.Has = []cbor.RawMessage{has}
	}
	response, err := d.Response(q, says, time.Now())
	if err != nil {
		return d.fault(err)
	}
	reply, err := post(response)
	if err != nil {
		return err
	}
	d.known, d.told, d.last = true, max(d.told, d.holds), response
	if len(reply) == 0 {
		return nil
	}
	u, err := simulated.Content[*teep.Update](reply)
	if err != nil {
		return d.fault(fmt.Errorf("a device that was enrolled: %w", err))
	}
	return w.update(d, u, r, post)
}

// update installs what an Update brings, and says so as often as the dice want while nobody answers.
func (w *storm) update(d *stormDevice, u *teep.Update, r *mathrand.Rand, post func([]byte) ([]byte, error)) error {
	if len(u.Manifests) != 1 {
		return d.fault(fmt.Errorf("an Update with %d manifests: %v %s", len(u.Manifests), u.ErrorCode, u.ErrorMessage))
	}
	envelope, err := suit.ParseEnvelope(u.Manifests[0])
	if err != nil {
		return d.fault(err)
	}
	w.mu.Lock()
	sequence := w.versions[string(envelope.Digest.Bytes)]
	w.mu.Unlock()
	if sequence <= d.holds {
		return d.fault(fmt.Errorf("an Update to version %d, and the device said that it has %d", sequence, d.holds))
	}
	done, err := d.Success(u, envelope.Digest)
	if err != nil {
		return d.fault(err)
	}
	d.holds = sequence
	d.made++
	d.waiting, d.waitingFor = done, sequence
	for range 1 + r.IntN(3) {
		reply, err := post(done)
		if err != nil {
			continue
		}
		if len(reply) > 0 {
			return d.fault(errors.New("a Success was answered with a message"))
		}
		d.told, d.last, d.waiting = sequence, done, nil
		d.answered++
		return nil
	}
	return nil
}

func (d *stormDevice) fault(err error) error {
	if d.wrong == nil {
		d.wrong = err
	}
	return err
}

// load lets devices and operators work until ctx ends.
func (w *storm) load(ctx context.Context, workers int) *sync.WaitGroup {
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			r := mathrand.New(mathrand.NewPCG(w.seed, uint64(n)))
			for ctx.Err() == nil {
				if w.session(ctx, w.devices[r.IntN(len(w.devices))], r) != nil {
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
				}
			}
		})
	}
	all.Go(func() {
		r := mathrand.New(mathrand.NewPCG(w.seed, 1<<32))
		for n := 1; ctx.Err() == nil; n++ {
			w.operate(ctx, n, r)
			w.follow(ctx, r)
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
	})
	return &all
}

// lastVersion is the one that a rollout brings; there is no newer one.
const lastVersion = 6

// operate makes the changes that an operator makes, and notes those that were answered.
func (w *storm) operate(ctx context.Context, n int, r *mathrand.Rand) {
	c := w.client(w.any(r))
	if next := w.published + 1; n%4 == 1 && next <= lastVersion && w.roll(ctx, c, next) {
		envelope, err := w.envelope(next)
		if err != nil {
			w.t.Error(err)
			return
		}
		_, err = c.Publish(ctx, envelope)
		// One that was stored without an answer is refused the second time: it is there.
		if err == nil || refused(err, "sequence-number") {
			w.published = next
			w.changes++
		}
	}
	id := w.devices[r.IntN(len(w.devices))].id
	if _, err := c.ChangeDevice(ctx, id, api.DeviceChange{Labels: map[string]string{"n": fmt.Sprint(n)}}); err == nil {
		w.labels[id] = n
	}
	if n%5 == 0 {
		if token, err := c.AddToken(ctx, api.NewToken{Name: fmt.Sprint("token ", n), Scopes: []api.Scope{api.ScopeAuditor}, Lifetime: api.Duration(time.Hour)}); err == nil {
			w.tokens = append(w.tokens, token.Secret)
			w.changes++
		}
	}
}

// roll makes the rollout that brings the last version, before that is published.
func (w *storm) roll(ctx context.Context, c *api.Client, sequence uint64) bool {
	if sequence < lastVersion {
		return true
	}
	_, err := c.CreateRollout(ctx, api.NewRollout{Name: "last", Manifest: stormManifest, Sequence: sequence, Require: true, Stages: stormStages()})
	if err == nil {
		w.changes++
	}
	return err == nil || refused(err, "exists")
}

func refused(err error, code string) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusConflict && (code == "" || strings.Contains(p.Code, code))
}

// follow reads on in the feed, from where the last answer ended.
func (w *storm) follow(ctx context.Context, r *mathrand.Rand) {
	page, err := w.client(w.any(r)).FeedEvents(ctx, w.feedAfter)
	if err != nil {
		return
	}
	for _, e := range page.Items {
		w.seen = append(w.seen, e)
		w.feedAfter = fmt.Sprint(e.Position)
	}
}

func environment(name string, otherwise uint64) uint64 {
	var n uint64
	if _, err := fmt.Sscan(os.Getenv(name), &n); err != nil {
		return otherwise
	}
	return n
}

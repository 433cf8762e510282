package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-teep/teep/bench/fill"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/policy"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/teeptest/simulated"
)

// service is the TAM's side: one replica or several over one database.
type service struct {
	fleet    *fleet
	signers  []cose.Signer
	replicas []*tam.TAM
	store    api.Store
	closers  []io.Closer
	dir      string
}

func newService(ctx context.Context, o options) (s *service, err error) {
	s = &service{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "fleet"); err != nil {
		return nil, err
	}
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgESP256} {
		key, err := cose.GenerateKey(rand.Reader, alg)
		if err != nil {
			return nil, err
		}
		signer, err := key.Signer()
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, signer)
	}
	verifier := s.signers[2]
	s.signers = s.signers[:2]
	if s.fleet, err = newFleet(verifier, o.devices); err != nil {
		return nil, err
	}
	trusted, err := cose.NewKeySet(verifier.Public())
	if err != nil {
		return nil, err
	}
	blobs, err := blobfs.Open(filepath.Join(s.dir, "envelopes"))
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, blobs)
	for i := range o.replicas {
		if err := s.openStore(ctx, o.store); err != nil {
			return nil, err
		}
		if i == 0 && o.known {
			if err := s.know(ctx, o); err != nil { // before there is a TAM, which writes to the database
				return nil, err
			}
		}
		t, err := tam.New(ctx, tam.Config{
			Signers: s.signers, Results: tam.PassportVerifier(trusted, time.Now), Store: s.store, Blobs: blobs,
			Policy: tam.Policy{Query: tam.QueryToken}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, err
		}
		s.replicas = append(s.replicas, t)
	}
	return s, nil
}

func (s *service) openStore(ctx context.Context, url string) error {
	if url == "" {
		store, err := sqlite.Open(ctx, filepath.Join(s.dir, "tam.db"), sqlite.Options{})
		if err != nil {
			return err
		}
		s.store = store
		s.closers = append(s.closers, store)
		return nil
	}
	store, err := postgres.Open(ctx, url, postgres.Options{})
	if err != nil {
		return err
	}
	s.store = store
	s.closers = append(s.closers, store)
	if len(s.replicas) > 0 {
		return nil
	}
	some, err := store.ListDevices(ctx, "", 1)
	if err == nil && len(some) > 0 {
		err = errors.New("the database has devices already: give it an empty one")
	}
	return err
}

func (s *service) close() {
	for _, c := range s.closers {
		if err := c.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "fleet:", err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
	}
}

// replica is the one that a device's session goes to.
func (s *service) replica(index uint32) endpoint { return s.replicas[int(index)%len(s.replicas)] }

// enrol brings every device to the TAM for the first time, with an Attestation Result.
func (s *service) enrol(ctx context.Context, o options) (*figures, error) {
	return each(ctx, o.devices, o.workers, o.out, func(ctx context.Context, index uint32) (outcome, error) {
		d, err := s.fleet.device(index)
		if err != nil {
			return 0, err
		}
		return d.session(ctx, s.replica(index), true)
	})
}

// know fills the database with every device, as it is after it enrolled.
func (s *service) know(ctx context.Context, o options) error {
	begin := time.Now()
	now := begin.Add(-time.Minute)
	store, ok := s.store.(*postgres.Store)
	if !ok {
		return errors.New("-known needs -store with the URL of a PostgreSQL database")
	}
	err := fill.Postgres(ctx, store, o.devices, func(i int) (*tam.Device, error) {
		d, err := s.fleet.device(uint32(i))
		if err != nil {
			return nil, err
		}
		return d.record(now)
	})
	if err == nil {
		fmt.Fprintf(o.out, "known: %d devices were loaded into the database in %v, and did not enrol\n", o.devices, time.Since(begin).Round(time.Millisecond))
	}
	return err
}

// manifestID is what is rolled out.
var manifestID = []string{"fleet", "application"}

// program is the payload of the application.
const program = "program"

// publish puts version 1 of a small application on offer.
func (s *service) publish(ctx context.Context) error {
	author, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		return err
	}
	signer, err := author.Signer()
	if err != nil {
		return err
	}
	if _, err := s.replicas[0].AddPublisher(ctx, "maker", []*cose.Key{author.Public()}, []suit.ComponentID{suit.NewComponentID("fleet")}); err != nil {
		return err
	}
	envelope, err := s.fleet.application(signer)
	if err != nil {
		return err
	}
	_, err = s.replicas[0].Publish(ctx, envelope, "")
	return err
}

// application is version 1 of a small application, signed, which from then on is what devices get.
func (f *fleet) application(author cose.Signer) ([]byte, error) {
	built, err := describe.Build([]byte(`
manifest-component-id: [fleet, application]
sequence-number: 1
vendor: {domain: example.com}
class: {name: simulated}
components:
  - id: [fleet, program]
    payload: {file: program, uri: "https://cdn.example/program"}
`), describe.Options{Name: "application.yaml", Rand: rand.Reader, ReadFile: func(string) ([]byte, error) { return []byte(program), nil }})
	if err != nil {
		return nil, err
	}
	if err := built.Envelope.Sign(rand.Reader, author); err != nil {
		return nil, err
	}
	f.manifest = built.Envelope.Digest
	return built.Envelope.Encode(), f.reports(suit.NewComponentID("fleet", "program"), []byte(program))
}

// rolloutName is that of the one rollout.
const rolloutName = "fleet"

// rollOut decides a rollout of ten percent and then all, and lets the devices come until it is done. Each
// comes when its interval is over, whatever its stage: the TAM decides who gets the version.
func (s *service) rollOut(ctx context.Context, o options) (*figures, error) {
	person := policy.Person{ID: "bench", Name: "bench"}
	r := policy.Rollout{
		Name: rolloutName, Manifest: suit.NewComponentID(manifestID...).String(), Sequence: 1, Require: true,
		Stages: []policy.Stage{{Percent: 10, Success: 90}, {Percent: 100, Success: 99}},
	}
	begin := time.Now()
	if _, err := s.replicas[0].CreateRollout(ctx, r, person); err != nil {
		return nil, err
	}
	if err := s.publish(ctx); err != nil {
		return nil, err
	}
	if err := s.advance(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.out, "  rollout decided and its devices counted in %v\n", time.Since(begin).Round(time.Millisecond))
	total := &figures{}
	for round := 1; ; round++ {
		before, err := s.replicas[0].Rollout(ctx, rolloutName)
		if err != nil {
			return nil, err
		}
		f, err := each(ctx, o.devices, o.workers, o.out, func(ctx context.Context, index uint32) (outcome, error) {
			d, err := s.fleet.device(index)
			if err != nil || d.idles(before, o.idle) {
				return stayedAway, err
			}
			return d.session(ctx, s.replica(index), false)
		})
		if err != nil {
			return nil, err
		}
		total.add(f)
		if err := s.advance(ctx); err != nil {
			return nil, err
		}
		status, err := s.replicas[0].Rollout(ctx, rolloutName)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(o.out, "  round %d: %d sessions, %d updates; rollout %s, stage %d\n", round, f.sessions, f.updates, status.State, status.Stage+1)
		switch {
		case status.State == policy.StateDone:
			return total, nil
		case round == 5 || !status.State.Active():
			return nil, fmt.Errorf("the rollout is %s after %d rounds: %s", status.State, round, status.Reason)
		}
	}
}

// idles tells whether the device stays away in a round: one that has the version, or that no open stage
// chose, comes only if it is among the first idle percent.
func (d *device) idles(r *tam.RolloutStatus, idle int) bool {
	if int(d.Index%100) < idle {
		return false
	}
	chosen := r.StageOf(tam.DeviceID(d.Key.Public().Thumbprint()), func(string) bool { return false }) <= r.Stage
	return d.fleet.has[d.Index].Load() || !chosen
}

// preview has the TAM count the devices of a group, and what it would change on them.
func (s *service) preview(ctx context.Context, o options) error {
	begin, cpu := time.Now(), processorTime()
	// Half of the devices, by the last digit of a name that the condition has to take apart.
	group := &policy.Group{Name: "half", Match: `hwmodel == "` + hex.EncodeToString([]byte(simulated.HardwareModel)) + `" && ueid.matches("[02468]$")`}
	p, err := s.replicas[0].Preview(ctx, tam.Proposal{Group: group}, tam.PreviewOptions{Examples: 1})
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "preview: a group by a CEL condition chooses %d of %d devices, found in %v, %v of processor time\n",
		p.Chosen, p.Devices, time.Since(begin).Round(time.Millisecond), (processorTime() - cpu).Round(time.Millisecond))
	if p.Devices != int64(o.devices) || !p.Complete || p.Chosen == 0 || p.Chosen == p.Devices {
		return fmt.Errorf("the preview looked at %d of %d devices, and chose %d", p.Devices, o.devices, p.Chosen)
	}
	return nil
}

// advance lets time do its part: what teep-tam does every few seconds, until nothing more happens.
func (s *service) advance(ctx context.Context) error {
	for range 5 {
		for _, t := range s.replicas {
			if err := t.AdvanceRollouts(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare reads every device from the database, and fails when one is not as it should be.
func (s *service) compare(ctx context.Context, o options) error {
	want := suit.NewComponentID(manifestID...)
	devices, right := 0, 0
	for after := ""; ; {
		page, err := s.store.ListDevices(ctx, after, 1000)
		if err != nil {
			return err
		}
		for _, d := range page {
			devices++
			for _, i := range d.Inventory {
				if i.Sequence == 1 && i.Manifest.Equal(want) && len(d.Pending) == 0 {
					right++
				}
			}
			after = d.ID
		}
		if len(page) < 1000 {
			break
		}
	}
	if devices != o.devices || right != devices {
		return fmt.Errorf("the database knows %d of %d devices, and %d with the version", devices, o.devices, right)
	}
	fmt.Fprintf(o.out, "database: %d devices, all of them with the version\n", devices)
	return nil
}

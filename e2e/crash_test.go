package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// TestNothingAcknowledgedIsLost kills replicas and their database under load, again and again, and then compares
// what devices and operators were answered with what the TAM believes.
//
// TEEP_CRASH_ROUNDS=500 makes it a long run, TEEP_CRASH_SEED repeats the choices of one that failed.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	seed := environment("TEEP_CRASH_SEED", uint64(time.Now().UnixNano()))
	rounds := int(environment("TEEP_CRASH_ROUNDS", 6))
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		database := pgtest.Start(t)
		w := stormOver(t, seed, "store: "+database.Database(t))
		w.rage(rounds, []func(){
			func() { database.Stop(t); w.pause(); database.Run(t) },
			func() { database.Kill(t); w.pause(); database.Run(t) },
			func() { w.replicas[0].kill(); database.Kill(t); database.Run(t) },
		})
	})
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		stormOver(t, seed, "store: tam.db").rage(rounds, nil)
	})
}

// stormOver starts two replicas over a store.
func stormOver(t *testing.T, seed uint64, store string) *storm {
	t.Logf("TEEP_CRASH_SEED=%d repeats the choices of this run", seed)
	s, verifier := newPassportService(t, 2, func(text string) string { return strings.Replace(text, "store: tam.db", store, 1) })
	s.start()
	return newStorm(t, s, seed, 24, verifier)
}

// newPassportService is a service that believes a verifier of the test what it says about devices.
func newPassportService(t *testing.T, replicas int, edit func(string) string) (*service, *cose.Key) {
	t.Helper()
	verifier, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	pem, err := verifier.Public().MarshalPEM()
	must(t, err)
	s := newService(t, replicas, func(text string) string {
		text = edit(text)
		text = strings.Replace(text, "  collateral: [collateral.yaml]\n", "", 1)
		text = strings.Replace(text, "policy:\n", "policy:\n  query: token\n  rollout-interval: 100ms\n", 1)
		return text + "passports: {verifiers: [maker.pem]}\n"
	})
	must(t, os.WriteFile(filepath.Join(s.dir, "maker.pem"), pem, 0o600))
	return s, verifier
}

func stormStages() []policy.Stage {
	return []policy.Stage{{Percent: 30, Success: 60}, {Percent: 100, Success: 100}}
}

// pause is how long something stays dead.
func (w *storm) pause() { time.Sleep(time.Duration(w.dice.IntN(150)) * time.Millisecond) }

// rage is the storm, and the comparison after it. further are ways to kill, beside those that end replicas.
func (w *storm) rage(rounds int, further []func()) {
	t := w.t
	ctx, end := context.WithCancel(t.Context())
	working := w.load(ctx, 8)
	defer func() { end(); working.Wait() }()
	r := w.dice
	kills := append(further,
		func() { w.replicas[0].kill() },
		func() { w.replicas[1].kill() },
		func() { w.replicas[0].kill(); w.replicas[1].kill() },
	)
	order := r.Perm(len(kills))
	for n := range rounds {
		time.Sleep(time.Duration(50+r.IntN(350)) * time.Millisecond)
		kills[order[n%len(order)]]()
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		for _, replica := range w.replicas {
			if !replica.alive() {
				replica.start()
			} else {
				must(t, until(ctx, func() error { return w.client(replica).Health(ctx) }))
			}
		}
	}
	// The rollout's version may be on its way yet.
	must(t, until(ctx, func() error {
		if _, err := w.client(w.replicas[0]).Rollout(ctx, "last"); err != nil {
			return err
		}
		return nil
	}))
	end()
	working.Wait()
	w.compareDevices()
	w.compareOperators()
	w.compareFeed()
	w.replay()
	w.finish()
}

// compareDevices holds what each device was answered against what the TAM knows of it.
func (w *storm) compareDevices() {
	t := w.t
	known, told, answered := 0, 0, 0
	for i, d := range w.devices {
		if d.wrong != nil {
			t.Errorf("device %d: %v", i, d.wrong)
		}
		if !d.known {
			continue
		}
		known++
		record, err := w.client(w.replicas[i%2]).Device(t.Context(), d.id)
		if err != nil {
			t.Errorf("device %d was enrolled, and the TAM says: %v", i, err)
			continue
		}
		if has := sequenceOn(record); has < d.told || has > d.holds {
			t.Errorf("device %d holds version %d and told the TAM of %d, which believes in %d", i, d.holds, d.told, has)
		}
		if n := w.count(d, tam.EventSucceeded); n < d.answered || n > d.made {
			t.Errorf("device %d made %d Successes, %d of which were answered, and the TAM has %d", i, d.made, d.answered, n)
		}
		if label, _ := strconv.Atoi(record.Labels["n"]); label < w.labels[d.id] {
			t.Errorf("device %d was given the label %d, and has %d", i, w.labels[d.id], label)
		}
		answered += d.answered
		told = max(told, int(d.told))
	}
	if known < len(w.devices)/2 || answered == 0 {
		t.Errorf("the storm let nobody work: %d devices were enrolled, %d Successes answered", known, answered)
	}
	t.Logf("%d devices, %d Successes answered, newest version told %d of %d", known, answered, told, w.published)
}

func sequenceOn(d *api.Device) uint64 {
	for _, i := range d.Inventory {
		if i.Manifest == stormManifest {
			return i.Sequence
		}
	}
	return 0
}

// count is how many events of a kind the TAM has of a device.
func (w *storm) count(d *stormDevice, kind tam.EventKind) (n int) {
	w.t.Helper()
	for after := ""; ; {
		page, err := w.client(w.replicas[0]).Events(w.t.Context(), d.id, after)
		must(w.t, err)
		for _, e := range page.Items {
			if e.Kind == kind {
				n++
			}
		}
		if after = page.Next; after == "" {
			return n
		}
	}
}

// compareOperators looks for everything that an operator was told is done.
func (w *storm) compareOperators() {
	t, c := w.t, w.client(w.replicas[1])
	versions, err := c.Versions(t.Context(), "")
	must(t, err)
	for n := uint64(1); n <= w.published; n++ {
		if !slices.ContainsFunc(versions.Items, func(v api.Version) bool { return v.Sequence == n }) {
			t.Errorf("version %d was published and is not there", n)
		}
	}
	for _, secret := range w.tokens {
		if _, err := (&api.Client{BaseURL: c.BaseURL, Token: secret}).Versions(t.Context(), ""); err != nil {
			t.Errorf("a token that was made does not count: %v", err)
		}
	}
	head, err := c.AuditHead(t.Context())
	must(t, err)
	var log bytes.Buffer
	must(t, c.ExportAudit(t.Context(), &log))
	report, err := audit.Verify(&log, *head) // rollouts go on meanwhile, and add to the log
	must(t, err)
	if len(report.Missing) > 0 || !report.Complete() || head.Seq < int64(w.changes) {
		t.Errorf("the audit log was at %+v, its export is %+v, and there were %d changes", head, report, w.changes)
	}
}

// compareFeed reads the feed as a whole: who followed it during the storm saw the same, and it has the
// history of every device.
func (w *storm) compareFeed() {
	t := w.t
	r := mathrand.New(mathrand.NewPCG(w.seed, 2))
	for before := -1; before < len(w.seen); { // until there is no more
		before = len(w.seen)
		w.follow(t.Context(), r)
	}
	var all []api.FeedEvent
	byDevice := map[string]int{}
	for after := ""; ; {
		page, err := w.client(w.replicas[0]).FeedEvents(t.Context(), after)
		must(t, err)
		for _, e := range page.Items {
			if n := len(all); n > 0 && all[n-1].Position >= e.Position {
				t.Fatalf("position %d after %d", e.Position, all[n-1].Position)
			}
			all = append(all, e)
			byDevice[e.Device]++
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if !slices.Equal(all, w.seen) {
		t.Errorf("who followed the feed saw %d events, and it has %d", len(w.seen), len(all))
	}
	for i, d := range w.devices {
		n := 0
		for _, kind := range tam.EventKinds() {
			n += w.count(d, kind)
		}
		if n != byDevice[d.id] {
			t.Errorf("device %d has %d events, and %d in the feed", i, n, byDevice[d.id])
		}
	}
}

// replay sends every device's newest answered message again: what was used up before the last kill still is.
func (w *storm) replay() {
	t := w.t
	for i, d := range w.devices {
		if d.last == nil {
			continue
		}
		before, err := w.client(w.replicas[0]).Device(t.Context(), d.id)
		must(t, err)
		for _, r := range w.replicas {
			if reply, err := w.transport.Post(t.Context(), r.tamURI(), d.last); err != nil || len(reply) > 0 {
				t.Errorf("device %d: a message that was sent again is answered %d bytes, %v", i, len(reply), err)
			}
		}
		if after, err := w.client(w.replicas[1]).Device(t.Context(), d.id); err != nil || after.Revision != before.Revision {
			t.Errorf("device %d: a message that was sent again counted: %+v, %v", i, after, err)
		}
	}
}

// finish lets every device come until all have the last version, and the rollout says so.
func (w *storm) finish() {
	t := w.t
	r := mathrand.New(mathrand.NewPCG(w.seed, 3))
	for n := 1; w.published < lastVersion; n += 4 {
		w.operate(t.Context(), n, r)
	}
	must(t, until(t.Context(), func() error {
		for _, d := range w.devices {
			must(t, w.session(t.Context(), d, r))
		}
		status, err := w.client(w.replicas[0]).Rollout(t.Context(), "last")
		if err != nil || status.State == policy.StateDone {
			return err
		}
		return fmt.Errorf("the rollout is %s: %+v", status.State, status.Stages)
	}))
	for _, d := range w.devices {
		must(t, w.session(t.Context(), d, r))
	}
	status, err := w.client(w.replicas[0]).Rollout(t.Context(), "last")
	must(t, err)
	succeeded, offered := int64(0), int64(0)
	for _, s := range status.Stages {
		succeeded += s.Counts.Succeeded
		offered += s.Counts.Offered + s.Counts.Failed + s.Counts.Dropped
	}
	if succeeded != int64(len(w.devices)) || offered != 0 {
		t.Errorf("%d devices have the version, and the rollout counts %d, and %d otherwise: %+v", len(w.devices), succeeded, offered, status.Stages)
	}
	for i, d := range w.devices {
		record, err := w.client(w.replicas[1]).Device(t.Context(), d.id)
		must(t, err)
		if has := sequenceOn(record); has != lastVersion || d.holds != has || d.wrong != nil {
			t.Errorf("at the end device %d holds %d, and the TAM believes in %d (%v)", i, d.holds, has, d.wrong)
		}
	}
}

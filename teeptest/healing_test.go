package teeptest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest"
)

// doctor is a verifier to which a device is ill for a while. The Evidence of an ill one names a key that is
// not its own: that of whoever has it in hand.
type doctor struct {
	attest.Verifier
	ill    *atomic.Bool
	thiefs *cose.Key
}

func (v doctor) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	r, err := v.Verifier.Appraise(ctx, e, x)
	if err == nil && v.ill.Load() {
		r.Status, r.EncryptionKey = attest.StatusContraindicated, v.thiefs
	}
	return r, err
}

// TestHealingBringsTheKey: an update that heals comes with the key to its payload, encrypted to what the
// device was attested with while it was well, and without the data that is for healthy devices.
func TestHealingBringsTheKey(t *testing.T) {
	var ill atomic.Bool
	thiefs, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	w := teeptest.New(t, teeptest.Options{
		Logger:    testLogger(t),
		TAMPolicy: tam.Policy{Healing: []suit.ComponentID{teeptest.ManifestID("repair")}},
		TAMConfig: func(c *tam.Config) { c.Verifier = doctor{c.Verifier, &ill, thiefs.Public()} },
	})
	d, ctx := w.Device, t.Context()
	w.Settle(ctx, d) // known, and well
	secret := suit.NewComponentID("keys", "secret")
	publishEncrypted(t, w, "repair", 1, "repaired")
	if err := depositData(t, w, teeptest.ManifestID("repair"), secret, "for the healthy"); err != nil {
		t.Fatal(err)
	}
	ill.Store(true)
	w.Clock.Advance(time.Hour)
	if err := d.PolicyCheck(ctx); err != nil {
		t.Fatal(err)
	}
	answers(t, d, "repair", "repaired")
	if got := d.Content(secret); got != nil {
		t.Errorf("a device that is ill got %q", got)
	}
	if sent := w.LastManifests(); len(sent) != 1 || bytes.Contains(sent[0], teeptest.Program("repaired")) {
		t.Error("the program lies in the clear")
	}
	// A stranger who is ill gets no key: it names one that nobody attested.
	stranger := w.AddDevice("stranger")
	if err := stranger.PolicyCheck(ctx); err != nil {
		t.Fatal(err)
	}
	if all := stranger.Installed(); len(all) != 0 {
		t.Errorf("a stranger got %v", all)
	}
	ill.Store(false)
	w.Settle(ctx, d)
	answers(t, d, "repair", "repaired")
	if got := string(d.Content(secret)); got != "for the healthy" {
		t.Errorf("well again, it got %q", got)
	}
}

// TestPinnedDependency: a device that is to get what needs an older version by digest gets that one, though
// newer ones are published, and keeps it for as long.
func TestPinnedDependency(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	d, ctx := w.Device, t.Context()
	w.Publish(w.Component("runtime", 1, "runtime one"))
	w.Publish(w.Dependent("app", 1, "app one", "runtime"))
	w.ServePayload("runtime.suit", []byte("the TAM is where it comes from"))
	w.Publish(w.Component("runtime", 2, "runtime two"))
	if err := d.Request(ctx, "app"); err != nil {
		t.Fatal(err)
	}
	versions := func(app, runtime uint64) {
		t.Helper()
		w.Settle(ctx, d)
		if a, r := d.Sequence("app"), d.Sequence("runtime"); a != app || r != runtime {
			t.Errorf("installed: app %d, runtime %d; want %d and %d", a, r, app, runtime)
		}
	}
	versions(1, 1)
	answers(t, d, "app", "app one")
	w.Publish(w.Dependent("app", 2, "app two", "runtime"))
	versions(2, 2)
	answers(t, d, "app", "app two")
}

package agent_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
)

// signedTrust is the world's trust anchor set, signed by a key.
func (w *world) signedTrust(key *cose.Key) []byte {
	w.t.Helper()
	set, err := trust.ParseYAML(w.trust(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := trust.Sign(rand.Reader, set, signer)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func TestProvisioning(t *testing.T) {
	w := newWorld(t)
	if _, err := w.tryStart(nil); !errors.Is(err, agent.ErrProvisioning) {
		t.Fatalf("started without trust anchors: %v", err)
	}
	if _, err := w.tryStart([]byte("version: 1\ntam: []\n")); !errors.Is(err, trust.ErrInvalid) || !strings.Contains(err.Error(), "line 2") {
		t.Fatalf("got %v", err)
	}
	w.start()
	first := w.trust()
	refused := func(why string, data []byte) {
		t.Helper()
		if _, err := w.tryStart(data); !errors.Is(err, agent.ErrProvisioning) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := w.tryStart(first); err != nil {
		t.Errorf("the same file: %v", err)
	}
	if _, err := w.tryStart(nil); err != nil {
		t.Errorf("no file: %v", err)
	}
	admin := w.admin
	w.two = newTAM(t, "two")
	refused("another file of the same version", w.trust())
	refused("signed, of the same version", w.signedTrust(admin))
	w.version = 3
	refused("another file of a higher version", w.trust())
	refused("signed by somebody", w.signedTrust(w.dev))
	signed := w.signedTrust(admin)
	flipped := append([]byte(nil), signed...)
	flipped[len(flipped)/2] ^= 1
	refused("signed and changed", flipped)
	if _, err := w.tryStart(signed); err != nil {
		t.Fatalf("signed, with a higher version: %v", err)
	}
	if _, err := w.tryStart(signed); err != nil {
		t.Errorf("the signed set again: %v", err)
	}
	refused("the first file", first)
	w.version = 2
	refused("signed, with a lower version", w.signedTrust(admin))
	if _, err := w.tryStart(nil); err != nil {
		t.Fatal(err)
	}
}

func TestReplaceTrustTakesEffectAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app"))
	w.wantRun("app")
	dev := w.dev
	w.dev = newKey(t, cose.AlgESP256)
	w.version++
	if err := w.agent.ReplaceTrustAnchors(t.Context(), w.signedTrust(w.admin)); err != nil {
		t.Fatal(err)
	}
	// The developer's key is no anchor any longer: what it signed does not run (RFC 9397 §5.2).
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotRunnable) {
		t.Errorf("got %v", err)
	}
	w.mustInstall(w.one, w.hello(2, "app of the new developer"))
	w.wantRun("app of the new developer")
	w.dev = dev
	w.exchange(w.one, install(t, w.hello(3, "app of the old")))
	w.wantRun("app of the new developer")
}

func TestFirstSetMayBeSigned(t *testing.T) {
	w := newWorld(t)
	if _, err := w.tryStart(w.signedTrust(w.dev)); !errors.Is(err, agent.ErrProvisioning) {
		t.Errorf("signed by another than its administrator: %v", err)
	}
	if _, err := w.tryStart(w.signedTrust(w.admin)); err != nil {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]agent.Config{
		"no TEE":      {Attester: w.device, Trust: w.trust()},
		"no attester": {TEE: w.device, Trust: w.trust()},
	} {
		if _, err := agent.New(cfg); err == nil {
			t.Error(name)
		}
	}
	w.device.keys["report"] = w.device.keys["agent"]
	if _, err := w.tryStart(w.trust()); err == nil || !strings.Contains(err.Error(), "SUIT Reports") {
		t.Errorf("one key for two uses: %v", err)
	}
}

package agent_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee/seal/crashfs"
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

// versionOnDisk is the version of the trust anchors in sealed state.
func (w *world) versionOnDisk() uint64 {
	w.t.Helper()
	data, _, err := w.device.store.LoadRecord()
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := state.Decode(data)
	if err != nil {
		w.t.Fatal(err)
	}
	set, err := trust.ParseCBOR(r.Anchors)
	if err != nil {
		w.t.Fatal(err)
	}
	return set.Version
}

// TestReplaceTrustRefused: only the administrator whom the set in force names changes it, and only forwards.
// The broker, who brings it, learns why not.
func TestReplaceTrustRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	signed := func(version int, key *cose.Key) []byte {
		w.version = version
		return w.signedTrust(key)
	}
	five := signed(5, w.admin)
	if err := w.agent.ReplaceTrustAnchors(t.Context(), five); err != nil {
		t.Fatal(err)
	}
	flipped := signed(6, w.admin)
	flipped[len(flipped)/2] ^= 1
	mustAttest := func() []byte {
		w.version = 6
		w.one.mustAttest = true
		text := strings.Split(string(w.trust()), "verifiers:")[0]
		w.one.mustAttest = false
		set, err := trust.ParseYAML([]byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.admin.Signer()
		if err != nil {
			t.Fatal(err)
		}
		data, err := trust.Sign(rand.Reader, set, s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}()
	for name, c := range map[string]struct {
		set  []byte
		says string
	}{
		"older":                   {signed(4, w.admin), "higher version"},
		"signed by a developer":   {signed(6, w.dev), "not signed by the administrator"},
		"changed on the way":      {flipped, ""},
		"in YAML":                 {w.trust(), ""},
		"garbage":                 {[]byte{0xd2}, ""},
		"nothing":                 {nil, ""},
		"nobody can appraise TAM": {mustAttest, "must attest itself"},
	} {
		if err := w.agent.ReplaceTrustAnchors(t.Context(), c.set); !errors.Is(err, link.ErrRefused) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.agent.ReplaceTrustAnchors(t.Context(), five); err != nil {
		t.Errorf("the set in force again: %v", err)
	}
	// Another one of that version, even by the administrator, is none that is newer.
	w.two = newTAM(t, "two")
	if err := w.agent.ReplaceTrustAnchors(t.Context(), signed(5, w.admin)); !errors.Is(err, agent.ErrProvisioning) {
		t.Errorf("another set of that version: %v", err)
	}
	if v := w.versionOnDisk(); v != 5 {
		t.Errorf("version %d", v)
	}
	// The key of the administrator changes hands.
	before, next := w.admin, newKey(t, cose.AlgEd25519)
	w.version, w.admin = 6, next
	if err := w.agent.ReplaceTrustAnchors(t.Context(), w.signedTrust(before)); err != nil {
		t.Fatal(err)
	}
	if err := w.agent.ReplaceTrustAnchors(t.Context(), signed(7, before)); !errors.Is(err, agent.ErrProvisioning) {
		t.Errorf("by the one before: %v", err)
	}
	if err := w.agent.ReplaceTrustAnchors(t.Context(), signed(8, next)); err != nil {
		t.Error(err)
	}
	w.agent.Close()
	if err := w.agent.ReplaceTrustAnchors(t.Context(), signed(9, next)); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestReplaceTrustInACrash: wherever the power fails, the old set is in force or the new one, and the new one
// can be brought again.
func TestReplaceTrustInACrash(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.version = 2
	signed := w.signedTrust(w.admin)
	w.agent.Close()
	w.agent = nil
	before := w.device.disk.Clone()
	seen := map[uint64]int{}
	for step := 1; ; step++ {
		w.device.disk = before.Clone()
		w.device.boot(t)
		if _, err := w.tryStart(nil); err != nil {
			t.Fatal(err)
		}
		w.device.disk.CrashAt(step)
		err := w.agent.ReplaceTrustAnchors(t.Context(), signed)
		if !w.device.disk.Crashed() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		w.crash(crashfs.LoseUnsynced)
		v := w.versionOnDisk()
		if seen[v]++; err == nil && v != 2 {
			t.Fatalf("step %d: said to be done, and version %d is in force", step, v)
		}
		if _, err := w.tryStart(nil); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if err := w.agent.ReplaceTrustAnchors(t.Context(), signed); err != nil || w.versionOnDisk() != 2 {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	if seen[1] == 0 || len(seen) > 2 {
		t.Errorf("%v", seen)
	}
}

// TestReplaceTrustInAnUpdate: what was begun under the set before stops, and goes on if it may under the new
// one.
func TestReplaceTrustInAnUpdate(t *testing.T) {
	for name, change := range map[string]func(*world){
		"nothing that matters": func(w *world) { w.two = newTAM(w.t, "two") },
		"the developer":        func(w *world) { w.dev = newKey(w.t, cose.AlgESP256) },
		"the TAM":              func(w *world) { w.one = newTAM(w.t, "one") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, "app"))))
			if err != nil || ask.Fetch == nil {
				t.Fatalf("%+v, %v", ask, err)
			}
			change(w)
			w.version++
			if err := w.agent.ReplaceTrustAnchors(t.Context(), w.signedTrust(w.admin)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.agent.Deliver(t.Context(), w.chunk(ask)); err == nil {
				t.Error("it went on")
			}
			// What was begun may still be on its way out: rounds of policy checks, until it is taken up again.
			for rounds := 0; ; {
				if ask, err = w.agent.RequestPolicyCheck(t.Context()); err != nil {
					t.Fatal(err)
				}
				if ask.Fetch != nil || ask.Message != nil {
					break
				}
				if ask.Session != 0 {
					continue
				}
				if rounds++; name == "the TAM" && rounds == 3 || rounds == 500 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if name == "the TAM" {
				if ask.Fetch != nil || ask.Message != nil {
					t.Errorf("an Update of a TAM that is not trusted any longer: %+v", ask)
				}
				return
			}
			if ask, err = w.serve(ask); err != nil {
				t.Fatal(err)
			}
			_, done := w.decode(ask).(*teep.Success)
			if done != (name == "nothing that matters") {
				t.Errorf("got %#v", w.decode(ask))
			}
		})
	}
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

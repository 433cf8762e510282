package tam_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// TestQueryRequest holds the form of the first message (TEEP §4.2, §8.1).
func TestQueryRequest(t *testing.T) {
	w := newWorld(t)
	data, err := w.tam.ProcessConnect(ctx())
	must(t, err)
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		opened, err := teep.Open(data, w.tamKeys, teep.OpenOptions{Algorithms: []cose.Algorithm{alg}})
		if err != nil {
			t.Fatalf("an agent that knows only %v cannot read it: %v", alg, err)
		}
		q := opened.Message.(*teep.QueryRequest)
		if !opened.Multiple {
			t.Error("not a COSE_Sign")
		}
		if q.Token != nil || len(q.Challenge) < 16 || !q.DataItems.Has(teep.DataAttestation|teep.DataTrustedComponents) {
			t.Errorf("token %x, challenge of %d bytes, data items %b", q.Token, len(q.Challenge), q.DataItems)
		}
		if len(q.CipherSuites) != 2 || len(q.SUITProfiles) != 4 {
			t.Errorf("offers %v and %v", q.CipherSuites, q.SUITProfiles)
		}
	}
}

func TestQueryRequestWithToken(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) { c.Policy.Query = tam.QueryToken })
	q := w.agent(cose.AlgESP256).connect()
	if q.Challenge != nil || q.Token == nil || q.DataItems.Has(teep.DataAttestation) {
		t.Fatalf("token %x, challenge %x, data items %b", q.Token, q.Challenge, q.DataItems)
	}
}

func TestChallengesDiffer(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	seen := make(map[string]bool)
	for range 50 {
		c := string(a.connect().Challenge)
		if seen[c] {
			t.Fatal("a challenge came twice")
		}
		seen[c] = true
	}
}

// TestLifecycle walks through installing, updating and removing, once with each mandatory suite.
func TestLifecycle(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		t.Run(alg.String(), func(t *testing.T) { lifecycle(t, alg) })
	}
}

func lifecycle(t *testing.T, alg cose.Algorithm) {
	w := newWorld(t)
	one := w.envelope(release{name: "app", sequence: 1, payload: "one"})
	_, err := w.tam.Publish(ctx(), one, "")
	must(t, err)
	a := w.agent(alg)
	if reply := a.session(); reply != nil {
		t.Fatalf("a device that asks for nothing was sent a %v", reply.Type())
	}
	a.requests(componentID("app"))
	u := a.update()
	if len(u.Manifests) != 1 || !bytes.Equal(u.Manifests[0], one) || u.Token == nil || u.UnneededManifests != nil {
		t.Fatalf("Update %+v", u)
	}
	a.succeed(u)
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})

	a.requested = nil
	a.has(componentID("app"), "one")
	if reply := a.session(); reply != nil {
		t.Fatal("there was nothing to do")
	}
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})

	w.publish(release{name: "app", sequence: 2, payload: "two"})
	u = a.update()
	if len(u.Manifests) != 1 {
		t.Fatalf("the update was not offered: %+v", u)
	}
	a.succeed(u)
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 2})

	a.components = nil
	a.has(componentID("app"), "two")
	a.unneeded = []teep.ComponentID{teep.ComponentID(manifestID("app"))}
	u = a.update()
	if len(u.UnneededManifests) != 1 || u.Manifests != nil {
		t.Fatalf("not removed: %+v", u)
	}
	a.succeed(u)
	a.expect()

	events, err := w.store.Events(ctx(), a.device().ID, 0, 100)
	must(t, err)
	if len(events) != 8 || events[0].Kind != tam.EventSucceeded || !strings.Contains(events[0].Detail, "removed") {
		t.Errorf("history %+v", events)
	}
}

// expect compares the inventory that the TAM holds of the agent.
func (a *agent) expect(want ...tam.Installed) {
	a.w.t.Helper()
	d := a.device()
	if d == nil {
		a.w.t.Fatal("the TAM does not know the device")
	}
	if len(d.Inventory) != len(want) {
		a.w.t.Fatalf("inventory %+v, want %+v", d.Inventory, want)
	}
	for i, have := range d.Inventory {
		if !have.Manifest.Equal(want[i].Manifest) || have.Sequence != want[i].Sequence {
			a.w.t.Fatalf("inventory %+v, want %+v", d.Inventory, want)
		}
	}
}

// TestIssuingStoresNothing holds that an empty message costs no storage.
func TestIssuingStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.tam.ProcessConnect(ctx())
	before := w.changes()
	for range 20 {
		if _, err := w.tam.ProcessConnect(ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if after := w.changes(); after != before {
		t.Fatalf("the store changed from %q to %q", before, after)
	}
}

// changes reads all that a flood could grow.
func (w *world) changes() string {
	w.t.Helper()
	devices, err := w.store.ListDevices(ctx(), "", 1000)
	must(w.t, err)
	keys, err := w.store.TokenKeys(ctx())
	must(w.t, err)
	gone, err := w.store.Sweep(ctx(), w.clock.read().Add(1000*time.Hour), time.Time{}, 1000)
	must(w.t, err)
	return strings.Repeat("d", len(devices)) + strings.Repeat("k", len(keys)) + strings.Repeat("c", gone)
}

// TestStrangersLeaveNoTrace: what anybody can send must not fill the store.
func TestStrangersLeaveNoTrace(t *testing.T) {
	w := newWorld(t)
	before := w.changes()
	a := w.agent(cose.AlgESP256)
	a.attester = key(t, cose.AlgESP256)
	u, ok := a.session().(*teep.Update)
	if !ok || u.ErrorCode != teep.ErrAttestationRequired || u.ErrorMessage == "" || u.Manifests != nil {
		t.Fatalf("answer %+v", u)
	}
	a.send(&teep.Error{Code: teep.ErrPermanentError, Message: "no"})
	a.send(&teep.Success{Token: bytes.Repeat([]byte{1}, 44)})
	a.sendRaw([]byte("garbage"))
	if after := w.changes(); after != before {
		t.Fatalf("the store changed from %q to %q", before, after)
	}
}

// TestAttestationFails goes through the bindings of Evidence.
func TestAttestationFails(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(w *world, a *agent)
		says string
	}{
		{"unknown measurement", func(_ *world, a *agent) { a.measurement = "evil" }, "measurement"},
		{"debug mode", func(_ *world, a *agent) { a.measurement = "debug" }, "debug is on"},
		{"warning without AcceptWarning", func(_ *world, a *agent) { a.measurement = "old" }, "superseded"},
		{"unknown attester", func(w *world, a *agent) { a.attester = key(w.t, cose.AlgESP256) }, "not known"},
		{"format that nobody appraises", func(_ *world, a *agent) { a.mediaType = "application/x-other" }, "not supported"},
		{"Attestation Result of an unknown verifier", func(w *world, a *agent) {
			a.mediaType, a.attester = "", key(w.t, cose.AlgESP256)
		}, "not known"},
		{"Evidence that claims to be an Attestation Result", func(_ *world, a *agent) { a.mediaType = "" }, "not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256).requests(componentID("app"))
			test.do(w, a)
			u, ok := a.session().(*teep.Update)
			if !ok || u.ErrorCode != teep.ErrAttestationRequired || u.Manifests != nil {
				t.Fatalf("answer %+v; log:\n%s", u, w.log)
			}
			if !strings.Contains(u.ErrorMessage, test.says) {
				t.Errorf("err-msg %q does not say %q", u.ErrorMessage, test.says)
			}
		})
	}
}

// TestKnownDeviceFails: a device that was good and is no longer shows as such.
func TestKnownDeviceFails(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	a.session()
	if d := a.device(); d.Attestation.Status != attest.StatusAffirming || d.Status != tam.DeviceAccepted {
		t.Fatalf("device %+v", d)
	}
	a.measurement = "evil"
	a.session()
	if d := a.device(); d.Attestation.Status != attest.StatusContraindicated {
		t.Fatalf("still %v", d.Attestation.Status)
	}
	a.measurement, a.ueid = "good", []byte("\x01another-device-00")
	u := a.session().(*teep.Update)
	if u.ErrorCode != teep.ErrAttestationRequired || !strings.Contains(u.ErrorMessage, "identity") {
		t.Fatalf("a known key with another identity: %+v", u)
	}
}

// TestStolenEvidence: Evidence of one agent in a message of another (TEEP §10, impersonation).
func TestStolenEvidence(t *testing.T) {
	w := newWorld(t)
	victim, thief := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
	m := victim.response(victim.connect())
	if reply := thief.send(m); reply != nil {
		t.Fatalf("unknown thief: %+v", reply)
	}
	thief.session() // now the TAM knows the thief's key
	m = victim.response(victim.connect())
	u, ok := thief.send(m).(*teep.Update)
	if !ok || u.ErrorCode != teep.ErrAttestationRequired || !strings.Contains(u.ErrorMessage, "cnf") {
		t.Fatalf("known thief: %+v", u)
	}
	if victim.device() != nil {
		t.Fatal("the victim became known by it")
	}
}

func TestPassportAndPolicies(t *testing.T) {
	t.Run("Attestation Result under a challenge", func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(cose.AlgEd25519)
		a.mediaType, a.attester = "", w.results
		if a.session(); a.device() == nil {
			t.Fatalf("not accepted; log:\n%s", w.log)
		}
	})
	t.Run("Attestation Result under a token", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.Query = tam.QueryToken })
		a := w.agent(cose.AlgEd25519)
		a.mediaType, a.attester = "", w.results
		q := a.connect()
		m := a.response(q)
		m.AttestationPayload = a.evidence(q.Token)
		if a.send(m); a.device() == nil {
			t.Fatalf("not accepted; log:\n%s", w.log)
		}
		if reply := a.send(m); reply != nil {
			t.Fatal("replay answered")
		}
	})
	t.Run("token, then asked to attest", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.Query = tam.QueryToken })
		a := w.agent(cose.AlgESP256)
		q, ok := a.session().(*teep.QueryRequest)
		if !ok || !q.DataItems.Has(teep.DataAttestation) {
			t.Fatal("an unknown agent was not asked to attest")
		}
		a.send(a.response(q))
		if a.device() == nil {
			t.Fatal("did not become known")
		}
		if reply := a.session(); reply != nil {
			t.Fatalf("attested a moment ago, and asked again: %v", reply.Type())
		}
		w.clock.advance(25 * time.Hour)
		if _, ok := a.session().(*teep.QueryRequest); !ok {
			t.Fatal("a day later nobody asks for attestation")
		}
	})
	t.Run("result passed back", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.PassResults = true })
		u := w.agent(cose.AlgESP256).update()
		if !bytes.Equal(u.AttestationPayload, []byte{0xa0}) || u.AttestationFormat != "" || u.Manifests != nil {
			t.Fatalf("Update %+v", u)
		}
	})
	t.Run("warning accepted", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.AcceptWarning = true })
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(cose.AlgESP256).requests(componentID("app"))
		a.measurement = "old"
		a.update()
	})
	t.Run("pending until accepted", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.Admission = tam.AdmitManually })
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(cose.AlgESP256).requests(componentID("app"))
		if reply := a.session(); reply != nil {
			t.Fatalf("a pending device was sent a %v", reply.Type())
		}
		d := a.device()
		if d.Status != tam.DevicePending {
			t.Fatalf("device is %v", d.Status)
		}
		d.Status = tam.DeviceAccepted
		must(t, w.store.UpdateDevice(ctx(), d))
		a.update()
	})
	for _, status := range []tam.DeviceStatus{tam.DeviceBlocked, tam.DeviceRetired} {
		t.Run(string(status), func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256)
			a.session()
			d := a.device()
			d.Status = status
			must(t, w.store.UpdateDevice(ctx(), d))
			if reply := a.requests(componentID("app")).session(); reply != nil {
				t.Fatalf("answered with a %v", reply.Type())
			}
		})
	}
	t.Run("healing", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.Healing = []suit.ComponentID{manifestID("firmware")} })
		w.publish(release{name: "firmware", sequence: 1, payload: "one"})
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(cose.AlgESP256).requests(componentID("app"))
		a.measurement = "evil"
		u := a.update()
		if len(u.Manifests) != 1 || u.Token != nil {
			t.Fatalf("a stranger got %d manifests, token %x", len(u.Manifests), u.Token)
		}
		a.measurement = "debug" // authentic: the device becomes known
		u = a.update()
		if len(u.Manifests) != 1 || u.Token == nil {
			t.Fatalf("got %d manifests, token %x", len(u.Manifests), u.Token)
		}
		a.succeed(u)
		a.expect(tam.Installed{Manifest: manifestID("firmware"), Sequence: 1})
	})
}

func TestTimestamps(t *testing.T) {
	unsolicited := func(a *agent) *teep.QueryResponse {
		return &teep.QueryResponse{
			AttestationFormat: a.mediaType, AttestationPayload: a.evidence(nil), TrustedComponents: a.components,
		}
	}
	t.Run("not accepted by default", func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(cose.AlgESP256)
		if a.send(unsolicited(a)); a.device() != nil {
			t.Fatal("accepted")
		}
	})
	t.Run("once, and while fresh", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) { c.Policy.AcceptTimestamps = true })
		a := w.agent(cose.AlgESP256)
		m := unsolicited(a)
		if a.send(m); a.device() == nil {
			t.Fatalf("refused; log:\n%s", w.log)
		}
		first := a.device().Revision
		if a.send(m); a.device().Revision != first {
			t.Fatal("the same Evidence counted twice")
		}
		late := unsolicited(a)
		w.clock.advance(6 * time.Minute)
		if u, ok := a.send(late).(*teep.Update); !ok || u.ErrorCode != teep.ErrAttestationRequired {
			t.Fatal("old Evidence was accepted")
		}
	})
}

func TestEncryptedEvidence(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	a.encryptTo = w.encrypt
	if a.session(); a.device() == nil {
		t.Fatalf("refused; log:\n%s", w.log)
	}
	b := w.agent(cose.AlgESP256)
	b.encryptTo = key(t, cose.AlgECDHESA128KW)
	if reply := b.session(); reply != nil || b.device() != nil {
		t.Fatal("Evidence for somebody else was accepted")
	}
	// The context separates Evidence from reports.
	c := w.agent(cose.AlgESP256)
	q := c.connect()
	m := c.response(q)
	to := cose.ECDHESRecipient(w.encrypt.Public(), "SUIT Report Encryption")
	sealed, _, err := cose.Encrypt(rand.Reader, m.AttestationPayload, cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
	must(t, err)
	m.AttestationPayload = sealed
	if reply := c.send(m); reply != nil || c.device() != nil {
		t.Fatal("Evidence under the context of reports was accepted")
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*tam.Config){
		"no store":              func(c *tam.Config) { c.Store = nil },
		"no blobs":              func(c *tam.Config) { c.Blobs = nil },
		"no verifier":           func(c *tam.Config) { c.Verifier, c.Results = nil, nil },
		"no signer":             func(c *tam.Config) { c.Signers = nil },
		"no signer ED25519":     func(c *tam.Config) { c.Signers = c.Signers[:1] },
		"two signers of a kind": func(c *tam.Config) { c.Signers = append(c.Signers[:3:3], c.Signers[0]) },
		"nil signer":            func(c *tam.Config) { c.Signers = append(c.Signers[:3:3], nil) },
		"negative lifetime":     func(c *tam.Config) { c.Policy.TokenLifetime = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := w.config
			c.Store, c.Blobs = w.store, noBlobs{}
			change(&c)
			if _, err := tam.New(ctx(), c); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

// noBlobs is a payload store that is never asked.
type noBlobs struct{ tam.Blobs }

package tam_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// set changes the record of a device as an operator would.
func (a *agent) set(f func(*tam.Device)) {
	a.w.t.Helper()
	d := a.device()
	f(d)
	must(a.w.t, a.w.store.UpdateDevice(ctx(), d))
}

func TestNewKeyOfAKnownDevice(t *testing.T) {
	automatic := func(c *tam.Config) { c.Policy.Reenrolment = tam.ReenrolAutomatically }
	t.Run("manual", func(t *testing.T) {
		w := newWorld(t)
		one, two := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
		one.session()
		two.session()
		if two.device().Replaces != "" || one.device().Status != tam.DeviceAccepted {
			t.Error("a further TEE took the place of the first")
		}
	})
	t.Run("automatic", func(t *testing.T) {
		w := newWorld(t, automatic)
		one, two := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
		one.session()
		one.set(func(d *tam.Device) { d.Labels = map[string]string{"site": "lab"} })
		two.session()
		d, old := two.device(), one.device()
		if d.Replaces != old.ID || d.Labels["site"] != "lab" || d.Status != tam.DeviceAccepted || old.Status != tam.DeviceRetired || old.ReplacedBy != d.ID {
			t.Fatalf("new %+v\nold %+v", d, old)
		}
		if reply := one.sendRaw(one.protect(&teep.Success{Token: []byte("0123456789abcdef")})); reply != nil {
			t.Error("the old key is served")
		}
	})
	t.Run("another device", func(t *testing.T) {
		w := newWorld(t, automatic)
		one, two := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
		two.ueid = []byte("\x01device-0000000001")
		one.session()
		two.session()
		if two.device().Replaces != "" || one.device().Status != tam.DeviceAccepted {
			t.Error("a device took the place of another")
		}
	})
	// Somebody who knows the UEID and makes a key, but has no attestation for it.
	t.Run("attacker", func(t *testing.T) {
		w := newWorld(t, automatic)
		one, thief := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
		one.session()
		thief.attester = key(t, cose.AlgESP256)
		thief.session()
		if d := one.device(); d.Status != tam.DeviceAccepted || d.ReplacedBy != "" {
			t.Fatalf("a key without attestation changed the record: %+v", d)
		}
		if _, err := w.store.DeviceByKey(ctx(), thief.key.Thumbprint()); !errors.Is(err, tam.ErrNotFound) {
			t.Errorf("the attacker has a record: %v", err)
		}
	})
	t.Run("blocked", func(t *testing.T) {
		for _, change := range []func(*tam.Config){automatic, func(*tam.Config) {}} {
			w := newWorld(t, change)
			one, two := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
			one.session()
			one.set(func(d *tam.Device) { d.Status = tam.DeviceBlocked })
			two.requests(componentID("app"))
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			if reply := two.session(); reply != nil {
				t.Errorf("a blocked device got a %v with a new key", reply.Type())
			}
		}
	})
}

// TestNewKeysKeepWhatWasSaidByID: an assignment that names a device by an ID of long ago counts for it under every
// key since, and for no other device.
func TestNewKeysKeepWhatWasSaidByID(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) { c.Policy.Reenrolment = tam.ReenrolAutomatically })
	other := w.agent(cose.AlgESP256)
	other.ueid = []byte("\x01device-0000000001")
	keys := []*agent{w.agent(cose.AlgESP256), w.agent(cose.AlgESP256), w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)}
	for _, a := range keys {
		a.session()
	}
	newest := keys[3].device()
	if want := []string{keys[2].device().ID, keys[1].device().ID, keys[0].device().ID}; !slices.Equal(newest.Formerly, want) {
		t.Fatalf("formerly %v, not %v", newest.Formerly, want)
	}
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	for _, a := range []*agent{other, keys[3]} {
		a.requests(componentID("app"))
	}
	for i, a := range keys {
		_, err := w.tam.ChangeAssignment(ctx(), manifestID("app"), func(*tam.Assignment, uint64) (*tam.Assignment, error) {
			return &tam.Assignment{Manifest: manifestID("app"), Mode: tam.ModeForbidden, Devices: []string{a.device().ID}}, nil
		})
		must(t, err)
		if reply := keys[3].session(); reply != nil {
			t.Errorf("what was forbidden by the ID of key %d came with a %v", i, reply.Type())
		}
		if reply := other.session(); reply == nil {
			t.Error("it was forbidden another device")
		}
	}
}

func TestAdmission(t *testing.T) {
	manual := func(c *tam.Config) { c.Policy.Admission = tam.AdmitManually }
	w := newWorld(t, manual)
	a := w.agent(cose.AlgESP256)
	a.session()
	if a.device().Status != tam.DevicePending {
		t.Fatalf("it is %s", a.device().Status)
	}
	_, err := w.tam.SetAdmission(ctx(), policy.Admission{Name: "others", Match: `hwversion == "2.0"`}, tam.ExpectAny)
	must(t, err)
	a.session()
	if a.device().Status != tam.DevicePending {
		t.Fatal("a rule for others accepted it")
	}
	_, err = w.tam.SetAdmission(ctx(), policy.Admission{Name: "good", Match: `hwversion == "1.0" && attestation == "affirming"`, Labels: map[string]string{"ring": "new"}}, tam.ExpectAny)
	must(t, err)
	a.session()
	if d := a.device(); d.Status != tam.DeviceAccepted || d.DecidedBy != "rule good" || d.Labels["ring"] != "new" {
		t.Fatalf("%s by %q, labels %v", d.Status, d.DecidedBy, d.Labels)
	}
	// What a person decided, no rule changes.
	a.set(func(d *tam.Device) { d.Decide(tam.DevicePending, "Ann") })
	a.session()
	if a.device().Status != tam.DevicePending {
		t.Error("a rule overruled a person")
	}

	var list *policy.AllowList
	w = newWorld(t, manual, func(c *tam.Config) { c.AllowList = func() *policy.AllowList { return list } })
	a = w.agent(cose.AlgESP256)
	a.session()
	if a.device().Status != tam.DevicePending {
		t.Fatal("accepted without a list")
	}
	list, err = policy.ParseAllowList([]byte("ueid 016465766963652d30303030303030303030"))
	must(t, err)
	a.session()
	if d := a.device(); d.Status != tam.DeviceAccepted || d.DecidedBy != "allow-list" {
		t.Errorf("%s by %q", d.Status, d.DecidedBy)
	}
}

// TestRolloutStopsByItself runs a rollout over two replicas: the canary fails, and nobody else gets it.
func TestRolloutStopsByItself(t *testing.T) {
	w := newWorld(t)
	other, _ := w.replica()
	canary, rest := w.agent(cose.AlgESP256), w.agent(cose.AlgEd25519)
	rest.ueid = []byte("\x01device-0000000001")
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	for _, a := range []*agent{canary, rest} {
		a.requests(componentID("app"))
		a.succeed(a.update())
		a.has(componentID("app"), "one")
	}
	canary.set(func(d *tam.Device) { d.SetLabels(map[string]string{"ring": "canary"}) })
	_, err := w.tam.SetGroup(ctx(), policy.Group{Name: "canaries", Match: `labels[?"ring"].orValue("") == "canary"`}, tam.ExpectAny)
	must(t, err)
	ann := policy.Person{ID: "1", Name: "Ann"}
	_, err = w.tam.CreateRollout(ctx(), policy.Rollout{Name: "two", Manifest: manifestID("app").String(), Sequence: 2,
		Stages: []policy.Stage{{Group: "canaries"}, {Percent: 100}}}, ann)
	must(t, err)
	two := w.publish(release{name: "app", sequence: 2, payload: "two"})
	if reply := rest.session(); reply != nil {
		t.Fatal("offered before the rollout began")
	}
	for range 4 { // begin, claim, count: whichever replica is first
		must(t, w.tam.AdvanceRollouts(ctx()))
		must(t, other.AdvanceRollouts(ctx()))
	}
	status, err := w.tam.Rollout(ctx(), "two")
	must(t, err)
	if status.State != policy.StateRunning || len(status.Totals) != 2 || status.Totals[0] != 1 || status.Totals[1] != 1 {
		t.Fatalf("%s, totals %v", status.State, status.Totals)
	}
	u := canary.update()
	if reply := rest.session(); reply != nil {
		t.Fatal("offered outside of the open stage")
	}
	canary.send(&teep.Error{Token: u.Token, Code: teep.ErrManifestProcessingFailed})
	must(t, other.AdvanceRollouts(ctx()))
	status, err = w.tam.Rollout(ctx(), "two")
	must(t, err)
	if status.State != policy.StateStopped || status.Counts[0].Failed != 1 {
		t.Fatalf("%s, counts %v", status.State, status.Counts)
	}
	if reply := rest.session(); reply != nil {
		t.Fatal("offered after it was stopped")
	}
	if n, err := w.store.DevicesWith(ctx(), two.Manifest, two.Sequence, "", 10); err != nil || len(n) != 0 {
		t.Errorf("%d have it, %v", len(n), err)
	}
}

// TestPendingDevicesAreNotTheirOwnSuccessors: a record that waits is found by its UEID like any other.
func TestPendingDevicesAreNotTheirOwnSuccessors(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) {
		c.Policy.Admission, c.Policy.Reenrolment = tam.AdmitManually, tam.ReenrolAutomatically
	})
	one, two := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
	for range 3 {
		one.session()
		if d := one.device(); d.Status != tam.DevicePending || d.Replaces != "" || d.ReplacedBy != "" {
			t.Fatalf("%s, replaces %q, replaced by %q", d.Status, d.Replaces, d.ReplacedBy)
		}
	}
	_, err := w.tam.SetAdmission(ctx(), policy.Admission{Name: "all", Match: "true"}, tam.ExpectAny)
	must(t, err)
	one.session()
	if d := one.device(); d.Status != tam.DeviceAccepted || d.DecidedBy != "rule all" {
		t.Fatalf("%s by %q", d.Status, d.DecidedBy)
	}
	two.session()
	if d := two.device(); d.Replaces != one.device().ID || d.Status != tam.DeviceAccepted {
		t.Errorf("%s, replaces %q", d.Status, d.Replaces)
	}
}

// TestRetiredDevicesComeBackByAPerson: neither attestation nor a rule nor the allow-list takes a device back, under a new
// key, that a person retired; as a further TEE of a device in service it is accepted, and so is who was never retired.
func TestRetiredDevicesComeBackByAPerson(t *testing.T) {
	list, err := policy.ParseAllowList([]byte("ueid 016465766963652d30303030303030303030"))
	must(t, err)
	manual := func(c *tam.Config) { c.Policy.Admission = tam.AdmitManually }
	for name, change := range map[string]func(*tam.Config){
		"attested":  func(*tam.Config) {},
		"automatic": func(c *tam.Config) { c.Policy.Reenrolment = tam.ReenrolAutomatically },
		"rule":      manual,
		"list": func(c *tam.Config) {
			manual(c)
			c.AllowList = func() *policy.AllowList { return list }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change)
			_, err := w.tam.SetAdmission(ctx(), policy.Admission{Name: "all", Match: "true"}, tam.ExpectAny)
			must(t, err)
			one, two, other, third := w.agent(cose.AlgESP256), w.agent(cose.AlgESP256), w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)
			other.ueid = []byte("\x01device-0000000001")
			one.session()
			one.set(func(d *tam.Device) { d.Decide(tam.DeviceRetired, "Ann") })
			for range 2 {
				two.session()
				if d := two.device(); d.Status != tam.DevicePending || d.Replaces != "" {
					t.Fatalf("it is %s by %s", d.Status, d.DecidedBy)
				}
			}
			events, err := w.store.Events(ctx(), two.device().ID, 0, 10)
			must(t, err)
			if want := "was retired as " + one.device().ID; len(events) == 0 || !strings.Contains(events[0].Detail, want) {
				t.Errorf("its history does not say %q: %v", want, events)
			}
			other.session()
			if other.device().Status != tam.DeviceAccepted {
				t.Errorf("another device is %s", other.device().Status)
			}
			two.set(func(d *tam.Device) { d.Decide(tam.DeviceAccepted, "Ann") })
			third.session()
			if third.device().Status != tam.DeviceAccepted {
				t.Errorf("a further key of a device in service is %s", third.device().Status)
			}
		})
	}
}

// TestReplacedIsNotRetired: a record that gave way to a new key says nothing against the key after that.
func TestReplacedIsNotRetired(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) { c.Policy.Reenrolment = tam.ReenrolAutomatically })
	keys := []*agent{w.agent(cose.AlgESP256), w.agent(cose.AlgESP256), w.agent(cose.AlgESP256)}
	keys[0].session()
	keys[0].set(func(d *tam.Device) { d.Decide(tam.DevicePending, "Ann") })
	keys[1].session()
	keys[2].session()
	if d := keys[2].device(); d.Replaces != keys[1].device().ID || d.Status != tam.DevicePending || d.DecidedBy != "person Ann" {
		t.Errorf("%s by %s, replaces %q", d.Status, d.DecidedBy, d.Replaces)
	}
}

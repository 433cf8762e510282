package teeptest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
	"github.com/go-teep/teep/teeptest"
)

// publishEncrypted publishes a version whose payload only the TAM can open, and gives it the key.
func publishEncrypted(t *testing.T, w *teeptest.World, name string, sequence uint64, text string) (envelope []byte) {
	t.Helper()
	envelope, info := w.EncryptedComponent(name, sequence, text)
	if _, err := w.TAM().DepositContentKey(t.Context(), teeptest.ManifestID(name), sequence, info, ""); err != nil {
		t.Fatal(err)
	}
	w.Publish(envelope)
	return envelope
}

// depositData gives the TAM data for devices, encrypted to the TAM.
func depositData(t *testing.T, w *teeptest.World, manifest, component suit.ComponentID, data string, devices ...string) error {
	t.Helper()
	key, err := w.TAM().DepositRecipient()
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := suit.PayloadRecipient(key)
	if err != nil {
		t.Fatal(err)
	}
	var ciphertext bytes.Buffer
	info, err := suit.EncryptPayload(rand.Reader, bytes.NewReader([]byte(data)), &ciphertext, cose.AlgA128GCM, recipient)
	if err != nil {
		t.Fatal(err)
	}
	to := tam.Audience{Devices: devices}
	if len(devices) == 1 && strings.HasPrefix(devices[0], "group ") {
		to = tam.Audience{Group: strings.TrimPrefix(devices[0], "group ")}
	}
	_, err = w.TAM().DepositData(t.Context(), manifest, component, to, info, ciphertext.Bytes())
	return err
}

// giveByHand sends a device an Update with the TAM's key, past the TAM, and plays its broker. It returns the
// device's Error, nil for a Success.
func giveByHand(t *testing.T, w *teeptest.World, d *teeptest.Device, envelope []byte) *teep.Error {
	t.Helper()
	s, err := w.ESP256.Signer()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := teep.Protect(rand.Reader, &teep.Update{Token: []byte("by hand!"), Manifests: [][]byte{envelope}}, s)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := d.Link.RequestPolicyCheck(t.Context())
	if err == nil {
		ask, err = d.Link.ProcessTeepMessage(t.Context(), ask.Session, msg)
	}
	for err == nil && ask.Fetch != nil {
		ask, err = d.Link.Deliver(t.Context(), fetch(t.Context(), t, w, ask))
	}
	if err != nil {
		t.Fatal(err)
	}
	keys, err := cose.NewKeySet(d.AgentKey())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := teep.Open(ask.Message, keys, teep.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := opened.Message.(*teep.Error)
	return e
}

func fetch(ctx context.Context, t *testing.T, w *teeptest.World, ask link.Ask) link.Chunk {
	t.Helper()
	c := link.Chunk{Session: ask.Session, FetchID: ask.Fetch.ID, Offset: ask.Fetch.Offset, Last: true}
	stream, err := w.Relay.Open(ctx, ask.Fetch.URI, ask.Fetch.Offset)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if c.Data, err = io.ReadAll(stream); err != nil {
		t.Fatal(err)
	}
	return c
}

func answers(t *testing.T, d *teeptest.Device, name, want string) {
	t.Helper()
	out, err := d.Invoke(t.Context(), name, "greet", nil)
	if err != nil || string(out) != want {
		t.Errorf("%s on %s answers %q, %v; want %q", name, d.Name, out, err, want)
	}
}

// TestEachDeviceGetsItsOwnKey: a payload that its developer encrypted once is installed on two devices, each of
// which gets the content key in a manifest of the TAM's that no other device can use. What the developer
// signed is what it was.
func TestEachDeviceGetsItsOwnKey(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	first, second, ctx := w.Device, w.AddDevice("second"), t.Context()
	signed := publishEncrypted(t, w, "hello", 1, "one")
	own := map[string][]byte{}
	for _, d := range []*teeptest.Device{first, second} {
		if err := d.Request(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
		own[d.Name] = w.LastManifests()[0]
		answers(t, d, "hello", "one")
		if all := d.Installed(); len(all) != 2 {
			t.Errorf("installed: %v", all)
		}
	}
	for _, d := range []*teeptest.Device{first, second} {
		e, err := suit.ParseEnvelope(own[d.Name])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.Integrated["#dependency"], signed) {
			t.Error("what the developer signed was touched")
		}
		if bytes.Contains(own[d.Name], teeptest.Program("one")) {
			t.Error("the program lies in the clear")
		}
	}
	if bytes.Equal(own[first.Name], own[second.Name]) {
		t.Fatal("both devices got the same manifest")
	}

	// A third device is given what the first one got, by a TAM that it trusts.
	third := w.AddDevice("third")
	if e := giveByHand(t, w, third, own[first.Name]); e == nil || e.Code != teep.ErrManifestProcessingFailed {
		t.Errorf("the third device answers %+v", e)
	}
	if all := third.Installed(); len(all) != 0 {
		t.Errorf("the third device made use of the first one's manifest: %v", all)
	}
	if _, err := third.Invoke(ctx, "hello", "greet", nil); err == nil {
		t.Error("the third device runs it")
	}
}

// TestLifeOfAKeyedComponent: updates bring the new key along, wait for one that is not there yet, and
// leaving takes everything away.
func TestLifeOfAKeyedComponent(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	d, ctx := w.Device, t.Context()
	publishEncrypted(t, w, "hello", 1, "one")
	if err := d.Request(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	answers(t, d, "hello", "one")

	envelope, info := w.EncryptedComponent("hello", 2, "two")
	w.Publish(envelope) // its key comes late
	w.Settle(ctx, d)
	answers(t, d, "hello", "one")
	if _, err := w.TAM().DepositContentKey(ctx, teeptest.ManifestID("hello"), 2, info, ""); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	answers(t, d, "hello", "two")
	before := d.Installed()

	w.RestartTAM()
	w.Settle(ctx, d)
	if after := d.Installed(); len(after) != len(before) || after[1].Sequence != before[1].Sequence {
		t.Errorf("what the device has was sent again: %v, %v", before, after)
	}
	if err := d.Unrequest(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	if all := d.Installed(); len(all) != 0 {
		t.Fatalf("still installed: %v", all)
	}
	if err := d.Request(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	answers(t, d, "hello", "two")
}

// TestALostAnswerDoesNotBlock: the device has the key, and the TAM never heard of it.
func TestALostAnswerDoesNotBlock(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t), Seed: 7})
	d, ctx := w.Device, t.Context()
	publishEncrypted(t, w, "hello", 1, "one")
	w.Relay.SetFaults(teeptest.Faults{Drop: 0.3, Replay: 0.2})
	for range 8 {
		d.Request(ctx, "hello") //nolint:errcheck // the relay sees to it
	}
	w.Settle(ctx, d)
	answers(t, d, "hello", "one")
}

// TestDataForOneDevice: data for a device, for a group, and for all; replaced, and removed.
func TestDataForOneDevice(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	first, second, ctx := w.Device, w.AddDevice("second"), t.Context()
	publishEncrypted(t, w, "hello", 1, "one")
	w.Publish(w.Component("plain", 1, "plain"))
	licence, colour := suit.NewComponentID("keys", "licence"), suit.NewComponentID("keys", "colour")
	hello := teeptest.ManifestID("hello")
	for _, d := range []*teeptest.Device{first, second} {
		for _, name := range []string{"hello", "plain"} {
			if err := d.Request(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, one := range []struct {
		component suit.ComponentID
		data      string
		devices   []string
	}{
		{licence, "licence of the first", []string{first.ID()}}, {licence, "licence of the others", nil},
		{colour, "green", []string{first.ID(), second.ID()}},
	} {
		if err := depositData(t, w, hello, one.component, one.data, one.devices...); err != nil {
			t.Fatal(err)
		}
	}
	if err := depositData(t, w, teeptest.ManifestID("plain"), suit.NewComponentID("keys", "plain"), "beside a plain program"); err != nil {
		t.Fatal(err)
	}
	settle := func() {
		t.Helper()
		w.Settle(ctx, first)
		w.Settle(ctx, second)
	}
	holds := func(d *teeptest.Device, id suit.ComponentID, want string) {
		t.Helper()
		if got := string(d.Content(id)); got != want {
			t.Errorf("%v of %s holds %q, want %q", id, d.Name, got, want)
		}
	}
	settle()
	holds(first, licence, "licence of the first")
	holds(second, licence, "licence of the others")
	holds(first, colour, "green")
	holds(second, suit.NewComponentID("keys", "plain"), "beside a plain program")
	answers(t, second, "hello", "one")
	answers(t, second, "plain", "plain")

	if err := depositData(t, w, hello, licence, "a new licence", first.ID()); err != nil {
		t.Fatal(err)
	}
	publishEncrypted(t, w, "hello", 2, "two")
	settle()
	holds(first, licence, "a new licence")
	answers(t, first, "hello", "two")
	list, err := w.Store.ListDeposits(ctx, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		if one.Component.Equal(licence) && one.Device == "" {
			if err := w.Store.RemoveDeposit(ctx, one.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle()
	holds(second, licence, "")
	holds(second, colour, "green")
	holds(first, licence, "a new licence")
	for _, d := range []*teeptest.Device{first, second} {
		for _, name := range []string{"hello", "plain"} {
			if err := d.Unrequest(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle()
	if all := append(first.Installed(), second.Installed()...); len(all) != 0 {
		t.Errorf("left behind: %v", all)
	}
}

// TestDataFollowsADevice: what was deposited for a device by an ID of long ago reaches it under its newest key, behind
// what names that one, and leaves with its deposit.
func TestDataFollowsADevice(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	old, d, ctx := w.Device, w.AddDevice("new key"), t.Context()
	w.Publish(w.Component("hello", 1, "one"))
	hello, licence, colour := teeptest.ManifestID("hello"), suit.NewComponentID("keys", "licence"), suit.NewComponentID("keys", "colour")
	for _, one := range []*teeptest.Device{old, d} {
		if err := one.Request(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	for component, data := range map[string]string{"licence": "a licence", "colour": "green"} {
		if err := depositData(t, w, hello, suit.NewComponentID("keys", component), data, old.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if err := depositData(t, w, hello, colour, "blue", d.ID()); err != nil {
		t.Fatal(err)
	}
	holds := func(id suit.ComponentID, want string) {
		t.Helper()
		w.Settle(ctx, d)
		if got := string(d.Content(id)); got != want {
			t.Errorf("%v is %q, want %q", id, got, want)
		}
	}
	holds(licence, "")
	record, err := w.Store.Device(ctx, d.ID())
	if err != nil {
		t.Fatal(err)
	}
	record.Replaces, record.Formerly = "between", []string{"between", old.ID()}
	if err := w.Store.UpdateDevice(ctx, record); err != nil {
		t.Fatal(err)
	}
	holds(licence, "a licence")
	holds(colour, "blue")
	list, err := w.Store.DepositsFor(ctx, old.ID())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d deposits, %v", len(list), err)
	}
	for _, one := range list {
		if err := w.Store.RemoveDeposit(ctx, one.ID); err != nil {
			t.Fatal(err)
		}
	}
	holds(licence, "")
	holds(colour, "blue")
}

// TestDataForAGroup: who is in a group of policy gets its data, as long as it is in there, before what is for
// all and after what is for it alone.
func TestDataForAGroup(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	first, second, ctx := w.Device, w.AddDevice("second"), t.Context()
	w.Publish(w.Component("hello", 1, "one"))
	hello, region := teeptest.ManifestID("hello"), suit.NewComponentID("keys", "region")
	for _, d := range []*teeptest.Device{first, second} {
		if err := d.Request(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	deposit := func(data string, to ...string) {
		t.Helper()
		if err := depositData(t, w, hello, region, data, to...); err != nil {
			t.Fatal(err)
		}
	}
	group := func(name, match string, priority int) {
		t.Helper()
		if _, err := w.TAM().SetGroup(ctx, policy.Group{Name: name, Match: match, Priority: priority}, tam.ExpectAny); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(want ...string) {
		t.Helper()
		for i, d := range []*teeptest.Device{first, second} {
			w.Settle(ctx, d)
			if got := string(d.Content(region)); got != want[i] {
				t.Errorf("%s holds %q, want %q", d.Name, got, want[i])
			}
		}
	}
	if err := depositData(t, w, hello, region, "x", "group nobody"); !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("a group that is not: %v", err)
	}
	if _, err := w.TAM().DepositData(ctx, hello, region, tam.Audience{Devices: []string{first.ID()}, Group: "x"}, nil, nil); !errors.Is(err, tam.ErrDeposit) {
		t.Errorf("a group and a device: %v", err)
	}
	isFirst := fmt.Sprintf("id == %q", first.ID())
	group("north", isFirst, 1)
	group("arctic", isFirst, 5)
	deposit("world")
	deposit("northern", "group north")
	holds("northern", "world")
	deposit("arctic", "group arctic")
	holds("arctic", "world")
	deposit("its own", first.ID())
	holds("its own", "world")
	// The groups change, and with them who gets what.
	list, err := w.Store.ListDeposits(ctx, "", 100)
	if err != nil || len(list) != 4 {
		t.Fatalf("%d deposits, %v", len(list), err)
	}
	for _, one := range list {
		if one.Device != "" {
			if err := w.Store.RemoveDeposit(ctx, one.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	group("arctic", "!("+isFirst+")", 5)
	holds("northern", "arctic")
	if err := w.TAM().DeleteGroup(ctx, "arctic", tam.ExpectAny); err != nil {
		t.Fatal(err)
	}
	holds("northern", "world")
}

// TestDistributorHasNoOtherRights: who has the TAM's signing key can put data where agents let it, and nothing
// else.
func TestDistributorHasNoOtherRights(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	if err := depositData(t, w, teeptest.ManifestID("hello"), suit.NewComponentID("hello", "config"), "x"); err == nil {
		t.Error("data was taken for a component that the TAM has no rights to")
	}
	w.Publish(w.Component("hello", 1, "one"))
	if err := w.Device.Request(t.Context(), "hello"); err != nil {
		t.Fatal(err)
	}
	e, err := suit.ParseEnvelope(w.Component("hello", 2, "evil"))
	if err != nil {
		t.Fatal(err)
	}
	e.RemoveSignatures()
	s, err := w.Distributor.Signer()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Sign(rand.Reader, s); err != nil {
		t.Fatal(err)
	}
	if e := giveByHand(t, w, w.Device, e.Encode()); e == nil {
		t.Error("the device took it")
	}
	if n := w.Device.Sequence("hello"); n != 1 {
		t.Errorf("sequence number %d is installed", n)
	}
}

func TestConfigOfDistribution(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{TAMConfig: func(c *tam.Config) { c.Distribution = nil }})
	if _, err := w.TAM().DepositRecipient(); err == nil {
		t.Error("a TAM without distribution takes deposits")
	}
	if _, err := w.TAM().DepositContentKey(t.Context(), teeptest.ManifestID("hello"), 1, []byte{1}, ""); err == nil {
		t.Error("a TAM without distribution takes a content key")
	}
}

// TestTwoEncryptedPayloads: an application of two parts that are encrypted with keys of their own, each in a manifest of its
// own, and a manifest that depends on both. Asking for that one brings all of it.
func TestTwoEncryptedPayloads(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	d, ctx := w.Device, t.Context()
	files := map[string][]byte{"program": teeptest.Program("both")}
	var dependencies []string
	for _, name := range []string{"one", "two"} {
		files[name+".suit"] = publishEncrypted(t, w, name, 1, name)
		dependencies = append(dependencies, fmt.Sprintf(`{file: %s.suit, integrated: true}`, name))
	}
	w.Publish(w.Envelope(fmt.Sprintf(`
manifest-component-id: [both, manifest]
sequence-number: 1
vendor: {domain: %s}
class: {name: %s}
components:
  - id: [both]
    payload: {file: program, integrated: true}
dependencies: [%s]
`, teeptest.VendorDomain, teeptest.ClassName, strings.Join(dependencies, ", ")), files))
	if err := d.Request(ctx, "both"); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	for _, name := range []string{"both", "one", "two"} {
		answers(t, d, name, name)
	}
}

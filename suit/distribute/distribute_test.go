package distribute_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/suit/distribute"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

const secretApp = "the application that its developer encrypted once"

var (
	vendor = suit.VendorID{UUID: suit.NewVendorID("example.com")}
	class  = suit.NewClassID(vendor, []byte("sandbox"))
	app    = suit.NewComponentID("hello")
	config = suit.NewComponentID("hello", "config")
	keysID = suit.NewComponentID("keys", "hello")
)

func generate(t *testing.T, alg cose.Algorithm) *cose.Key {
	t.Helper()
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pem(t *testing.T, key *cose.Key) *fstest.MapFile {
	t.Helper()
	data, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: data}
}

func sign(t *testing.T, e *suit.Envelope, key *cose.Key) *suit.Envelope {
	t.Helper()
	signer, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Sign(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return e
}

// world has a developer, a distribution system, and devices that trust both, each for its own part.
type world struct {
	t              *testing.T
	developer, tam *cose.Key // they sign
	distribution   *cose.Key // the developer tells the content key to it
	source         *suit.Envelope
	info           []byte
	ciphertext     []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, developer: generate(t, cose.AlgEd25519), tam: generate(t, cose.AlgESP256), distribution: generate(t, cose.AlgECDHESA128KW)}
	w.publish(1, "A128GCM")
	return w
}

// publish is the developer's work.
func (w *world) publish(number int, alg string) {
	w.t.Helper()
	description := strings.NewReplacer("NUMBER", string(rune('0'+number)), "ALG", alg).Replace(`
manifest-component-id: [hello, manifest]
sequence-number: NUMBER
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - id: [hello]
    payload: {file: app, uri: "https://dev.example/hello", encrypt: {to: [distribution.pub], algorithm: ALG, info: separate}}
    invoke: true
`)
	r, err := describe.Build([]byte(description), describe.Options{Rand: rand.Reader, ReadFile: describe.FromFS(fstest.MapFS{
		"app": {Data: []byte(secretApp)}, "distribution.pub": pem(w.t, w.distribution.Public())})})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.Separate) != 1 || !r.Separate[0].Component.Equal(app) || len(r.Payloads) != 1 {
		w.t.Fatalf("made %+v", r)
	}
	w.source, w.info, w.ciphertext = sign(w.t, r.Envelope, w.developer), r.Separate[0].Info, r.Payloads[0].Content
}

// key is what the distribution system knows of the content key.
func (w *world) key() *suit.PayloadKey {
	w.t.Helper()
	key, err := suit.RecoverPayloadKey(w.info, cose.DecryptKeys{w.distribution})
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// device has a key of its own. The TAM may not touch the developer's component: only what is below
// keys, and the configuration.
type device struct {
	*memory.Platform
	t   *testing.T
	id  suit.UUID
	key *cose.Key
	p   *processor.Processor
}

func (w *world) device(name string) *device {
	w.t.Helper()
	d := &device{t: w.t, id: suit.NewClassID(vendor, []byte(name)), key: generate(w.t, cose.AlgECDHESA128KW)}
	d.Platform = memory.New(processor.Identity{Vendor: vendor.UUID, Class: class, Device: d.id})
	d.DecryptKeys = cose.DecryptKeys{d.key}
	d.Serve("https://dev.example/hello", w.ciphertext)
	trusted, err := processor.NewSigners(
		processor.Signer{Key: w.developer.Public(), Rights: processor.Rights{Components: []processor.ComponentRights{{Prefix: app}}}},
		processor.Signer{Key: w.tam.Public(), Rights: processor.Rights{Components: []processor.ComponentRights{
			{Prefix: suit.NewComponentID("keys")}, {Prefix: config}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if d.p, err = processor.New(processor.Config{Platform: d, Authority: trusted, Components: []suit.ComponentID{{}}}); err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (d *device) update(e *suit.Envelope) error {
	d.t.Helper()
	before := d.State()
	_, err := d.p.Update(d.t.Context(), e.Encode(), processor.UpdateOptions{})
	if after := d.State(); err != nil && (len(after.Content) != len(before.Content) || len(after.Manifests) != len(before.Manifests)) {
		d.t.Errorf("failed with %v, and changed the device", err)
	}
	return err
}

func (d *device) wants(id suit.ComponentID, content string) {
	d.t.Helper()
	if got := string(d.State().Content[id.String()]); got != content {
		d.t.Errorf("%v holds %q, want %q", id, got, content)
	}
}

// forDevice is what the TAM makes for one device.
func (w *world) forDevice(number uint64, d *device) *suit.Envelope {
	w.t.Helper()
	e, err := distribute.Key{ID: keysID, SequenceNumber: number, Developer: w.source, Identity: distribute.Identity{Device: d.id}}.
		Wrap(rand.Reader, w.key(), d.key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return sign(w.t, e, w.tam)
}

// One ciphertext, two devices, two wrapped keys: each opens what is meant for it and nothing else.
func TestOneCiphertextForTwoDevices(t *testing.T) {
	for _, alg := range []string{"A128GCM", "A128CTR", "ChaCha20/Poly1305"} {
		t.Run(strings.ReplaceAll(alg, "/", "-"), func(t *testing.T) {
			w := newWorld(t)
			w.publish(1, alg)
			signed := w.source.Encode()
			first, second := w.device("one"), w.device("two")
			toFirst, toSecond := w.forDevice(1, first), w.forDevice(1, second)
			if err := second.update(toFirst); failureOf(t, err).Reason != suit.ReasonConditionFailed {
				t.Errorf("a manifest for another device: %v", err)
			}
			for _, c := range []struct {
				d *device
				e *suit.Envelope
			}{{first, toFirst}, {second, toSecond}} {
				if err := c.d.update(w.source); err == nil {
					t.Fatal("the developer's manifest alone installed something")
				}
				if err := c.d.update(c.e); err != nil {
					t.Fatal(err)
				}
				c.d.wants(app, secretApp)
				if !bytes.Equal(c.e.Integrated["#dependency"], signed) {
					t.Error("what the developer signed was touched")
				}
				if _, err := c.d.p.Validate(t.Context(), keysID, processor.Options{}); err != nil {
					t.Error(err)
				}
			}
			if bytes.Contains(w.ciphertext, []byte("application")) {
				t.Error("the ciphertext is not encrypted")
			}
		})
	}
}

func failureOf(t *testing.T, err error) *processor.Failure {
	t.Helper()
	var f *processor.Failure
	if !errors.As(err, &f) {
		t.Fatalf("no failure: %v", err)
	}
	return f
}

// Where the manifest does not say which device it is for, the key alone decides.
func TestWrongDeviceCannotDecrypt(t *testing.T) {
	w := newWorld(t)
	right, wrong := w.device("one"), w.device("two")
	e, err := distribute.Key{ID: keysID, SequenceNumber: 1, Developer: w.source}.Wrap(rand.Reader, w.key(), right.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sign(t, e, w.tam)
	if err := wrong.update(e); !errors.Is(err, cose.ErrNoKey) && !errors.Is(err, cose.ErrDecrypt) {
		t.Fatalf("on another device: %v", err)
	}
	wrong.wants(app, "")
	if err := right.update(e); err != nil {
		t.Fatal(err)
	}
	right.wants(app, secretApp)
}

// A group of devices gets one manifest with a wrapped key for each.
func TestGroupOfDevices(t *testing.T) {
	w := newWorld(t)
	a, b, outside := w.device("a"), w.device("b"), w.device("c")
	e, err := distribute.Key{ID: keysID, SequenceNumber: 1, Developer: w.source}.Wrap(rand.Reader, w.key(), a.key.Public(), b.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sign(t, e, w.tam)
	for _, d := range []*device{a, b} {
		if err := d.update(e); err != nil {
			t.Fatal(err)
		}
		d.wants(app, secretApp)
	}
	if err := outside.update(e); err == nil {
		t.Fatal("a device outside of the group opened it")
	}
}

// The key manifest and the developer's live and leave together; a new version of the one comes with
// a new version of the other.
func TestLifeOfADistributedKey(t *testing.T) {
	w := newWorld(t)
	d := w.device("one")
	if err := d.update(w.forDevice(1, d)); err != nil {
		t.Fatal(err)
	}
	fetches := len(d.Fetches())
	if err := d.update(w.forDevice(2, d)); err != nil { // the key wrapped anew
		t.Fatal(err)
	}
	if n := len(d.Fetches()); n != fetches {
		t.Errorf("%d fetches for a key that was wrapped anew", n-fetches)
	}
	w.publish(2, "A128CTR")
	d.Serve("https://dev.example/hello", w.ciphertext)
	if err := d.update(w.source); !errors.Is(err, processor.ErrReferenced) {
		t.Errorf("the developer's manifest was replaced under the key's: %v", err)
	}
	if err := d.update(w.forDevice(3, d)); err != nil {
		t.Fatal(err)
	}
	if err := d.update(w.forDevice(2, d)); !errors.Is(err, processor.ErrDowngrade) {
		t.Errorf("an older key manifest: %v", err)
	}
	if _, err := d.p.Uninstall(t.Context(), suit.NewComponentID("hello", "manifest"), processor.Options{}); !errors.Is(err, processor.ErrReferenced) {
		t.Errorf("the developer's manifest was removed under the key's: %v", err)
	}
	if _, err := d.p.Uninstall(t.Context(), keysID, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := d.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// Who breaks into the distribution system gets no access to the developer's component.
func TestDistributionSystemHasNoRightsToThePayload(t *testing.T) {
	w := newWorld(t)
	d := w.device("one")
	evil := suit.Manifest{SequenceNumber: 1, ComponentID: keysID}
	evil.Common.Components = []suit.ComponentID{app}
	var p suit.Parameters
	p.SetVendorID(vendor)
	p.SetClassID(class)
	p.SetContent([]byte("evil"))
	evil.Common.SharedSequence.Commands = suit.Sequence{suit.OverrideParameters(p),
		suit.Condition(suit.CondVendorIdentifier, 0), suit.Condition(suit.CondClassIdentifier, 0)}
	evil.Install.Commands = suit.Sequence{suit.Directive(suit.DirWrite, 0)}
	e, err := suit.Builder{Manifest: evil}.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.update(sign(t, e, w.tam)); failureOf(t, err).Reason != suit.ReasonComponentUnauthorised {
		t.Errorf("got %v", err)
	}
	// Nor does a stranger's developer manifest become acceptable by being depended upon.
	w.source.RemoveSignatures()
	sign(t, w.source, generate(t, cose.AlgEd25519))
	if err := d.update(w.forDevice(1, d)); failureOf(t, err).Reason != suit.ReasonUnauthorised {
		t.Errorf("got %v", err)
	}
}

func TestKeyRefuses(t *testing.T) {
	w := newWorld(t)
	key, device := w.key(), generate(t, cose.AlgECDHESA128KW).Public()
	const id, identity = "manifest-component-id: [hello, manifest]\n", "vendor: {domain: example.com}\nclass: {name: sandbox}\n"
	const encrypted, copied = `components: [{id: [hello], payload: {file: app, uri: u, encrypt: {to: [distribution.pub]}}}]`,
		`components: [{id: [hello], copy-from: [store]}, {id: [store]}]`
	const fetched = `components: [{id: [hello], payload: {file: app, uri: u}}]`
	unsigned := w.source.Clone()
	unsigned.RemoveSignatures()
	good := distribute.Key{ID: keysID, SequenceNumber: 1, Developer: w.source}
	for name, c := range map[string]struct {
		change func(k *distribute.Key)
		want   string
	}{
		"no ID":                {func(k *distribute.Key) { k.ID = nil }, "manifest-component-id of its own"},
		"the developer's ID":   {func(k *distribute.Key) { k.ID = suit.NewComponentID("hello", "manifest") }, "depend on itself"},
		"no developer":         {func(k *distribute.Key) { k.Developer = nil }, "no envelope"},
		"unsigned developer":   {func(k *distribute.Key) { k.Developer = unsigned }, "not signed"},
		"key in the manifest":  {func(k *distribute.Key) { k.Developer = w.described(id + identity + encrypted) }, "info: separate"},
		"nothing to decrypt":   {func(k *distribute.Key) { k.Developer = w.described(id + identity + fetched) }, "no key would be used"},
		"no manifest ID in it": {func(k *distribute.Key) { k.Developer = w.described(identity + copied) }, "manifest-component-id"},
		"no vendor or class":   {func(k *distribute.Key) { k.Developer = w.described(id + copied) }, "vendor and class"},
	} {
		k := good
		c.change(&k)
		if _, err := k.Wrap(rand.Reader, key, device); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := good.Wrap(rand.Reader, key); err == nil {
		t.Error("wrapped for nobody")
	}
	if _, err := good.Wrap(rand.Reader, key, generate(t, cose.AlgMLDSA65).Public()); err == nil {
		t.Error("wrapped for a key that only signs")
	}
	if _, err := good.Build([]byte("no COSE_Encrypt")); err == nil {
		t.Error("took garbage for an encryption info")
	}
}

// described is a signed envelope of the developer.
func (w *world) described(description string) *suit.Envelope {
	w.t.Helper()
	r, err := describe.Build([]byte("sequence-number: 1\n"+description), describe.Options{Rand: rand.Reader, ReadFile: describe.FromFS(fstest.MapFS{
		"app": {Data: []byte(secretApp)}, "distribution.pub": pem(w.t, w.distribution.Public())})})
	if err != nil {
		w.t.Fatal(err)
	}
	return sign(w.t, r.Envelope, w.developer)
}

// What would be decrypted with a key that it does not belong to is found before any device does that.
func TestUsesKey(t *testing.T) {
	var info suit.Parameters
	if err := info.SetEncryptionInfo([]byte{0xd8, 0x60, 0x84, 0x40, 0xa0, 0xf6, 0x80}); err != nil {
		t.Fatal(err)
	}
	at, all, several := suit.SetComponentIndex, suit.SetAllComponents(), suit.SetComponentIndexes(0, 1)
	copied, written, fixed := suit.Directive(suit.DirCopy, 0), suit.Directive(suit.DirWrite, 0), suit.OverrideParameters(info)
	for name, c := range map[string]struct {
		commands suit.Sequence
		want     string
	}{
		"one copy":              {suit.Sequence{at(0), copied}, ""},
		"one write":             {suit.Sequence{at(1), written}, ""},
		"one, twice":            {suit.Sequence{suit.TryEach(suit.Sequence{at(0), copied}, suit.Sequence{at(0), written})}, ""},
		"two":                   {suit.Sequence{at(0), copied, at(1), written}, "2 components"},
		"two in try-each":       {suit.Sequence{suit.TryEach(suit.Sequence{at(0), copied}, suit.Sequence{at(1), copied})}, "2 components"},
		"two by a list":         {suit.Sequence{several, copied}, "2 components"},
		"all":                   {suit.Sequence{all, written}, "2 components"},
		"two in a sequence":     {suit.Sequence{at(0), copied, suit.RunSequence(suit.Sequence{at(1), copied})}, "2 components"},
		"the other has its own": {suit.Sequence{at(0), copied, at(1), fixed, written}, ""},
		"it has its own":        {suit.Sequence{at(0), fixed, copied}, "info: separate"},
		"by override-multiple":  {suit.Sequence{suit.OverrideMultiple(suit.ComponentParameters{Index: 0, Parameters: info}), at(0), copied}, "info: separate"},
		"by copy-params": {suit.Sequence{at(1), fixed, at(0), suit.CopyParams(suit.CopyParameters{Source: 1,
			Labels: []suit.ParameterLabel{suit.ParamEncryptionInfo}}), copied}, "info: separate"},
		"none": {suit.Sequence{at(0), suit.Directive(suit.DirFetch, 0)}, "no key would be used"},
	} {
		var m suit.Manifest
		m.Common.Components = []suit.ComponentID{app, config}
		m.Install.Commands = c.commands
		if err := distribute.UsesKey(&m); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

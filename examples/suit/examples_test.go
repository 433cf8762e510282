package suit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	examples "github.com/go-teep/teep/examples/suit"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/suit/distribute"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

var update = flag.Bool("update", false, "write the golden files anew")

// outcome is what the device holds, and what it started, after the manifest was installed and invoked.
type outcome struct {
	content map[string]string
	started []string
}

var outcomes = map[string]outcome{
	"boot":       {map[string]string{"boot": "application"}, []string{"boot"}},
	"bundle":     {map[string]string{"app": "application", "library": "library"}, nil},
	"conditions": {map[string]string{"app": "application"}, nil},
	"dependency": {map[string]string{"app": "application", "library": "library"}, nil},
	"download":   {map[string]string{"app": "application"}, []string{"app --verbose"}},
	"encrypted":  {map[string]string{"app": "application", "app/config": "colour=green"}, nil},
	"envelope":   {map[string]string{"outer": "public", "library": "library"}, nil},
	"install":    {map[string]string{"download": "application", "flash": "application", "ram": "application"}, []string{"ram"}},
	"integrated": {map[string]string{"app": "application"}, nil},
	"library":    {map[string]string{"library": "library"}, nil},
	"mirrors":    {map[string]string{"app": "application"}, nil},
	"runtime":    {map[string]string{"runtime": "interpreter"}, []string{"runtime"}},
	"script":     {map[string]string{"runtime": "interpreter", "script": "print hello"}, []string{"runtime"}},
	"separate":   {map[string]string{"app": "application"}, nil},
	"several":    {map[string]string{"app": "application", "app/data": "AAAA", "library": "library"}, nil},
	"slots":      {map[string]string{"firmware": "BBBB"}, []string{"firmware"}},
	"staged":     {map[string]string{"app": "application", "candidate": "the version before"}, nil},
}

// lab builds descriptions and has a device to run them on.
type lab struct {
	t                              *testing.T
	device                         *memory.Platform
	p                              *processor.Processor
	author, deviceKey, distributor *cose.Key
	signed                         map[string][]byte
	separate                       []describe.EncryptionInfo
}

func generate(t *testing.T, alg cose.Algorithm) *cose.Key {
	t.Helper()
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newLab(t *testing.T) *lab {
	t.Helper()
	vendor := suit.VendorID{UUID: suit.NewVendorID("example.com")}
	l := &lab{t: t, author: generate(t, cose.AlgESP256), deviceKey: generate(t, cose.AlgECDHESA128KW),
		distributor: generate(t, cose.AlgECDHESA128KW), signed: map[string][]byte{},
		device: memory.New(processor.Identity{Vendor: vendor.UUID, Class: suit.NewClassID(vendor, []byte("board"))})}
	d := l.device
	d.DecryptKeys = cose.DecryptKeys{l.deviceKey}
	d.SlotOf = map[string]uint64{suit.NewComponentID("firmware").Key(): 1}
	d.VersionOf = map[string][]int64{suit.NewComponentID("app").Key(): {1, 4, 0}}
	battery := uint64(900)
	d.BatteryLevel = &battery
	d.Authorize = func(_ context.Context, priority int64) (bool, error) { return priority == 3, nil }
	d.OnWait = func(_ context.Context, e suit.WaitEvent) error {
		if e.TimeOfDay == nil {
			return errors.New("it is a wait for the night")
		}
		return nil
	}
	d.Clock = func() time.Time { return time.Unix(1_800_000_000, 0) }
	d.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	d.ServeSource("https://down.example.com/app.bin", &memory.Source{Refuse: errors.New("down")})
	for name, content := range contents {
		d.Serve("https://example.com/"+name, []byte(content))
	}
	trusted, err := processor.NewSigners(processor.Signer{Key: l.author.Public(), Rights: processor.AllComponents()})
	if err != nil {
		t.Fatal(err)
	}
	if l.p, err = processor.New(processor.Config{Platform: d, Authority: trusted, Components: []suit.ComponentID{{}}}); err != nil {
		t.Fatal(err)
	}
	return l
}

// contents are the files that the descriptions name.
var contents = map[string]string{"app.bin": "application", "a.bin": "AAAA", "b.bin": "BBBB", "library.bin": "library",
	"interpreter.wasm": "interpreter", "main.script": "print hello"}

// readFile finds what a description names; an envelope is built from its own description.
func (l *lab) readFile(name string) ([]byte, error) {
	if content, ok := contents[name]; ok {
		return []byte(content), nil
	}
	switch name {
	case "device.pub":
		return l.deviceKey.Public().MarshalPEM()
	case "distribution.pub":
		return l.distributor.Public().MarshalPEM()
	case "library.suit.info":
		return l.encryptedLibrary()
	}
	if base, ok := strings.CutSuffix(name, ".suit"); ok {
		return l.envelope(base), nil
	}
	return nil, fs.ErrNotExist
}

// encryptedLibrary serves the library's envelope as ciphertext and returns its encryption info.
func (l *lab) encryptedLibrary() ([]byte, error) {
	to, err := suit.PayloadRecipient(l.deviceKey.Public())
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	info, err := suit.EncryptPayload(rand.Reader, bytes.NewReader(l.envelope("library")), &out, cose.AlgA128GCM, to)
	l.device.Serve("https://example.com/library.suit.enc", out.Bytes())
	return info, err
}

// envelope builds and signs a description, and serves what devices fetch for it.
func (l *lab) envelope(name string) []byte {
	l.t.Helper()
	if e := l.signed[name]; e != nil {
		return e
	}
	source, err := os.ReadFile(name + ".yaml")
	if err != nil {
		l.t.Fatal(err)
	}
	return l.build(name, source)
}

func (l *lab) build(name string, source []byte) []byte {
	l.t.Helper()
	r, err := describe.Build(source, describe.Options{Name: name, ReadFile: l.readFile, Rand: rand.Reader})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range r.Payloads {
		if p.URI != "https://example.com/library.suit.enc" && !strings.Contains(p.URI, "down.") {
			l.device.Serve(p.URI, p.Content)
		}
	}
	l.separate = append(l.separate, r.Separate...)
	l.sign(r.Envelope)
	l.signed[name] = r.Envelope.Encode()
	return l.signed[name]
}

func (l *lab) sign(e *suit.Envelope) {
	l.t.Helper()
	signer, err := l.author.Signer()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := e.Sign(rand.Reader, signer); err != nil {
		l.t.Fatal(err)
	}
}

// forDevice is what the distribution system makes of a developer's envelope whose key it knows.
func (l *lab) forDevice(developer []byte) []byte {
	l.t.Helper()
	e, err := suit.ParseEnvelope(developer)
	if err != nil {
		l.t.Fatal(err)
	}
	key, err := suit.RecoverPayloadKey(l.separate[0].Info, cose.DecryptKeys{l.distributor})
	if err != nil {
		l.t.Fatal(err)
	}
	made, err := distribute.Key{ID: suit.NewComponentID("keys", "app"), SequenceNumber: 1, Developer: e}.
		Wrap(rand.Reader, key, l.deviceKey.Public())
	if err != nil {
		l.t.Fatal(err)
	}
	l.sign(made)
	return made.Encode()
}

func manifestID(t *testing.T, envelope []byte) suit.ComponentID {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m.ComponentID
}

// Each description builds, installs, is started, and leaves nothing behind; the trail of its commands
// is the one in testdata.
func TestExamples(t *testing.T) {
	names, err := filepath.Glob("*.yaml")
	if err != nil || len(names) != len(outcomes) {
		t.Fatalf("%d descriptions, %d outcomes: %v", len(names), len(outcomes), err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(file, ".yaml")
		t.Run(name, func(t *testing.T) {
			l, envelope := ready(t, name)
			var trail strings.Builder
			tell := func(s processor.Step) { fmt.Fprintln(&trail, s) }
			if _, err := l.p.Update(t.Context(), envelope, processor.UpdateOptions{Trail: tell}); err != nil {
				t.Fatalf("%v\n%s", err, trail.String())
			}
			id := manifestID(t, envelope)
			if _, err := l.p.Invoke(t.Context(), id, processor.Options{Trail: tell}); err != nil {
				t.Fatalf("%v\n%s", err, trail.String())
			}
			l.check(outcomes[name])
			if _, err := l.p.Uninstall(t.Context(), id, processor.Options{Trail: tell}); err != nil {
				t.Fatalf("%v\n%s", err, trail.String())
			}
			for key, content := range l.device.State().Manifests {
				t.Errorf("%s is still recorded: %+v", key, content)
			}
			golden(t, name, trail.String())
		})
	}
}

// Each scenario of the texts has a template, which says what it is for.
func TestTemplates(t *testing.T) {
	all, err := examples.Templates()
	if err != nil || len(all) != len(outcomes) {
		t.Fatalf("%d templates, %d outcomes: %v", len(all), len(outcomes), err)
	}
	sections := map[string]string{} // of the texts, by name of the template
	for _, tmpl := range all {
		if _, ok := outcomes[tmpl.Name]; !ok || len(tmpl.About) < 20 || len(tmpl.About) > 280 {
			t.Errorf("template %s is about %q", tmpl.Name, tmpl.About)
		}
		if !bytes.HasPrefix(tmpl.Text, []byte("# yaml-language-server: $schema="+examples.SchemaFile+"\n")) {
			t.Errorf("template %s does not name the schema", tmpl.Name)
		}
		sections[tmpl.Name] = tmpl.About
	}
	for section, name := range map[string]string{
		"SUIT §7.1": "download", "SUIT §7.2": "boot", "§7.3": "download", "SUIT §7.4": "install", "SUIT §7.5": "integrated",
		"§7.7": "install", "SUIT §7.8": "slots", "trust domains §template-dependency": "dependency",
		"trust domains §integrated-dependencies": "bundle", "trust domains §template-encrypted-manifest": "envelope",
		"trust domains §staging-and-installation": "staged", "trust domains §operating-on-multiple-components": "several",
		"override-encryption-info template": "separate", "firmware encryption": "encrypted", "update management": "conditions",
	} {
		if !strings.Contains(sections[name], section) {
			t.Errorf("template %s is about %q, not %s", name, sections[name], section)
		}
	}
}

// ready is a device before the example, and the example's envelope.
func ready(t *testing.T, name string) (*lab, []byte) {
	t.Helper()
	l := newLab(t)
	switch name { // what the factory put there
	case "boot":
		l.device.Put(suit.NewComponentID("boot"), []byte("application"))
	case "staged":
		l.device.Put(suit.NewComponentID("app"), []byte("the version before"))
	}
	envelope := l.envelope(name)
	if name == "separate" {
		envelope = l.forDevice(envelope)
	}
	return l, envelope
}

// A rehearsal of any of them succeeds and changes nothing.
func TestExamplesRehearsed(t *testing.T) {
	for name := range outcomes {
		l, envelope := ready(t, name)
		before := len(l.device.State().Content)
		if _, err := l.p.Update(t.Context(), envelope, processor.UpdateOptions{DryRun: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := l.device.State(); len(s.Content) != before || len(s.Manifests) != 0 {
			t.Errorf("%s: a rehearsal changed the device", name)
		}
	}
}

// A runtime and the script that it loads are installed, updated and removed in the order of their
// dependency, and never apart.
func TestRuntimeAndScript(t *testing.T) {
	l := newLab(t)
	runtime, script := suit.NewComponentID("runtime", "manifest"), suit.NewComponentID("script", "manifest")
	oldRuntime, oldScript := l.envelope("runtime"), l.envelope("script")
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, processor.ErrReferenced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	run := func(envelopes ...[]byte) error {
		_, err := l.p.UpdateAll(t.Context(), envelopes, processor.UpdateOptions{})
		return err
	}
	if err := run(oldScript); err != nil {
		t.Fatal(err)
	}
	_, err := l.p.Uninstall(t.Context(), runtime, processor.Options{})
	refused("removing the runtime of a script", err)

	// The next versions: first of the runtime, then of the script that is made for it.
	next := func(name, content, file string) []byte {
		t.Helper()
		contents[file] = content
		t.Cleanup(func() {
			contents[file] = map[string]string{"interpreter.wasm": "interpreter", "main.script": "print hello"}[file]
		})
		source, err := os.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return l.build(name, bytes.Replace(source, []byte("sequence-number: 1"), []byte("sequence-number: 2"), 1))
	}
	newRuntime := next("runtime", "interpreter 2", "interpreter.wasm")
	refused("updating the runtime under its script", run(newRuntime))
	newScript := next("script", "print hello again", "main.script")
	if err := run(newScript, newRuntime); err != nil { // in any order
		t.Fatal(err)
	}
	l.check(outcome{content: map[string]string{"runtime": "interpreter 2", "script": "print hello again"}})
	if err := run(oldRuntime); !errors.Is(err, processor.ErrDowngrade) {
		t.Errorf("the old runtime: %v", err)
	}
	if _, err := l.p.Invoke(t.Context(), script, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.check(outcome{started: []string{"runtime"}})

	// The runtime was asked for by itself in the last update, so it stays; and then it may go.
	if _, err := l.p.Uninstall(t.Context(), script, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.check(outcome{content: map[string]string{"runtime": "interpreter 2", "script": ""}, started: []string{"runtime"}})
	if _, err := l.p.Uninstall(t.Context(), runtime, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Manifests) != 0 {
		t.Errorf("left behind: %+v", s.Manifests)
	}
}

func (l *lab) check(want outcome) {
	l.t.Helper()
	state := l.device.State().Content
	for name, content := range want.content {
		if got := string(state[suit.NewComponentID(strings.Split(name, "/")...).String()]); got != content {
			l.t.Errorf("%s holds %q, want %q", name, got, content)
		}
	}
	var started []string
	for _, i := range l.device.Invocations() {
		started = append(started, strings.TrimSpace(fmt.Sprintf("%s %s", i.ID[len(i.ID)-1], i.Args)))
	}
	if want.started != nil && !slices.Equal(started, want.started) || want.started == nil && len(started) > 0 {
		l.t.Errorf("started %q, want %q", started, want.started)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".trail")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o700), os.WriteFile(file, []byte(got), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run the test with -update and look at the change. Now:\n%s", file, got)
	}
}

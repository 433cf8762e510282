package processor_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"maps"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

var (
	vendor = suit.NewVendorID("example.com")
	class  = suit.NewClassID(suit.VendorID{UUID: vendor}, []byte("device 1"))
	appA   = suit.NewComponentID("app", "a")
	appB   = suit.NewComponentID("app", "b")
	appC   = suit.NewComponentID("app", "c")
	idA    = suit.NewComponentID("app", "a.suit")
	idB    = suit.NewComponentID("app", "b.suit")
	idRoot = suit.NewComponentID("app", "root.suit")
)

// lab is a device, a processor and keys to sign with.
type lab struct {
	t      testing.TB
	device *memory.Platform
	cfg    processor.Config
	p      *processor.Processor
	author *cose.Key
	trail  []processor.Step
}

func newKey(t testing.TB) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newLab(t testing.TB, change ...func(*lab)) *lab {
	t.Helper()
	l := &lab{t: t, author: newKey(t)}
	l.device = memory.New(processor.Identity{Vendor: vendor, Class: class, Device: suit.NewVendorID("device 7")})
	l.cfg = processor.Config{Platform: l.device, Components: []suit.ComponentID{suit.NewComponentID("app")}}
	l.trust(processor.AllComponents())
	for _, f := range change {
		f(l)
	}
	l.start()
	return l
}

func (l *lab) trust(r processor.Rights, others ...processor.Signer) {
	l.t.Helper()
	signers, err := processor.NewSigners(append([]processor.Signer{{Key: l.author.Public(), Rights: r}}, others...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.cfg.Authority = signers
}

func (l *lab) start() {
	l.t.Helper()
	p, err := processor.New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.p = p
}

func (l *lab) options() processor.UpdateOptions {
	l.trail = nil
	return processor.UpdateOptions{Nonce: []byte("nonce"), Trail: func(s processor.Step) { l.trail = append(l.trail, s) }}
}

func (l *lab) update(envelope []byte) (*suit.Report, error) {
	l.t.Helper()
	report, err := l.p.Update(l.t.Context(), envelope, l.options())
	l.checkReport(report, err)
	return report, err
}

// checkReport holds every report against the error that came with it, and encodes it.
func (l *lab) checkReport(report *suit.Report, err error) {
	l.t.Helper()
	if (err == nil) != (report.Failure == nil) {
		l.t.Fatalf("report says %+v, error is %v", report.Failure, err)
	}
	if err != nil {
		var f *processor.Failure
		if !errors.As(err, &f) {
			l.t.Fatalf("error is no Failure: %v", err)
		}
		if f.Reason != report.Failure.Reason {
			l.t.Fatalf("report says %v, error %v", report.Failure.Reason, f.Reason)
		}
	}
	if _, err := report.Encode(); err != nil {
		l.t.Fatalf("report does not encode: %v", err)
	}
}

func (l *lab) mustUpdate(envelope []byte) {
	l.t.Helper()
	if _, err := l.update(envelope); err != nil {
		for _, s := range l.trail {
			l.t.Log(s)
		}
		l.t.Fatal(err)
	}
}

// refuse updates and wants a failure with a reason; the device must not change.
func (l *lab) refuse(envelope []byte, reason suit.Reason) *processor.Failure {
	l.t.Helper()
	before := l.device.State()
	_, err := l.update(envelope)
	var f *processor.Failure
	if !errors.As(err, &f) {
		for _, s := range l.trail {
			l.t.Log(s)
		}
		l.t.Fatalf("accepted, want %v", reason)
	}
	if f.Reason != reason {
		l.t.Fatalf("refused for %v, want %v: %v", f.Reason, reason, err)
	}
	if !sameState(before, l.device.State()) {
		l.t.Fatal("the device changed although the update failed")
	}
	return f
}

func (l *lab) content(id suit.ComponentID) []byte { return l.device.State().Content[id.String()] }

func (l *lab) wants(id suit.ComponentID, content string) {
	l.t.Helper()
	if got := l.content(id); string(got) != content || (content != "") != (got != nil) {
		l.t.Fatalf("%s holds %q, want %q", id, got, content)
	}
}

func sameState(a, b memory.State) bool {
	if len(a.Content) != len(b.Content) || len(a.Manifests) != len(b.Manifests) {
		return false
	}
	for k, v := range a.Content {
		if !bytes.Equal(v, b.Content[k]) {
			return false
		}
	}
	if !maps.Equal(a.Highest, b.Highest) {
		return false
	}
	for k, v := range a.Manifests {
		w, ok := b.Manifests[k]
		if !ok || !v.Digest.Equal(w.Digest) || v.Root != w.Root || len(v.Dependents) != len(w.Dependents) {
			return false
		}
	}
	return true
}

// draft is a manifest being written.
type draft struct {
	suit.Manifest
	integrated map[string][]byte
	severable  []suit.Label
}

func section(cmds ...suit.Command) suit.Section { return suit.Section{Commands: cmds} }

func params(set func(*suit.Parameters)) suit.Parameters {
	var p suit.Parameters
	set(&p)
	return p
}

func override(set func(*suit.Parameters)) suit.Command { return suit.OverrideParameters(params(set)) }

func cond(c suit.CommandCode) suit.Command { return suit.Condition(c, suit.ReportAll) }
func dir(c suit.CommandCode) suit.Command  { return suit.Directive(c, suit.ReportAll) }

func uri(s string) suit.Command { return override(func(p *suit.Parameters) { p.SetURI(s) }) }

func image(content string) func(*suit.Parameters) {
	return func(p *suit.Parameters) {
		p.SetDigest(suit.NewDigest([]byte(content)))
		p.SetSize(uint64(len(content)))
	}
}

func identity(p *suit.Parameters) {
	p.SetVendorID(suit.VendorID{UUID: vendor})
	p.SetClassID(class)
}

// one is a manifest that fetches content from uri into a component.
func one(number uint64, id, component suit.ComponentID, content, from string) draft {
	var d draft
	d.SequenceNumber, d.ComponentID = number, id
	d.Common.Components = []suit.ComponentID{component}
	d.Common.SharedSequence = section(
		override(func(p *suit.Parameters) { identity(p); image(content)(p) }),
		cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier))
	d.Install = section(uri(from), dir(suit.DirFetch), cond(suit.CondImageMatch))
	d.Validate = section(cond(suit.CondImageMatch))
	d.Invoke = section(dir(suit.DirInvoke))
	d.Uninstall = section(dir(suit.DirUnlink))
	return d
}

// many is a manifest of several components that sets nothing but the identity.
func many(number uint64, id suit.ComponentID, components ...suit.ComponentID) draft {
	var d draft
	d.SequenceNumber, d.ComponentID = number, id
	d.Common.Components = components
	d.Common.SharedSequence = section(suit.SetAllComponents(), override(identity),
		cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier))
	return d
}

func (l *lab) sign(d draft) []byte { l.t.Helper(); return l.signBy(d, l.author) }

func (l *lab) signBy(d draft, keys ...*cose.Key) []byte {
	l.t.Helper()
	e := l.build(d)
	for _, k := range keys {
		signer, err := k.Signer()
		if err != nil {
			l.t.Fatal(err)
		}
		if err := e.Sign(rand.Reader, signer); err != nil {
			l.t.Fatal(err)
		}
	}
	return e.Encode()
}

func (l *lab) build(d draft) *suit.Envelope {
	l.t.Helper()
	e, err := suit.Builder{Manifest: d.Manifest, Integrated: d.integrated, Severable: d.severable}.Build()
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

func digestOf(t testing.TB, envelope []byte) suit.Digest {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return e.Digest
}

// dependent is a manifest whose component 0 is content of its own, integrated, and whose
// component 1 is a dependency that is fetched from uri.
func (l *lab) dependent(number uint64, id, own suit.ComponentID, content string, dep suit.ComponentID, depDigest suit.Digest, from string) draft {
	d := many(number, id, own, dep)
	d.Common.Dependencies = []suit.Dependency{{Index: 1}}
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands,
		suit.SetComponentIndex(0), override(image(content)),
		suit.SetComponentIndex(1), override(func(p *suit.Parameters) { p.SetDigest(depDigest) }))
	process := []suit.Command{suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency)}
	d.DependencyResolution = section(suit.SetComponentIndex(1), uri(from), dir(suit.DirFetch),
		cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency))
	d.Install = section(append(process, suit.SetComponentIndex(0), uri("#own"), dir(suit.DirFetch), cond(suit.CondImageMatch))...)
	d.Validate = section(append(process, suit.SetComponentIndex(0), cond(suit.CondImageMatch))...)
	d.Invoke = section(append(process, suit.SetComponentIndex(0), dir(suit.DirInvoke))...)
	d.Uninstall = section(suit.SetComponentIndex(0), dir(suit.DirUnlink), suit.SetComponentIndex(1), dir(suit.DirUnlink))
	d.integrated = map[string][]byte{"#own": []byte(content)}
	return d
}

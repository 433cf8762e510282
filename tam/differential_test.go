package tam_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// installs tells whether an agent's processor installs an envelope on a device that it is for.
func (w *world) installs(envelope []byte) error {
	w.t.Helper()
	vendor := suit.VendorID{UUID: suit.NewVendorID("example.com")}
	authority, err := processor.NewSigners(processor.Signer{Key: w.author.Public(), Rights: processor.Rights{
		Components: []processor.ComponentRights{{Prefix: suit.NewComponentID("acme")}},
	}})
	must(w.t, err)
	p, err := processor.New(processor.Config{
		Platform:  memory.New(processor.Identity{Vendor: vendor.UUID, Class: suit.NewClassID(vendor, []byte("class"))}),
		Authority: authority, Components: []suit.ComponentID{{}}, ImplicitDependencyIntegrity: true,
	})
	must(w.t, err)
	_, err = p.Update(ctx(), envelope, processor.UpdateOptions{ManifestID: componentID("app")})
	return err
}

// nested puts a sequence into try-each directives.
func nested(s suit.Sequence, times int) suit.Sequence {
	for range times {
		s = suit.Sequence{suit.TryEach(s, suit.Sequence{suit.Condition(suit.CondAbort, suit.ReportAll)})}
	}
	return s
}

// TestUploadsAreCheckedAsAgentsDo: what one side takes the other takes, and what one refuses the other refuses, as
// far as it does not depend on the device.
func TestUploadsAreCheckedAsAgentsDo(t *testing.T) {
	install := func(more ...suit.Command) func(*suit.Builder) {
		return func(b *suit.Builder) { b.Manifest.Install.Commands = append(b.Manifest.Install.Commands, more...) }
	}
	parameters := func(set func(p *suit.Parameters)) func(*suit.Builder) {
		var p suit.Parameters
		set(&p)
		return install(suit.OverrideParameters(p))
	}
	ids := func(list ...suit.ComponentID) func(*suit.Builder) {
		return func(b *suit.Builder) { b.Manifest.Common.Components = list }
	}
	many := func(n int) (list []suit.ComponentID) {
		for i := range n {
			list = append(list, suit.NewComponentID("acme", "app", fmt.Sprint(i)))
		}
		return list
	}
	imageMatch := suit.Condition(suit.CondImageMatch, suit.ReportAll)
	fetch := suit.Directive(suit.DirFetch, suit.ReportAll)
	shared := func(s suit.Sequence) func(*suit.Builder) {
		return func(b *suit.Builder) { b.Manifest.Common.SharedSequence.Commands = s }
	}
	for name, c := range map[string]struct {
		change func(*suit.Builder)
		by     *cose.Key
		// after changes the envelope once it is signed.
		after func(*suit.Envelope)
		good  bool
	}{
		"plain":                    {good: true},
		"no component":             {change: ids()},
		"component listed twice":   {change: ids(componentID("app"), componentID("app"))},
		"1024 components":          {change: ids(many(1024)...), good: true},
		"1025 components":          {change: ids(many(1025)...)},
		"no vendor and class":      {change: func(b *suit.Builder) { c := &b.Manifest.Common.SharedSequence.Commands; *c = (*c)[:2] }},
		"no class":                 {change: func(b *suit.Builder) { c := &b.Manifest.Common.SharedSequence.Commands; *c = (*c)[:3] }},
		"another index":            {change: install(suit.SetComponentIndex(1))},
		"started while installed":  {change: install(suit.Directive(suit.DirInvoke, suit.ReportAll))},
		"soft failure outside":     {change: parameters(func(p *suit.Parameters) { p.SetSoftFailure(true) })},
		"soft failure inside":      {change: install(suit.TryEach(suit.Sequence{suit.OverrideParameters(soft()), imageMatch}, suit.Sequence{imageMatch})), good: true},
		"source that is not there": {change: parameters(func(p *suit.Parameters) { p.SetSourceComponent(7) })},
		"custom parameter":         {change: parameters(func(p *suit.Parameters) { must(t, p.SetRaw(-1, []byte{1})) })},
		"nested as deep as may be": {change: install(nested(suit.Sequence{imageMatch}, 7)...), good: true},
		"section without its index": {change: func(b *suit.Builder) {
			ids(componentID("app"), componentID("b"))(b)
			b.Manifest.Validate.Commands = suit.Sequence{imageMatch}
		}},
		"component outside of the grant": {change: ids(suit.NewComponentID("acme2"))},
		"manifest outside of the grant":  {change: func(b *suit.Builder) { b.Manifest.ComponentID = suit.NewComponentID("other") }},
		"no name, one component":         {change: func(b *suit.Builder) { b.Manifest.ComponentID = nil }, good: true},
		"another digest":                 {change: shared(forClass(digestOf("other")))},
		"another size":                   {change: shared(forClass(sized(7)))},
		"no digest":                      {change: shared(forClass(suit.Parameters{}))},
		"nobody compares the digest":     {change: func(b *suit.Builder) { c := &b.Manifest.Install.Commands; *c = (*c)[:3] }},
		"compared when validated": {change: func(b *suit.Builder) {
			c := &b.Manifest.Install.Commands
			*c = (*c)[:3]
			b.Manifest.Validate.Commands = suit.Sequence{suit.SetComponentIndex(0), imageMatch}
		}, good: true},
		"fetched from nowhere": {change: func(b *suit.Builder) {
			c := &b.Manifest.Install.Commands
			*c = append((*c)[:1:1], fetch, imageMatch)
			b.Integrated = nil
		}},
		"payload that is not there": {after: func(e *suit.Envelope) { e.RemoveIntegrated("#payload") }},
		"another payload": {after: func(e *suit.Envelope) {
			e.RemoveIntegrated("#payload")
			must(t, e.AddIntegrated("#payload", []byte("cOde")))
		}},
		"not signed":                       {after: func(e *suit.Envelope) { e.AuthBlocks = nil }},
		"signed by somebody":               {by: key(t, cose.AlgESP256)},
		"signed twice, once by somebody":   {after: func(e *suit.Envelope) { must(t, e.Sign(rand.Reader, signer(t, key(t, cose.AlgEd25519)))) }, good: true},
		"install section severed and gone": {change: func(b *suit.Builder) { b.Severable = []suit.Label{suit.LabelInstall} }, after: func(e *suit.Envelope) { e.Sever(suit.LabelInstall) }},
		"install section severed":          {change: func(b *suit.Builder) { b.Severable = []suit.Label{suit.LabelInstall} }, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			data := w.envelope(release{name: "app", sequence: 1, payload: "code", by: c.by, change: c.change})
			if c.after != nil {
				e, err := suit.ParseEnvelope(data)
				must(t, err)
				c.after(e)
				data = e.Encode()
			}
			_, published := w.tam.Publish(ctx(), data, "")
			installed := w.installs(data)
			if (published == nil) != c.good || (installed == nil) != c.good {
				t.Errorf("the TAM: %v; the agent: %v", published, installed)
			}
		})
	}
}

func soft() (p suit.Parameters) { p.SetSoftFailure(true); return p }

func digestOf(content string) (p suit.Parameters) {
	p.SetDigest(suit.NewDigest([]byte(content)))
	return p
}

func sized(n uint64) suit.Parameters {
	p := digestOf("code")
	p.SetSize(n)
	return p
}

// outer makes an envelope around another one, which it installs first, as changed.
func (w *world) outer(inner []byte, change func(*suit.Builder)) []byte {
	w.t.Helper()
	parsed, err := suit.ParseEnvelope(inner)
	must(w.t, err)
	return w.envelope(release{name: "app", sequence: 1, payload: "x", change: func(b *suit.Builder) {
		var p suit.Parameters
		p.SetDigest(parsed.Digest)
		p.SetURI("#dependency")
		m := &b.Manifest
		m.ComponentID = suit.NewComponentID("acme", "outer")
		m.Common.Components = []suit.ComponentID{manifestID("app")}
		m.Common.Dependencies = []suit.Dependency{{Index: 0}}
		m.Common.SharedSequence.Commands = forClass(p)
		m.DependencyResolution.Commands = suit.Sequence{
			suit.SetComponentIndex(0), suit.Directive(suit.DirFetch, suit.ReportAll), suit.Condition(suit.CondDependencyIntegrity, suit.ReportAll),
		}
		m.Install.Commands = suit.Sequence{suit.SetComponentIndex(0), suit.Directive(suit.DirProcessDependency, suit.ReportAll)}
		b.Integrated = map[string][]byte{"#dependency": inner}
		if change != nil {
			change(b)
		}
	}})
}

// TestEnvelopesInsideAreCheckedAsAgentsDo: the same for what an envelope brings along.
func TestEnvelopesInsideAreCheckedAsAgentsDo(t *testing.T) {
	stranger := key(t, cose.AlgESP256)
	for name, c := range map[string]struct {
		inner release
		// after changes the inner envelope, and change the outer one.
		after  func(*suit.Envelope)
		change func(*suit.Builder)
		good   bool
	}{
		"plain":             {good: true},
		"by a stranger":     {inner: release{by: stranger}},
		"outside of grants": {inner: release{change: func(b *suit.Builder) { b.Manifest.Common.Components = []suit.ComponentID{suit.NewComponentID("x")} }}},
		"for no class": {inner: release{change: func(b *suit.Builder) {
			b.Manifest.Common.SharedSequence.Commands = b.Manifest.Common.SharedSequence.Commands[:2]
		}}},
		"another payload": {after: func(e *suit.Envelope) {
			e.RemoveIntegrated("#payload")
			must(t, e.AddIntegrated("#payload", []byte("cOde")))
		}},
		"no payload": {after: func(e *suit.Envelope) { e.RemoveIntegrated("#payload") }},
		"its payload outside": {after: func(e *suit.Envelope) { e.RemoveIntegrated("#payload") },
			change: func(b *suit.Builder) { b.Integrated["#payload"] = []byte("code") }, good: true},
		"another dependency": {change: func(b *suit.Builder) { b.Integrated["#dependency"] = []byte("other") }},
		"missing":            {change: func(b *suit.Builder) { b.Integrated = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.inner.name, c.inner.sequence, c.inner.payload = "app", 1, "code"
			inner := w.envelope(c.inner)
			if c.after != nil {
				e, err := suit.ParseEnvelope(inner)
				must(t, err)
				c.after(e)
				inner = e.Encode()
			}
			data := w.outer(inner, c.change)
			_, published := w.tam.Publish(ctx(), data, "")
			installed := w.installs(data)
			if (published == nil) != c.good || (installed == nil) != c.good {
				t.Errorf("the TAM: %v; the agent: %v", published, installed)
			}
		})
	}
}

package teeptest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/teeptest"
)

// inCheck gives a World the life of one run of a property.
type inCheck struct {
	*rapid.T
	outer *testing.T
}

func (c inCheck) TempDir() string { return c.outer.TempDir() }

// model is what is wanted of one device, kept beside what happens to it.
type model struct {
	t          *rapid.T
	w          *teeptest.World
	d          *teeptest.Device
	components map[string]*wish
	names      []string
	// contested is the newest sequence number of the component that two TAMs want.
	contested uint64
	// repair takes back what is wrong with payloads.
	repair []func()
}

// wish is what the component's TAM and an app want of it.
type wish struct {
	tam       *teeptest.World
	needs     string // another component
	published uint64
	mode      tam.Mode
	wanted    bool // by the app
	again     bool // whether the agent knows that is not certain
}

var survivals = []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced, crashfs.KeepSome}

func (m *model) draw(label string, limit int) int {
	return rapid.IntRange(0, limit-1).Draw(m.t, label)
}

func (m *model) pick() (string, *wish) {
	name := m.names[m.draw("component", len(m.names))]
	return name, m.components[name]
}

// contest has both TAMs want the same component, under manifests of their own: whoever is first has it, and
// the other one never gets at it.
func (m *model) contest() {
	m.contested++
	for i, t := range []*teeptest.World{m.w, m.w.Further[0]} {
		name := contestants[i]
		t.Publish(t.Envelope(fmt.Sprintf(`
manifest-component-id: [%s, manifest]
sequence-number: %d
vendor: {domain: %s}
class: {name: %s}
components:
  - id: [contested]
    payload: {file: program, integrated: true}
`, name, m.contested, teeptest.VendorDomain, teeptest.ClassName), map[string][]byte{"program": teeptest.Program(m.content(name, m.contested))}))
		t.Assign(name, tam.ModeRequired)
	}
}

var contestants = []string{"contested-1", "contested-2"}

// checkContested compares what runs with whose it is.
func (m *model) checkContested() {
	if m.contested == 0 {
		return
	}
	var owners []string
	for _, name := range contestants {
		if has := m.d.Sequence(name); has == m.contested {
			owners = append(owners, name)
		} else if has != 0 {
			m.t.Errorf("%s is installed with sequence number %d, and %d is wanted", name, has, m.contested)
		}
	}
	if len(owners) != 1 {
		m.t.Fatalf("the contested component belongs to %q", owners)
	}
	out, err := m.d.Invoke(context.Background(), "contested", "greet", nil)
	if err != nil || string(out) != m.content(owners[0], m.contested) {
		m.t.Errorf("the contested component of %s answers %q, %v", owners[0], out, err)
	}
}

func (m *model) content(name string, sequence uint64) string {
	return fmt.Sprintf("%s version %d", name, sequence)
}

// publish publishes the next version. Every other one has to be fetched, and of those some cannot be
// installed until the payload is repaired. A component names the digest of what it needs, so that neither
// gets a new version without the other.
func (m *model) publish() {
	name, c := m.pick()
	for dependent, by := range m.components {
		if by.needs == name {
			name, c = dependent, by
		}
	}
	if c.needs != "" {
		m.publishNext(c.needs, m.components[c.needs])
	}
	m.publishNext(name, c)
}

func (m *model) publishNext(name string, c *wish) {
	c.published++
	text := m.content(name, c.published)
	switch {
	case c.needs != "":
		c.tam.Publish(c.tam.Dependent(name, c.published, text, c.needs))
	case c.published%2 == 0:
		c.tam.Publish(c.tam.FetchedComponent(name, c.published, text))
		if m.draw("payload", 3) == 0 {
			file := fmt.Sprintf("%s-%d", name, c.published)
			c.tam.ServePayload(file, []byte("not what the manifest says"))
			m.repair = append(m.repair, func() { c.tam.ServePayload(file, teeptest.Program(text)) })
		}
	default:
		c.tam.Publish(c.tam.Component(name, c.published, text))
	}
}

func (m *model) assign() {
	name, c := m.pick()
	modes := []tam.Mode{tam.ModeAvailable, tam.ModeRequired, tam.ModeForbidden}
	if m.neededBy(name) != nil {
		modes = modes[:2] // to forbid what something installed needs is a contradiction
	}
	c.mode = modes[m.draw("mode", len(modes))]
	// What the TAM takes away, the agent does not ask for by itself again.
	c.again = c.again || c.mode == tam.ModeForbidden
	c.tam.Assign(name, c.mode)
}

// neededBy is the component that needs another one; nil if none does.
func (m *model) neededBy(name string) *wish {
	for _, c := range m.components {
		if c.needs == name {
			return c
		}
	}
	return nil
}

// limited bounds a call in real time: nothing here may hang.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 20*time.Second)
}

func (m *model) request() {
	name, c := m.pick()
	ctx, cancel := limited()
	defer cancel()
	err := m.ask(ctx, name, c)
	c.wanted, c.again = true, c.again || errors.Is(err, broker.ErrAgent)
	m.notHung(ctx, "request")
}

// ask has the component requested by an app whose metadata names the TAM.
func (m *model) ask(ctx context.Context, name string, c *wish) error {
	return m.d.Broker.Request(ctx, broker.Request{Component: link.ComponentID(suit.NewComponentID(name)), TAMURI: c.tam.URI}, nil)
}

func (m *model) unrequest() {
	name, c := m.pick()
	ctx, cancel := limited()
	defer cancel()
	m.d.Unrequest(ctx, name) //nolint:errcheck // the network is hostile
	c.wanted, c.again = false, true
	m.notHung(ctx, "unrequest")
}

func (m *model) policyCheck() {
	m.w.Clock.Advance(time.Duration(m.draw("hours", 30)) * time.Hour)
	ctx, cancel := limited()
	defer cancel()
	m.d.PolicyCheck(ctx) //nolint:errcheck // the network is hostile
	m.notHung(ctx, "policy check")
}

func (m *model) notHung(ctx context.Context, what string) {
	if ctx.Err() != nil {
		m.t.Fatalf("%s hangs", what)
	}
}

func (m *model) faults() {
	p := func(name string) float64 { return float64(m.draw(name, 3)) / 10 }
	m.w.Relay.SetFaults(teeptest.Faults{
		Drop: p("drop"), Duplicate: p("duplicate"), Delay: p("delay"), Reorder: p("reorder"),
		Replay: p("replay"), Truncate: p("truncate"), FlipBit: p("flip"),
	})
}

// crash lets the device crash at one of its next steps, or now.
func (m *model) crash() {
	if n := m.draw("steps to crash", 40); n > 0 {
		m.d.CrashAt(n)
		m.policyCheck()
		return
	}
	m.d.Crash()
}

func (m *model) step() {
	actions := []func(){
		m.publish, m.assign, m.request, m.request, m.unrequest, m.policyCheck, m.policyCheck, m.faults, m.crash, m.restart, m.contest,
	}
	actions[m.draw("action", len(actions))]()
	if m.d.Crashed() {
		m.d.Restart(survivals[m.draw("survival", len(survivals))])
	}
	m.w.CheckAsked()
}

func (m *model) restart() {
	m.components[m.names[m.draw("TAM of", len(m.names))]].tam.RestartTAM()
}

// want is the sequence number that a component must end with; 0 for not installed.
func (c *wish) want() uint64 {
	if c.mode == tam.ModeRequired || c.wanted && c.mode != tam.ModeForbidden {
		return c.published
	}
	return 0
}

// finish ends the faults, lets apps say again what may have been lost with a crash, and compares.
func (m *model) finish() {
	m.d.CrashAt(0)
	m.w.Relay.SetFaults(teeptest.Faults{})
	for _, repair := range m.repair {
		repair()
	}
	m.w.Settle(context.Background(), m.d)
	for _, name := range m.names {
		c := m.components[name]
		ctx, cancel := limited()
		switch {
		case !c.wanted:
			m.d.Unrequest(ctx, name) //nolint:errcheck // what counts is what is installed at the end
		case c.again:
			m.ask(ctx, name, c) //nolint:errcheck // as above
		}
		m.notHung(ctx, "the last word")
		cancel()
	}
	m.w.Settle(context.Background(), m.d)
	m.checkContested()
	for _, name := range m.names {
		c := m.components[name]
		if by := m.neededBy(name); by != nil && by.want() > 0 {
			c.mode = tam.ModeRequired // as good as
		} else if by != nil && c.want() == 0 {
			continue // whether it stays when nothing needs it any longer is the apps' to say
		}
		if has := m.d.Sequence(name); has != c.want() {
			m.t.Errorf("%s: sequence number %d is installed, and %d is wanted (mode %q, wanted by an app: %v, published: %d)",
				name, has, c.want(), c.mode, c.wanted, c.published)
			continue
		}
		if c.wanted && c.want() > 0 {
			out, err := m.d.Invoke(context.Background(), name, "greet", nil)
			if err != nil || string(out) != m.content(name, c.want()) {
				m.t.Errorf("%s answers %q, %v", name, out, err)
			}
		}
	}
}

// TestFaultsEndInTheDesiredState: whatever is lost, doubled, held back, replayed or damaged on the
// way, and whenever TAM and device crash, the device never gets into a state that no TAM asked for,
// and once the faults stop it ends in the one that is wanted.
func TestFaultsEndInTheDesiredState(t *testing.T) {
	few(t, "15")
	rapid.Check(t, func(rt *rapid.T) {
		o := teeptest.Options{
			Seed:           rapid.Uint64().Draw(rt, "seed"),
			TAMPolicy:      tam.Policy{Query: rapid.SampledFrom([]tam.Query{tam.QueryAttested, tam.QueryToken, tam.QueryTimestamp}).Draw(rt, "query")},
			AgentAlgorithm: rapid.SampledFrom([]cose.Algorithm{cose.AlgESP256, cose.AlgEd25519}).Draw(rt, "algorithm"),
		}
		o.FurtherTAMs = 1
		o.MustAttest = rapid.Bool().Draw(rt, "must attest")
		// Attestation Results that come back are presented again while they are young.
		if rapid.Bool().Draw(rt, "passports") {
			o.TAMPolicy.PassResults, o.AgentPolicy.PassportAge = true, time.Hour
		}
		if rapid.Bool().Draw(rt, "timestamps") {
			o.TAMPolicy.AcceptTimestamps, o.AgentPolicy.Timestamps = true, true
		}
		// Requests with neither token nor challenge, after which agents answer without being asked.
		o.TAMPolicy.AcceptTimestamps = o.TAMPolicy.AcceptTimestamps || o.TAMPolicy.Query == tam.QueryTimestamp
		w := teeptest.New(inCheck{rt, t}, o)
		m := &model{t: rt, w: w, d: w.Device, names: []string{"a", "app", "lib", "x"}, components: map[string]*wish{}}
		for _, name := range m.names {
			m.components[name] = &wish{tam: w, mode: tam.ModeAvailable}
		}
		m.components["app"].needs, m.components["x"].tam = "lib", w.Further[0]
		m.publish()
		for range rapid.IntRange(4, 24).Draw(rt, "steps") {
			m.step()
		}
		m.finish()
		if rt.Failed() {
			for _, line := range w.Relay.Log() {
				rt.Log("relay:", line)
			}
		}
	})
}

// few sets the number of runs of a property, unless the command line does.
func few(t *testing.T, n string) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if given {
		return
	}
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	if err := checks.Value.Set(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := checks.Value.Set(before); err != nil {
			t.Error(err)
		}
	})
}

// TestCrashInAnUpdate sweeps the crash through an update with a fetch, from the TAM to the disk, under
// every kind of disk. Package agent does the same at every single step without a TAM.
func TestCrashInAnUpdate(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	for i, survival := range survivals {
		d := w.AddDevice(fmt.Sprintf("sweep %d", i))
		name := fmt.Sprintf("app%d", i)
		sequence := uint64(1)
		w.Publish(w.Component(name, sequence, "first"))
		if err := d.Request(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		stride := 5
		if survival != crashfs.LoseUnsynced {
			stride = 13
		}
		for step := 1; ; step += stride {
			sequence++
			w.Publish(w.FetchedComponent(name, sequence, fmt.Sprint(sequence)))
			w.Clock.Advance(25 * time.Hour)
			d.CrashAt(step)
			d.PolicyCheck(t.Context()) //nolint:errcheck // it crashes
			if !d.Crashed() {
				d.CrashAt(0)
				break
			}
			d.Restart(survival)
			if has := d.Sequence(name); has != sequence && has != sequence-1 {
				t.Fatalf("sequence number %d after a crash at step %d of the update from %d to %d", has, step, sequence-1, sequence)
			}
			w.CheckAsked()
			w.Settle(t.Context(), d)
			if has := d.Sequence(name); has != sequence {
				t.Fatalf("crash at step %d: sequence number %d, not %d, at the end", step, has, sequence)
			}
		}
		out, err := d.Invoke(t.Context(), name, "", nil)
		if err != nil || string(out) != fmt.Sprint(sequence) {
			t.Fatalf("%q, %v", out, err)
		}
	}
}

func TestCheckAskedFindsWhatNobodyAskedFor(t *testing.T) {
	rec := &recorder{T: t}
	w := teeptest.New(rec, teeptest.Options{})
	// The test itself plays a TAM, with the TAM's keys, behind the World's back.
	installByHand(t, w, w.Component("stowaway", 1, "x"))
	if w.Device.Sequence("stowaway") != 1 {
		t.Fatal("not installed")
	}
	w.CheckAsked()
	if len(rec.errors) != 1 {
		t.Fatalf("%d errors, not 1: %q", len(rec.errors), rec.errors)
	}
	if id := (suit.ComponentID)(teeptest.ManifestID("stowaway")); len(w.Device.Believed()) != 0 {
		t.Fatalf("the TAM knows of %v", id)
	}
}

// recorder is a test whose errors are wanted.
type recorder struct {
	*testing.T
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

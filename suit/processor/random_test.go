package processor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// author writes random manifests that mostly make sense: what they fetch is mostly there, and what
// they check mostly holds.
type randomAuthor struct {
	*rand.Rand
	own        int // components; a dependency has the index after them
	dependency bool
}

func (a *randomAuthor) chance(percent int) bool { return a.IntN(100) < percent }

func pick[T any](a *randomAuthor, of ...T) T { return of[a.IntN(len(of))] }

// contents are what the device serves, by the URI of the same name.
var contents = []string{"first", "second", "third"}

func (a *randomAuthor) policy() suit.ReportingPolicy { return suit.ReportingPolicy(a.IntN(16)) }

// index is one component, or the dependency now and then.
func (a *randomAuthor) index() uint64 {
	if a.dependency && a.chance(10) {
		return uint64(a.own)
	}
	return uint64(a.IntN(a.own))
}

func (a *randomAuthor) choose() suit.Command {
	switch {
	case a.chance(70):
		return suit.SetComponentIndex(uint64(a.IntN(a.own)))
	case a.chance(70):
		return suit.SetComponentIndexes(a.several()...)
	case a.chance(30):
		return suit.SetComponentIndex(a.index())
	}
	return suit.SetAllComponents()
}

func (a *randomAuthor) several() []uint64 {
	all := make([]uint64, a.own)
	for i := range all {
		all[i] = uint64(i)
	}
	a.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+a.IntN(a.own)]
}

func (a *randomAuthor) parameters(nested bool) suit.Parameters {
	c := pick(a, contents...)
	sets := []func(*suit.Parameters){
		func(p *suit.Parameters) { image(c)(p); p.SetURI(c) },
		func(p *suit.Parameters) { p.SetURI(pick(a, "first", "second", "down", "#own")) },
		func(p *suit.Parameters) { p.SetContent([]byte(c)) },
		func(p *suit.Parameters) { p.SetContent([]byte(c)); image(c)(p) },
		func(p *suit.Parameters) { p.SetSourceComponent(uint64(a.IntN(a.own))) },
		func(p *suit.Parameters) { p.SetSlot(uint64(a.IntN(2))) },
		func(p *suit.Parameters) { p.SetUseBefore(uint64(a.IntN(2)) * 4_000_000_000) },
		func(p *suit.Parameters) { p.SetUpdatePriority(int64(a.IntN(2))) },
		func(p *suit.Parameters) { p.SetMinimumBattery(uint64(a.IntN(2)) * 1000) },
		func(p *suit.Parameters) {
			p.SetVersion(suit.VersionMatch{Comparison: pick(a, suit.Greater, suit.Equal, suit.Lesser), Value: suit.Version{1, int64(a.IntN(3))}})
		},
		func(p *suit.Parameters) { identity(p) },
		func(p *suit.Parameters) { p.SetStrictOrder(a.chance(60)) },
	}
	if nested {
		sets = append(sets, func(p *suit.Parameters) { p.SetSoftFailure(a.chance(50)) })
	}
	return params(func(p *suit.Parameters) {
		for range 1 + a.IntN(2) {
			pick(a, sets...)(p)
		}
	})
}

var randomConditions = []suit.CommandCode{suit.CondVendorIdentifier, suit.CondClassIdentifier, suit.CondImageMatch, suit.CondImageMatch,
	suit.CondImageNotMatch, suit.CondCheckContent, suit.CondComponentSlot, suit.CondUseBefore, suit.CondMinimumBattery, suit.CondUpdateAuthorized,
	suit.CondVersion, suit.CondIsDependency, suit.CondAbort, suit.CondDeviceIdentifier}

// command is one that may stand anywhere, or one that changes something.
func (a *randomAuthor) command(section suit.Label, depth int) suit.Command {
	switch n := a.IntN(100); {
	case n < 16:
		return a.choose()
	case n < 30:
		return suit.OverrideParameters(a.parameters(depth > 0))
	case n < 36:
		return suit.SetParameters(a.parameters(depth > 0))
	case n < 39:
		return suit.OverrideMultiple(suit.ComponentParameters{Index: 0, Parameters: a.parameters(depth > 0)},
			suit.ComponentParameters{Index: 1, Parameters: a.parameters(depth > 0)})
	case n < 42:
		return suit.CopyParams(suit.CopyParameters{Source: uint64(a.IntN(a.own)),
			Labels: []suit.ParameterLabel{pick(a, suit.ParamImageDigest, suit.ParamURI, suit.ParamContent)}})
	case n < 58 && depth < 3:
		return a.nested(section, depth)
	case n < 70 || section == suit.LabelCommon:
		// Most conditions stand where they may fail.
		if depth == 0 && !a.chance(20) {
			return suit.Condition(pick(a, suit.CondVendorIdentifier, suit.CondClassIdentifier), a.policy())
		}
		return suit.Condition(pick(a, randomConditions...), a.policy())
	case n < 75 && a.dependency:
		return suit.Directive(suit.DirProcessDependency, a.policy())
	}
	return suit.Directive(pick(a, suit.DirFetch, suit.DirFetch, suit.DirFetch, suit.DirWrite, suit.DirCopy, suit.DirSwap, suit.DirWait,
		suit.DirUnlink), a.policy())
}

func (a *randomAuthor) nested(section suit.Label, depth int) suit.Command {
	if a.chance(40) {
		return suit.RunSequence(a.sequence(section, depth+1, 1+a.IntN(3)))
	}
	var sequences []suit.Sequence
	for range 2 + a.IntN(2) {
		sequences = append(sequences, a.sequence(section, depth+1, 1+a.IntN(3)))
	}
	if a.chance(70) {
		sequences = append(sequences, nil)
	}
	return suit.TryEach(sequences...)
}

func (a *randomAuthor) sequence(section suit.Label, depth, length int) (seq suit.Sequence) {
	for range length {
		seq = append(seq, a.command(section, depth))
	}
	return seq
}

// section begins as one of several components has to.
func (a *randomAuthor) section(label suit.Label, length int) suit.Section {
	return section(append(suit.Sequence{suit.SetComponentIndex(0)}, a.sequence(label, 0, length)...)...)
}

// manifest has random sections around what makes it run at all.
func (a *randomAuthor) manifest(id suit.ComponentID, components ...suit.ComponentID) draft {
	a.own = len(components)
	d := many(1, id, components...)
	for i := range components {
		c := contents[i]
		d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, suit.SetComponentIndex(uint64(i)),
			override(func(p *suit.Parameters) {
				image(c)(p)
				p.SetURI(c)
				p.SetContent([]byte(c))
				p.SetSourceComponent(uint64((i + 1) % len(components)))
				p.SetWaitInfo(suit.WaitEvent{Authorization: new(int64)})
			}))
	}
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, a.sequence(suit.LabelCommon, 0, a.IntN(3))...)
	for _, s := range []struct {
		label  suit.Label
		length int
	}{{suit.LabelPayloadFetch, 4}, {suit.LabelCandidateVerification, 1}, {suit.LabelInstall, 6}, {suit.LabelValidate, 2},
		{suit.LabelLoad, 2}, {suit.LabelUninstall, 3}} {
		*d.Section(s.label) = a.section(s.label, 1+a.IntN(s.length))
	}
	d.Invoke = section(suit.SetComponentIndex(0), dir(suit.DirInvoke))
	d.integrated = map[string][]byte{"#own": []byte("second")}
	return d
}

// withDependency makes a manifest depend on another one, which it processes in each section.
func (a *randomAuthor) withDependency(d *draft, on []byte, digest suit.Digest) {
	index := uint64(len(d.Common.Components))
	d.Common.Components = append(slices.Clone(d.Common.Components), idB)
	d.Common.Dependencies = []suit.Dependency{{Index: index}}
	set := suit.Sequence{suit.SetComponentIndex(index), override(func(p *suit.Parameters) { p.SetDigest(digest); p.SetURI("#dep") })}
	process := append(slices.Clone(set), suit.Condition(suit.CondDependencyIntegrity, a.policy()),
		suit.Directive(suit.DirProcessDependency, a.policy()))
	d.DependencyResolution = section(append(slices.Clone(set), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity))...)
	for _, label := range []suit.Label{suit.LabelPayloadFetch, suit.LabelCandidateVerification, suit.LabelInstall, suit.LabelValidate,
		suit.LabelLoad, suit.LabelInvoke, suit.LabelUninstall} {
		s := d.Section(label)
		if a.chance(97) {
			s.Commands = append(slices.Clone(process), s.Commands...)
		}
	}
	d.integrated["#dep"] = on
}

// randomWorld is a device with a random manifest for it.
type randomWorld struct {
	*lab
	a         *randomAuthor
	envelopes [][]byte // the root, and its dependency
}

func newRandomWorld(t *testing.T, seed uint64) *randomWorld {
	w := &randomWorld{a: &randomAuthor{Rand: rand.New(rand.NewPCG(seed, 7))}}
	w.lab = newLab(t, func(l *lab) { l.cfg.Limits.Commands = 60 + w.a.IntN(400) })
	for _, c := range contents {
		w.device.Serve(c, []byte(c))
	}
	w.device.ServeSource("down", &memory.Source{Refuse: errors.New("down")})
	battery := uint64(500)
	w.device.BatteryLevel = &battery
	w.device.SlotOf = map[string]uint64{appA.Key(): 0, appB.Key(): 1, appC.Key(): 0}
	w.device.VersionOf = map[string][]int64{appA.Key(): {1, 1}, appB.Key(): {1, 0}}
	w.device.Clock = func() time.Time { return time.Unix(1_800_000_000, 0) }
	w.device.Authorize = func(_ context.Context, p int64) (bool, error) { return p == 0, nil }
	w.device.OnWait = func(context.Context, suit.WaitEvent) error { return nil }
	w.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	d := w.a.manifest(idA, appA, appB, appC)
	if w.a.chance(50) {
		w.a.dependency = false
		lib := w.sign(w.a.manifest(idB, suit.NewComponentID("app", "x"), suit.NewComponentID("app", "y")))
		w.a.own, w.a.dependency = 3, true
		w.a.withDependency(&d, lib, digestOf(t, lib))
		w.envelopes = [][]byte{nil, lib}
	} else {
		w.envelopes = [][]byte{nil}
	}
	w.envelopes[0] = w.sign(d)
	return w
}

// run runs a procedure, tells whether it failed, and holds its report against the trail.
func (w *randomWorld) run(proc processor.Procedure) error {
	w.t.Helper()
	trail := w.options()
	options := processor.Options{Trail: trail.Trail}
	var report *suit.Report
	var err error
	switch proc {
	case processor.ProcedureUpdate:
		report, err = w.p.Update(w.t.Context(), w.envelopes[0], trail)
	case processor.ProcedureValidate:
		report, err = w.p.Validate(w.t.Context(), idA, options)
	case processor.ProcedureInvoke:
		report, err = w.p.Invoke(w.t.Context(), idA, options)
	case processor.ProcedureUninstall:
		report, err = w.p.Uninstall(w.t.Context(), idA, options)
	}
	w.explains(report, err, proc, w.envelopes...)
	return err
}

// faults makes one step of the next run fail, or none. It tells how many did.
func (w *randomWorld) faults(at int) *int {
	hit := new(int)
	w.device.FailWith(func(n int, _ memory.Step) error {
		if n == at {
			*hit++
			return errRandom
		}
		return nil
	})
	return hit
}

var errRandom = errors.New("random failure")

// Random manifests, with and without a dependency, on a device that fails at random: the report
// expands to the very trail that the run told; what failed changed nothing; what succeeded is what
// a device without failures comes to; and no success is told after a failure.
func TestRandomManifests(t *testing.T) {
	n := 600
	if s := os.Getenv("RANDOM_MANIFESTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	var reached [5]int
	for seed := range uint64(n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newRandomWorld(t, seed)
			for i, proc := range []processor.Procedure{processor.ProcedureUpdate, processor.ProcedureUpdate,
				processor.ProcedureValidate, processor.ProcedureInvoke, processor.ProcedureUninstall} {
				before := w.device.State()
				hit := w.faults(1 + w.a.IntN(12))
				err := w.run(proc)
				switch after := w.device.State(); {
				// The second update installs anew what it cannot validate.
				case *hit > 0 && err == nil && proc != processor.ProcedureValidate && i != 1:
					t.Fatalf("procedure %d succeeded after a failure of the device", proc)
				case err != nil && proc != processor.ProcedureInvoke && !sameState(before, after):
					t.Fatalf("procedure %d failed with %v and changed the device", proc, err)
				}
				w.device.FailWith(nil)
				if *hit > 0 && err != nil {
					err = w.run(proc)
				}
				if err != nil {
					return
				}
				reached[i]++
			}
			if s := w.device.State(); len(s.Manifests) != 0 || len(s.Content) != 0 {
				t.Errorf("left behind: %v", s)
			}
		})
	}
	t.Logf("%d manifests: %d installed, %d again, %d validated, %d invoked, %d uninstalled", n, reached[0], reached[1], reached[2], reached[3], reached[4])
	if slices.Min(reached[:]) < n/50 {
		t.Errorf("the manifests do not get far enough to test anything: %v of %d", reached, n)
	}
}

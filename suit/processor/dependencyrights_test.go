package processor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// twoSigners is a device on which the developer may sign for 'app' and mallory for 'mal'.
func twoSigners(t *testing.T) (l *lab, mallory *cose.Key) {
	t.Helper()
	l, mallory = newLab(t), newKey(t)
	mine := suit.NewComponentID("mal")
	l.cfg.Components = append(l.cfg.Components, mine)
	l.trust(processor.Rights{Components: []processor.ComponentRights{{Prefix: suit.NewComponentID("app")}}},
		processor.Signer{Key: mallory.Public(), Rights: processor.Rights{Components: []processor.ComponentRights{{Prefix: mine}}}})
	l.start()
	l.device.Serve("good", []byte("good"))
	l.device.Serve("evil", []byte("evil"))
	return l, mallory
}

// helper is a manifest of mallory's that does nothing, and serves as a dependency.
func helper(l *lab, mallory *cose.Key) []byte {
	e := l.signBy(many(1, suit.NewComponentID("mal", "h.suit"), suit.NewComponentID("mal", "h")), mallory)
	l.device.Serve("helper", e)
	return e
}

// TestParametersOfADependencyAreItsOwn: a signer that names another's component as one of its dependencies sets no
// parameters of that component, whether the manifest that owns it overrides them or not.
func TestParametersOfADependencyAreItsOwn(t *testing.T) {
	l, mallory := twoSigners(t)
	dev := one(1, idB, appB, "good", "good")
	dev.Common.SharedSequence = section(
		suit.SetParameters(params(func(p *suit.Parameters) {
			identity(p)
			image("good")(p)
			p.SetURI("good")
		})),
		cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier))
	dev.Install = section(dir(suit.DirFetch), cond(suit.CondImageMatch))
	dependency, other := l.sign(dev), helper(l, mallory)
	l.device.Serve(depURI, dependency)

	d := many(1, suit.NewComponentID("mal", "root.suit"), suit.NewComponentID("mal", "x"), idB, appB)
	d.Common.Dependencies = []suit.Dependency{{Index: 1}, {Index: 2}}
	find := override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, dependency)); p.SetURI(depURI) })
	alias := override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, other)); p.SetURI("helper") })
	evil := override(func(p *suit.Parameters) { image("evil")(p); p.SetURI("evil") })
	d.DependencyResolution = section(
		suit.SetComponentIndex(2), alias, dir(suit.DirFetch), cond(suit.CondDependencyIntegrity),
		suit.SetComponentIndex(1), find, dir(suit.DirFetch), cond(suit.CondDependencyIntegrity))
	run := section(suit.SetComponentIndex(2), evil,
		suit.SetComponentIndex(1), find, cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency),
		suit.SetComponentIndex(2), alias, dir(suit.DirProcessDependency))
	d.Install, d.Validate, d.Invoke = run, run, run
	_, err := l.update(l.signBy(d, mallory))
	if string(l.content(appB)) == "evil" {
		t.Fatalf("content of mallory's is in the developer's component (%v)", err)
	}
}

// TestInvokeArgumentsOfAnother is the same with an installed manifest that is only started.
func TestInvokeArgumentsOfAnother(t *testing.T) {
	l, mallory := twoSigners(t)
	dependency := l.sign(one(1, idB, appB, "good", "good"))
	l.mustUpdate(dependency)
	other := helper(l, mallory)
	d := many(1, suit.NewComponentID("mal", "root.suit"), suit.NewComponentID("mal", "x"), idB, appB)
	d.Common.Dependencies = []suit.Dependency{{Index: 1}, {Index: 2}}
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands,
		suit.SetComponentIndex(1), override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, dependency)) }),
		suit.SetComponentIndex(2), override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, other)); p.SetURI("#h") }))
	d.integrated = map[string][]byte{"#h": other}
	d.DependencyResolution = section(suit.SetComponentIndex(2), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity),
		suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity))
	run := section(suit.SetComponentIndex(2), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency),
		override(func(p *suit.Parameters) { p.SetInvokeArgs([]byte("evil args")) }),
		suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency))
	d.Install, d.Validate, d.Invoke = run, run, run
	_, _ = l.update(l.signBy(d, mallory)) // whether it is refused or does nothing evil is the same
	var started strings.Builder
	l.device.OnInvoke = func(_ context.Context, id suit.ComponentID, args []byte) error {
		started.WriteString(id.String() + " " + string(args) + ";")
		return nil
	}
	_, err := l.p.Invoke(t.Context(), suit.NewComponentID("mal", "root.suit"), processor.Options{})
	if strings.Contains(started.String(), "evil") {
		t.Fatalf("the developer's application was started with mallory's arguments: %s (%v)", &started, err)
	}
}

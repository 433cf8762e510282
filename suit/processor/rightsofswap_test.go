package processor_test

import (
	"errors"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// swapOfDependents is a device on which a dependency of the developer's swaps appB with what its dependent, of
// the operator's, says: appC. The developer has the rights given to appC.
func swapOfDependents(t *testing.T, rights processor.ComponentRights) (l *lab, root []byte) {
	t.Helper()
	developer := newKey(t)
	l = newLab(t, func(l *lab) {
		l.trust(processor.AllComponents(), processor.Signer{Key: developer.Public(),
			Rights: processor.Rights{Components: []processor.ComponentRights{{Prefix: appB}, {Prefix: idB}, rights}}})
	})
	l.device.Put(appB, []byte("b"))
	l.device.Put(appC, []byte("c"))
	d := many(1, idB, appB, appC)
	d.Install = section(suit.SetComponentIndex(0), dir(suit.DirSwap))
	dep := l.signBy(d, developer)
	l.device.Serve(depURI, dep)

	r := many(1, idRoot, appB, appC, idB)
	r.Common.Dependencies = []suit.Dependency{{Index: 2}}
	r.DependencyResolution = section(suit.SetComponentIndex(2),
		override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, dep)); p.SetURI(depURI) }),
		dir(suit.DirFetch), cond(suit.CondDependencyIntegrity))
	r.Install = section(suit.SetComponentIndex(0), source(1), suit.SetComponentIndex(2), dir(suit.DirProcessDependency))
	return l, l.sign(r)
}

// TestSwapSourceFromADependent: a swap changes its source too, so that the rights of who signed it are
// held against the source also where a dependent's parameter names it, which the check before the run
// cannot see (SUIT §9, §8.4.10.9).
func TestSwapSourceFromADependent(t *testing.T) {
	identity := []suit.CommandCode{suit.CondVendorIdentifier, suit.CondClassIdentifier}
	for name, commands := range map[string][]suit.CommandCode{
		"not to be swapped": identity,
		"to be copied from": append(identity[:2:2], suit.DirCopy, suit.DirWrite, suit.DirFetch),
	} {
		t.Run(name, func(t *testing.T) {
			l, root := swapOfDependents(t, processor.ComponentRights{Prefix: appC, Commands: commands})
			f := l.refuse(root, suit.ReasonComponentUnauthorised)
			if f.Command != suit.DirSwap || f.Section != suit.LabelInstall {
				t.Errorf("refused for %s in %s: %v", f.Command, f.Section, f)
			}
			l.wants(appB, "b")
			l.wants(appC, "c")
		})
	}
	t.Run("exactly enough", func(t *testing.T) {
		l, root := swapOfDependents(t, processor.ComponentRights{Prefix: appC, Commands: append(identity[:2:2], suit.DirSwap)})
		l.mustUpdate(root)
		l.wants(appB, "c")
		l.wants(appC, "b")
	})
}

// TestSwapSourceInUse: what another manifest refers to does not change by being the source of a swap.
func TestSwapSourceInUse(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("good"))
	l.mustUpdate(l.sign(one(1, idB, appB, "good", "u")))
	d := many(1, idA, appA, appB)
	d.Install = section(suit.SetComponentIndex(0), content("evil"), dir(suit.DirWrite), source(1), dir(suit.DirSwap))
	if f := l.refuse(l.sign(d), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrReferenced) {
		t.Error(f)
	}
	l.wants(appB, "good")
}

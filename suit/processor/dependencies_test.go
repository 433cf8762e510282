package processor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

const depURI = "https://example.com/dep.suit"

// family is a library and a manifest that depends on it.
func (l *lab) family(number uint64, lib string) (dep []byte, root draft) {
	l.device.Serve("lib-"+lib, []byte(lib))
	dep = l.sign(one(number, idB, appB, lib, "lib-"+lib))
	l.device.Serve(depURI, dep)
	return dep, l.dependent(number, idRoot, appA, "own "+lib, idB, digestOf(l.t, dep), depURI)
}

func TestDependencyIsInstalledAndLeavesWithItsDependent(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "one")
	envelope := l.sign(root)
	l.explained(envelope, dep)
	l.mustUpdate(envelope)
	l.wants(appA, "own one")
	l.wants(appB, "one")
	record := l.device.State().Manifests[idB.String()]
	if record.Root || len(record.Dependents) != 1 || !record.Dependents[0].Equal(idRoot) {
		t.Fatalf("record of the dependency: %+v", record)
	}
	l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	if _, err := l.p.Invoke(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := l.device.Invocations(); len(got) != 2 || !got[0].ID.Equal(appB) || !got[1].ID.Equal(appA) {
		t.Fatalf("invoked %v", got)
	}
	if _, err := l.p.Uninstall(t.Context(), idB, processor.Options{}); !errors.Is(err, processor.ErrReferenced) {
		t.Fatalf("a needed dependency was uninstalled: %v", err)
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v", s)
	}
}

func TestExplainOtherProcedures(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "one")
	process := []suit.Command{suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency)}
	root.Uninstall = section(append(process, suit.SetComponentIndex(0), dir(suit.DirUnlink))...)
	envelope := l.sign(root)
	l.mustUpdate(envelope)
	l.device.OnInvoke = func(_ context.Context, id suit.ComponentID, _ []byte) error {
		if id.Equal(appA) {
			return errors.New("trap")
		}
		return nil
	}
	options := func() processor.Options { return processor.Options{Trail: l.options().Trail} }
	report, err := l.p.Validate(t.Context(), idRoot, options())
	l.explains(report, err, processor.ProcedureValidate, envelope, dep)
	report, err = l.p.Invoke(t.Context(), idRoot, options())
	if err == nil {
		t.Fatal("the trap was not noticed")
	}
	l.explains(report, err, processor.ProcedureInvoke, envelope, dep)
	report, err = l.p.Uninstall(t.Context(), idRoot, options())
	if err != nil {
		t.Fatal(err)
	}
	l.explains(report, err, processor.ProcedureUninstall, envelope, dep)
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v", s)
	}
}

func TestIntegratedDependency(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "one")
	root.DependencyResolution = section(suit.SetComponentIndex(1), uri("#dep"), dir(suit.DirFetch),
		cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency))
	root.integrated["#dep"] = dep
	l.mustUpdate(l.sign(root))
	l.wants(appB, "one")
	if slices.ContainsFunc(l.device.State().Manifests[idRoot.String()].Dependencies, func(d processor.Dependency) bool { return !d.ID.Equal(idB) }) {
		t.Fatal("wrong dependency")
	}
	for _, f := range l.device.Fetches() {
		if f.URI == depURI {
			t.Fatal("fetched although it was integrated")
		}
	}
}

func TestUpdateWithDependency(t *testing.T) {
	l := newLab(t)
	_, root := l.family(1, "one")
	l.mustUpdate(l.sign(root))
	_, root = l.family(2, "two")
	l.mustUpdate(l.sign(root))
	l.wants(appA, "own two")
	l.wants(appB, "two")
	if n := len(l.device.State().Manifests); n != 2 {
		t.Fatalf("%d manifests", n)
	}
}

func TestSharedDependencyIsCounted(t *testing.T) {
	l := newLab(t)
	dep, first := l.family(1, "one")
	second := l.dependent(1, idA, appC, "second", idB, digestOf(t, dep), depURI)
	l.mustUpdate(l.sign(first))
	fetches := len(l.device.Fetches())
	l.mustUpdate(l.sign(second))
	if n := len(l.device.Fetches()); n != fetches {
		t.Errorf("%d fetches for what is installed", n-fetches)
	}
	if n := len(l.device.State().Manifests[idB.String()].Dependents); n != 2 {
		t.Fatalf("%d dependents", n)
	}
	t.Run("a new version that only one of them wants", func(t *testing.T) {
		_, next := l.family(2, "two")
		if f := l.refuse(l.sign(next), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrReferenced) {
			t.Fatal(f)
		}
	})
	t.Run("a new version for its own sake", func(t *testing.T) {
		l.device.Serve("lib-two", []byte("two"))
		if f := l.refuse(l.sign(one(2, idB, appB, "two", "lib-two")), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrReferenced) {
			t.Fatal(f)
		}
	})
	t.Run("a stranger that writes its component", func(t *testing.T) {
		l.device.Serve("evil", []byte("evil"))
		if f := l.refuse(l.sign(one(1, suit.NewComponentID("app", "evil.suit"), appB, "evil", "evil")), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrReferenced) {
			t.Fatal(f)
		}
	})
	t.Run("both dependents in one run", func(t *testing.T) {
		dep, next := l.family(3, "three")
		other := l.dependent(3, idA, appC, "second three", idB, digestOf(t, dep), depURI)
		reports, err := l.p.UpdateAll(t.Context(), [][]byte{l.sign(next), l.sign(other)}, l.options())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports {
			l.checkReport(r, nil)
		}
		l.wants(appB, "three")
		l.wants(appC, "second three")
	})
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.wants(appB, "three")
	if _, err := l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.wants(appB, "")
}

func TestDependencyThatIsWantedForItselfStays(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "one")
	l.mustUpdate(l.sign(root))
	l.mustUpdate(dep)
	if !l.device.State().Manifests[idB.String()].Root {
		t.Fatal("not remembered")
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.wants(appB, "one")
	if _, err := l.p.Uninstall(t.Context(), idB, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.wants(appB, "")
}

func TestDroppedComponentsAndDependenciesGo(t *testing.T) {
	l := newLab(t)
	_, root := l.family(1, "one")
	l.mustUpdate(l.sign(root))
	l.device.Serve("u", []byte("c"))
	l.mustUpdate(l.sign(one(2, idRoot, appC, "c", "u")))
	l.wants(appA, "")
	l.wants(appB, "")
	l.wants(appC, "c")
	if n := len(l.device.State().Manifests); n != 1 {
		t.Fatalf("%d manifests", n)
	}
}

// Each change to the family makes it unacceptable.
func TestDependencyNegative(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(l *lab, root *draft)
		reason suit.Reason
		says   string
	}{
		{"no integrity check before process", func(l *lab, root *draft) {
			cmds := root.DependencyResolution.Commands
			root.DependencyResolution.Commands = slices.DeleteFunc(slices.Clone(cmds), func(c suit.Command) bool { return c.Code == suit.CondDependencyIntegrity })
		}, suit.ReasonOperationFailed, "integrity"},
		{"integrity check before the fetch only", func(l *lab, root *draft) {
			root.DependencyResolution = section(suit.SetComponentIndex(1), uri(depURI), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity),
				dir(suit.DirFetch), dir(suit.DirProcessDependency))
		}, suit.ReasonOperationFailed, "integrity"},
		{"not fetched", func(l *lab, root *draft) {
			root.DependencyResolution = section(suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity))
		}, suit.ReasonConditionFailed, "not fetched"},
		{"not resolved at all", func(l *lab, root *draft) { root.DependencyResolution = suit.Section{} }, suit.ReasonOperationFailed, "integrity"},
		{"section of the dependency not processed", func(l *lab, root *draft) {
			root.Install = section(suit.SetComponentIndex(0), uri("#own"), dir(suit.DirFetch), cond(suit.CondImageMatch))
		}, suit.ReasonOperationFailed, "did not process"},
		{"validate not processed", func(l *lab, root *draft) {
			root.Validate = section(suit.SetComponentIndex(0), cond(suit.CondImageMatch))
		}, suit.ReasonOperationFailed, "did not process"},
		{"dependent lacks a section", func(l *lab, root *draft) { root.Validate = suit.Section{} }, suit.ReasonOperationFailed, "has none"},
		{"another manifest", func(l *lab, root *draft) { l.device.Serve(depURI, l.sign(one(1, idB, appB, "z", "z"))) }, suit.ReasonConditionFailed, "digest"},
		{"same manifest, digest claimed wrongly", func(l *lab, root *draft) {
			// The wrapper claims the right digest, around another manifest.
			good, err := suit.ParseEnvelope(l.served(depURI))
			if err != nil {
				l.t.Fatal(err)
			}
			l.device.Serve(depURI, []byte(strings.Replace(string(good.Encode()), "lib-one", "lib-two", 1)))
		}, suit.ReasonUnauthorised, "digest"},
		{"unsigned", func(l *lab, root *draft) {
			e, err := suit.ParseEnvelope(l.served(depURI))
			if err != nil {
				l.t.Fatal(err)
			}
			e.RemoveSignatures()
			l.device.Serve(depURI, e.Encode())
		}, suit.ReasonUnauthorised, "sign"},
		{"signed by a stranger", func(l *lab, root *draft) {
			l.device.Serve(depURI, l.signBy(one(1, idB, appB, "one", "lib-one"), newKey(l.t)))
		}, suit.ReasonUnauthorised, "trusted key"},
		{"not an envelope", func(l *lab, root *draft) { l.device.Serve(depURI, []byte("<html>")) }, suit.ReasonCBORParse, ""},
		{"too long", func(l *lab, root *draft) { l.device.Serve(depURI, make([]byte, 1<<16)) }, suit.ReasonOperationFailed, "longer"},
		{"its own install fails", func(l *lab, root *draft) { l.device.Serve("lib-one", []byte("two")) }, suit.ReasonConditionFailed, "dependency [0]"},
		{"copied over", func(l *lab, root *draft) {
			root.Install.Commands = append(root.Install.Commands, suit.SetComponentIndex(1), content("x"), dir(suit.DirWrite))
		}, suit.ReasonOperationFailed, "is a dependency"},
		{"digest not set", func(l *lab, root *draft) {
			cmds := root.Common.SharedSequence.Commands
			root.Common.SharedSequence.Commands = cmds[:len(cmds)-2]
		}, suit.ReasonConditionFailed, "not set"},
		{"is dependency of the other one", func(l *lab, root *draft) {
			root.Install.Commands = append(root.Install.Commands, suit.SetComponentIndex(0), cond(suit.CondIsDependency))
		}, suit.ReasonConditionFailed, "not a dependency"},
		{"index that nothing names", func(l *lab, root *draft) { root.Common.Dependencies = []suit.Dependency{{Index: 5}} }, suit.ReasonComponentUnsupported, "prefix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) { l.cfg.Limits.Envelope = 1 << 15 })
			_, root := l.family(1, "one")
			c.change(l, &root)
			f := l.refuse(l.sign(root), c.reason)
			if !strings.Contains(f.Error(), c.says) {
				t.Errorf("says %q, want something about %q", f, c.says)
			}
		})
	}
}

func (l *lab) served(uri string) []byte {
	l.t.Helper()
	r, err := l.device.Fetch(l.t.Context(), uri, nil, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	buf := make([]byte, 1<<16)
	n, _ := r.Read(buf)
	return buf[:n]
}

func TestProcessDependencyInTheSharedSequence(t *testing.T) {
	l := newLab(t)
	_, root := l.family(1, "one")
	root.Common.SharedSequence.Commands = append(root.Common.SharedSequence.Commands, dir(suit.DirProcessDependency))
	if _, err := (suit.Builder{Manifest: root.Manifest}).Build(); err == nil {
		t.Fatal("such a manifest can be built")
	}
}

func TestAllDependenciesByTrue(t *testing.T) {
	l := newLab(t)
	_, root := l.family(1, "one")
	perComponent := suit.TryEach(
		seq{cond(suit.CondIsDependency), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency)},
		seq{dir(suit.DirFetch), cond(suit.CondImageMatch)})
	root.Install = section(suit.SetComponentIndex(0), uri("#own"), suit.SetAllComponents(), perComponent)
	root.Validate = section(suit.SetAllComponents(), dir(suit.DirProcessDependency), suit.SetComponentIndex(0), cond(suit.CondImageMatch))
	l.mustUpdate(l.sign(root))
	l.wants(appA, "own one")
	l.wants(appB, "one")
}

func TestDependentOverridesParameters(t *testing.T) {
	l := newLab(t)
	l.device.Serve("mirror", []byte("lib"))
	d := one(1, idB, appB, "lib", "nowhere")
	d.Install = section(suit.SetParameters(params(func(p *suit.Parameters) { p.SetURI("nowhere") })), dir(suit.DirFetch), cond(suit.CondImageMatch))
	dep := l.sign(d)
	l.device.Serve(depURI, dep)
	root := l.dependent(1, idRoot, appA, "own", idB, digestOf(t, dep), depURI)
	l.refuse(l.sign(root), suit.ReasonOperationFailed)
	root.Common.Components = append(root.Common.Components, appB)
	root.Install.Commands = append([]suit.Command{suit.SetComponentIndex(2), uri("mirror")}, root.Install.Commands...)
	root.Uninstall.Commands = append(root.Uninstall.Commands, suit.SetComponentIndex(2), dir(suit.DirUnlink))
	l.mustUpdate(l.sign(root))
	l.wants(appB, "lib")
	t.Run("what the dependency overrides stays", func(t *testing.T) {
		l := newLab(t)
		l.device.Serve("mirror", []byte("evil"))
		dep, root := l.family(1, "lib")
		_ = dep
		root.Common.Components = append(root.Common.Components, appB)
		root.Install.Commands = append([]suit.Command{suit.SetComponentIndex(2), uri("mirror"), override(image("evil"))}, root.Install.Commands...)
		l.mustUpdate(l.sign(root))
		l.wants(appB, "lib")
	})
}

func TestRightsInATree(t *testing.T) {
	developer := newKey(t)
	operator := processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}, {Prefix: idRoot}}}
	dev := processor.Rights{Components: []processor.ComponentRights{{Prefix: appB}, {Prefix: idB}}}
	start := func(t *testing.T, rights processor.Rights) (*lab, []byte) {
		l := newLab(t, func(l *lab) { l.trust(operator, processor.Signer{Key: developer.Public(), Rights: rights}) })
		l.device.Serve("lib", []byte("lib"))
		dep := l.signBy(one(1, idB, appB, "lib", "lib"), developer)
		l.device.Serve(depURI, dep)
		return l, l.sign(l.dependent(1, idRoot, appA, "own", idB, digestOf(t, dep), depURI))
	}
	t.Run("each within its own", func(t *testing.T) {
		l, root := start(t, dev)
		l.mustUpdate(root)
	})
	t.Run("the dependency touches what its signer may not", func(t *testing.T) {
		l, root := start(t, processor.Rights{Components: []processor.ComponentRights{{Prefix: appC}, {Prefix: idB}}})
		l.refuse(root, suit.ReasonComponentUnauthorised)
	})
	t.Run("the dependency is kept where its signer may not", func(t *testing.T) {
		l, root := start(t, processor.Rights{Components: []processor.ComponentRights{{Prefix: appB}}})
		l.refuse(root, suit.ReasonComponentUnauthorised)
	})
	t.Run("the dependent writes the component of its dependency", func(t *testing.T) {
		l, _ := start(t, dev)
		d := many(1, idRoot, appA, appB)
		d.Install = section(suit.SetComponentIndex(1), content("evil"), dir(suit.DirWrite))
		l.refuse(l.sign(d), suit.ReasonComponentUnauthorised)
	})
}

func TestUninstallWithRevokedDeveloper(t *testing.T) {
	developer := newKey(t)
	l := newLab(t, func(l *lab) {
		l.trust(processor.AllComponents(), processor.Signer{Key: developer.Public(), Rights: processor.AllComponents()})
	})
	l.device.Serve("lib", []byte("lib"))
	dep := l.signBy(one(1, idB, appB, "lib", "lib"), developer)
	l.device.Serve(depURI, dep)
	root := l.dependent(1, idRoot, appA, "own", idB, digestOf(t, dep), depURI)
	root.Uninstall = section(suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency),
		suit.SetComponentIndex(0), dir(suit.DirUnlink))
	l.mustUpdate(l.sign(root))
	l.trust(processor.AllComponents())
	l.start()
	if _, err := l.p.Validate(t.Context(), idRoot, processor.Options{}); err == nil {
		t.Fatal("a dependency of a revoked signer validates")
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v", s)
	}
}

func TestCircleOfDependencies(t *testing.T) {
	l := newLab(t)
	// A digest cannot be part of what it covers: only parameters that a dependent leaves behind
	// can close a circle. B depends on whatever idRoot is said to be.
	d := many(1, idB, appB, idRoot)
	d.Common.Dependencies = []suit.Dependency{{Index: 1}}
	d.DependencyResolution = section(suit.SetComponentIndex(1), uri("root"), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency))
	dep := l.sign(d)
	l.device.Serve(depURI, dep)
	root := many(1, idRoot, appA, idB)
	root.Common.Dependencies = []suit.Dependency{{Index: 1}}
	root.Common.SharedSequence.Commands = append(root.Common.SharedSequence.Commands, suit.SetComponentIndex(1),
		override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, dep)) }))
	root.DependencyResolution = section(suit.SetComponentIndex(1), uri(depURI), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency))
	l.device.Serve("root", l.sign(root))
	l.refuse(l.sign(root), suit.ReasonConditionFailed) // no digest for the way back
	// With the way back pinned to another manifest of the same identifier:
	other := l.sign(one(9, idRoot, appC, "c", "c"))
	l.device.Serve("root", other)
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, suit.SetComponentIndex(1),
		override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, other)) }))
	dep = l.sign(d)
	l.device.Serve(depURI, dep)
	cmds := root.Common.SharedSequence.Commands
	cmds[len(cmds)-1] = override(func(p *suit.Parameters) { p.SetDigest(digestOf(t, dep)) })
	if f := l.refuse(l.sign(root), suit.ReasonOperationFailed); !strings.Contains(f.Error(), "depends on itself") {
		t.Fatal(f)
	}
}

// chain makes n manifests, each depending on the one before.
func (l *lab) chain(n int) []byte {
	envelope := l.sign(one(1, suit.NewComponentID("app", "0.suit"), suit.NewComponentID("app", "0"), "0", "zero"))
	l.device.Serve("zero", []byte("0"))
	for i := 1; i < n; i++ {
		before := suit.NewComponentID("app", string(rune('0'+i-1))+".suit")
		from := before.String()
		l.device.Serve(from, envelope)
		envelope = l.sign(l.dependent(1, suit.NewComponentID("app", string(rune('0'+i))+".suit"),
			suit.NewComponentID("app", string(rune('0'+i))), "c", before, digestOf(l.t, envelope), from))
	}
	return envelope
}

func TestDepthOfDependencies(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Limits.Depth = 2 })
	l.mustUpdate(l.chain(3))
	if n := len(l.device.State().Manifests); n != 3 {
		t.Fatalf("%d manifests", n)
	}
	l = newLab(t, func(l *lab) { l.cfg.Limits.Depth = 2 })
	if f := l.refuse(l.chain(4), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Fatal(f)
	}
	l = newLab(t, func(l *lab) { l.cfg.Limits.Dependencies = 3 })
	if f := l.refuse(l.chain(4), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Fatal(f)
	}
}

func TestDependencyPrefix(t *testing.T) {
	l := newLab(t)
	l.device.Serve("lib", []byte("lib"))
	d := one(1, suit.NewComponentID("lib.suit"), suit.NewComponentID("lib"), "lib", "lib")
	dep := l.sign(d)
	l.device.Serve(depURI, dep)
	root := l.dependent(1, idRoot, appA, "own", suit.NewComponentID("app", "held"), digestOf(t, dep), depURI)
	root.Common.Dependencies[0].Prefix = suit.NewComponentID("app", "sub")
	l.mustUpdate(l.sign(root))
	l.wants(suit.NewComponentID("app", "sub", "lib"), "lib")
	if _, err := l.p.Validate(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if n := len(l.device.State().Content); n != 0 {
		t.Fatalf("%d components are left", n)
	}
}

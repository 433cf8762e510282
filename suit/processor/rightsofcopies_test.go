package processor_test

import (
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// copyParams is copy-params of labels of one component.
func copyParams(from uint64, labels ...suit.ParameterLabel) suit.Command {
	return suit.CopyParams(suit.CopyParameters{Source: from, Labels: labels})
}

// identityOnly are rights to say for what device a component is, and nothing else of it.
func identityOnly(id suit.ComponentID) processor.ComponentRights {
	return processor.ComponentRights{Prefix: id, Parameters: []suit.ParameterLabel{suit.ParamVendorIdentifier, suit.ParamClassIdentifier}}
}

// TestCopyParamsNeedsTheRightToSet: what a signer may not set in a component (SUIT §9), it may not
// set by copying it from where it may.
func TestCopyParamsNeedsTheRightToSet(t *testing.T) {
	c0, c1, from := suit.SetComponentIndex(0), suit.SetComponentIndex(1), uri("u")
	install := func(cmds ...suit.Command) func(*draft) {
		return func(d *draft) { d.Install = section(cmds...) }
	}
	for _, c := range []struct {
		name   string
		change func(*draft)
	}{
		{"one", install(c0, from, c1, copyParams(0, suit.ParamURI))},
		{"after one that it may set", install(c0, from, c1, copyParams(0, suit.ParamVendorIdentifier, suit.ParamURI))},
		{"in the second entry", install(c0, from, c1, suit.CopyParams(
			suit.CopyParameters{Source: 0, Labels: []suit.ParameterLabel{suit.ParamClassIdentifier}},
			suit.CopyParameters{Source: 1, Labels: []suit.ParameterLabel{suit.ParamURI}}))},
		{"to all at once", install(c0, from, suit.SetAllComponents(), copyParams(0, suit.ParamURI))},
		{"deep inside", install(c0, from, c1, suit.TryEach(seq{cond(suit.CondAbort)}, seq{suit.RunSequence(seq{copyParams(0, suit.ParamURI)})}))},
		{"to what a nested sequence may have selected", install(c0, from, suit.TryEach(seq{c1}, seq{c0}), copyParams(0, suit.ParamURI))},
		{"in the shared sequence", func(d *draft) {
			d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, c0, from, c1, copyParams(0, suit.ParamURI))
		}},
		{"in a section that does not run now", func(d *draft) { d.Load = section(c0, from, c1, copyParams(0, suit.ParamURI)) }},
		// Any parameter may be set for a dependency, because it says how to find that, and no more.
		{"from a dependency", func(d *draft) {
			d.Common.Components = append(d.Common.Components, idB)
			d.Common.Dependencies = []suit.Dependency{{Index: 2}}
			d.DependencyResolution = section(suit.SetComponentIndex(2), from, c1, copyParams(2, suit.ParamURI))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) {
				l.trust(processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}, {Prefix: idA}, identityOnly(appB)}})
			})
			d := many(1, idA, appA, appB)
			c.change(&d)
			f := l.refuse(l.sign(d), suit.ReasonComponentUnauthorised)
			if len(l.trail) != 0 {
				t.Error("commands ran")
			}
			if !f.Component.Equal(appB) || f.Command != suit.DirCopyParams {
				t.Errorf("refused for %s of %s: %v", f.Command, f.Component, f)
			}
		})
	}
	t.Run("exactly enough", func(t *testing.T) {
		l := newLab(t, func(l *lab) {
			l.trust(processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}, {Prefix: idA}, identityOnly(appB)}})
		})
		d := many(1, idA, appA, appB)
		d.Install = section(c0, from, c1, copyParams(0, suit.ParamVendorIdentifier, suit.ParamClassIdentifier))
		l.mustUpdate(l.sign(d))
	})
}

// TestCopyParamsFromWhatIsNotThere: neither a component that the signer has no rights to, nor one that
// the manifest does not have, is a source. Nothing runs before that is noticed.
func TestCopyParamsFromWhatIsNotThere(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   uint64
		reason suit.Reason
	}{
		{"another's component", 1, suit.ReasonComponentUnauthorised},
		{"no component", 2, suit.ReasonOperationFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			if c.reason == suit.ReasonComponentUnauthorised {
				l.trust(processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}, {Prefix: idA}}})
				l.start()
			}
			d := many(1, idA, appA, appB)
			d.Install = section(suit.SetComponentIndex(0), copyParams(c.from, suit.ParamVendorIdentifier))
			l.refuse(l.sign(d), c.reason)
			if len(l.trail) != 0 {
				t.Error("commands ran")
			}
		})
	}
}

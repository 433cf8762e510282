package processor_test

import (
	"context"
	cryptorand "crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// allConditions and allDirectives are those of the six texts (SUIT §11.4, trust domains, update
// management).
var (
	allConditions = []suit.CommandCode{suit.CondVendorIdentifier, suit.CondClassIdentifier, suit.CondImageMatch, suit.CondUseBefore,
		suit.CondComponentSlot, suit.CondCheckContent, suit.CondDependencyIntegrity, suit.CondIsDependency, suit.CondAbort,
		suit.CondDeviceIdentifier, suit.CondImageNotMatch, suit.CondMinimumBattery, suit.CondUpdateAuthorized, suit.CondVersion}
	allDirectives = []suit.CommandCode{suit.DirProcessDependency, suit.DirSetComponentIndex, suit.DirTryEach, suit.DirWrite,
		suit.DirSetParameters, suit.DirOverrideParameters, suit.DirFetch, suit.DirCopy, suit.DirInvoke, suit.DirWait, suit.DirSwap,
		suit.DirRunSequence, suit.DirUnlink, suit.DirOverrideMultiple, suit.DirCopyParams}
	allParameters = []suit.ParameterLabel{suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamImageDigest, suit.ParamUseBefore,
		suit.ParamComponentSlot, suit.ParamStrictOrder, suit.ParamSoftFailure, suit.ParamImageSize, suit.ParamContent,
		suit.ParamEncryptionInfo, suit.ParamURI, suit.ParamSourceComponent, suit.ParamInvokeArgs, suit.ParamDeviceIdentifier,
		suit.ParamFetchArguments, suit.ParamMinimumBattery, suit.ParamUpdatePriority, suit.ParamVersion, suit.ParamWaitInfo,
		suit.ParamComponentMetadata}
)

// One manifest with a dependency runs every condition and every directive, with every parameter, from
// the staging of its payloads to its removal; the report of each procedure expands to its trail.
func TestEveryCommandAndParameter(t *testing.T) {
	l := newLab(t)
	prepareForEverything(l)
	dep := l.sign(one(1, idB, appB, "library", "lib"))
	l.device.Serve(depURI, dep)
	d := everything(l, digestOf(t, dep))
	envelope := l.sign(d)

	var ran []suit.CommandCode
	done := func(proc processor.Procedure, report *suit.Report, err error) {
		t.Helper()
		for _, s := range l.trail {
			ran = append(ran, s.Command)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.explains(report, err, proc, envelope, dep)
	}
	report, err := l.p.Update(t.Context(), envelope, l.options())
	done(processor.ProcedureUpdate, report, err)
	l.wants(appA, "second")
	l.wants(appC, "first")
	l.wants(appB, "library")
	o := processor.Options{Trail: l.options().Trail}
	report, err = l.p.Invoke(t.Context(), idRoot, o)
	done(processor.ProcedureInvoke, report, err)
	if got := l.device.Invocations(); len(got) != 2 || string(got[1].Args) != "--now" {
		t.Errorf("invoked %v", got)
	}
	l.trail = nil
	report, err = l.p.Uninstall(t.Context(), idRoot, o)
	done(processor.ProcedureUninstall, report, err)
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Errorf("left behind: %v", s)
	}

	capabilities := l.p.Capabilities()
	for _, code := range append(slices.Clone(allConditions), allDirectives...) {
		if !slices.Contains(ran, code) {
			t.Errorf("%v did not run", code)
		}
		if !slices.Contains(capabilities.Commands, int64(code)) {
			t.Errorf("%v is not among the capabilities", code)
		}
	}
	for _, label := range allParameters {
		if !slices.Contains(capabilities.Parameters, int64(label)) {
			t.Errorf("parameter %v is not among the capabilities", label)
		}
		if !sets(d, label) {
			t.Errorf("parameter %v is not set by the manifest", label)
		}
	}
	if len(allConditions) != 14 || len(allDirectives) != 15 || len(capabilities.Commands) != 29 || len(capabilities.Parameters) != len(allParameters) {
		t.Errorf("%d conditions, %d directives, capabilities %+v", len(allConditions), len(allDirectives), capabilities)
	}
}

// sets tells whether any command of a manifest sets a parameter.
func sets(d draft, label suit.ParameterLabel) (found bool) {
	for _, section := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		d.Section(section).Commands.Walk(func(c *suit.Command) bool {
			found = found || c.Parameters.Has(label)
			for _, m := range c.Multiple {
				found = found || m.Parameters.Has(label)
			}
			return !found
		})
	}
	return found
}

func prepareForEverything(l *lab) {
	l.device.Serve("first", []byte("first"))
	l.device.Serve("lib", []byte("library"))
	battery := uint64(900)
	l.device.BatteryLevel = &battery
	l.device.SlotOf = map[string]uint64{appA.Key(): 1}
	l.device.VersionOf = map[string][]int64{appA.Key(): {1, 4, 0}}
	l.device.Clock = func() time.Time { return time.Unix(1_800_000_000, 0) }
	l.device.Authorize = func(_ context.Context, priority int64) (bool, error) { return priority == 3, nil }
	l.device.OnWait = func(context.Context, suit.WaitEvent) error { return nil }
	l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	l.device.DecryptKeys = keysForEverything
}

// everything is component 0, 1 and a dependency as component 2.
func everything(l *lab, dependency suit.Digest) draft {
	d := many(1, idRoot, appA, appC, idB)
	d.Common.Dependencies = []suit.Dependency{{Index: 2}}
	d.Common.SharedSequence = section(suit.SetComponentIndexes(0, 1),
		override(func(p *suit.Parameters) { identity(p); p.SetDeviceID(suit.NewVendorID("device 7")) }),
		cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier), cond(suit.CondDeviceIdentifier),
		suit.SetComponentIndex(2), override(func(p *suit.Parameters) { p.SetDigest(dependency) }))
	process := suit.Sequence{suit.SetComponentIndex(2), cond(suit.CondIsDependency), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency)}
	d.DependencyResolution = section(suit.SetComponentIndex(2), uri(depURI), dir(suit.DirFetch), cond(suit.CondDependencyIntegrity),
		dir(suit.DirProcessDependency))
	zero := int64(0)
	d.PayloadFetch = section(append(slices.Clone(process),
		suit.SetComponentIndex(0),
		override(func(p *suit.Parameters) {
			p.SetSlot(1)
			p.SetUseBefore(1_900_000_000)
			p.SetMinimumBattery(500)
			p.SetUpdatePriority(3)
			p.SetVersion(suit.VersionMatch{Comparison: suit.GreaterEqual, Value: suit.Version{1, 4}})
			p.SetWaitInfo(suit.WaitEvent{Authorization: &zero})
		}),
		cond(suit.CondComponentSlot), cond(suit.CondUseBefore), cond(suit.CondMinimumBattery), cond(suit.CondUpdateAuthorized),
		cond(suit.CondVersion), dir(suit.DirWait))...)
	ciphertextInfo := func(p *suit.Parameters) {
		image("second")(p)
		p.SetContent(ciphertextForEverything)
		if err := p.SetEncryptionInfo(infoForEverything); err != nil {
			l.t.Fatal(err)
		}
	}
	d.Install = section(append(slices.Clone(process),
		suit.OverrideMultiple(suit.ComponentParameters{Index: 0, Parameters: params(func(p *suit.Parameters) {
			image("first")(p)
			p.SetComponentMetadata(suit.ComponentMetadata{FileType: suit.FileRegular})
		})}, suit.ComponentParameters{Index: 1, Parameters: params(ciphertextInfo)}),
		// The first sequence gives up, so the second one counts.
		suit.TryEach(suit.Sequence{suit.SetComponentIndex(0), cond(suit.CondAbort)},
			suit.Sequence{suit.SetComponentIndex(0), override(func(p *suit.Parameters) { p.SetSoftFailure(false); p.SetStrictOrder(true) }),
				suit.SetParameters(params(func(p *suit.Parameters) { p.SetURI("first"); p.SetFetchArguments([]byte("fast")) })),
				dir(suit.DirFetch), cond(suit.CondImageMatch)}),
		suit.SetComponentIndex(1), dir(suit.DirWrite), cond(suit.CondImageMatch),
		suit.SetComponentIndex(0), source(1), dir(suit.DirSwap),
		suit.RunSequence(suit.Sequence{suit.CopyParams(suit.CopyParameters{Source: 1, Labels: []suit.ParameterLabel{suit.ParamImageDigest, suit.ParamImageSize}}),
			cond(suit.CondImageMatch)}))...)
	d.Validate = section(append(slices.Clone(process), suit.SetComponentIndex(0),
		override(func(p *suit.Parameters) { p.SetContent([]byte("second")); image("first")(p) }),
		cond(suit.CondCheckContent), cond(suit.CondImageNotMatch))...)
	d.Load = section(append(slices.Clone(process), suit.SetComponentIndex(1), source(0), dir(suit.DirCopy))...)
	d.Invoke = section(append(slices.Clone(process), suit.SetComponentIndex(0),
		override(func(p *suit.Parameters) { p.SetInvokeArgs([]byte("--now")) }), dir(suit.DirInvoke))...)
	d.Uninstall = section(suit.SetAllComponents(), dir(suit.DirUnlink))
	return d
}

var keysForEverything, infoForEverything, ciphertextForEverything = func() (cose.DecryptKeys, []byte, []byte) {
	kek := cose.NewSymmetricKey([]byte("0123456789abcdef"))
	info, ciphertext, err := cose.Encrypt(cryptorand.Reader, []byte("second"), cose.AlgChaCha20Poly1305,
		[]cose.Recipient{cose.A128KWRecipient(kek)}, cose.EncryptOptions{Detached: true})
	if err != nil {
		panic(err)
	}
	return cose.DecryptKeys{kek}, info, ciphertext
}()

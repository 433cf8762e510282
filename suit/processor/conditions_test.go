package processor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// conditionDraft runs one condition on a component that holds "x", with parameters set before.
func conditionDraft(c suit.CommandCode, set func(*suit.Parameters)) draft {
	var d draft
	d.SequenceNumber, d.ComponentID = 1, idA
	d.Common.Components = []suit.ComponentID{appA}
	d.Common.SharedSequence = section(override(identity), cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier))
	var seq []suit.Command
	if set != nil {
		seq = append(seq, override(set))
	}
	d.Install = section(append(seq, cond(c))...)
	return d
}

func TestConditions(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	version := func(c suit.Comparison, v ...int64) func(*suit.Parameters) {
		return func(p *suit.Parameters) { p.SetVersion(suit.VersionMatch{Comparison: c, Value: v}) }
	}
	priority := func(n int64) func(*suit.Parameters) {
		return func(p *suit.Parameters) { p.SetUpdatePriority(n) }
	}
	otherUUID := suit.NewVendorID("other.example")
	for _, c := range []struct {
		name string
		code suit.CommandCode
		set  func(*suit.Parameters)
		ok   bool
	}{
		{"vendor of another", suit.CondVendorIdentifier, func(p *suit.Parameters) { p.SetVendorID(suit.VendorID{UUID: otherUUID}) }, false},
		{"vendor of zeros", suit.CondVendorIdentifier, func(p *suit.Parameters) { p.SetVendorID(suit.VendorID{}) }, false},
		{"vendor by enterprise number", suit.CondVendorIdentifier, func(p *suit.Parameters) { p.SetVendorID(suit.NewPEN(32473)) }, false},
		{"class of another", suit.CondClassIdentifier, func(p *suit.Parameters) { p.SetClassID(otherUUID) }, false},
		{"device", suit.CondDeviceIdentifier, func(p *suit.Parameters) { p.SetDeviceID(suit.NewVendorID("device 7")) }, true},
		{"another device", suit.CondDeviceIdentifier, func(p *suit.Parameters) { p.SetDeviceID(otherUUID) }, false},
		{"device unset", suit.CondDeviceIdentifier, nil, false},
		{"image", suit.CondImageMatch, image("x"), true},
		{"image by digest alone", suit.CondImageMatch, func(p *suit.Parameters) { p.SetDigest(suit.NewDigest([]byte("x"))) }, true},
		{"image, digest of another", suit.CondImageMatch, image("y"), false},
		{"image, size of another", suit.CondImageMatch, func(p *suit.Parameters) { image("x")(p); p.SetSize(2) }, false},
		{"image, digest unset", suit.CondImageMatch, func(p *suit.Parameters) { p.SetSize(1) }, false},
		{"image not", suit.CondImageNotMatch, image("y"), true},
		{"image not, but it is", suit.CondImageNotMatch, image("x"), false},
		{"image not, digest unset", suit.CondImageNotMatch, nil, false},
		{"content", suit.CondCheckContent, func(p *suit.Parameters) { p.SetContent([]byte("x")) }, true},
		{"other content", suit.CondCheckContent, func(p *suit.Parameters) { p.SetContent([]byte("y")) }, false},
		{"longer content", suit.CondCheckContent, func(p *suit.Parameters) { p.SetContent([]byte("xy")) }, false},
		{"shorter content", suit.CondCheckContent, func(p *suit.Parameters) { p.SetContent([]byte{}) }, false},
		{"content unset", suit.CondCheckContent, nil, false},
		{"slot", suit.CondComponentSlot, func(p *suit.Parameters) { p.SetSlot(3) }, true},
		{"other slot", suit.CondComponentSlot, func(p *suit.Parameters) { p.SetSlot(0) }, false},
		{"slot unset", suit.CondComponentSlot, nil, false},
		{"in time", suit.CondUseBefore, func(p *suit.Parameters) { p.SetUseBefore(uint64(now.Unix()) + 1) }, true},
		{"at the very second", suit.CondUseBefore, func(p *suit.Parameters) { p.SetUseBefore(uint64(now.Unix())) }, false},
		{"a second of 64 bits", suit.CondUseBefore, func(p *suit.Parameters) { p.SetUseBefore(1<<63 + 1) }, true},
		{"use-before unset", suit.CondUseBefore, nil, false},
		{"battery", suit.CondMinimumBattery, func(p *suit.Parameters) { p.SetMinimumBattery(500) }, true},
		{"battery too low", suit.CondMinimumBattery, func(p *suit.Parameters) { p.SetMinimumBattery(501) }, false},
		{"battery unset", suit.CondMinimumBattery, nil, false},
		{"authorized", suit.CondUpdateAuthorized, priority(-1), true},
		{"not authorized", suit.CondUpdateAuthorized, priority(1), false},
		{"authorization fails", suit.CondUpdateAuthorized, priority(2), false},
		{"priority unset", suit.CondUpdateAuthorized, nil, false},
		{"version", suit.CondVersion, version(suit.GreaterEqual, 1, 2), true},
		{"version too old", suit.CondVersion, version(suit.Greater, 1, 2, 3), false},
		{"version unset", suit.CondVersion, nil, false},
		{"is dependency, which it is not", suit.CondIsDependency, nil, false},
		{"dependency integrity of what is none", suit.CondDependencyIntegrity, image("x"), false},
		{"abort", suit.CondAbort, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			charge := uint64(500)
			l.device.Put(appA, []byte("x"))
			l.device.Clock = func() time.Time { return now }
			l.device.SlotOf = map[string]uint64{appA.Key(): 3}
			l.device.VersionOf = map[string][]int64{appA.Key(): {1, 2, 3}}
			l.device.BatteryLevel = &charge
			l.device.Authorize = func(_ context.Context, p int64) (bool, error) {
				if p == 2 {
					return true, errors.New("nobody answers")
				}
				return p < 0, nil
			}
			envelope := l.sign(conditionDraft(c.code, c.set))
			l.explained(envelope)
			if c.ok {
				l.mustUpdate(envelope)
			} else if f := l.refuse(envelope, suit.ReasonConditionFailed); f.Command != c.code || f.Section != suit.LabelInstall {
				t.Errorf("failed elsewhere: %v", f)
			}
		})
	}
}

func TestConditionsThatNobodyCanAnswerFail(t *testing.T) {
	for _, c := range []struct {
		code suit.CommandCode
		set  func(*suit.Parameters)
	}{
		{suit.CondComponentSlot, func(p *suit.Parameters) { p.SetSlot(0) }},
		{suit.CondMinimumBattery, func(p *suit.Parameters) { p.SetMinimumBattery(0) }},
		{suit.CondUpdateAuthorized, func(p *suit.Parameters) { p.SetUpdatePriority(0) }},
		{suit.CondVersion, func(p *suit.Parameters) {
			p.SetVersion(suit.VersionMatch{Comparison: suit.GreaterEqual, Value: suit.Version{0}})
		}},
		{suit.CondImageMatch, image("x")},
		{suit.CondCheckContent, func(p *suit.Parameters) { p.SetContent(nil) }},
	} {
		l := newLab(t)
		l.refuse(l.sign(conditionDraft(c.code, c.set)), suit.ReasonConditionFailed)
	}
	l := newLab(t)
	l.device.Default = processor.Identity{}
	l.refuse(l.sign(conditionDraft(suit.CondVendorIdentifier, func(p *suit.Parameters) { p.SetVendorID(suit.VendorID{}) })), suit.ReasonConditionFailed)
}

func TestImageNotMatchOfAnEmptyComponent(t *testing.T) {
	l := newLab(t)
	l.mustUpdate(l.sign(conditionDraft(suit.CondImageNotMatch, image("x"))))
}

func TestWait(t *testing.T) {
	second := uint64(1_800_000_000)
	d := conditionDraft(suit.CondAbort, nil)
	d.Install = section(override(func(p *suit.Parameters) { p.SetWaitInfo(suit.WaitEvent{Time: &second}) }), dir(suit.DirWait))
	l := newLab(t)
	envelope := l.sign(d)
	l.refuse(envelope, suit.ReasonOperationFailed) // far beyond the time of one run
	l.device.Clock = func() time.Time { return time.Unix(1_799_999_999, 0) }
	l.refuse(envelope, suit.ReasonOperationFailed) // the device does not know how to wait
	waited := 0
	l.device.OnWait = func(_ context.Context, e suit.WaitEvent) error {
		waited++
		if e.Time == nil || *e.Time != second {
			t.Errorf("waits for %+v", e)
		}
		return nil
	}
	l.mustUpdate(envelope)
	if waited != 1 {
		t.Errorf("waited %d times", waited)
	}
	d.Install = section(dir(suit.DirWait))
	d.SequenceNumber = 2
	l.refuse(l.sign(d), suit.ReasonOperationFailed) // nothing to wait for
}

// explained runs a manifest dry, expands its report, and compares with the trail that the run told.
func (l *lab) explained(envelope []byte, dependencies ...[]byte) {
	l.t.Helper()
	o := l.options()
	o.DryRun, o.Available = true, dependencies
	report, runErr := l.p.Update(l.t.Context(), envelope, o)
	l.explains(report, runErr, processor.ProcedureUpdate, append([][]byte{envelope}, dependencies...)...)
}

// explains expands a report and compares with the trail of the last run.
func (l *lab) explains(report *suit.Report, runErr error, proc processor.Procedure, encoded ...[]byte) {
	l.t.Helper()
	l.checkReport(report, runErr)
	data, err := report.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	parsed, err := suit.ParseReport(data)
	if err != nil {
		l.t.Fatal(err)
	}
	envelopes := make([]*suit.Envelope, len(encoded))
	for i, b := range encoded {
		if envelopes[i], err = suit.ParseEnvelope(b); err != nil {
			l.t.Fatal(err)
		}
	}
	ex, err := processor.Explain(parsed, 0, envelopes[0], envelopes[1:]...)
	if err != nil {
		l.t.Errorf("explain: %v (the run ended with %v)", err, runErr)
		if ex == nil {
			return
		}
	}
	if len(ex.Steps) > 0 && (ex.Procedure != proc || !ex.Told) {
		l.t.Errorf("the report tells of %v (%v), what ran is %v", ex.Procedure, ex.Told, proc)
	}
	l.sameTrail(ex.Steps)
}

func (l *lab) sameTrail(explained []processor.Step) {
	l.t.Helper()
	line := func(s processor.Step) string { s.Why = nil; return s.String() }
	for i := range max(len(explained), len(l.trail)) {
		switch {
		case i >= len(explained):
			l.t.Fatalf("step %d happened and was not explained: %s", i, l.trail[i])
		case i >= len(l.trail):
			l.t.Fatalf("step %d was explained and did not happen: %s", i, explained[i])
		case line(explained[i]) != line(l.trail[i]):
			l.t.Fatalf("step %d: explained as %q, was %q", i, line(explained[i]), l.trail[i])
		}
	}
}

package processor_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// quiet makes a manifest whose commands ask for no record: its reports say nothing but how they ended.
func quiet(d draft) draft {
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		s := d.Section(label)
		for i := range s.Commands {
			s.Commands[i].Policy = 0
		}
	}
	return d
}

func (l *lab) parse(data []byte) *suit.Envelope {
	l.t.Helper()
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

// told expands a report without being told what ran, and holds it against the trail of the last run.
func (l *lab) told(report *suit.Report, envelope []byte) *processor.Explanation {
	l.t.Helper()
	ex, err := processor.Explain(report, 0, l.parse(envelope))
	if err != nil {
		l.t.Fatal(err)
	}
	l.sameTrail(ex.Steps)
	if !ex.Told {
		l.t.Error("the report does not tell what ran")
	}
	return ex
}

// Every procedure on a manifest that asks for no records: its report tells which one it was.
func TestReportsTellTheProcedure(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	l.device.OnInvoke = nil
	envelope := l.sign(quiet(one(1, idA, appA, "x", "u")))
	for _, c := range []struct {
		want  processor.Procedure
		found bool
		run   func(o processor.Options) (*suit.Report, error)
	}{
		{processor.ProcedureUpdate, false, nil},
		{processor.ProcedureUpdate, true, nil},
		{processor.ProcedureValidate, false, func(o processor.Options) (*suit.Report, error) { return l.p.Validate(t.Context(), idA, o) }},
		{processor.ProcedureInvoke, false, func(o processor.Options) (*suit.Report, error) {
			o.DryRun = true
			return l.p.Invoke(t.Context(), idA, o)
		}},
		{processor.ProcedureUninstall, false, func(o processor.Options) (*suit.Report, error) { return l.p.Uninstall(t.Context(), idA, o) }},
	} {
		var report *suit.Report
		var err error
		if c.run == nil {
			report, err = l.update(envelope)
		} else {
			report, err = c.run(processor.Options{Trail: l.options().Trail})
		}
		if err != nil {
			t.Fatal(c.want, err)
		}
		ex := l.told(report, envelope)
		if ex.Procedure != c.want || ex.Found != c.found || ex.Repaired || ex.Removed {
			t.Errorf("%v, found %v: told of %+v", c.want, c.found, ex)
		}
		// Saying the right one does no harm; another is refused.
		for _, said := range []processor.Procedure{processor.ProcedureUpdate, processor.ProcedureValidate, processor.ProcedureInvoke, processor.ProcedureUninstall} {
			if _, err := processor.Explain(report, said, l.parse(envelope)); errors.Is(err, processor.ErrMismatch) != (said != c.want) {
				t.Errorf("%v, explained as %v: %v", c.want, said, err)
			}
		}
	}
}

// Without what this processor adds, nobody knows, and nothing is invented.
func TestUntoldReports(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	envelope := l.sign(quiet(one(1, idA, appA, "x", "u")))
	report, err := l.update(envelope)
	if err != nil {
		t.Fatal(err)
	}
	foreign := *report
	foreign.Records = nil
	if ex, err := processor.Explain(&foreign, 0, l.parse(envelope)); !errors.Is(err, processor.ErrUntold) || ex != nil {
		t.Errorf("success without records: %v, %v", ex, err)
	}
	ex, err := processor.Explain(&foreign, processor.ProcedureUpdate, l.parse(envelope))
	if err != nil || ex.Told || len(ex.Steps) != len(l.trail) {
		t.Errorf("on the caller's word: %+v, %v", ex, err)
	}
	// Where it ended says enough, or not.
	end := func(s suit.Label, offset uint64) *suit.Report {
		r := suit.Record{Section: s, Offset: offset}
		f := foreign
		f.Failure = &suit.Failure{Reason: suit.ReasonOperationFailed, Record: r}
		f.Records = []suit.ReportEntry{{Record: &r}}
		return &f
	}
	install := l.trail[slices.IndexFunc(l.trail, func(s processor.Step) bool { return s.Section == suit.LabelInstall })]
	if ex, err := processor.Explain(end(suit.LabelInstall, uint64(install.Offset)), 0, l.parse(envelope)); err != nil || !ex.Told || ex.Procedure != processor.ProcedureUpdate {
		t.Errorf("a failure in suit-install is one of an update: %+v, %v", ex, err)
	}
	validate := l.trail[len(l.trail)-1]
	if _, err := processor.Explain(end(suit.LabelValidate, uint64(validate.Offset)), 0, l.parse(envelope)); !errors.Is(err, processor.ErrUntold) {
		t.Errorf("a failure in suit-validate may be of any procedure: %v", err)
	}
}

// What was installed and does not hold any more is installed anew, and the report has both, one after
// the other.
func TestReportsTellOfRepairs(t *testing.T) {
	for name, c := range map[string]struct {
		validate suit.Sequence
		harm     func(*lab)
	}{
		"condition": {seq{silent(suit.CondImageMatch)}, func(l *lab) { l.device.Put(appA, []byte("y")) }},
		"condition in try-each": {seq{suit.TryEach(seq{silent(suit.CondImageMatch)}, seq{override(image("z")), silent(suit.CondImageMatch)})},
			func(l *lab) { l.device.Put(appA, []byte("y")) }},
		"empty, and not looked at": {seq{override(identity)}, func(l *lab) { l.device.Lose(appA) }},
		"operation": {seq{override(func(p *suit.Parameters) { p.SetWaitInfo(suit.WaitEvent{Authorization: new(int64)}) }), silent(suit.DirWait)},
			func(l *lab) {
				l.device.OnWait = func(context.Context, suit.WaitEvent) error {
					l.device.OnWait = func(context.Context, suit.WaitEvent) error { return nil }
					return errRandom
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.device.OnWait = func(context.Context, suit.WaitEvent) error { return nil }
			l.device.Serve("u", []byte("x"))
			d := quiet(one(1, idA, appA, "x", "u"))
			d.Validate = section(c.validate...)
			envelope := l.sign(d)
			l.mustUpdate(envelope)
			c.harm(l)
			report, err := l.update(envelope)
			if err != nil {
				t.Fatal(err)
			}
			if ex := l.told(report, envelope); !ex.Found || !ex.Repaired || ex.Procedure != processor.ProcedureUpdate {
				t.Errorf("told of %+v", ex)
			}
		})
	}
}

func TestReportTellsThatNothingRanForARevokedSigner(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	envelope := l.sign(one(1, idA, appA, "x", "u"))
	l.mustUpdate(envelope)
	l.author = newKey(t)
	l.trust(processor.AllComponents())
	l.start()
	report, err := l.p.Uninstall(t.Context(), idA, processor.Options{Trail: l.options().Trail})
	if err != nil {
		t.Fatal(err)
	}
	if ex := l.told(report, envelope); !ex.Removed || len(ex.Steps) > 0 {
		t.Errorf("told of %+v", ex)
	}
}

// A device that got an envelope without a severed section did not run it, whatever the author's has.
func TestExplainOfASeveredSection(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	d := one(1, idA, appA, "x", "u")
	d.severable = []suit.Label{suit.LabelInstall}
	whole := l.sign(d)
	e := l.parse(whole)
	e.Sever(suit.LabelInstall)
	report, err := l.update(e.Encode())
	if err == nil || report.Failure.Code != processor.CodeSevered {
		t.Fatalf("%v, %+v", err, report.Failure)
	}
	l.told(report, whole)
}

func TestExplainAsksForTheDependency(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("lib"))
	library := l.sign(one(1, idB, appB, "lib", "u"))
	d := l.dependent(1, idA, appA, "own", idB, digestOf(t, library), "#lib")
	d.integrated["#lib"] = library
	envelope := l.sign(d)
	report, err := l.update(envelope)
	if err != nil {
		t.Fatal(err)
	}
	ex, err := processor.Explain(report, 0, l.parse(envelope))
	var missing *processor.DependencyError
	if !errors.As(err, &missing) || !missing.Digest.Equal(digestOf(t, library)) || !missing.Dependency.Equal(idB) {
		t.Fatal(err)
	}
	if n := len(ex.Steps); n == 0 || ex.Steps[n-1].Command != suit.DirProcessDependency || ex.Steps[n-1].Failed {
		t.Fatalf("%d steps, the last is %v", n, ex.Steps[n-1])
	}
	l.trail = l.trail[:len(ex.Steps)]
	l.sameTrail(ex.Steps)
	ex, err = processor.Explain(report, 0, l.parse(envelope), l.parse(library))
	if err != nil || len(ex.Steps) <= len(l.trail) {
		t.Fatalf("with the dependency: %v", err)
	}
	// A dependency that is installed already is not processed, and not needed to tell so.
	upgraded := l.dependent(2, idA, appA, "new", idB, digestOf(t, library), "#lib")
	upgraded.Validate = section(suit.SetComponentIndex(0), cond(suit.CondImageMatch))
	upgraded.integrated["#lib"] = library
	// Its validation is asked for all the same; leave that out of this dependency.
	bare := one(1, idRoot, appC, "lib", "u")
	bare.Validate = suit.Section{}
	bareEnvelope := l.sign(bare)
	l.mustUpdate(bareEnvelope)
	on := l.dependent(1, idB.Join(suit.NewComponentID("2")), suit.NewComponentID("app", "d"), "own", idRoot, digestOf(t, bareEnvelope), "#lib")
	on.Validate = section(suit.SetComponentIndex(0), cond(suit.CondImageMatch))
	on.integrated["#lib"] = bareEnvelope
	envelope = l.sign(on)
	if report, err = l.update(envelope); err != nil {
		t.Fatal(err)
	}
	l.told(report, envelope)
}

// Where records were left out the trail ends, in a success too: what came then is not invented.
func TestTrailEndsWhereRecordsWereLeftOut(t *testing.T) {
	d := many(1, idA, appA)
	d.Install = section(cond(suit.CondVendorIdentifier), suit.TryEach(seq{cond(suit.CondAbort)}, seq{cond(suit.CondVendorIdentifier)}))
	whole := 0
	for records := 1; whole == 0; records++ {
		l := newLab(t, func(l *lab) { l.cfg.Limits.Records = records })
		envelope := l.sign(d)
		report, err := l.update(envelope)
		if err != nil {
			t.Fatal(err)
		}
		ex, err := processor.Explain(report, 0, l.parse(envelope))
		switch {
		case err == nil:
			whole = records
		case !errors.Is(err, processor.ErrCut):
			t.Fatal(err)
		case len(ex.Steps) == 0:
			t.Errorf("room for %d records, and none is explained", records)
		default:
			l.trail = l.trail[:len(ex.Steps)]
		}
		l.sameTrail(ex.Steps)
	}
	if whole < 5 {
		t.Errorf("room for %d records is enough for all, which tests nothing", whole)
	}
}

func TestForgedCourses(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	envelope := l.sign(one(1, idA, appA, "x", "u"))
	report, err := l.update(envelope)
	if err != nil {
		t.Fatal(err)
	}
	say := func(word string) suit.ReportEntry {
		return suit.ReportEntry{Claims: &suit.SystemPropertyClaims{Component: idA, Parameters: params(func(p *suit.Parameters) { p.SetInvokeArgs([]byte(word)) })}}
	}
	first, rest := report.Records[0], report.Records[1:]
	for name, entries := range map[string][]suit.ReportEntry{
		"twice":                 append([]suit.ReportEntry{first, first}, rest...),
		"too late":              append(slices.Clone(rest), first),
		"repair of nothing":     append([]suit.ReportEntry{first, say("repair-condition")}, rest...),
		"records after the cut": append([]suit.ReportEntry{first, say("cut")}, rest...),
		"another procedure":     append([]suit.ReportEntry{say("invoke")}, rest...),
	} {
		forged := *report
		forged.Records = entries
		if _, err := processor.Explain(&forged, 0, l.parse(envelope)); !errors.Is(err, processor.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Words that are no course are measured properties like any others.
	odd := *report
	odd.Records = append(slices.Clone(report.Records), say("something else"))
	l.told(&odd, envelope)
}

package processor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// crowd is a manifest of n components; more goes into its shared sequence.
func crowd(n int, more ...suit.Command) draft {
	ids := make([]suit.ComponentID, n)
	for i := range ids {
		ids[i] = suit.NewComponentID("app", fmt.Sprint(i))
	}
	d := many(1, idA, ids...)
	for i := range d.Common.SharedSequence.Commands {
		d.Common.SharedSequence.Commands[i].Policy = 0
	}
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, more...)
	return d
}

func silent(c suit.CommandCode) suit.Command { return suit.Condition(c, 0) }

func repeat(n int, c ...suit.Command) []suit.Command { return slices.Repeat(c, n) }

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A few bytes that ask for a condition on a thousand components, a thousand times, are refused
// before they cost anything.
func TestSmallManifestOfMuchWork(t *testing.T) {
	l := newLab(t)
	envelope := l.sign(crowd(1000, repeat(2000, silent(suit.CondVendorIdentifier))...))
	used := allocated(func() {
		if f := l.refuse(envelope, suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
			t.Fatal(f)
		}
	})
	if len(l.trail) > 0 {
		t.Error("commands ran")
	}
	if used > 64<<20 {
		t.Errorf("%d bytes were allocated for an envelope of %d", used, len(envelope))
	}
}

// What one run may execute counts each component, also where the checks before it find little.
func TestCommandsCountForEachComponent(t *testing.T) {
	multiple := func(n int) suit.Command {
		var entries []suit.ComponentParameters
		for i := range n {
			entries = append(entries, suit.ComponentParameters{Index: uint64(i),
				Parameters: params(func(p *suit.Parameters) { p.SetURI("u") })})
		}
		return suit.OverrideMultiple(entries...)
	}
	copies := suit.CopyParams(
		suit.CopyParameters{Source: 0, Labels: []suit.ParameterLabel{suit.ParamVendorIdentifier}},
		suit.CopyParameters{Source: 1, Labels: []suit.ParameterLabel{suit.ParamClassIdentifier}})
	// The shared sequence counts 1 + 3 × 10.
	const shared = 31
	for _, c := range []struct {
		name string
		// checks is what the checks count for the commands, runs what a run of them does.
		checks, runs int
		install      []suit.Command
	}{
		{"conditions", 11, 11, []suit.Command{suit.SetAllComponents(), silent(suit.CondVendorIdentifier)}},
		{"parameters", 11, 11, []suit.Command{suit.SetAllComponents(), override(identity)}},
		{"a list", 4, 4, []suit.Command{suit.SetComponentIndexes(1, 2, 3), silent(suit.CondVendorIdentifier)}},
		{"one", 2, 2, []suit.Command{suit.SetComponentIndex(3), silent(suit.CondVendorIdentifier)}},
		{"several at once", 11, 11, []suit.Command{suit.SetComponentIndex(0), multiple(10)}},
		{"copies", 21, 21, []suit.Command{suit.SetAllComponents(), copies}},
		{"a nested sequence", 21, 21, []suit.Command{suit.SetAllComponents(), suit.RunSequence(seq{silent(suit.CondVendorIdentifier)})}},
		{"one of two", 41, 21, []suit.Command{suit.SetAllComponents(),
			suit.TryEach(seq{silent(suit.CondVendorIdentifier)}, seq{silent(suit.CondAbort)})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := crowd(10)
			s := section(c.install...)
			d.CandidateVerification, d.Install, d.Validate = s, s, s
			run := func(limit int) (*lab, error) {
				l := newLab(t, func(l *lab) { l.cfg.Limits.Commands = limit })
				envelope := l.sign(d)
				report, err := l.update(envelope)
				l.explains(report, err, processor.ProcedureUpdate, envelope)
				return l, err
			}
			checks, runs := shared+3*c.checks, 3*(shared+c.runs)
			if l, err := run(checks - 1); !errors.Is(err, processor.ErrLimit) || len(l.trail) > 0 {
				t.Errorf("%d commands, one less than the checks count: %v after %d steps", checks-1, err, len(l.trail))
			}
			if l, err := run(runs - 1); !errors.Is(err, processor.ErrLimit) || len(l.trail) == 0 {
				t.Errorf("%d commands, one less than run: %v after %d steps", runs-1, err, len(l.trail))
			}
			if _, err := run(runs); err != nil {
				t.Errorf("%d commands, all of them: %v", runs, err)
			}
		})
	}
}

// Conditions whose policy wants no record are kept for what may fail later, but not without end.
func TestSilentRecordsAreBounded(t *testing.T) {
	const components, rounds = 500, 40
	d := crowd(components)
	d.Install = section(suit.SetAllComponents(), suit.RunSequence(repeat(rounds, silent(suit.CondVendorIdentifier))))
	cost := func(records int) uint64 {
		l := newLab(t, func(l *lab) { l.cfg.Limits.Records = records })
		envelope := l.sign(d)
		return allocated(func() {
			if _, err := l.p.Update(t.Context(), envelope, processor.UpdateOptions{DryRun: true}); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := cost(1), cost(16384)
	if kept := (many - min(few, many)) / (components * rounds); kept < 100 {
		t.Errorf("keeping all takes only %d bytes for each of them more than keeping 16", kept)
	}
}

// A report that was cut off still has the failure, and its expansion says that it cannot be followed.
func TestRecordsThatWereCutOff(t *testing.T) {
	d := crowd(20)
	d.Install = section(suit.SetAllComponents(), suit.RunSequence(seq{silent(suit.CondVendorIdentifier), silent(suit.CondClassIdentifier)}),
		suit.SetComponentIndex(19), suit.Condition(suit.CondImageMatch, suit.ReportAll))
	for _, c := range []struct {
		records int
		cut     bool
	}{{2, true}, {64, false}} {
		l := newLab(t, func(l *lab) { l.cfg.Limits.Records = c.records })
		envelope := l.sign(d)
		report, err := l.update(envelope)
		if err == nil || report.Failure == nil || report.Failure.Record.ComponentIndex != 19 || report.Failure.Record.Section != suit.LabelInstall {
			t.Fatalf("%v, failure %+v", err, report.Failure)
		}
		e, err := suit.ParseEnvelope(envelope)
		if err != nil {
			t.Fatal(err)
		}
		ex, err := processor.Explain(report, 0, e)
		if c.cut != errors.Is(err, processor.ErrCut) || !c.cut && err != nil {
			t.Fatalf("expansion with room for %d: %v", c.records, err)
		}
		l.trail = l.trail[:min(len(ex.Steps), len(l.trail))]
		l.sameTrail(ex.Steps)
	}
}

// asked is an Authority that says when it was asked for rights.
type asked struct {
	processor.Authority
	then func()
}

func (a asked) Rights(signer *cose.Key) (processor.Rights, bool) {
	a.then()
	return a.Authority.Rights(signer)
}

// The checks before the run end with its time.
func TestChecksObeyTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := newLab(t, func(l *lab) { l.cfg.Authority = asked{l.cfg.Authority, cancel} })
	d := crowd(10)
	// What the checks would refuse if they went on.
	d.Install = section(suit.SetAllComponents(), suit.Command{Code: suit.DirInvoke, Policy: suit.ReportAll})
	report, err := l.p.Update(ctx, l.sign(d), processor.UpdateOptions{})
	l.checkReport(report, err)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A thousand components that need all the phases stay below the limits that hold by default.
func TestThousandComponents(t *testing.T) {
	const n = 1000
	l := newLab(t)
	d := crowd(n)
	for i := range n {
		d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands,
			suit.SetComponentIndex(uint64(i)), override(image("x")))
	}
	l.device.Serve("u", []byte("x"))
	d.PayloadFetch = section(suit.SetAllComponents(), uri("u"), suit.Directive(suit.DirFetch, 0), silent(suit.CondImageMatch))
	d.Install = section(suit.SetAllComponents(), suit.TryEach(seq{silent(suit.CondImageMatch)},
		seq{suit.Directive(suit.DirFetch, 0), silent(suit.CondImageMatch)}))
	d.Validate = section(suit.SetAllComponents(), silent(suit.CondImageMatch))
	l.mustUpdate(l.sign(d))
}

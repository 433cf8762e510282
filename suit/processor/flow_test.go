package processor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

func content(s string) suit.Command {
	return override(func(p *suit.Parameters) { p.SetContent([]byte(s)) })
}

func soft(v bool) suit.Command {
	return override(func(p *suit.Parameters) { p.SetSoftFailure(v) })
}

func strict(v bool) suit.Command {
	return override(func(p *suit.Parameters) { p.SetStrictOrder(v) })
}

func source(i uint64) suit.Command {
	return override(func(p *suit.Parameters) { p.SetSourceComponent(i) })
}

type seq = suit.Sequence

// Each install section runs on three components; wants says what a, b and c hold afterwards, or
// which failure ended it.
func TestFlowOfControl(t *testing.T) {
	c0, c1, c2, all := suit.SetComponentIndex(0), suit.SetComponentIndex(1), suit.SetComponentIndex(2), suit.SetAllComponents()
	write, abort := dir(suit.DirWrite), cond(suit.CondAbort)
	isSlot := func(n uint64) suit.Sequence {
		return seq{override(func(p *suit.Parameters) { p.SetSlot(n) }), cond(suit.CondComponentSlot)}
	}
	for _, c := range []struct {
		name  string
		cmds  []suit.Command
		wants [3]string
		fails suit.Reason
	}{
		{"one component", []suit.Command{c0, content("x"), write}, [3]string{"x", "", ""}, 0},
		{"all components", []suit.Command{all, content("x"), write}, [3]string{"x", "x", "x"}, 0},
		{"a list of components", []suit.Command{suit.SetComponentIndexes(0, 2), content("x"), write}, [3]string{"x", "", "x"}, 0},
		{"parameters belong to components", []suit.Command{c0, content("x"), c1, content("y"), all, c2, content("z"), all, write}, [3]string{"x", "y", "z"}, 0},
		{"write without content", []suit.Command{c0, write}, [3]string{}, suit.ReasonOperationFailed},
		{"set does not replace", []suit.Command{c0, content("x"), suit.SetParameters(params(func(p *suit.Parameters) { p.SetContent([]byte("y")) })), write}, [3]string{"x", "", ""}, 0},
		{"set sets what is unset", []suit.Command{c0, suit.SetParameters(params(func(p *suit.Parameters) { p.SetContent([]byte("y")) })), write}, [3]string{"y", "", ""}, 0},
		{"override replaces", []suit.Command{c0, content("x"), content("y"), write}, [3]string{"y", "", ""}, 0},
		{"override-multiple, and the last stays selected", []suit.Command{c0, suit.OverrideMultiple(
			suit.ComponentParameters{Index: 0, Parameters: params(func(p *suit.Parameters) { p.SetContent([]byte("x")) })},
			suit.ComponentParameters{Index: 2, Parameters: params(func(p *suit.Parameters) { p.SetContent([]byte("z")) })}),
			write, c0, write}, [3]string{"x", "", "z"}, 0},
		{"copy-params", []suit.Command{c0, content("x"), c1, suit.CopyParams(suit.CopyParameters{Source: 0, Labels: []suit.ParameterLabel{suit.ParamContent}}), write}, [3]string{"", "x", ""}, 0},
		{"copy-params of what is unset", []suit.Command{c1, suit.CopyParams(suit.CopyParameters{Source: 0, Labels: []suit.ParameterLabel{suit.ParamContent}}), write}, [3]string{}, suit.ReasonOperationFailed},

		{"try-each takes the first that succeeds", []suit.Command{c0, suit.TryEach(seq{abort}, seq{content("2"), write}, seq{content("3"), write})}, [3]string{"2", "", ""}, 0},
		{"try-each with nil at the end", []suit.Command{c0, content("x"), suit.TryEach(seq{abort}, seq{abort}, nil), write}, [3]string{"x", "", ""}, 0},
		{"try-each exhausted", []suit.Command{c0, suit.TryEach(seq{abort}, seq{abort})}, [3]string{}, suit.ReasonConditionFailed},
		{"a failed sequence leaves no parameters", []suit.Command{c0, content("x"), suit.TryEach(seq{content("y"), abort}, nil), write}, [3]string{"x", "", ""}, 0},
		{"a failed sequence leaves no selection", []suit.Command{c0, content("x"), suit.TryEach(seq{c1, abort}, nil), write}, [3]string{"x", "", ""}, 0},
		{"a successful sequence leaves its selection", []suit.Command{c0, suit.TryEach(seq{c1, content("y")}, nil), write}, [3]string{"", "y", ""}, 0},
		{"try-each for each component by itself", []suit.Command{all, suit.TryEach(append(isSlot(0), content("A"), write), append(isSlot(1), content("B"), write), seq{content("other"), write})}, [3]string{"A", "B", "other"}, 0},
		{"a directive that fails aborts in spite of soft failure", []suit.Command{c0, suit.TryEach(seq{write}, seq{content("x"), write})}, [3]string{}, suit.ReasonOperationFailed},
		{"soft failure off in try-each aborts", []suit.Command{c0, suit.TryEach(seq{soft(false), abort}, seq{content("x"), write})}, [3]string{}, suit.ReasonConditionFailed},
		{"soft failure off, in an inner try-each, aborts the outer one too", []suit.Command{c0, suit.TryEach(seq{suit.TryEach(seq{soft(false), abort}, nil)}, nil)}, [3]string{}, suit.ReasonConditionFailed},
		{"an inner try-each that is exhausted fails its sequence softly", []suit.Command{c0, suit.TryEach(seq{suit.TryEach(seq{abort}, seq{abort})}, seq{content("x"), write})}, [3]string{"x", "", ""}, 0},

		{"run-sequence", []suit.Command{c0, suit.RunSequence(seq{content("x"), write})}, [3]string{"x", "", ""}, 0},
		{"run-sequence for each of a list", []suit.Command{suit.SetComponentIndexes(0, 1), suit.RunSequence(seq{content("x"), write})}, [3]string{"x", "x", ""}, 0},
		{"run-sequence fails hard by default", []suit.Command{c0, suit.RunSequence(seq{abort})}, [3]string{}, suit.ReasonConditionFailed},
		{"run-sequence with soft failure halts and goes on", []suit.Command{c0, content("x"), suit.RunSequence(seq{soft(true), content("y"), abort, write}), write}, [3]string{"x", "", ""}, 0},
		{"run-sequence with soft failure and a failing directive", []suit.Command{c0, suit.RunSequence(seq{soft(true), write})}, [3]string{}, suit.ReasonOperationFailed},
		{"soft failure is not inherited", []suit.Command{c0, suit.RunSequence(seq{soft(true), suit.RunSequence(seq{abort}), content("x"), write})}, [3]string{}, 0},
		{"soft failure ends with its sequence", []suit.Command{c0, suit.RunSequence(seq{soft(true)}), suit.RunSequence(seq{abort})}, [3]string{}, suit.ReasonConditionFailed},
		{"run-sequence in try-each fails the sequence", []suit.Command{c0, suit.TryEach(seq{suit.RunSequence(seq{abort})}, seq{content("x"), write})}, [3]string{"x", "", ""}, 0},

		{"without strict order", []suit.Command{all, strict(false), content("x"), write}, [3]string{"x", "x", "x"}, 0},
		{"a component as target and source without strict order", []suit.Command{c0, strict(false), content("x"), write, c1, source(0), dir(suit.DirCopy)}, [3]string{}, suit.ReasonOperationFailed},
		{"the same with strict order in between", []suit.Command{c0, strict(false), content("x"), write, strict(true), c1, source(0), dir(suit.DirCopy)}, [3]string{"x", "x", ""}, 0},
		{"run-sequence without strict order begins with an index", []suit.Command{c0, strict(false), suit.RunSequence(seq{c1, content("x"), write})}, [3]string{"", "x", ""}, 0},
		{"run-sequence without strict order that does not", []suit.Command{c0, strict(false), suit.RunSequence(seq{content("x"), write})}, [3]string{}, suit.ReasonOperationFailed},
		{"a second index in it", []suit.Command{c0, strict(false), suit.RunSequence(seq{c1, content("x"), c2, write})}, [3]string{}, suit.ReasonOperationFailed},
		{"any index when it runs for a list", []suit.Command{all, strict(false), suit.RunSequence(seq{c1, content("x"), write})}, [3]string{}, suit.ReasonOperationFailed},
		{"inside, strict order is on", []suit.Command{c0, strict(false), suit.RunSequence(seq{c0, content("x"), write})}, [3]string{"x", "", ""}, 0},

		{"copy", []suit.Command{c0, content("x"), write, c1, source(0), dir(suit.DirCopy)}, [3]string{"x", "x", ""}, 0},
		{"copy from what is empty", []suit.Command{c1, source(0), dir(suit.DirCopy)}, [3]string{}, suit.ReasonOperationFailed},
		{"copy without a source", []suit.Command{c1, dir(suit.DirCopy)}, [3]string{}, suit.ReasonOperationFailed},
		{"copy from itself", []suit.Command{c1, content("x"), write, source(1), dir(suit.DirCopy)}, [3]string{}, suit.ReasonOperationFailed},
		{"copy with another size", []suit.Command{c0, content("x"), write, c1, source(0), override(func(p *suit.Parameters) { p.SetSize(2) }), dir(suit.DirCopy)}, [3]string{}, suit.ReasonOperationFailed},
		{"swap", []suit.Command{c0, content("x"), write, c1, content("y"), write, source(0), dir(suit.DirSwap)}, [3]string{"y", "x", ""}, 0},
		{"swap with what is empty", []suit.Command{c0, content("x"), write, source(1), dir(suit.DirSwap)}, [3]string{}, suit.ReasonOperationFailed},
		{"swap without a source", []suit.Command{c0, content("x"), write, dir(suit.DirSwap)}, [3]string{}, suit.ReasonOperationFailed},
		{"write of another size", []suit.Command{c0, content("x"), override(func(p *suit.Parameters) { p.SetSize(2) }), write}, [3]string{}, suit.ReasonOperationFailed},
		{"unlink what is empty", []suit.Command{c0, dir(suit.DirUnlink), dir(suit.DirUnlink)}, [3]string{}, 0},
		{"write and unlink", []suit.Command{c0, content("x"), write, dir(suit.DirUnlink)}, [3]string{}, 0},
		{"unlink and write again", []suit.Command{c0, content("x"), write, dir(suit.DirUnlink), content("y"), write}, [3]string{"y", "", ""}, 0},
		{"process what is no dependency", []suit.Command{c0, dir(suit.DirProcessDependency)}, [3]string{}, suit.ReasonOperationFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			l.device.SlotOf = map[string]uint64{appA.Key(): 0, appB.Key(): 1, appC.Key(): 2}
			d := many(1, idA, appA, appB, appC)
			d.Install = section(c.cmds...)
			envelope := l.sign(d)
			l.explained(envelope)
			if c.fails != 0 {
				l.refuse(envelope, c.fails)
				return
			}
			l.mustUpdate(envelope)
			for i, id := range []suit.ComponentID{appA, appB, appC} {
				l.wants(id, c.wants[i])
			}
		})
	}
}

func TestSharedSequenceRunsBeforeEachSection(t *testing.T) {
	l := newLab(t)
	d := many(1, idA, appA)
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, content("shared"))
	d.PayloadFetch = section(content("changed"), dir(suit.DirWrite))
	d.Install = section(dir(suit.DirWrite))
	l.mustUpdate(l.sign(d))
	l.wants(appA, "shared")
}

func TestSectionsRunInOrder(t *testing.T) {
	l := newLab(t)
	d := many(1, idA, appA)
	write := func(s string) suit.Section { return section(content(s), dir(suit.DirWrite)) }
	d.DependencyResolution, d.PayloadFetch, d.CandidateVerification, d.Install = write("1"), write("2"), write("3"), write("4")
	d.Validate = section(content("4"), cond(suit.CondCheckContent))
	d.Load, d.Invoke, d.Uninstall = write("5"), write("6"), write("7")
	l.mustUpdate(l.sign(d))
	var order []suit.Label
	for _, s := range l.trail {
		if s.Section != suit.LabelCommon && (len(order) == 0 || order[len(order)-1] != s.Section) {
			order = append(order, s.Section)
		}
	}
	if got := fmt.Sprint(order); got != "[dependency-resolution payload-fetch candidate-verification install validate]" {
		t.Errorf("sections ran as %s", got)
	}
}

func TestLimitOfCommands(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Limits.Commands = 20 })
	d := many(1, idA, appA, appB, appC)
	step := suit.RunSequence(seq{content("x"), content("x"), content("x"), dir(suit.DirWrite)})
	d.Install = section(suit.SetAllComponents(), step, step, step)
	if f := l.refuse(l.sign(d), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Fatal(f)
	}
}

func TestRecordsFollowThePolicy(t *testing.T) {
	run := func(policy suit.ReportingPolicy, digest string) (*suit.Report, error) {
		l := newLab(t)
		l.device.Serve("u", []byte("x"))
		d := one(1, idA, appA, digest, "u")
		for i := range d.Common.SharedSequence.Commands {
			d.Common.SharedSequence.Commands[i].Policy = 0
		}
		d.Validate = suit.Section{}
		d.Install = section(uri("u"), suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, policy))
		return l.update(l.sign(d))
	}
	for _, c := range []struct {
		policy          suit.ReportingPolicy
		digest          string
		records, claims int
	}{
		{0, "x", 0, 0}, {suit.ReportRecordOnSuccess, "x", 1, 0}, {suit.ReportRecordOnFailure, "x", 0, 0},
		{suit.ReportSysinfoOnSuccess, "x", 0, 1}, {suit.ReportSysinfoOnFailure, "x", 0, 0}, {suit.ReportAll, "x", 1, 1},
		// A failed condition is always recorded: without that nobody could follow.
		{0, "y", 1, 0}, {suit.ReportRecordOnFailure, "y", 1, 0}, {suit.ReportSysinfoOnFailure, "y", 1, 1}, {suit.ReportAll, "y", 1, 1},
	} {
		report, err := run(c.policy, c.digest)
		if (err == nil) != (c.digest == "x") {
			t.Fatalf("%v %s: %v", c.policy, c.digest, err)
		}
		var records, claims int
		for _, e := range report.Records {
			if e.Record != nil {
				records++
				if d, ok := e.Record.Properties.Digest(); !ok || !d.Matches([]byte("x")) {
					t.Errorf("record does not say what was measured: %+v", e.Record)
				}
			} else if !e.Claims.Component.Equal(idA) { // of the manifest itself: what was done with it
				claims++
			}
		}
		if records != c.records || claims != c.claims {
			t.Errorf("policy %d, %s: %d records and %d claims, want %d and %d", c.policy, c.digest, records, claims, c.records, c.claims)
		}
		if string(report.Nonce) != "nonce" {
			t.Error("nonce is missing")
		}
	}
}

func TestExplainRefusesWhatDoesNotMatch(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	a, b := l.sign(one(1, idA, appA, "x", "u")), l.sign(one(2, idA, appA, "y", "u"))
	report, err := l.update(a)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(data []byte) *suit.Envelope {
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if _, err := processor.Explain(report, processor.ProcedureUpdate, parse(b)); !errors.Is(err, processor.ErrMismatch) {
		t.Errorf("report of another manifest: %v", err)
	}
	forged := *report
	forged.Records = append([]suit.ReportEntry{report.Records[0], {Record: &suit.Record{Section: suit.LabelInstall, Offset: 1}}}, report.Records[1:]...)
	if _, err := processor.Explain(&forged, processor.ProcedureUpdate, parse(a)); !errors.Is(err, processor.ErrMismatch) {
		t.Errorf("record of nothing: %v", err)
	}
	forged = *report
	forged.Failure = &suit.Failure{Reason: suit.ReasonConditionFailed, Record: suit.Record{Section: suit.LabelInstall, Offset: 3}}
	if _, err := processor.Explain(&forged, processor.ProcedureUpdate, parse(a)); !errors.Is(err, processor.ErrMismatch) {
		t.Errorf("failure nowhere: %v", err)
	}
	tampered := parse([]byte(strings.Replace(string(a), "a.suit", "c.suit", 1)))
	if _, err := processor.Explain(report, processor.ProcedureUpdate, tampered); !errors.Is(err, suit.ErrManifestDigest) {
		t.Errorf("tampered manifest: %v", err)
	}
}

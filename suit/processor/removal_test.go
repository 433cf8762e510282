package processor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

var idC = suit.NewComponentID("app", "c", "manifest")

// line is a root that depends on a manifest that depends on a third one. Their uninstall sections take the second of
// two ways, which nothing but a record tells.
func (l *lab) line(number uint64, change func(root, middle, last *draft)) (envelopes [][]byte) {
	l.t.Helper()
	crooked := suit.TryEach(seq{suit.SetComponentIndex(0), cond(suit.CondImageNotMatch)}, seq{suit.SetComponentIndex(0), cond(suit.CondImageMatch)})
	later := suit.NewDigest([]byte("to be known later"))
	l.device.Serve("last", []byte("last"))
	last := one(1, idC, appC, "last", "last")
	last.Uninstall = section(crooked, dir(suit.DirUnlink))
	middle := l.dependent(1, idB, appB, "middle", idC, later, "#last")
	root := l.dependent(number, idRoot, appA, "root", idB, later, "#middle")
	middle.Uninstall.Commands = append(seq{suit.SetComponentIndex(0), crooked}, middle.Uninstall.Commands...)
	if change != nil {
		change(&root, &middle, &last)
	}
	pin := func(d *draft, on []byte, from string) {
		digest := digestOf(l.t, on)
		for i := range d.Common.SharedSequence.Commands {
			c := &d.Common.SharedSequence.Commands[i]
			if old, ok := c.Parameters.Digest(); ok && old.Equal(later) {
				*c = override(func(p *suit.Parameters) { p.SetDigest(digest) })
			}
		}
		d.integrated[from] = on
	}
	third := l.sign(last)
	pin(&middle, third, "#last")
	second := l.sign(middle)
	pin(&root, second, "#middle")
	return [][]byte{l.sign(root), second, third}
}

func (l *lab) uninstall() (*suit.Report, error) {
	return l.p.Uninstall(l.t.Context(), idRoot, processor.Options{Trail: l.options().Trail})
}

func (l *lab) asides() (ids []string) {
	for _, s := range l.trail {
		if s.Aside && !slices.Contains(ids, s.ManifestID.String()) {
			ids = append(ids, s.ManifestID.String())
		}
	}
	return ids
}

// What is removed because nobody needs it any more is in the report: by an unlink, one in the middle of the other, or at
// the end of an update that dropped it.
func TestReportTellsWhatNobodyNeeds(t *testing.T) {
	for name, run := range map[string]func(l *lab) (processor.Procedure, []byte, *suit.Report, error){
		"unlinked": func(l *lab) (processor.Procedure, []byte, *suit.Report, error) {
			r, err := l.uninstall()
			return processor.ProcedureUninstall, nil, r, err
		},
		"dropped": func(l *lab) (processor.Procedure, []byte, *suit.Report, error) {
			l.device.Serve("u", []byte("alone"))
			alone := l.sign(one(2, idRoot, appA, "alone", "u"))
			r, err := l.update(alone)
			return processor.ProcedureUpdate, alone, r, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			all := l.line(1, nil)
			l.mustUpdate(all[0])
			proc, envelope, report, err := run(l)
			if err != nil {
				t.Fatal(err)
			}
			if envelope == nil {
				envelope = all[0]
			}
			if got := l.asides(); !slices.Equal(got, []string{idB.String(), idC.String()}) && !slices.Equal(got, []string{idC.String(), idB.String()}) {
				t.Fatalf("removed were %v", got)
			}
			l.explains(report, err, proc, envelope, all[1], all[2])
			ex, err := processor.Explain(report, 0, l.parse(envelope), l.parse(all[2]), l.parse(all[1]))
			if err != nil || len(ex.Unneeded) != 2 {
				t.Fatalf("told of %+v, %v", ex.Unneeded, err)
			}
			for i, want := range []struct {
				id       suit.ComponentID
				envelope []byte
			}{{idB, all[1]}, {idC, all[2]}} {
				u := ex.Unneeded[i]
				if !u.ID.Equal(want.id) || !u.Digest.Equal(digestOf(t, want.envelope)) || !u.Executed || !u.Expanded || u.At >= len(ex.Steps) {
					t.Errorf("%d: %+v", i, u)
				}
			}
			// Without their manifests it tells which they were, and the trail of the root is whole.
			ex, err = processor.Explain(report, 0, l.parse(envelope))
			if err != nil || len(ex.Unneeded) != 2 || ex.Unneeded[0].Expanded || ex.Unneeded[1].Expanded {
				t.Fatalf("without them: %+v, %v", ex, err)
			}
			l.trail = slices.DeleteFunc(l.trail, func(s processor.Step) bool { return s.Aside })
			l.sameTrail(ex.Steps)
		})
	}
}

// A removal that fails undoes the run that caused it, and the report leads to the command.
func TestReportOfAFailedRemoval(t *testing.T) {
	for name, fails := range map[string]func(root, middle, last *draft){
		"the last": func(_, _, last *draft) {
			last.Uninstall.Commands = append(last.Uninstall.Commands, cond(suit.CondAbort))
		},
		"the middle, after the last": func(_, middle, _ *draft) {
			middle.Uninstall.Commands = append(middle.Uninstall.Commands, cond(suit.CondAbort))
		},
		"the last, at once": func(_, _, last *draft) { last.Uninstall = section(cond(suit.CondAbort)) },
		"the root, after both": func(root, _, _ *draft) {
			root.Uninstall.Commands = append(root.Uninstall.Commands, cond(suit.CondAbort))
		},
		"a directive": func(_, _, last *draft) {
			last.Uninstall.Commands = append(last.Uninstall.Commands, dir(suit.DirWrite))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			all := l.line(1, fails)
			l.mustUpdate(all[0])
			before := l.device.State()
			report, err := l.uninstall()
			if err == nil {
				t.Fatal("the removal did not fail")
			}
			l.explains(report, err, processor.ProcedureUninstall, all...)
			if !sameState(before, l.device.State()) {
				t.Error("and changed the device")
			}
		})
	}
}

// Of a signer whom nobody trusts any more nothing is executed, and what is left of a section whose dependency was signed
// by such a one is not either: the report says so.
func TestReportOfRemovalsWithoutTrust(t *testing.T) {
	revoked := func(t *testing.T, process bool) {
		l := newLab(t)
		other := newKey(t)
		l.trust(processor.AllComponents(), processor.Signer{Key: other.Public(), Rights: processor.AllComponents()})
		l.start()
		l.device.Serve("last", []byte("last"))
		library := l.signBy(one(1, idB, appB, "last", "last"), other)
		root := l.dependent(1, idRoot, appA, "root", idB, digestOf(t, library), "#lib")
		root.integrated["#lib"] = library
		if process {
			root.Uninstall.Commands = append(seq{suit.SetComponentIndex(1), cond(suit.CondDependencyIntegrity), dir(suit.DirProcessDependency)}, root.Uninstall.Commands...)
		}
		envelope := l.sign(root)
		l.mustUpdate(envelope)
		l.trust(processor.AllComponents())
		l.start()
		report, err := l.uninstall()
		if err != nil {
			t.Fatal(err)
		}
		l.explains(report, err, processor.ProcedureUninstall, envelope, library)
		ex, err := processor.Explain(report, 0, l.parse(envelope), l.parse(library))
		if err != nil || len(ex.Unneeded) != 1 || ex.Unneeded[0].Executed || !ex.Unneeded[0].ID.Equal(idB) {
			t.Errorf("told of %+v, %v", ex, err)
		}
		if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
			t.Errorf("left behind: %v", s)
		}
	}
	t.Run("unlinked", func(t *testing.T) { revoked(t, false) })
	t.Run("processed", func(t *testing.T) { revoked(t, true) })
}

// Where there is no room for all of it the trail ends, and nothing is invented.
func TestCutInTheMiddleOfARemoval(t *testing.T) {
	whole := 0
	for records := 1; whole == 0; records++ {
		l := newLab(t, func(l *lab) { l.cfg.Limits.Records = records })
		all := l.line(1, nil)
		if _, err := l.update(all[0]); err != nil {
			t.Fatal(err)
		}
		report, err := l.uninstall()
		if err != nil {
			t.Fatal(err)
		}
		ex, err := processor.Explain(report, 0, l.parse(all[0]), l.parse(all[1]), l.parse(all[2]))
		switch {
		case err == nil:
			whole = records
		case !errors.Is(err, processor.ErrCut):
			t.Fatalf("room for %d records: %v", records, err)
		default:
			l.trail = l.trail[:len(ex.Steps)]
		}
		l.sameTrail(ex.Steps)
	}
	if whole < 5 {
		t.Errorf("room for %d records is enough, which tests nothing", whole)
	}
}

func TestForgedRemovals(t *testing.T) {
	l := newLab(t)
	all := l.line(1, nil)
	l.mustUpdate(all[0])
	report, err := l.uninstall()
	if err != nil {
		t.Fatal(err)
	}
	word := func(e suit.ReportEntry) string {
		if e.Claims == nil {
			return ""
		}
		args, _ := e.Claims.Parameters.InvokeArgs()
		return string(args)
	}
	find := func(want string) int {
		return slices.IndexFunc(report.Records, func(e suit.ReportEntry) bool { return word(e) == want })
	}
	begins, record, ends := find("unneeded"), find("unneeded-record"), find("unneeded-done")
	if begins < 0 || record < begins || ends < record {
		t.Fatalf("%d, %d, %d: the report does not tell what this test changes", begins, record, ends)
	}
	for name, change := range map[string]func(list []suit.ReportEntry) []suit.ReportEntry{
		"no beginning":  func(list []suit.ReportEntry) []suit.ReportEntry { return slices.Delete(list, begins, begins+1) },
		"no end":        func(list []suit.ReportEntry) []suit.ReportEntry { return slices.Delete(list, ends, ends+1) },
		"ends twice":    func(list []suit.ReportEntry) []suit.ReportEntry { return slices.Insert(list, ends, list[ends]) },
		"happens twice": func(list []suit.ReportEntry) []suit.ReportEntry { return append(list, list[begins:]...) },
		"no cause": func(list []suit.ReportEntry) []suit.ReportEntry {
			c := *list[begins].Claims
			c.Parameters = params(func(p *suit.Parameters) { p.SetInvokeArgs([]byte("unneeded")); p.SetDigest(digestOf(t, all[1])) })
			list[begins].Claims = &c
			return list
		},
		"a record that is none": func(list []suit.ReportEntry) []suit.ReportEntry {
			c := *list[record].Claims
			c.Parameters = params(func(p *suit.Parameters) { p.SetInvokeArgs([]byte("unneeded-record")); p.SetContent([]byte{0x85}) })
			list[record].Claims = &c
			return list
		},
	} {
		forged := *report
		forged.Records = change(slices.Clone(report.Records))
		if _, err := processor.Explain(&forged, 0, l.parse(all[0]), l.parse(all[1]), l.parse(all[2])); !errors.Is(err, processor.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A line of the trail tells what was done aside, and for which manifest.
func TestStepsOfRemovalsSayWhoseTheyAre(t *testing.T) {
	l := newLab(t)
	all := l.line(1, nil)
	l.mustUpdate(all[0])
	if _, err := l.uninstall(); err != nil {
		t.Fatal(err)
	}
	for _, s := range l.trail {
		if s.Aside != strings.HasPrefix(s.String(), "(") {
			t.Errorf("%v", s)
		}
	}
}

package processor

import (
	"fmt"

	"github.com/go-teep/teep/suit"
)

// course is what was done with the manifest as a whole. A SUIT_Report has no member for that, and a
// SUIT_Record must stand for a command of the manifest (SUIT report §5). So it is told as properties of
// the component that the manifest itself is, in the list of records, where it happened:
//
//	{
//	  system-component-id        => the manifest-component-id,
//	  ? suit-parameter-image-digest => digest of the manifest that was installed there at that time,
//	  suit-parameter-invoke-args => a course, as text in a byte string,
//	}
type course string

const (
	// courseUpdate is an update. If the digest is that of the manifest itself, it was installed, and was
	// only validated as long as none of the repairs follows.
	courseUpdate    course = "update"
	courseValidate  course = "validate"
	courseInvoke    course = "invoke"
	courseUninstall course = "uninstall"
	// courseRemove is an uninstallation that executed nothing, because the signer is not trusted any
	// more.
	courseRemove course = "remove"
	// What made an update apply a manifest again that was installed: validation ended with a condition,
	// with a command, or held although a component is empty.
	courseRepairCondition course = "repair-condition"
	courseRepairOperation course = "repair-operation"
	courseRepairContent   course = "repair-content"
	// courseAbandoned says that an uninstallation went on without the rest of the section, because somebody
	// who signed a dependency is not trusted any more.
	courseAbandoned course = "abandoned"
	// courseCut says that records are missing from here on.
	courseCut course = "cut"
)

// maxCourses is how many of them a report may have beside its records.
const maxCourses = 3

func (c course) procedure() Procedure {
	switch c {
	case courseUpdate:
		return ProcedureUpdate
	case courseValidate:
		return ProcedureValidate
	case courseInvoke:
		return ProcedureInvoke
	case courseUninstall, courseRemove:
		return ProcedureUninstall
	}
	return 0
}

func (c course) repairs() bool {
	return c == courseRepairCondition || c == courseRepairOperation || c == courseRepairContent
}

// course of a procedure that runs sections.
func (p Procedure) course() course {
	switch p {
	case ProcedureUpdate:
		return courseUpdate
	case ProcedureValidate:
		return courseValidate
	case ProcedureInvoke:
		return courseInvoke
	}
	return courseUninstall
}

func (c course) claims(id suit.ComponentID, installed *suit.Digest) suit.ReportEntry {
	var p suit.Parameters
	if installed != nil {
		p.SetDigest(*installed)
	}
	p.SetInvokeArgs([]byte(c))
	return suit.ReportEntry{Claims: &suit.SystemPropertyClaims{Component: id, Parameters: p}}
}

// readCourse is the reverse of claims. Properties of a component that was measured have no arguments.
func readCourse(e suit.ReportEntry, id suit.ComponentID) (c course, installed *suit.Digest, ok bool) {
	if e.Claims == nil || id != nil && !e.Claims.Component.Equal(id) {
		return "", nil, false
	}
	args, ok := e.Claims.Parameters.InvokeArgs()
	c = course(args)
	if ok = ok && (c.procedure() != 0 || c.repairs() || c == courseAbandoned || c == courseCut); !ok {
		return "", nil, false
	}
	if d, has := e.Claims.Parameters.Digest(); has {
		installed = &d
	}
	return c, installed, true
}

// stretch is a part of a report in which one procedure ran.
type stretch struct {
	course  course
	proc    Procedure
	records []*suit.Record
	// failed says that it ended early, and broken that it was no condition that ended it; abandoned, that
	// what came after the section was done all the same.
	failed, broken, abandoned bool
	// removals are the manifests that nobody needed any more, in the order of events.
	removals []*removal
}

// account is what a report says about the course of things, beside its records.
type account struct {
	// told says that the report tells it; else it was inferred, or is what the caller said.
	told, inferred bool
	proc           Procedure
	// found tells that an update found the manifest installed.
	found bool
	// removed tells that nothing was executed.
	removed bool
	// cut tells that records are missing at the end.
	cut       bool
	stretches []stretch
}

var errAfterCut = fmt.Errorf("%w: a record comes after the place where records were left out", ErrMismatch)

// readAccount reads it from the entries of a report, of a manifest with that identifier and digest.
func readAccount(r *suit.Report, id suit.ComponentID, digest suit.Digest) (*account, error) {
	a := &account{stretches: []stretch{{}}}
	var open removals
	for _, e := range r.Records {
		c, installed, ok := readCourse(e, id)
		now := &a.stretches[len(a.stretches)-1]
		if event, err := readRemoval(e); err != nil {
			return nil, err
		} else if event != nil {
			if err := open.take(now, event, a.cut); err != nil {
				return nil, err
			}
			continue
		} else if e.Record != nil || ok && c != courseCut {
			open = nil // what did not end has failed
		}
		switch {
		case e.Record != nil && a.cut:
			return nil, errAfterCut
		case e.Record != nil:
			now.records = append(now.records, e.Record)
		case !ok:
		case c.procedure() != 0:
			if a.told || len(now.records) > 0 {
				return nil, fmt.Errorf("%w: it begins with %q twice, or too late", ErrMismatch, c)
			}
			a.told, a.proc, now.course, now.proc = true, c.procedure(), c, c.procedure()
			a.removed = c == courseRemove
			if c == courseUpdate && installed != nil && installed.Equal(digest) {
				a.found, now.proc = true, ProcedureValidate
			}
		case c.repairs():
			if !a.found || len(a.stretches) > 1 || a.cut {
				return nil, fmt.Errorf("%w: %q does not follow an update of what was installed", ErrMismatch, c)
			}
			now.failed, now.broken = c != courseRepairContent, c == courseRepairOperation
			a.stretches = append(a.stretches, stretch{course: c, proc: ProcedureUpdate})
		case c == courseAbandoned:
			if a.proc != ProcedureUninstall {
				return nil, fmt.Errorf("%w: %q does not follow an uninstallation", ErrMismatch, c)
			}
			now.abandoned = true
		default:
			a.cut = true
		}
	}
	a.stretches[len(a.stretches)-1].failed = r.Failure != nil
	return a, nil
}

// infer finds the procedure by the sections that the report names, where it does not tell it. One that
// only got as far as suit-validate may be any.
func (a *account) infer(r *suit.Report) {
	sections := []suit.Label{}
	for _, rec := range a.stretches[0].records {
		sections = append(sections, rec.Section)
	}
	if r.Failure != nil {
		sections = append(sections, r.Failure.Record.Section)
	}
	for _, s := range sections {
		switch s {
		case suit.LabelDependencyResolution, suit.LabelPayloadFetch, suit.LabelCandidateVerification, suit.LabelInstall:
			a.proc, a.inferred = ProcedureUpdate, true
		case suit.LabelLoad, suit.LabelInvoke:
			a.proc, a.inferred = ProcedureInvoke, true
		case suit.LabelUninstall:
			a.proc, a.inferred = ProcedureUninstall, true
		}
	}
}

// Told says what a report of this package tells beside its records: which procedure ran, and on which
// manifest. Reports of others, and of what failed before anything ran, do not tell it.
func Told(r *suit.Report) (manifestID suit.ComponentID, proc Procedure, ok bool) {
	for _, e := range r.Records {
		if e.Record != nil {
			break
		}
		if c, _, ok := readCourse(e, nil); ok && c.procedure() != 0 {
			return e.Claims.Component, c.procedure(), true
		}
	}
	return nil, 0, false
}

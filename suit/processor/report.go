package processor

import (
	"errors"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Values of suit-report-result-code, which the text leaves to the implementation. They tell apart
// what the reasons do not.
const (
	CodeOther      = 0
	CodeDowngrade  = 1 // ErrDowngrade
	CodeReferenced = 2 // ErrReferenced
	CodeLimit      = 3 // ErrLimit
	CodeUnverified = 4 // ErrUnverified
	CodeRolledBack = 5 // ErrRolledBack
	// CodeUnavailable: a payload could not be fetched, or had another size. Try-each gets over
	// this failure of a fetch and over no other.
	CodeUnavailable = 6
	// CodeSevered: a section was to run that was severed and not in the envelope.
	CodeSevered = 7
)

func codeOf(err error) int64 {
	for _, c := range []struct {
		sentinel error
		code     int64
	}{
		{errUnavailable, CodeUnavailable}, {errSize, CodeUnavailable}, {ErrDowngrade, CodeDowngrade}, {ErrReferenced, CodeReferenced},
		{ErrLimit, CodeLimit}, {ErrUnverified, CodeUnverified}, {ErrRolledBack, CodeRolledBack}, {errSevered, CodeSevered},
	} {
		if errors.Is(err, c.sentinel) {
			return c.code
		}
	}
	return CodeOther
}

// entry is what may become an entry of the report. A silent one does not, unless something fails
// later at its place. One that says what is done with the manifest as a whole has no limit. An event is a record,
// or has the form of claims and counts like one.
type entry struct {
	suit.ReportEntry
	silent, course, event bool
}

// place is where a command stands, for one component.
type place struct {
	n             *node
	section       suit.Label
	offset, index int
}

// keptPerRecord is how many entries are kept for each record that a report may have, silent ones
// included. It lets a thousand components pass some identity checks before every section.
const keptPerRecord = 16

// reporter collects what becomes a SUIT report.
type reporter struct {
	reference suit.Reference
	nonce     []byte
	entries   []entry
	limit     int
	// shown counts the entries that are not silent; silent finds, by place, those that are.
	shown int
	// id is where the root manifest is recorded; cut says that something was left out.
	id  suit.ComponentID
	cut bool
	// aside are the manifests that are being removed, each for the sake of the one before it, because
	// nobody needs them any more.
	aside []suit.ComponentID
	// last is what the command measured that failed last.
	last   suit.Parameters
	claims map[string]bool
	silent map[place][]int
}

func newReporter(nonce []byte, limit int) *reporter {
	return &reporter{nonce: nonce, limit: min(limit, suit.MaxRecords-maxCourses), claims: map[string]bool{}, silent: map[place][]int{}}
}

func (rep *reporter) refer(e *suit.Envelope, m *suit.Manifest) {
	rep.reference.Digest = e.Digest
	if m != nil && m.ReferenceURI != nil {
		rep.reference.URI = *m.ReferenceURI
	}
}

// record follows the reporting policy of a command (SUIT §8.4.7). A failure is recorded whatever the
// policy says, and so is a dependency that had nothing to be done: without them nobody could tell
// which way the manifest took (SUIT report §3). The shared sequence runs before each section, and a
// nested one may run for each of several components, and a record does not say which time it is about;
// so where a command of these fails, the times are recorded too at which it did not.
func (rep *reporter) record(k *call, measured suit.Parameters, err error) {
	policy, want, sysinfo := k.cmd.Policy, suit.ReportRecordOnSuccess, suit.ReportSysinfoOnSuccess
	if len(rep.aside) > 0 {
		policy = 0 // that of its own report, which this is not
	}
	at := place{k.n, k.f.label, k.cmd.Offset, k.index()}
	always := k.cmd.Code == suit.DirProcessDependency && measured.Len() > 0
	if err != nil {
		want, sysinfo, always = suit.ReportRecordOnFailure, suit.ReportSysinfoOnFailure, true
		rep.last = measured
		for _, i := range rep.silent[at] {
			rep.entries[i].silent = false
			rep.shown++
		}
		delete(rep.silent, at)
	}
	shown := always || policy&want != 0
	repeats := k.f.label == suit.LabelCommon || k.f.depth > 0 || k.f.loop
	if (shown || repeats) && rep.room() {
		r := recordAt(k.n.path, k.f.label, k.cmd.Offset, k.index())
		r.Properties = measured
		rep.entries = append(rep.entries, entry{ReportEntry: rep.entryOf(&r), silent: !shown, event: true})
		if shown {
			rep.shown++
		} else {
			rep.silent[at] = append(rep.silent[at], len(rep.entries)-1)
		}
	} else if shown {
		rep.cut = true
	}
	if policy&sysinfo != 0 && measured.Len() > 0 {
		rep.claim(k.c.id, measured)
	}
}

// room tells whether one more event can be kept. Once one was left out, so are all after it: of what
// ran twice at one place, a later failure alone would look like an earlier one.
func (rep *reporter) room() bool {
	return rep.shown < rep.limit && len(rep.entries) < keptPerRecord*rep.limit
}

// tell says what is being done with the root manifest, and what was installed there before.
func (rep *reporter) tell(c course, id suit.ComponentID, installed *suit.Digest) {
	rep.id = id
	rep.entries = append(rep.entries, entry{ReportEntry: c.claims(id, installed), course: true})
	clear(rep.silent)
}

// list is what goes into the report.
func (rep *reporter) list() []suit.ReportEntry {
	var list []suit.ReportEntry
	cut, left := rep.cut, rep.limit
	for _, e := range rep.entries {
		switch {
		case e.silent:
		case e.course:
			list = append(list, e.ReportEntry)
		case left > 0:
			list = append(list, e.ReportEntry)
			left--
		default:
			cut = cut || e.event
		}
	}
	if cut {
		list = append(list, courseCut.claims(rep.id, nil))
	}
	return list
}

// claim adds properties of a component, once.
func (rep *reporter) claim(id suit.ComponentID, p suit.Parameters) {
	encoded, err := p.MarshalCBOR()
	key := id.Key() + string(encoded)
	if err != nil || rep.claims[key] || rep.shown >= rep.limit {
		return
	}
	rep.claims[key] = true
	rep.shown++
	rep.entries = append(rep.entries, entry{ReportEntry: suit.ReportEntry{Claims: &suit.SystemPropertyClaims{Component: id, Parameters: p}}})
}

func recordAt(path []uint64, section suit.Label, offset, index int) suit.Record {
	return suit.Record{ManifestID: append([]uint64{}, path...), Section: section,
		Offset: uint64(offset), ComponentIndex: uint64(index)}
}

// report makes the report of a procedure that ended with err.
func (rep *reporter) report(err error, capabilities func() *suit.CapabilityReport) *suit.Report {
	out := &suit.Report{Reference: rep.reference, Nonce: rep.nonce, Records: rep.list()}
	if err == nil {
		return out
	}
	f := asFailure(err)
	r := recordAt(f.Manifest, f.Section, f.Offset, f.ComponentIndex)
	if f.Command != 0 {
		r.Properties = rep.last
	}
	out.Failure = &suit.Failure{Code: codeOf(err), Record: r, Reason: f.Reason}
	switch f.Reason {
	case suit.ReasonCommandUnsupported, suit.ReasonComponentUnsupported, suit.ReasonParameterUnsupported, suit.ReasonAlgUnsupported:
		// A manifest asked for what is not there: say what is (SUIT report §4.2).
		out.Capabilities = capabilities()
	}
	return out
}

// pendingReport says that a component is about to be started.
func (rep *reporter) pendingReport(k *call) *suit.Report {
	return &suit.Report{Reference: rep.reference, Nonce: rep.nonce, Records: rep.list(),
		Failure: &suit.Failure{Reason: suit.ReasonInvokePending, Record: recordAt(k.n.path, k.f.label, k.cmd.Offset, k.c.index)}}
}

// Capabilities says what this processor supports on its platform (SUIT report §6).
func (p *Processor) Capabilities() *suit.CapabilityReport {
	c := &suit.CapabilityReport{}
	for _, prefix := range p.cfg.Components {
		c.Components = append(c.Components, suit.ComponentCapability{ID: prefix, Prefix: true})
	}
	for code := suit.CommandCode(1); code <= suit.DirCopyParams; code++ {
		if code.IsCondition() || isDirective(code) {
			if p.supports(code) {
				c.Commands = append(c.Commands, int64(code))
			}
		}
	}
	for label := suit.ParameterLabel(1); label <= suit.ParamComponentMetadata; label++ {
		if isParameter(label) {
			c.Parameters = append(c.Parameters, int64(label))
		}
	}
	algorithms := p.cfg.Algorithms
	if algorithms == nil {
		algorithms = cose.DefaultSignatureAlgorithms()
	}
	algorithms = append(append([]cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512}, algorithms...), p.cfg.ContentAlgorithms...)
	for _, a := range algorithms {
		c.Algorithms = append(c.Algorithms, int64(a))
	}
	return c
}

func isDirective(c suit.CommandCode) bool {
	switch c {
	case suit.DirProcessDependency, suit.DirSetComponentIndex, suit.DirTryEach, suit.DirWrite, suit.DirSetParameters,
		suit.DirOverrideParameters, suit.DirFetch, suit.DirCopy, suit.DirInvoke, suit.DirWait, suit.DirSwap,
		suit.DirRunSequence, suit.DirUnlink, suit.DirOverrideMultiple, suit.DirCopyParams:
		return true
	}
	return false
}

func isParameter(l suit.ParameterLabel) bool {
	switch l {
	case suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamImageDigest, suit.ParamUseBefore,
		suit.ParamComponentSlot, suit.ParamStrictOrder, suit.ParamSoftFailure, suit.ParamImageSize, suit.ParamContent,
		suit.ParamEncryptionInfo, suit.ParamURI, suit.ParamSourceComponent, suit.ParamInvokeArgs,
		suit.ParamDeviceIdentifier, suit.ParamFetchArguments, suit.ParamMinimumBattery, suit.ParamUpdatePriority,
		suit.ParamVersion, suit.ParamWaitInfo, suit.ParamComponentMetadata:
		return true
	}
	return false
}

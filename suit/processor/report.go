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
)

func codeOf(err error) int64 {
	for code, sentinel := range map[int64]error{CodeDowngrade: ErrDowngrade, CodeReferenced: ErrReferenced,
		CodeLimit: ErrLimit, CodeUnverified: ErrUnverified, CodeRolledBack: ErrRolledBack} {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	return CodeOther
}

// reporter collects what becomes a SUIT report.
type reporter struct {
	reference suit.Reference
	nonce     []byte
	entries   []suit.ReportEntry
	limit     int
	// last is what the command measured that failed last.
	last   suit.Parameters
	claims map[string]bool
}

func newReporter(nonce []byte, limit int) *reporter {
	return &reporter{nonce: nonce, limit: min(limit, suit.MaxRecords), claims: map[string]bool{}}
}

func (rep *reporter) refer(e *suit.Envelope, m *suit.Manifest) {
	rep.reference.Digest = e.Digest
	if m != nil && m.ReferenceURI != nil {
		rep.reference.URI = *m.ReferenceURI
	}
}

// record follows the reporting policy of a command (SUIT §8.4.7). The failure of a condition is
// recorded whatever the policy says: without it nobody could tell which way the manifest took
// (SUIT report §3). The same holds for a fetch that try-each got over.
func (rep *reporter) record(k *call, measured suit.Parameters, err error) {
	policy, want, sysinfo := k.cmd.Policy, suit.ReportRecordOnSuccess, suit.ReportSysinfoOnSuccess
	always := false
	if err != nil {
		want, sysinfo = suit.ReportRecordOnFailure, suit.ReportSysinfoOnFailure
		always = k.cmd.Code.IsCondition() || asFailure(err).soft
		rep.last = measured
	}
	if (always || policy&want != 0) && len(rep.entries) < rep.limit {
		r := place(k.n.path, k.f.label, k.cmd.Offset, k.c.index)
		r.Properties = measured
		rep.entries = append(rep.entries, suit.ReportEntry{Record: &r})
	}
	if policy&sysinfo != 0 && measured.Len() > 0 {
		rep.claim(k.c.id, measured)
	}
}

// claim adds properties of a component, once.
func (rep *reporter) claim(id suit.ComponentID, p suit.Parameters) {
	encoded, err := p.MarshalCBOR()
	key := id.Key() + string(encoded)
	if err != nil || rep.claims[key] || len(rep.entries) >= rep.limit {
		return
	}
	rep.claims[key] = true
	rep.entries = append(rep.entries, suit.ReportEntry{Claims: &suit.SystemPropertyClaims{Component: id, Parameters: p}})
}

func place(path []uint64, section suit.Label, offset, index int) suit.Record {
	return suit.Record{ManifestID: append([]uint64{}, path...), Section: section,
		Offset: uint64(offset), ComponentIndex: uint64(index)}
}

// report makes the report of a procedure that ended with err.
func (rep *reporter) report(err error, capabilities func() *suit.CapabilityReport) *suit.Report {
	out := &suit.Report{Reference: rep.reference, Nonce: rep.nonce, Records: rep.entries}
	if err == nil {
		return out
	}
	f := asFailure(err)
	r := place(f.Manifest, f.Section, f.Offset, f.ComponentIndex)
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
	return &suit.Report{Reference: rep.reference, Nonce: rep.nonce, Records: append([]suit.ReportEntry(nil), rep.entries...),
		Failure: &suit.Failure{Reason: suit.ReasonInvokePending, Record: place(k.n.path, k.f.label, k.cmd.Offset, k.c.index)}}
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

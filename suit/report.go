package suit

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Report is SUIT_Report: what happened while a manifest was processed. Parsed reports share
// memory with the bytes they came from.
//
//	SUIT_Report = {
//	  suit-reference              => SUIT_Reference,
//	  ? suit-report-nonce         => bstr,
//	  suit-report-records         => [ * SUIT_Record / system-property-claims ],
//	  suit-report-result          => true / { … },
//	  ? suit-report-capability-report => SUIT_Capability_Report,
//	}
type Report struct {
	Reference Reference
	// Nonce binds the report to a request; nil when absent.
	Nonce []byte
	// Records are in the order of events.
	Records []ReportEntry
	// Failure tells why and where the procedure ended; nil means success.
	Failure *Failure
	// Capabilities is nil when absent.
	Capabilities *CapabilityReport
}

// Reference is SUIT_Reference.
//
//	SUIT_Reference = [
//	  suit-report-manifest-uri : tstr,
//	  suit-report-manifest-digest : SUIT_Digest
//	]
type Reference struct {
	// URI is exactly the reference URI of the root manifest; empty if it has none.
	URI string
	// Digest is the one in the root manifest's authentication wrapper.
	Digest Digest
}

// ReportEntry is one element of suit-report-records; exactly one member is set.
type ReportEntry struct {
	Record *Record
	Claims *SystemPropertyClaims
}

// Record is SUIT_Record: a decision of the manifest processor.
//
//	SUIT_Record = [
//	  suit-record-manifest-id        : [* uint ],
//	  suit-record-manifest-section   : int,
//	  suit-record-section-offset     : uint,
//	  suit-record-component-index    : uint,
//	  suit-record-properties         : {*$$SUIT_Parameters},
//	]
type Record struct {
	// ManifestID is the walk from the root manifest (the empty list) through dependency indexes.
	ManifestID []uint64
	// Section is the top-level command sequence.
	Section Label
	// Offset is [Command.Offset], in bytes.
	Offset uint64
	// ComponentIndex is the component selected at the time.
	ComponentIndex uint64
	// Properties are measured values that led to the decision.
	Properties Parameters
}

// SystemPropertyClaims are properties of a component that were measured or asserted.
//
//	system-property-claims = {
//	  system-component-id => SUIT_Component_Identifier,
//	  + $$SUIT_Parameters,
//	}
type SystemPropertyClaims struct {
	Component  ComponentID
	Parameters Parameters
}

// Failure is suit-report-result of a procedure that did not succeed.
//
//	{
//	  suit-report-result-code   => int,
//	  suit-report-result-record => SUIT_Record,
//	  suit-report-result-reason => SUIT_Report_Reasons,
//	}
type Failure struct {
	// Code is the implementation's own; it is not for interoperation.
	Code int64
	// Record is where in the tree of manifests it happened.
	Record Record
	Reason Reason
}

const (
	reportNonce        = 2
	reportRecords      = 3
	reportResult       = 4
	resultCode         = 5
	resultRecord       = 6
	resultReason       = 7
	reportCapabilities = 8
	reportReference    = 99
	systemComponentID  = 0

	// MaxRecords is the number of records in one report.
	MaxRecords = 16384
	// maxManifestDepth bounds the walk in a record.
	maxManifestDepth = 16
)

// MarshalCBOR encodes the report deterministically.
func (r *Report) MarshalCBOR() ([]byte, error) { return r.Encode() }

// UnmarshalCBOR decodes a report into memory of its own.
func (r *Report) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseReport(append([]byte(nil), data...))
	if err != nil {
		return err
	}
	*r = *parsed
	return nil
}

// Encode encodes the report deterministically and checks the result as [ParseReport] would.
func (r *Report) Encode() ([]byte, error) {
	data, err := r.appendCBOR(nil)
	if err != nil {
		return nil, err
	}
	if _, err := ParseReport(data); err != nil {
		return nil, fmt.Errorf("cannot encode report: %w", err)
	}
	return data, nil
}

func (r *Report) appendCBOR(b []byte) ([]byte, error) {
	var p pairs
	if r.Nonce != nil {
		p.key(reportNonce)
		p.b = appendBytes(p.b, r.Nonce)
	}
	p.key(reportRecords)
	p.b = scan.AppendHead(p.b, byte(scan.Array), uint64(len(r.Records)))
	for i, e := range r.Records {
		switch {
		case e.Record != nil && e.Claims == nil:
			p.b = e.Record.appendCBOR(p.b)
		case e.Claims != nil && e.Record == nil:
			p.b = e.Claims.appendCBOR(p.b)
		default:
			return nil, fmt.Errorf("suit: report entry %d must be either a record or claims", i)
		}
	}
	p.key(reportResult)
	p.b = r.Failure.appendCBOR(p.b)
	if r.Capabilities != nil {
		p.key(reportCapabilities)
		p.b = r.Capabilities.appendCBOR(p.b)
	}
	p.key(reportReference)
	p.b = r.Reference.appendCBOR(p.b)
	return append(scan.AppendHead(b, byte(scan.Map), p.n), p.b...), nil
}

// MarshalCBOR encodes SUIT_Reference.
func (r Reference) MarshalCBOR() ([]byte, error) { return r.appendCBOR(nil), nil }

func (r Reference) appendCBOR(b []byte) []byte {
	return r.Digest.appendCBOR(appendText(append(b, 0x82), r.URI))
}

// MarshalCBOR encodes SUIT_Record.
func (r *Record) MarshalCBOR() ([]byte, error) { return r.appendCBOR(nil), nil }

// UnmarshalCBOR decodes SUIT_Record into memory of its own.
func (r *Record) UnmarshalCBOR(data []byte) error {
	rd := scan.New(append([]byte(nil), data...))
	parsed, err := readRecord(&rd)
	if err == nil {
		err = rd.Done()
	}
	if err != nil {
		return at(err, "record")
	}
	*r = *parsed
	return nil
}

func (r *Record) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(append(b, 0x85), byte(scan.Array), uint64(len(r.ManifestID)))
	for _, i := range r.ManifestID {
		b = appendUint(b, i)
	}
	b = appendUint(appendUint(appendInt(b, int64(r.Section)), r.Offset), r.ComponentIndex)
	return r.Properties.appendCBOR(b)
}

func (c *SystemPropertyClaims) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Map), uint64(1+c.Parameters.Len()))
	b = c.Component.appendCBOR(append(b, systemComponentID))
	for _, e := range c.Parameters.entries {
		b = append(appendInt(b, int64(e.label)), e.raw...)
	}
	return b
}

func (f *Failure) appendCBOR(b []byte) []byte {
	if f == nil {
		return append(b, 0xf5)
	}
	b = appendInt(append(b, 0xa3, resultCode), f.Code)
	b = f.Record.appendCBOR(append(b, resultRecord))
	return appendInt(append(b, resultReason), int64(f.Reason))
}

// ParseReport reads an encoded report that nothing protects any more: see [OpenReport] for what
// arrives protected.
func ParseReport(data []byte) (*Report, error) {
	rd := scan.New(data)
	n, err := rd.Map()
	if err != nil {
		return nil, at(err, "report")
	}
	var (
		r    Report
		seen labelSet
		have [4]bool // records, result, reference
	)
	for range n {
		label, err := seen.read(&rd)
		if err != nil {
			return nil, at(at(err, fmt.Sprintf("key %d", label)), "report")
		}
		if err := r.parseMember(&rd, label, &have); err != nil {
			return nil, at(err, "report")
		}
	}
	if err := rd.Done(); err != nil {
		return nil, at(err, "report")
	}
	for i, name := range []string{"records", "result", "reference"} {
		if !have[i] {
			return nil, at(at(errors.New("is missing"), name), "report")
		}
	}
	return &r, nil
}

func (r *Report) parseMember(rd *scan.Reader, label int64, have *[4]bool) (err error) {
	switch label {
	case reportNonce:
		r.Nonce, err = rd.Bytes()
		return at(err, "nonce")
	case reportRecords:
		have[0] = true
		r.Records, err = readEntries(rd)
		return at(err, "records")
	case reportResult:
		have[1] = true
		r.Failure, err = readResult(rd)
		return at(err, "result")
	case reportReference:
		have[2] = true
		r.Reference, err = readReference(rd)
		return at(err, "reference")
	case reportCapabilities:
		r.Capabilities, err = readCapabilities(rd)
		return at(err, "capability-report")
	}
	return at(errUnknownMember, fmt.Sprintf("key %d", label))
}

// ParseReference reads an encoded SUIT_Reference, as it stands in Evidence too.
func ParseReference(data []byte) (Reference, error) {
	rd := scan.New(data)
	r, err := readReference(&rd)
	if err == nil {
		err = rd.Done()
	}
	return r, at(err, "reference")
}

// UnmarshalCBOR decodes SUIT_Reference into memory of its own.
func (r *Reference) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseReference(append([]byte(nil), data...))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

func readReference(rd *scan.Reader) (r Reference, err error) {
	if err := wantLength(rd, 2); err != nil {
		return r, err
	}
	uri, err := rd.Text()
	if err != nil {
		return r, at(err, "manifest-uri")
	}
	r.URI = string(uri)
	r.Digest, err = readDigest(rd)
	return r, at(err, "manifest-digest")
}

func wantLength(rd *scan.Reader, want int) error {
	n, err := rd.Array()
	if err == nil && n != want {
		err = fmt.Errorf("has %d elements, not %d", n, want)
	}
	return err
}

func readEntries(rd *scan.Reader) ([]ReportEntry, error) {
	n, err := rd.Array()
	if err == nil && n > MaxRecords {
		err = fmt.Errorf("%d records, at most %d are accepted", n, MaxRecords)
	}
	if err != nil {
		return nil, err
	}
	list := make([]ReportEntry, n)
	for i := range list {
		if rd.Peek() == scan.Map {
			list[i].Claims, err = readClaims(rd)
		} else {
			list[i].Record, err = readRecord(rd)
		}
		if err != nil {
			return nil, at(err, "["+strconv.Itoa(i)+"]")
		}
	}
	return list, nil
}

func readRecord(rd *scan.Reader) (*Record, error) {
	if err := wantLength(rd, 5); err != nil {
		return nil, err
	}
	n, err := rd.Array()
	if err == nil && n > maxManifestDepth {
		err = fmt.Errorf("manifest id has %d steps, at most %d are accepted", n, maxManifestDepth)
	}
	if err != nil {
		return nil, at(err, "manifest-id")
	}
	r := &Record{ManifestID: make([]uint64, n)}
	for i := range r.ManifestID {
		if r.ManifestID[i], err = rd.Uint(); err != nil {
			return nil, at(err, "manifest-id")
		}
	}
	section, err := rd.Int()
	if err != nil {
		return nil, at(err, "manifest-section")
	}
	r.Section = Label(section)
	if r.Offset, err = rd.Uint(); err != nil {
		return nil, at(err, "section-offset")
	}
	if r.ComponentIndex, err = rd.Uint(); err != nil {
		return nil, at(err, "component-index")
	}
	r.Properties, err = readParameters(rd)
	return r, at(err, "properties")
}

// readClaims reads a map of key 0, which no parameter has, and parameters.
func readClaims(rd *scan.Reader) (*SystemPropertyClaims, error) {
	n, err := rd.Map()
	if err != nil {
		return nil, err
	}
	if n < 2 {
		return nil, fmt.Errorf("system property claims have %d members: a component and a parameter are needed", n)
	}
	label, err := rd.Int()
	if err == nil && label != systemComponentID {
		err = errors.New("system-component-id must come first: keys ascend (RFC 8949 §4.2.1)")
	}
	if err != nil {
		return nil, err
	}
	var c SystemPropertyClaims
	if c.Component, err = readComponentID(rd); err != nil {
		return nil, at(err, "system-component-id")
	}
	c.Parameters, err = readParameterPairs(rd, n-1)
	return &c, err
}

func readResult(rd *scan.Reader) (*Failure, error) {
	if rd.Peek() == scan.True {
		_, err := rd.Bool()
		return nil, err
	}
	n, err := rd.Map()
	if err == nil && n != 3 {
		err = fmt.Errorf("has %d members: true, or code, record and reason are needed", n)
	}
	if err != nil {
		return nil, err
	}
	var (
		f    Failure
		seen labelSet
	)
	for range n {
		label, err := seen.read(rd)
		if err == nil {
			err = f.parseMember(rd, label)
		}
		if err != nil {
			return nil, err
		}
	}
	return &f, nil
}

func (f *Failure) parseMember(rd *scan.Reader, label int64) (err error) {
	switch label {
	case resultCode:
		f.Code, err = rd.Int()
		return at(err, "code")
	case resultRecord:
		record, err := readRecord(rd)
		if err != nil {
			return at(err, "record")
		}
		f.Record = *record
		return nil
	case resultReason:
		reason, err := rd.Int()
		if err == nil && (reason < 0 || int(reason) >= len(reasonNames)) {
			err = fmt.Errorf("reason %d is not defined", reason)
		}
		f.Reason = Reason(reason)
		return at(err, "reason")
	}
	return at(errUnknownMember, fmt.Sprintf("key %d", label))
}

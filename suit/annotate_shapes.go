package suit

import (
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit/internal/scan"
)

func diagnose(item []byte) (string, error) { return cbor.Diagnose(item) }

// shapeSet describes every structure of the texts for [Annotate].
type shapeSet struct {
	envelope, manifest, report, protectedReport *shape
	segment, digest, sequence, parameters       *shape
	tryEach, runSequence, multiple, copies      *shape
}

// shapes is read only.
var shapes = newShapes()

func wrap(s *shape) *shape { return &shape{wrapped: s} }

func listOf(s *shape) *shape { return &shape{element: s} }

func newShapes() *shapeSet {
	s := &shapeSet{}
	s.segment = &shape{}
	id := listOf(s.segment)
	algorithm := &shape{comment: algorithmComment}
	s.digest = &shape{names: []string{"algorithm-id", "digest-bytes"}, elements: []*shape{algorithm, nil}}
	uuid := &shape{comment: uuidComment}
	encrypt := encryptShape(algorithm)
	s.sequence = &shape{commands: true}
	s.runSequence = wrap(s.sequence)
	s.tryEach = &shape{element: s.runSequence, names: []string{}, elements: []*shape{}}
	versionMatch := &shape{names: []string{"comparison", "version"}, elements: []*shape{{comment: comparisonComment}, nil}}
	s.parameters = &shape{keys: parameterNames, members: map[int64]*shape{
		int64(ParamVendorIdentifier): uuid, int64(ParamClassIdentifier): uuid, int64(ParamDeviceIdentifier): uuid,
		int64(ParamImageDigest): wrap(s.digest), int64(ParamEncryptionInfo): wrap(encrypt),
		int64(ParamVersion): wrap(versionMatch), int64(ParamWaitInfo): wrap(&shape{keys: waitNames}),
		int64(ParamComponentMetadata): wrap(&shape{keys: metadataNames}),
	}}
	s.multiple = &shape{others: s.parameters}
	s.copies = &shape{others: listOf(&shape{comment: parameterComment})}
	s.addManifest(id)
	s.addReport(id)
	s.protectedReport = coseShape(algorithm, wrap(s.report))
	return s
}

func (s *shapeSet) addManifest(id *shape) {
	common := &shape{keys: commonNames, members: map[int64]*shape{
		labelDependencies:   {others: &shape{keys: map[int64]string{1: "dependency-prefix"}, others: id}},
		labelComponents:     {element: id, elements: []*shape{}, names: []string{}},
		labelSharedSequence: wrap(s.sequence),
	}}
	component := &shape{keys: componentTextNames}
	text := &shape{others: &shape{keys: textNames, keyShape: id, others: component}}
	// A severable member is a digest or a byte string; the digest's shape fits the array only.
	severable := func(content *shape) *shape {
		d := *s.digest
		d.wrapped = content
		return &d
	}
	members := map[int64]*shape{
		int64(LabelCommon): wrap(common), int64(LabelManifestComponentID): id, int64(LabelSetVersion): wrap(&shape{}),
		int64(LabelText): severable(text), int64(LabelCoSWID): severable(&shape{}),
	}
	inEnvelope := map[int64]*shape{int64(LabelText): wrap(text), int64(LabelCoSWID): wrap(&shape{})}
	for _, l := range SectionLabels() {
		members[int64(l)] = wrap(s.sequence)
		if l.Severable() {
			members[int64(l)] = severable(s.sequence)
			inEnvelope[int64(l)] = wrap(s.sequence)
		}
	}
	s.manifest = &shape{title: "SUIT_Manifest", keys: manifestNames, members: members}
	plain := *s.manifest
	plain.title = ""
	s.envelope = &shape{title: "SUIT_Envelope", keys: envelopeNames, members: inEnvelope}
	block := wrap(coseShape(&shape{comment: algorithmComment}, nil))
	inEnvelope[int64(LabelAuthentication)] = wrap(&shape{elements: []*shape{wrap(s.digest)}, element: block})
	inEnvelope[int64(LabelManifest)] = wrap(&plain)
	s.envelope.others = wrap(s.envelope) // integrated payloads that are envelopes
}

func (s *shapeSet) addReport(id *shape) {
	record := &shape{
		names:    []string{"manifest-id", "manifest-section", "section-offset", "component-index", "properties"},
		elements: []*shape{nil, {comment: sectionComment}, nil, nil, s.parameters},
		// As a map, an entry holds system property claims.
		keys:    claimNames(),
		members: map[int64]*shape{systemComponentID: id},
	}
	for label, m := range s.parameters.members {
		record.members[label] = m
	}
	reference := &shape{names: []string{"manifest-uri", "manifest-digest"}, elements: []*shape{nil, s.digest}}
	result := &shape{keys: map[int64]string{resultCode: "code", resultRecord: "record", resultReason: "reason"},
		members: map[int64]*shape{resultRecord: record, resultReason: {comment: reasonComment}}}
	capability := &shape{keys: capabilityNames, members: map[int64]*shape{
		1: {element: id, names: []string{}, elements: []*shape{}},
	}}
	s.report = &shape{title: "SUIT_Report", keys: reportNames, members: map[int64]*shape{
		reportRecords: {element: record, names: []string{}, elements: []*shape{}}, reportResult: result,
		reportCapabilities: capability, reportReference: reference,
	}}
}

func headerShape(algorithm *shape) *shape {
	return &shape{keys: map[int64]string{1: "alg", 2: "crit", 3: "content-type", 4: "kid", 5: "iv", 33: "x5chain"},
		members: map[int64]*shape{1: algorithm}}
}

// coseShape fits COSE_Sign1, COSE_Mac0, COSE_Sign, COSE_Encrypt0 and COSE_Encrypt.
func coseShape(algorithm, payload *shape) *shape {
	header := headerShape(algorithm)
	layer := &shape{names: []string{"protected", "unprotected", "value"}, elements: []*shape{wrap(header), layerHeader(algorithm), nil}}
	return &shape{title: coseTitle, names: []string{"protected", "unprotected", "payload", "signature, tag or recipients"},
		elements: []*shape{wrap(header), header, payload, {element: layer, names: []string{}, elements: []*shape{}}}}
}

func encryptShape(algorithm *shape) *shape {
	s := coseShape(algorithm, nil)
	s.names = []string{"protected", "unprotected", "ciphertext", "recipients"}
	return s
}

func layerHeader(algorithm *shape) *shape {
	h := headerShape(algorithm)
	h.keys[-1] = "ephemeral-key"
	h.members[-1] = &shape{keys: map[int64]string{1: "kty", -1: "crv", -2: "x", -3: "y"}}
	return h
}

func argumentShape(c CommandCode) *shape {
	switch c.argument() {
	case argParameters:
		return shapes.parameters
	case argSequence:
		return shapes.runSequence
	case argSequences:
		return shapes.tryEach
	case argMultiple:
		return shapes.multiple
	case argCopies:
		return shapes.copies
	}
	return nil
}

func intComment(item []byte, name func(int64) string) string {
	r := scan.New(item)
	v, err := r.Int()
	if err != nil {
		return ""
	}
	return name(v)
}

func algorithmComment(item []byte) string {
	return intComment(item, func(v int64) string { return cose.Algorithm(v).String() })
}

func comparisonComment(item []byte) string {
	return intComment(item, func(v int64) string { return Comparison(v).String() })
}

func reasonComment(item []byte) string {
	return intComment(item, func(v int64) string { return Reason(v).String() })
}

func sectionComment(item []byte) string {
	return intComment(item, func(v int64) string { return Label(v).String() })
}

func parameterComment(item []byte) string {
	return intComment(item, func(v int64) string { return ParameterLabel(v).String() })
}

func uuidComment(item []byte) string {
	r := scan.New(item)
	u, err := readUUID(&r)
	if err != nil {
		return ""
	}
	return u.String()
}

func claimNames() map[int64]string {
	names := map[int64]string{systemComponentID: "system-component-id"}
	for label, name := range parameterNames {
		names[label] = name
	}
	return names
}

// The tables are read only.
var envelopeNames = map[int64]string{
	1: "delegation", 2: "authentication-wrapper", 3: "manifest", 14: "coswid", 15: "dependency-resolution",
	16: "payload-fetch", 18: "candidate-verification", 20: "install", 23: "text",
}

var commonNames = map[int64]string{1: "dependencies", 2: "components", 4: "shared-sequence"}

var waitNames = map[int64]string{
	1: "authorization", 2: "power", 3: "network", 4: "other-device-version", 5: "time", 6: "time-of-day",
	7: "day-of-week", 8: "time-of-day-utc", 9: "day-of-week-utc",
}

var metadataNames = map[int64]string{
	1: "default-permissions", 2: "user-permissions", 3: "group-permissions", 4: "role-permissions", 5: "file-type",
	6: "modification-time", 7: "creation-time", 8: "creator",
}

var reportNames = map[int64]string{
	2: "nonce", 3: "records", 4: "result", 8: "capability-report", 99: "reference",
}

var capabilityNames = map[int64]string{
	1: "components", 2: "commands", 3: "parameters", 4: "algorithms", 5: "envelope", 6: "manifest", 7: "common",
	8: "text", 9: "text-components", 10: "dependencies",
}

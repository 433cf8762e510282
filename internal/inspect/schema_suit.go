package inspect

import (
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/suit"
	"strings"
)

// suitSchemas describes the structures of the SUIT texts. Names come from package suit, where it
// has them.
type suitSchemas struct {
	envelope, manifest, report, claims *edn.Schema
	sequence, parameters, digest, id   *edn.Schema
}

func newSUITSchemas(s *schemas) suitSchemas {
	u := suitSchemas{id: &edn.Schema{}}
	u.digest = &edn.Schema{Elements: []edn.Field{{Name: "algorithm-id", Schema: s.algorithm}, {Name: "digest-bytes", Schema: s.opaque}}}
	u.parameters = parametersSchema(s, u.digest)
	u.sequence = sequenceSchema(u.parameters)
	text := textSchema()
	u.addManifest(s, text)
	u.addEnvelope(s, text)
	u.addReport(s)
	return u
}

func wraps(s *edn.Schema) *edn.Schema { return &edn.Schema{Wraps: s} }

func listOf(s *edn.Schema) *edn.Schema { return &edn.Schema{Rest: edn.Field{Schema: s}} }

// names tabulates what a type calls its values.
func names[T ~int64 | ~uint64](name func(T) string, values ...T) map[int64]string {
	m := map[int64]string{}
	for _, v := range values {
		m[int64(v)] = name(v)
	}
	return m
}

func parametersSchema(s *schemas, digest *edn.Schema) *edn.Schema {
	comparisons := names(suit.Comparison.String, suit.Greater, suit.GreaterEqual, suit.Equal, suit.LesserEqual, suit.Lesser)
	version := &edn.Schema{Elements: []edn.Field{{Name: "comparison", Schema: &edn.Schema{Values: comparisons}}, {Name: "version"}}}
	schema := map[suit.ParameterLabel]*edn.Schema{
		suit.ParamVendorIdentifier: s.opaque, suit.ParamClassIdentifier: s.opaque, suit.ParamDeviceIdentifier: s.opaque,
		suit.ParamImageDigest: wraps(digest), suit.ParamEncryptionInfo: s.wrapped, suit.ParamVersion: wraps(version),
		suit.ParamContent: s.payload, suit.ParamInvokeArgs: s.payload,
		suit.ParamWaitInfo:          wraps(&edn.Schema{Members: fields(waitNames)}),
		suit.ParamComponentMetadata: wraps(&edn.Schema{Members: fields(metadataNames)}),
	}
	p := &edn.Schema{Members: map[int64]edn.Field{}}
	for _, label := range []suit.ParameterLabel{
		suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamImageDigest, suit.ParamUseBefore,
		suit.ParamComponentSlot, suit.ParamStrictOrder, suit.ParamSoftFailure, suit.ParamImageSize,
		suit.ParamContent, suit.ParamEncryptionInfo, suit.ParamURI, suit.ParamSourceComponent, suit.ParamInvokeArgs,
		suit.ParamDeviceIdentifier, suit.ParamFetchArguments, suit.ParamMinimumBattery, suit.ParamUpdatePriority,
		suit.ParamVersion, suit.ParamWaitInfo, suit.ParamComponentMetadata,
	} {
		p.Members[int64(label)] = edn.Field{Name: label.String(), Schema: schema[label]}
	}
	return p
}

// sequenceSchema describes SUIT_Command_Sequence, in which each argument depends on the command
// before it (SUIT §8.4.6 to §8.4.10).
func sequenceSchema(parameters *edn.Schema) *edn.Schema {
	sequence := &edn.Schema{}
	nested := wraps(sequence)
	policy := &edn.Schema{Values: policyNames()}
	labels := map[int64]string{}
	for label, f := range parameters.Members {
		labels[label] = f.Name
	}
	argument := func(c suit.CommandCode) *edn.Schema {
		switch c {
		case suit.DirSetParameters, suit.DirOverrideParameters:
			return parameters
		case suit.DirRunSequence:
			return nested
		case suit.DirTryEach:
			return listOf(nested)
		case suit.DirOverrideMultiple:
			return &edn.Schema{Other: edn.Field{Schema: parameters}}
		case suit.DirCopyParams:
			return &edn.Schema{Other: edn.Field{Schema: listOf(&edn.Schema{Values: labels})}}
		case suit.DirSetComponentIndex:
			return nil
		}
		return policy
	}
	sequence.ElementAt = func(elements [][]byte, i int) edn.Field {
		at := i - i%2
		it, err := parse(elements[at])
		if err != nil {
			return edn.Field{}
		}
		code, ok := it.int64()
		switch {
		case !ok:
			return edn.Field{}
		case i == at:
			return edn.Field{Name: suit.CommandCode(code).String()}
		}
		return edn.Field{Schema: argument(suit.CommandCode(code))}
	}
	return sequence
}

// policyNames says what each reporting policy asks for (SUIT §8.4.7).
func policyNames() map[int64]string {
	bits := []string{"record on success", "record on failure", "sysinfo on success", "sysinfo on failure"}
	policies := map[int64]string{0: "no report", int64(suit.ReportAll): "report all"}
	for p := int64(1); p < int64(suit.ReportAll); p++ {
		var asked []string
		for i, name := range bits {
			if p>>i&1 == 1 {
				asked = append(asked, name)
			}
		}
		policies[p] = strings.Join(asked, ", ")
	}
	return policies
}

func textSchema() *edn.Schema {
	component := map[int64]string{}
	for l := range 7 {
		label := suit.ComponentTextLabel(l + 1)
		component[int64(label)] = label.String()
	}
	manifest := map[int64]string{}
	for l := range 4 {
		label := suit.TextLabel(l + 1)
		manifest[int64(label)] = label.String()
	}
	language := &edn.Schema{Members: fields(manifest), Other: edn.Field{Schema: &edn.Schema{Members: fields(component)}}}
	return &edn.Schema{Other: edn.Field{Schema: language}}
}

// severable describes a member that is a digest in its place, or a byte string.
func severable(digest, content *edn.Schema) *edn.Schema {
	return &edn.Schema{Elements: digest.Elements, Wraps: content}
}

func (u *suitSchemas) addManifest(s *schemas, text *edn.Schema) {
	common := &edn.Schema{Members: map[int64]edn.Field{
		1: {Name: "dependencies", Schema: &edn.Schema{Other: edn.Field{Schema: &edn.Schema{
			Members: map[int64]edn.Field{1: {Name: "dependency-prefix", Schema: u.id}}}}}},
		2: {Name: "components", Schema: listOf(u.id)},
		4: {Name: "shared-sequence", Schema: wraps(u.sequence)},
	}}
	u.manifest = &edn.Schema{Name: "SUIT_Manifest", Members: map[int64]edn.Field{
		int64(suit.LabelManifestVersion):     {Name: suit.LabelManifestVersion.String()},
		int64(suit.LabelSequenceNumber):      {Name: suit.LabelSequenceNumber.String()},
		int64(suit.LabelCommon):              {Name: suit.LabelCommon.String(), Schema: wraps(common)},
		int64(suit.LabelReferenceURI):        {Name: suit.LabelReferenceURI.String()},
		int64(suit.LabelManifestComponentID): {Name: suit.LabelManifestComponentID.String(), Schema: u.id},
		int64(suit.LabelSetVersion):          {Name: suit.LabelSetVersion.String(), Schema: wraps(&edn.Schema{})},
		int64(suit.LabelText):                {Name: suit.LabelText.String(), Schema: severable(u.digest, text)},
		int64(suit.LabelCoSWID):              {Name: suit.LabelCoSWID.String(), Schema: severable(u.digest, &edn.Schema{})},
	}}
	for _, l := range suit.SectionLabels() {
		schema := wraps(u.sequence)
		if l.Severable() {
			schema = severable(u.digest, u.sequence)
		}
		u.manifest.Members[int64(l)] = edn.Field{Name: l.String(), Schema: schema}
	}
}

func (u *suitSchemas) addEnvelope(s *schemas, text *edn.Schema) {
	blocks := &edn.Schema{Elements: []edn.Field{{Name: "digest", Schema: wraps(u.digest)}}, Rest: edn.Field{Schema: s.wrapped}}
	inner := *u.manifest // its name is that of the member
	inner.Name = ""
	u.envelope = &edn.Schema{Name: "SUIT_Envelope", Other: edn.Field{Schema: s.payload}, Members: map[int64]edn.Field{
		int64(suit.LabelDelegation):     {Name: "delegation"},
		int64(suit.LabelAuthentication): {Name: "authentication-wrapper", Schema: wraps(blocks)},
		int64(suit.LabelManifest):       {Name: "manifest", Schema: wraps(&inner)},
		int64(suit.LabelText):           {Name: suit.LabelText.String(), Schema: wraps(text)},
		int64(suit.LabelCoSWID):         {Name: suit.LabelCoSWID.String(), Schema: wraps(&edn.Schema{})},
	}}
	for _, l := range suit.SectionLabels() {
		if l.Severable() {
			u.envelope.Members[int64(l)] = edn.Field{Name: l.String(), Schema: wraps(u.sequence)}
		}
	}
}

func (u *suitSchemas) addReport(s *schemas) {
	u.claims = &edn.Schema{Members: map[int64]edn.Field{0: {Name: "system-component-id", Schema: u.id}}}
	for label, f := range u.parameters.Members {
		u.claims.Members[label] = f
	}
	sections := map[int64]string{int64(suit.LabelCommon): suit.LabelCommon.String()}
	for _, l := range suit.SectionLabels() {
		sections[int64(l)] = l.String()
	}
	record := &edn.Schema{Members: u.claims.Members, Elements: []edn.Field{
		{Name: "manifest-id"}, {Name: "manifest-section", Schema: &edn.Schema{Values: sections}},
		{Name: "section-offset"}, {Name: "component-index"}, {Name: "properties", Schema: u.parameters},
	}}
	var reasons []suit.Reason
	for r := suit.ReasonOK; r <= suit.ReasonInvokePending; r++ {
		reasons = append(reasons, r)
	}
	result := &edn.Schema{Members: map[int64]edn.Field{
		5: {Name: "result-code"}, 6: {Name: "result-record", Schema: record},
		7: {Name: "result-reason", Schema: &edn.Schema{Values: names(suit.Reason.String, reasons...)}},
	}}
	capabilities := &edn.Schema{Members: fields(capabilityNames)}
	capabilities.Members[1] = edn.Field{Name: "components", Schema: listOf(u.id)}
	reference := &edn.Schema{Elements: []edn.Field{{Name: "manifest-uri"}, {Name: "manifest-digest", Schema: u.digest}}}
	u.report = &edn.Schema{Name: "SUIT_Report", Members: map[int64]edn.Field{
		2: {Name: "nonce", Schema: s.opaque}, 3: {Name: "records", Schema: listOf(record)}, 4: {Name: "result", Schema: result},
		8: {Name: "capability-report", Schema: capabilities}, 99: {Name: "reference", Schema: reference},
	}}
}

func fields(names map[int64]string) map[int64]edn.Field {
	m := map[int64]edn.Field{}
	for label, name := range names {
		m[label] = edn.Field{Name: name}
	}
	return m
}

// Names that package suit keeps to itself. The tables are read only.
var (
	waitNames = map[int64]string{
		1: "authorization", 2: "power", 3: "network", 4: "other-device-version", 5: "time", 6: "time-of-day",
		7: "day-of-week", 8: "time-of-day-utc", 9: "day-of-week-utc",
	}
	metadataNames = map[int64]string{
		1: "default-permissions", 2: "user-permissions", 3: "group-permissions", 4: "role-permissions", 5: "file-type",
		6: "modification-time", 7: "creation-time", 8: "creator",
	}
	capabilityNames = map[int64]string{
		1: "components", 2: "commands", 3: "parameters", 4: "algorithms", 5: "envelope", 6: "manifest", 7: "common",
		8: "text", 9: "text-components", 10: "dependencies",
	}
)

package inspect

import (
	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/edn"
)

// teepSchemas describes TEEP messages (TEEP §4). Names come from package teep.
type teepSchemas struct {
	messages map[teep.MessageType]*edn.Schema
	unknown  *edn.Schema
}

func (t teepSchemas) message(m teep.MessageType) *edn.Schema {
	if s, ok := t.messages[m]; ok {
		return s
	}
	return t.unknown
}

func newTEEPSchemas(s *schemas) teepSchemas {
	types := map[int64]string{}
	t := teepSchemas{messages: map[teep.MessageType]*edn.Schema{}}
	options := &edn.Schema{Members: optionFields(s)}
	elements := func(m teep.MessageType) *edn.Schema {
		message := &edn.Schema{Name: "TEEP message", Elements: []edn.Field{
			{Name: teep.ElementName(m, 0), Schema: &edn.Schema{Values: types}},
			{Name: teep.ElementName(m, 1), Schema: options},
		}}
		for i := 2; teep.ElementName(m, i) != ""; i++ {
			message.Elements = append(message.Elements, edn.Field{Name: teep.ElementName(m, i)})
		}
		return message
	}
	for _, m := range []teep.MessageType{teep.TypeQueryRequest, teep.TypeQueryResponse, teep.TypeUpdate, teep.TypeSuccess, teep.TypeError} {
		types[int64(m)] = m.String()
		t.messages[m] = elements(m)
	}
	t.unknown = elements(0)
	request := t.messages[teep.TypeQueryRequest]
	request.Elements[2].Schema = options.Members[int64(teep.LabelCipherSuites)].Schema
	request.Elements[3].Schema = options.Members[int64(teep.LabelSUITProfiles)].Schema
	request.Elements[4].Schema = &edn.Schema{Bits: dataItemNames()}
	t.messages[teep.TypeError].Elements[2].Schema = &edn.Schema{Values: errorNames()}
	return t
}

func optionFields(s *schemas) map[int64]edn.Field {
	list := func(of *edn.Schema) *edn.Schema { return &edn.Schema{Rest: edn.Field{Schema: of}} }
	operation := &edn.Schema{Elements: []edn.Field{
		{Schema: &edn.Schema{Values: map[int64]string{cose.TagSign1: "COSE_Sign1", cose.TagSign: "COSE_Sign"}}},
		{Schema: s.algorithm},
	}}
	id := list(nil)
	requested := &edn.Schema{Members: map[int64]edn.Field{}}
	for label, schema := range map[uint64]*edn.Schema{teep.LabelComponentID: id, teep.LabelTCSequenceNumber: nil, teep.LabelHaveBinary: nil} {
		requested.Members[int64(label)] = edn.Field{Name: teep.LabelName(label), Schema: schema}
	}
	freshness := &edn.Schema{Values: map[int64]string{}}
	for _, f := range []teep.FreshnessMechanism{teep.FreshnessNonce, teep.FreshnessTimestamp} {
		freshness.Values[int64(f)] = f.String()
	}
	values := map[uint64]*edn.Schema{
		teep.LabelCipherSuites: list(list(operation)), teep.LabelSUITProfiles: list(list(s.algorithm)),
		teep.LabelChallenge: s.opaque, teep.LabelToken: s.opaque,
		teep.LabelAttestationPayload: s.payload, teep.LabelTCList: list(s.suit.claims),
		teep.LabelManifestList: list(s.payload), teep.LabelSUITReports: list(s.payload),
		teep.LabelRequestedTCList: list(requested), teep.LabelUnneededManifests: list(id),
		teep.LabelFreshnessMechanisms: list(freshness), teep.LabelErrCode: {Values: errorNames()},
	}
	fields := map[int64]edn.Field{}
	for label := teep.LabelCipherSuites; label <= teep.LabelErrCode; label++ {
		if name := teep.LabelName(label); name != "" {
			fields[int64(label)] = edn.Field{Name: name, Schema: values[label]}
		}
	}
	return fields
}

func dataItemNames() []string {
	var names []string
	for _, d := range []teep.DataItem{teep.DataAttestation, teep.DataTrustedComponents, teep.DataExtensions, teep.DataSUITReports} {
		names = append(names, d.String())
	}
	return names
}

func errorNames() map[int64]string {
	names := map[int64]string{}
	for _, c := range []teep.ErrorCode{
		teep.ErrPermanentError, teep.ErrUnsupportedExtension, teep.ErrUnsupportedFreshnessMechanisms, teep.ErrUnsupportedMsgVersion,
		teep.ErrUnsupportedCipherSuites, teep.ErrBadCertificate, teep.ErrAttestationRequired, teep.ErrUnsupportedSUITReport,
		teep.ErrCertificateExpired, teep.ErrTemporaryError, teep.ErrManifestProcessingFailed,
	} {
		names[int64(c)] = c.String()
	}
	return names
}

package teep

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// Encode encodes a message, which is the payload of a protected one. The encoding is
// deterministic. A message that breaks a rule for senders is an error that names the rule; an
// unencodable one never leaves.
func Encode(m Message) ([]byte, error) {
	if m == nil {
		return nil, errors.New("teep: no message to encode")
	}
	if err := check(m, true); err != nil {
		return nil, fmt.Errorf("teep: cannot send this %v: %w", m.Type(), err)
	}
	return EncodeUnchecked(m)
}

// EncodeUnchecked encodes without holding to the rules for senders. It is for tools that show what
// others sent, and for tests that play a hostile peer.
func EncodeUnchecked(m Message) ([]byte, error) {
	switch m := m.(type) {
	case *QueryRequest:
		return encodeQueryRequest(m), nil
	case *QueryResponse:
		return encodeQueryResponse(m), nil
	case *Update:
		return encodeUpdate(m), nil
	case *Success:
		return encodeSuccess(m), nil
	case *Error:
		return encodeError(m), nil
	case ExtensionMessage:
		return encodeFrame(m)
	}
	return nil, fmt.Errorf("teep: cannot encode a %T", m)
}

func appendMessage(t MessageType, o *optionMap, elements int) []byte {
	b := make([]byte, 0, len(o.pairs)+64)
	b = appendHead(b, majorArray, uint64(2+elements))
	b = appendUint(b, uint64(t))
	return o.appendTo(b)
}

func appendVersion(b []byte, v Version) []byte { return appendUint(b, uint64(v)) }

func appendFreshness(b []byte, f FreshnessMechanism) []byte { return appendUint(b, uint64(f)) }

func encodeQueryRequest(m *QueryRequest) []byte {
	var o optionMap
	o.bytes(LabelToken, m.Token)
	optionList(&o, LabelFreshnessMechanisms, m.FreshnessMechanisms, appendFreshness)
	o.bytes(LabelChallenge, m.Challenge)
	optionList(&o, LabelVersions, m.Versions, appendVersion)
	o.text(LabelAttestationFormat, m.AttestationFormat)
	o.bytes(LabelAttestationPayload, m.AttestationPayload)
	optionList(&o, LabelSUITReports, m.SUITReports, appendBytes)
	o.raw(m.Extensions)
	b := appendMessage(TypeQueryRequest, &o, 3)
	b = appendList(b, m.CipherSuites, appendCipherSuite)
	b = appendList(b, m.SUITProfiles, appendSUITProfile)
	return appendUint(b, uint64(m.DataItems))
}

func encodeQueryResponse(m *QueryResponse) []byte {
	var o optionMap
	o.bytes(LabelToken, m.Token)
	if m.SelectedVersion != nil {
		v := uint64(*m.SelectedVersion)
		o.uint(LabelSelectedVersion, &v)
	}
	o.text(LabelAttestationFormat, m.AttestationFormat)
	o.bytes(LabelAttestationPayload, m.AttestationPayload)
	optionList(&o, LabelSUITReports, m.SUITReports, appendBytes)
	optionList(&o, LabelTCList, m.TrustedComponents, appendRaw)
	optionList(&o, LabelRequestedTCList, m.RequestedComponents, appendRequestedComponent)
	optionList(&o, LabelUnneededManifests, m.UnneededManifests, appendComponentID)
	optionList(&o, LabelExtList, m.ExtensionList, func(b []byte, e ExtensionInfo) []byte {
		return appendUint(b, uint64(e))
	})
	o.raw(m.Extensions)
	return appendMessage(TypeQueryResponse, &o, 0)
}

func appendRequestedComponent(b []byte, c RequestedComponent) []byte {
	var o optionMap
	o.label(LabelComponentID)
	o.pairs = appendComponentID(o.pairs, c.ID)
	o.uint(LabelTCSequenceNumber, c.MinSequence)
	if c.HaveBinary != nil {
		o.label(LabelHaveBinary)
		o.pairs = appendBool(o.pairs, *c.HaveBinary)
	}
	o.raw(c.Extensions)
	return o.appendTo(b)
}

func encodeUpdate(m *Update) []byte {
	var o optionMap
	o.bytes(LabelToken, m.Token)
	optionList(&o, LabelUnneededManifests, m.UnneededManifests, appendComponentID)
	optionList(&o, LabelManifestList, m.Manifests, appendBytes)
	o.text(LabelAttestationFormat, m.AttestationFormat)
	o.bytes(LabelAttestationPayload, m.AttestationPayload)
	if m.ErrorCode != 0 {
		code := uint64(m.ErrorCode)
		o.uint(LabelErrCode, &code)
	}
	o.text(LabelErrMsg, m.ErrorMessage)
	o.text(LabelErrLang, m.ErrorLanguage)
	o.raw(m.Extensions)
	return appendMessage(TypeUpdate, &o, 0)
}

func encodeSuccess(m *Success) []byte {
	var o optionMap
	o.bytes(LabelToken, m.Token)
	o.text(LabelMsg, m.Msg)
	optionList(&o, LabelSUITReports, m.SUITReports, appendBytes)
	o.raw(m.Extensions)
	return appendMessage(TypeSuccess, &o, 0)
}

func encodeError(m *Error) []byte {
	var o optionMap
	o.bytes(LabelToken, m.Token)
	o.text(LabelErrMsg, m.Message)
	o.text(LabelErrLang, m.Language)
	optionList(&o, LabelCipherSuites, m.CipherSuites, appendCipherSuite)
	optionList(&o, LabelFreshnessMechanisms, m.FreshnessMechanisms, appendFreshness)
	optionList(&o, LabelSUITProfiles, m.SUITProfiles, appendSUITProfile)
	o.bytes(LabelChallenge, m.Challenge)
	optionList(&o, LabelVersions, m.Versions, appendVersion)
	optionList(&o, LabelSUITReports, m.SUITReports, appendBytes)
	o.raw(m.Extensions)
	return appendUint(appendMessage(TypeError, &o, 1), uint64(m.Code))
}

func encodeFrame(m ExtensionMessage) ([]byte, error) {
	f, err := m.Frame()
	if err != nil {
		return nil, err
	}
	if f.Type != m.Type() || isKnownType(f.Type) {
		return nil, fmt.Errorf("teep: extension message of type %d has a frame of type %d", m.Type(), f.Type)
	}
	var o optionMap
	o.raw(f.Options)
	b := appendMessage(f.Type, &o, len(f.Further))
	for _, item := range f.Further {
		b = append(b, item...)
	}
	// What came from outside may be no CBOR, which would make a message of something else.
	if err := cbor.Wellformed(b); err != nil {
		return nil, fmt.Errorf("teep: extension message of type %d: %w", f.Type, err)
	}
	return b, nil
}

package teep

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// Decoder decodes messages. The zero value knows the five types of the text.
type Decoder struct {
	// Extensions decodes further message types.
	Extensions Registry
}

// Decode decodes the payload of a protected message. See [Decoder.Decode].
func Decode(data []byte) (Message, error) { return Decoder{}.Decode(data) }

// Decode decodes the payload of a protected message and checks it against the text. Errors are
// [*ProtocolError]: ERR_PERMANENT_ERROR for what breaks a rule, ERR_UNSUPPORTED_EXTENSION for an
// unknown message type. Unknown options are kept in the message's Extensions.
func (d Decoder) Decode(data []byte) (Message, error) {
	f, err := decodeFrame(data)
	if err != nil {
		return nil, withCause(permanent("the message is not [type, options, …]"), err)
	}
	token := f.Options[LabelToken] // reading takes it out
	o := &optionReader{left: f.Options}
	m, err := d.decodeType(f, o)
	if err == nil {
		err = o.err
	}
	if err == nil {
		err = check(m, false)
	}
	if err != nil {
		return nil, rejection(f.Type, token, err)
	}
	return m, nil
}

// rejection makes the ProtocolError that answers a message whose frame was readable: it echoes
// the token where there is a valid one (TEEP §4.6).
func rejection(t MessageType, encodedToken RawMessage, err error) error {
	var pe *ProtocolError
	if !errors.As(err, &pe) {
		pe = withCause(permanent("%v: %v", t, err), nil)
	}
	if token, err := readBytes(encodedToken); err == nil && len(token) >= MinToken && len(token) <= MaxToken {
		pe.Token = token
	}
	return pe
}

func withCause(e *ProtocolError, cause error) *ProtocolError {
	e.cause = cause
	return e
}

// decodeFrame splits a message into its parts, which share memory with data.
func decodeFrame(data []byte) (Frame, error) {
	if err := cbor.Wellformed(data); err != nil {
		return Frame{}, err
	}
	parts, err := readArray(data)
	if err != nil {
		return Frame{}, err
	}
	if len(parts) < 2 {
		return Frame{}, fmt.Errorf("array of %d elements", len(parts))
	}
	t, err := readUint(parts[0])
	if err != nil {
		return Frame{}, fmt.Errorf("type %w", err)
	}
	options, err := readMap(parts[1])
	if err != nil {
		return Frame{}, fmt.Errorf("options %w", err)
	}
	return Frame{Type: MessageType(t), Options: options, Further: parts[2:]}, nil
}

func (d Decoder) decodeType(f Frame, o *optionReader) (Message, error) {
	elements := map[MessageType]int{
		TypeQueryRequest: 3, TypeQueryResponse: 0, TypeUpdate: 0, TypeSuccess: 0, TypeError: 1,
	}
	want, known := elements[f.Type]
	if !known {
		return d.decodeExtension(f)
	}
	if len(f.Further) != want {
		return nil, fmt.Errorf("has %d elements, expected %d", 2+len(f.Further), 2+want)
	}
	switch f.Type {
	case TypeQueryRequest:
		return decodeQueryRequest(f, o)
	case TypeQueryResponse:
		return decodeQueryResponse(o)
	case TypeUpdate:
		return decodeUpdate(o)
	case TypeSuccess:
		return decodeSuccess(o)
	default:
		return decodeError(f, o)
	}
}

func (d Decoder) decodeExtension(f Frame) (Message, error) {
	decode := d.Extensions[f.Type]
	if decode == nil {
		return nil, &ProtocolError{Code: ErrUnsupportedExtension, Msg: fmt.Sprintf("unknown message type %d", uint64(f.Type))}
	}
	// What it keeps is not to keep the whole message.
	for label, raw := range f.Options {
		f.Options[label] = bytes.Clone(raw)
	}
	for i, raw := range f.Further {
		f.Further[i] = bytes.Clone(raw)
	}
	m, err := decode(f)
	if err == nil && (m == nil || m.Type() != f.Type) {
		err = errors.New("the extension decoded another type")
	}
	return m, err
}

// optionReader takes options out of a map; what is left in the end is unknown. The first error
// sticks.
type optionReader struct {
	left map[uint64]RawMessage
	err  error
}

func take[T any](o *optionReader, label uint64, read func(RawMessage) (T, error)) (v T, present bool) {
	raw, ok := o.left[label]
	if !ok || o.err != nil {
		return v, false
	}
	delete(o.left, label)
	v, err := read(raw)
	if err != nil {
		o.err = fmt.Errorf("%s %w", LabelName(label), err)
	}
	return v, true
}

func takeList[T any](o *optionReader, label uint64, item func(RawMessage) (T, error)) []T {
	list, _ := take(o, label, func(r RawMessage) ([]T, error) { return readList(r, item) })
	return list
}

func (o *optionReader) bytes(label uint64) []byte {
	s, _ := take(o, label, readBytes)
	return s
}

// text refuses an empty string, which no text option may be and which means absent in the types.
func (o *optionReader) text(label uint64) string {
	s, present := take(o, label, readText)
	if present && s == "" && o.err == nil {
		o.err = fmt.Errorf("%s is empty", LabelName(label))
	}
	return s
}

func (o *optionReader) reports() [][]byte { return takeList(o, LabelSUITReports, readBytes) }

func (o *optionReader) rest() map[uint64]RawMessage {
	if len(o.left) == 0 {
		return nil
	}
	for label, raw := range o.left {
		o.left[label] = bytes.Clone(raw) // not the whole message, for one option
	}
	return o.left
}

func readVersion(r RawMessage) (Version, error) {
	v, err := readUint32(r)
	return Version(v), err
}

func readFreshness(r RawMessage) (FreshnessMechanism, error) {
	n, err := readUint(r)
	return FreshnessMechanism(n), err
}

func decodeQueryRequest(f Frame, o *optionReader) (Message, error) {
	m := &QueryRequest{
		Token:               o.bytes(LabelToken),
		FreshnessMechanisms: takeList(o, LabelFreshnessMechanisms, readFreshness),
		Challenge:           o.bytes(LabelChallenge),
		Versions:            takeList(o, LabelVersions, readVersion),
		AttestationFormat:   o.text(LabelAttestationFormat),
		AttestationPayload:  o.bytes(LabelAttestationPayload),
		SUITReports:         o.reports(),
	}
	m.Extensions = o.rest()
	var err error
	if m.CipherSuites, err = readList(f.Further[0], readCipherSuite); err != nil {
		return nil, fmt.Errorf("supported-teep-cipher-suites %w", err)
	}
	if m.SUITProfiles, err = readList(f.Further[1], readSUITProfile); err != nil {
		return nil, fmt.Errorf("supported-suit-cose-profiles %w", err)
	}
	items, err := readUint(f.Further[2])
	if err != nil {
		return nil, fmt.Errorf("data-item-requested %w", err)
	}
	m.DataItems = DataItem(items)
	return m, nil
}

func decodeQueryResponse(o *optionReader) (Message, error) {
	m := &QueryResponse{Token: o.bytes(LabelToken)}
	if v, present := take(o, LabelSelectedVersion, readVersion); present {
		m.SelectedVersion = &v
	}
	m.AttestationFormat = o.text(LabelAttestationFormat)
	m.AttestationPayload = o.bytes(LabelAttestationPayload)
	m.SUITReports = o.reports()
	m.TrustedComponents = takeList(o, LabelTCList, readClaims)
	m.RequestedComponents = takeList(o, LabelRequestedTCList, readRequestedComponent)
	m.UnneededManifests = takeList(o, LabelUnneededManifests, readComponentID)
	m.ExtensionList = takeList(o, LabelExtList, func(r RawMessage) (ExtensionInfo, error) {
		n, err := readUint32(r)
		return ExtensionInfo(n), err
	})
	m.Extensions = o.rest()
	return m, nil
}

func readRequestedComponent(r RawMessage) (c RequestedComponent, err error) {
	left, err := readMap(r)
	if err != nil {
		return c, err
	}
	if left[LabelComponentID] == nil {
		return c, errors.New("has no component-id")
	}
	o := &optionReader{left: left}
	c.ID, _ = take(o, LabelComponentID, readComponentID)
	if n, present := take(o, LabelTCSequenceNumber, readUint); present {
		c.MinSequence = &n
	}
	if have, present := take(o, LabelHaveBinary, readBool); present {
		c.HaveBinary = &have
	}
	c.Extensions = o.rest()
	return c, o.err
}

func decodeUpdate(o *optionReader) (Message, error) {
	m := &Update{
		Token:              o.bytes(LabelToken),
		UnneededManifests:  takeList(o, LabelUnneededManifests, readComponentID),
		Manifests:          takeList(o, LabelManifestList, readBytes),
		AttestationFormat:  o.text(LabelAttestationFormat),
		AttestationPayload: o.bytes(LabelAttestationPayload),
	}
	code, present := take(o, LabelErrCode, readUint)
	if present && code == 0 && o.err == nil {
		return nil, errors.New("err-code is 0, which is reserved")
	}
	m.ErrorCode = ErrorCode(code)
	m.ErrorMessage = o.text(LabelErrMsg)
	m.ErrorLanguage = o.text(LabelErrLang)
	m.Extensions = o.rest()
	return m, nil
}

func decodeSuccess(o *optionReader) (Message, error) {
	m := &Success{Token: o.bytes(LabelToken), Msg: o.text(LabelMsg), SUITReports: o.reports()}
	m.Extensions = o.rest()
	return m, nil
}

func decodeError(f Frame, o *optionReader) (Message, error) {
	m := &Error{
		Token:               o.bytes(LabelToken),
		Message:             o.text(LabelErrMsg),
		Language:            o.text(LabelErrLang),
		CipherSuites:        takeList(o, LabelCipherSuites, readCipherSuite),
		FreshnessMechanisms: takeList(o, LabelFreshnessMechanisms, readFreshness),
		SUITProfiles:        takeList(o, LabelSUITProfiles, readSUITProfile),
		Challenge:           o.bytes(LabelChallenge),
		Versions:            takeList(o, LabelVersions, readVersion),
		SUITReports:         o.reports(),
	}
	m.Extensions = o.rest()
	code, err := readUint(f.Further[0])
	if err != nil {
		return nil, fmt.Errorf("err-code %w", err)
	}
	m.Code = ErrorCode(code)
	return m, nil
}

// wellformed tells whether s is one CBOR data item, as "bstr .cbor" asks.
func wellformed(s []byte) bool { return cbor.Wellformed(s) == nil }

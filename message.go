package teep

import (
	"fmt"
	"strings"

	"github.com/go-teep/teep/internal/cbor"
)

// MediaType is the media type of a protected TEEP message (TEEP §14.1).
const MediaType = "application/teep+cbor"

// RawMessage is one encoded CBOR data item, kept as it was received.
type RawMessage = cbor.RawMessage

// ComponentID is a SUIT component identifier, part by part; convertible to suit.ComponentID.
type ComponentID [][]byte

// Message is one of [*QueryRequest], [*QueryResponse], [*Update], [*Success], [*Error], or an
// extension's type (see [Registry]).
type Message interface {
	Type() MessageType
}

// MessageType is the first element of every message.
//
//	$teep-type /= (0..23)
type MessageType uint64

// Message types (TEEP §4). 0 and 4 are reserved.
const (
	TypeQueryRequest  MessageType = 1
	TypeQueryResponse MessageType = 2
	TypeUpdate        MessageType = 3
	TypeSuccess       MessageType = 5
	TypeError         MessageType = 6
)

// String returns the name that the text uses, such as "query-request".
func (t MessageType) String() string {
	switch t {
	case TypeQueryRequest:
		return "query-request"
	case TypeQueryResponse:
		return "query-response"
	case TypeUpdate:
		return "update"
	case TypeSuccess:
		return "success"
	case TypeError:
		return "error"
	}
	return fmt.Sprintf("teep-type %d", uint64(t))
}

// Sizes in bytes that the CDDL gives to byte and text strings.
const (
	MinToken     = 8
	MaxToken     = 64
	MinChallenge = 8
	MaxChallenge = 512
	MaxText      = 128 // msg, err-msg
	MaxLanguage  = 35  // err-lang
)

// Version is a TEEP protocol version.
//
//	version = uint .size 4
type Version uint32

// Version0 is the protocol of the text; an absent version means it (TEEP §4.2).
const Version0 Version = 0

// ExtensionInfo names a supported extension. The text defines none.
//
//	ext-info = uint .size 4
type ExtensionInfo uint32

// DataItem is the bitmap of what a QueryRequest asks for (TEEP §4.2, data-item-requested).
type DataItem uint64

// Bits of DataItem. Bits 4 to 31 are reserved for future use and tolerated.
const (
	DataAttestation       DataItem = 1 << 0
	DataTrustedComponents DataItem = 1 << 1
	DataExtensions        DataItem = 1 << 2
	DataSUITReports       DataItem = 1 << 3

	// maxDataItem is the last value that the registry of bits has room for (TEEP §14.3).
	maxDataItem DataItem = 1<<32 - 1
)

// Has tells whether all bits of item are set in d.
func (d DataItem) Has(item DataItem) bool { return d&item == item }

// String returns the names of the bits, such as "attestation | trusted-components".
func (d DataItem) String() string {
	names := [...]string{"attestation", "trusted-components", "extensions", "suit-reports"}
	var parts []string
	for i, name := range names {
		if d&(1<<i) != 0 {
			parts = append(parts, name)
		}
	}
	if rest := d >> len(names) << len(names); rest != 0 {
		parts = append(parts, fmt.Sprintf("%#x", uint64(rest)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " | ")
}

// FreshnessMechanism tells how the freshness of an attestation payload is judged (TEEP §9).
type FreshnessMechanism uint64

// Freshness mechanisms. Every implementation supports FreshnessNonce.
const (
	FreshnessNonce     FreshnessMechanism = 0
	FreshnessTimestamp FreshnessMechanism = 1
)

// String returns the name that the text uses.
func (f FreshnessMechanism) String() string {
	switch f {
	case FreshnessNonce:
		return "FRESHNESS_NONCE"
	case FreshnessTimestamp:
		return "FRESHNESS_TIMESTAMP"
	}
	return fmt.Sprintf("freshness-mechanism %d", uint64(f))
}

// QueryRequest is the TAM's question for the state of a device (TEEP §4.2).
//
//	query-request = [
//	  type: TEEP-TYPE-query-request,
//	  options: {
//	    ? token => bstr .size (8..64),
//	    ? supported-freshness-mechanisms => [ + $freshness-mechanism ],
//	    ? challenge => bstr .size (8..512),
//	    ? versions => [ + version ],
//	    ? attestation-payload-format => text,
//	    ? attestation-payload => bstr,
//	    ? suit-reports => [ + bstr .cbor (SUIT_Report_Protected / SUIT_Report_Unprotected) ],
//	    * $$query-request-extensions,
//	    * $$teep-option-extensions
//	  },
//	  supported-teep-cipher-suites: [ + $teep-cipher-suite ],
//	  supported-suit-cose-profiles: [ + $suit-cose-profile ],
//	  data-item-requested: uint .bits data-item-requested
//	]
type QueryRequest struct {
	// Token is present if and only if DataItems lacks DataAttestation. That is the rule for
	// what is sent; a received one may break it.
	Token []byte
	// FreshnessMechanisms absent means nonce only. Absent unless DataAttestation is asked for.
	FreshnessMechanisms []FreshnessMechanism
	// Challenge is absent unless DataAttestation is asked for.
	Challenge []byte
	// Versions absent means version 0 only.
	Versions []Version
	// AttestationFormat is the media type of AttestationPayload; "" means [EATMediaType].
	AttestationFormat string
	// AttestationPayload attests the TAM. nil means absent.
	AttestationPayload []byte
	// SUITReports are encoded SUIT Reports, protected or not.
	SUITReports [][]byte
	// CipherSuites are the TEEP cipher suites that the TAM supports; at least one.
	CipherSuites []CipherSuite
	// SUITProfiles are the profiles that the TAM supports for SUIT Reports; at least one.
	SUITProfiles []SUITProfile
	// DataItems is what is asked for.
	DataItems DataItem
	// Extensions are options that this package does not know, by label.
	Extensions map[uint64]RawMessage
}

// Type returns TypeQueryRequest.
func (*QueryRequest) Type() MessageType { return TypeQueryRequest }

// QueryResponse is the agent's answer to a QueryRequest, or unsolicited (TEEP §4.3).
//
//	query-response = [
//	  type: TEEP-TYPE-query-response,
//	  options: {
//	    ? token => bstr .size (8..64),
//	    ? selected-version => version,
//	    ? attestation-payload-format => text,
//	    ? attestation-payload => bstr,
//	    ? suit-reports => [ + bstr .cbor (SUIT_Report_Protected / SUIT_Report_Unprotected) ],
//	    ? tc-list => [ + system-property-claims ],
//	    ? requested-tc-list => [ + requested-tc-info ],
//	    ? unneeded-manifest-list => [ + SUIT_Component_Identifier ],
//	    ? ext-list => [ + ext-info ],
//	    * $$query-response-extensions,
//	    * $$teep-option-extensions
//	  }
//	]
type QueryResponse struct {
	// Token echoes the QueryRequest's.
	Token []byte
	// SelectedVersion nil means version 0.
	SelectedVersion *Version
	// AttestationFormat is the media type of AttestationPayload; "" means [EATMediaType].
	AttestationFormat string
	// AttestationPayload is Evidence or an Attestation Result. nil means absent.
	AttestationPayload []byte
	SUITReports        [][]byte
	// TrustedComponents (tc-list) are system-property-claims maps (SUIT Report §4), encoded.
	// nil means absent. An empty list is the answer of an agent that has none: the parameter
	// has to be there when it was asked for, although the CDDL has no room for emptiness.
	TrustedComponents []RawMessage
	// RequestedComponents (requested-tc-list) are wanted and not installed.
	RequestedComponents []RequestedComponent
	// UnneededManifests are manifest component identifiers that nothing needs any longer.
	UnneededManifests []ComponentID
	// ExtensionList (ext-list) nil means absent; empty means asked for, and none supported.
	ExtensionList []ExtensionInfo
	Extensions    map[uint64]RawMessage
}

// Type returns TypeQueryResponse.
func (*QueryResponse) Type() MessageType { return TypeQueryResponse }

// RequestedComponent is a Trusted Component that an agent asks for.
//
//	requested-tc-info = {
//	  component-id => SUIT_Component_Identifier,
//	  ? tc-manifest-sequence-number => uint,
//	  ? have-binary => bool
//	}
type RequestedComponent struct {
	ID ComponentID
	// MinSequence is the smallest acceptable manifest sequence number; nil for any.
	MinSequence *uint64
	// HaveBinary says that only a manifest is needed; nil means absent. When true, MinSequence
	// is present.
	HaveBinary *bool
	// Extensions are entries that this package does not know, by label.
	Extensions map[uint64]RawMessage
}

// Update tells an agent what to install and remove, or what went wrong with its QueryResponse
// (TEEP §4.4).
//
//	update = [
//	  type: TEEP-TYPE-update,
//	  options: {
//	    ? token => bstr .size (8..64),
//	    ? unneeded-manifest-list => [ + SUIT_Component_Identifier ],
//	    ? manifest-list => [ + bstr .cbor SUIT_Envelope ],
//	    ? attestation-payload-format => text,
//	    ? attestation-payload => bstr,
//	    ? err-code => err-code-values,
//	    ? err-msg => text .size (1..128),
//	    ? err-lang => text .size (1..35),
//	    * $$update-extensions,
//	    * $$teep-option-extensions
//	  }
//	]
type Update struct {
	Token []byte
	// UnneededManifests are manifest component identifiers to unlink. nil means absent.
	UnneededManifests []ComponentID
	// Manifests are encoded SUIT envelopes to install. nil means absent.
	Manifests [][]byte
	// AttestationFormat is the media type of AttestationPayload; "" means [EATMediaType].
	AttestationFormat string
	// AttestationPayload is an Attestation Result for the agent's further use. nil means absent.
	AttestationPayload []byte
	// ErrorCode 0 means absent.
	ErrorCode ErrorCode
	// ErrorMessage is Net-Unicode of at most 128 bytes; "" means absent. See [NetUnicode].
	ErrorMessage string
	// ErrorLanguage is the RFC 5646 tag of ErrorMessage's language; "" means absent.
	ErrorLanguage string
	Extensions    map[uint64]RawMessage
}

// Type returns TypeUpdate.
func (*Update) Type() MessageType { return TypeUpdate }

// Success says that an Update was carried out (TEEP §4.5).
//
//	success = [
//	  type: TEEP-TYPE-success,
//	  options: {
//	    ? token => bstr .size (8..64),
//	    ? msg => text .size (1..128),
//	    ? suit-reports => [ + bstr .cbor (SUIT_Report_Protected / SUIT_Report_Unprotected) ],
//	    * $$success-extensions,
//	    * $$teep-option-extensions
//	  }
//	]
type Success struct {
	// Token echoes the Update's.
	Token []byte
	// Msg is Net-Unicode of at most 128 bytes; "" means absent. See [NetUnicode].
	Msg string
	// SUITReports are encoded SUIT Reports. When the Update had a token, each carries it as
	// nonce. The key that protects a report differs from the one that signs this message.
	SUITReports [][]byte
	Extensions  map[uint64]RawMessage
}

// Type returns TypeSuccess.
func (*Success) Type() MessageType { return TypeSuccess }

// Error is an agent's answer to a message that it could not carry out (TEEP §4.6). It is not a
// Go error; [ProtocolError] is.
//
//	error = [
//	  type: TEEP-TYPE-error,
//	  options: {
//	     ? token => bstr .size (8..64),
//	     ? err-msg => text .size (1..128),
//	     ? err-lang => text .size (1..35),
//	     ? supported-teep-cipher-suites => [ + $teep-cipher-suite ],
//	     ? supported-freshness-mechanisms => [ + $freshness-mechanism ],
//	     ? supported-suit-cose-profiles => [ + $suit-cose-profile ],
//	     ? challenge => bstr .size (8..512),
//	     ? versions => [ + version ],
//	     ? suit-reports => [ + bstr .cbor (SUIT_Report_Protected / SUIT_Report_Unprotected) ],
//	     * $$error-extensions,
//	     * $$teep-option-extensions
//	  },
//	  err-code: err-code-values
//	]
type Error struct {
	// Token echoes the token of the message that failed.
	Token []byte
	// Message is Net-Unicode of at most 128 bytes; "" means absent. See [NetUnicode].
	Message string
	// Language is the RFC 5646 tag of Message's language; "" means absent.
	Language string
	// CipherSuites is there when Code is ErrUnsupportedCipherSuites.
	CipherSuites []CipherSuite
	// FreshnessMechanisms is there when Code is ErrUnsupportedFreshnessMechanisms.
	FreshnessMechanisms []FreshnessMechanism
	// SUITProfiles is there when Code is ErrUnsupportedSUITReport.
	SUITProfiles []SUITProfile
	// Challenge is for Evidence of the TAM, when Code is ErrAttestationRequired.
	Challenge []byte
	// Versions is there when Code is ErrUnsupportedMsgVersion.
	Versions    []Version
	SUITReports [][]byte
	// Code is never 0. Codes that this package does not know are kept.
	Code       ErrorCode
	Extensions map[uint64]RawMessage
}

// Type returns TypeError.
func (*Error) Type() MessageType { return TypeError }

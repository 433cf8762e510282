package teep

// Labels of options and of entries in requested-tc-info (TEEP §6).
const (
	LabelCipherSuites        uint64 = 1
	LabelChallenge           uint64 = 2
	LabelVersions            uint64 = 3
	LabelSUITProfiles        uint64 = 4
	LabelSelectedVersion     uint64 = 6
	LabelAttestationPayload  uint64 = 7
	LabelTCList              uint64 = 8
	LabelExtList             uint64 = 9
	LabelManifestList        uint64 = 10
	LabelMsg                 uint64 = 11
	LabelErrMsg              uint64 = 12
	LabelAttestationFormat   uint64 = 13
	LabelRequestedTCList     uint64 = 14
	LabelUnneededManifests   uint64 = 15
	LabelComponentID         uint64 = 16
	LabelTCSequenceNumber    uint64 = 17
	LabelHaveBinary          uint64 = 18
	LabelSUITReports         uint64 = 19
	LabelToken               uint64 = 20
	LabelFreshnessMechanisms uint64 = 21
	LabelErrLang             uint64 = 22
	LabelErrCode             uint64 = 23
)

// LabelName returns the name of an option's label in the text, or "".
func LabelName(label uint64) string {
	switch label {
	case LabelCipherSuites:
		return "supported-teep-cipher-suites"
	case LabelChallenge:
		return "challenge"
	case LabelVersions:
		return "versions"
	case LabelSUITProfiles:
		return "supported-suit-cose-profiles"
	case LabelSelectedVersion:
		return "selected-version"
	case LabelAttestationPayload:
		return "attestation-payload"
	case LabelTCList:
		return "tc-list"
	case LabelExtList:
		return "ext-list"
	case LabelManifestList:
		return "manifest-list"
	case LabelMsg:
		return "msg"
	case LabelErrMsg:
		return "err-msg"
	case LabelAttestationFormat:
		return "attestation-payload-format"
	case LabelRequestedTCList:
		return "requested-tc-list"
	case LabelUnneededManifests:
		return "unneeded-manifest-list"
	case LabelComponentID:
		return "component-id"
	case LabelTCSequenceNumber:
		return "tc-manifest-sequence-number"
	case LabelHaveBinary:
		return "have-binary"
	case LabelSUITReports:
		return "suit-reports"
	case LabelToken:
		return "token"
	case LabelFreshnessMechanisms:
		return "supported-freshness-mechanisms"
	case LabelErrLang:
		return "err-lang"
	case LabelErrCode:
		return "err-code"
	}
	return ""
}

// ElementName names an element of a message's array, such as "data-item-requested" for element 4
// of a query-request, or "".
func ElementName(t MessageType, index int) string {
	switch index {
	case 0:
		return "type"
	case 1:
		return "options"
	}
	switch {
	case t == TypeQueryRequest && index == 2:
		return LabelName(LabelCipherSuites)
	case t == TypeQueryRequest && index == 3:
		return LabelName(LabelSUITProfiles)
	case t == TypeQueryRequest && index == 4:
		return "data-item-requested"
	case t == TypeError && index == 2:
		return LabelName(LabelErrCode)
	}
	return ""
}

// DiagnosticName names the item at a path inside a message, for annotated diagnostic notation:
// array indices and map labels from the message's array inwards, so that {1, 20} is "token",
// {1, 14, 0, 16} "component-id" and {4} of a query-request "data-item-requested". It is "" where
// the text gives no name.
func DiagnosticName(t MessageType, path ...uint64) string {
	switch {
	case len(path) == 1 && path[0] < 8:
		return ElementName(t, int(path[0]))
	case len(path) < 2 || path[0] != 1:
		return ""
	case len(path) == 2:
		return LabelName(path[1])
	case path[1] == LabelRequestedTCList && len(path) == 4:
		switch path[3] {
		case LabelComponentID, LabelTCSequenceNumber, LabelHaveBinary:
			return LabelName(path[3])
		}
	}
	return ""
}

// DiagnosticValue names the unsigned integer at a path inside a message, such as "query-request"
// for the type, "ERR_TEMPORARY_ERROR" for an err-code, "attestation | trusted-components" for
// data-item-requested, or "".
func DiagnosticValue(t MessageType, value uint64, path ...uint64) string {
	switch DiagnosticName(t, path...) {
	case "type":
		if m := MessageType(value); isKnownType(m) {
			return m.String()
		}
	case "err-code":
		return ErrorCode(value).String()
	case "data-item-requested":
		return DataItem(value).String()
	}
	if len(path) == 3 && path[0] == 1 && path[1] == LabelFreshnessMechanisms {
		return FreshnessMechanism(value).String()
	}
	return ""
}

func isKnownType(t MessageType) bool {
	switch t {
	case TypeQueryRequest, TypeQueryResponse, TypeUpdate, TypeSuccess, TypeError:
		return true
	}
	return false
}

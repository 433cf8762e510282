package teep

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-teep/teep/internal/cbor"
)

// check holds a message to the rules of the text. Some bind only who sends: what a receiver can
// make sense of although the sender should not have sent it, it accepts.
func check(m Message, sending bool) error {
	switch m := m.(type) {
	case *QueryRequest:
		return checkQueryRequest(m, sending)
	case *QueryResponse:
		return checkQueryResponse(m, sending)
	case *Update:
		return checkUpdate(m, sending)
	case *Success:
		return first(
			checkToken(m.Token),
			checkText("msg", m.Msg, sending),
			checkReports(m.SUITReports),
			checkExtensions(m.Extensions, sending, LabelToken, LabelMsg, LabelSUITReports),
		)
	case *Error:
		return checkError(m, sending)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkQueryRequest(m *QueryRequest, sending bool) error {
	attestation := m.DataItems.Has(DataAttestation)
	if !attestation {
		// TEEP §4.2. The text's sentence that a challenge comes along when the bit is clear
		// contradicts its own MUST, which is the rule.
		if m.FreshnessMechanisms != nil {
			return errors.New("supported-freshness-mechanisms without the attestation bit in data-item-requested")
		}
		if m.Challenge != nil {
			return errors.New("challenge without the attestation bit in data-item-requested")
		}
	}
	// A token comes if and only if the bit is clear (TEEP §4.2). Receivers do without that rule:
	// the text's own example breaks it, and §4.1.1 leaves the token to the TAM.
	if sending && attestation && m.Token != nil {
		return errors.New("token with the attestation bit in data-item-requested: the challenge takes its place")
	}
	if sending && !attestation && m.Token == nil {
		return errors.New("token missing: it is required without the attestation bit in data-item-requested")
	}
	if m.DataItems > maxDataItem {
		return errors.New("data-item-requested has bits beyond 31, which have no meaning")
	}
	return first(
		checkToken(m.Token),
		checkNotEmpty("supported-freshness-mechanisms", m.FreshnessMechanisms),
		checkChallenge(m.Challenge),
		checkNotEmpty("versions", m.Versions),
		checkAttestation(m.AttestationFormat, m.AttestationPayload, sending),
		checkReports(m.SUITReports),
		checkRequired("supported-teep-cipher-suites", m.CipherSuites),
		checkRequired("supported-suit-cose-profiles", m.SUITProfiles),
		checkExtensions(m.Extensions, sending, LabelToken, LabelFreshnessMechanisms, LabelChallenge, LabelVersions,
			LabelAttestationFormat, LabelAttestationPayload, LabelSUITReports),
	)
}

func checkQueryResponse(m *QueryResponse, sending bool) error {
	for i, c := range m.RequestedComponents {
		if c.HaveBinary != nil && *c.HaveBinary && c.MinSequence == nil {
			return fmt.Errorf("requested-tc-list element %d: have-binary is true without tc-manifest-sequence-number", i)
		}
		if err := checkExtensions(c.Extensions, sending, LabelComponentID, LabelTCSequenceNumber, LabelHaveBinary); err != nil {
			return fmt.Errorf("requested-tc-list element %d: %w", i, err)
		}
	}
	for i, claims := range m.TrustedComponents {
		if wantMajor(claims, majorMap, "") != nil || !wellformed(claims) {
			return fmt.Errorf("tc-list element %d is not a map", i)
		}
	}
	return first(
		checkToken(m.Token),
		checkAttestation(m.AttestationFormat, m.AttestationPayload, sending),
		checkReports(m.SUITReports),
		checkNotEmpty("requested-tc-list", m.RequestedComponents),
		checkExtensions(m.Extensions, sending, LabelToken, LabelSelectedVersion, LabelAttestationFormat,
			LabelAttestationPayload, LabelSUITReports, LabelTCList, LabelRequestedTCList,
			LabelUnneededManifests, LabelExtList),
	)
}

func checkUpdate(m *Update, sending bool) error {
	for i, manifest := range m.Manifests {
		if !wellformed(manifest) {
			return fmt.Errorf("manifest-list element %d is not CBOR", i)
		}
	}
	// Empty lists pass: §7.2.2 speaks of an empty unneeded-manifest-list, and appendix D of an
	// empty manifest-list, although the CDDL asks for an element.
	return first(
		checkToken(m.Token),
		checkAttestation(m.AttestationFormat, m.AttestationPayload, sending),
		checkText("err-msg", m.ErrorMessage, sending),
		checkLanguage(m.ErrorLanguage),
		checkExtensions(m.Extensions, sending, LabelToken, LabelUnneededManifests, LabelManifestList,
			LabelAttestationFormat, LabelAttestationPayload, LabelErrCode, LabelErrMsg, LabelErrLang),
	)
}

func checkError(m *Error, sending bool) error {
	missing := ""
	switch {
	case m.Code == 0:
		return errors.New("err-code is 0, which is reserved")
	case m.Code == ErrUnsupportedCipherSuites && m.CipherSuites == nil:
		missing = "supported-teep-cipher-suites"
	case m.Code == ErrUnsupportedFreshnessMechanisms && m.FreshnessMechanisms == nil:
		missing = "supported-freshness-mechanisms"
	case m.Code == ErrUnsupportedSUITReport && m.SUITProfiles == nil:
		missing = "supported-suit-cose-profiles"
	case m.Code == ErrUnsupportedMsgVersion && m.Versions == nil:
		missing = "versions"
	}
	if missing != "" {
		return fmt.Errorf("%v without %s", m.Code, missing)
	}
	return first(
		checkToken(m.Token),
		checkText("err-msg", m.Message, sending),
		checkLanguage(m.Language),
		checkNotEmpty("supported-teep-cipher-suites", m.CipherSuites),
		checkNotEmpty("supported-freshness-mechanisms", m.FreshnessMechanisms),
		checkNotEmpty("supported-suit-cose-profiles", m.SUITProfiles),
		checkChallenge(m.Challenge),
		checkNotEmpty("versions", m.Versions),
		checkReports(m.SUITReports),
		checkExtensions(m.Extensions, sending, LabelToken, LabelErrMsg, LabelErrLang, LabelCipherSuites,
			LabelFreshnessMechanisms, LabelSUITProfiles, LabelChallenge, LabelVersions, LabelSUITReports),
	)
}

func checkSize(name string, s []byte, low, high int) error {
	if s != nil && (len(s) < low || len(s) > high) {
		return fmt.Errorf("%s of %d bytes; %d to %d are allowed", name, len(s), low, high)
	}
	return nil
}

func checkToken(token []byte) error { return checkSize("token", token, MinToken, MaxToken) }

func checkChallenge(challenge []byte) error {
	return checkSize("challenge", challenge, MinChallenge, MaxChallenge)
}

func checkText(name, s string, sending bool) error {
	if len(s) > MaxText {
		return fmt.Errorf("%s of %d bytes; 1 to %d are allowed", name, len(s), MaxText)
	}
	if fault := checkNetUnicode(s, sending); fault != "" {
		return fmt.Errorf("%s %s", name, fault)
	}
	return nil
}

// languageTag is the shape of RFC 5646 §2.1, without the registry behind it.
var languageTag = regexp.MustCompile(`^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$`)

func checkLanguage(tag string) error {
	if tag != "" && (len(tag) > MaxLanguage || !languageTag.MatchString(tag)) {
		return fmt.Errorf("err-lang is not a language tag of 1 to %d bytes (RFC 5646)", MaxLanguage)
	}
	return nil
}

func checkNotEmpty[T any](name string, list []T) error {
	if list != nil && len(list) == 0 {
		return fmt.Errorf("%s is empty; leave it out instead", name)
	}
	return nil
}

func checkRequired[T any](name string, list []T) error {
	if len(list) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	return nil
}

func checkReports(reports [][]byte) error {
	for i, r := range reports {
		if !wellformed(r) {
			return fmt.Errorf("suit-reports element %d is not CBOR", i)
		}
	}
	return checkNotEmpty("suit-reports", reports)
}

// checkAttestation holds to the rules of attestation-payload and its format (TEEP §4.2). A format
// alone is no harm when it arrives; nor is an empty payload, as in the text's example, for which
// appraisal finds the words.
func checkAttestation(format string, payload []byte, sending bool) error {
	if format != "" && !validMediaType(format) {
		return errors.New("attestation-payload-format is not a media type")
	}
	if !sending {
		return nil
	}
	switch {
	case format != "" && payload == nil:
		return errors.New("attestation-payload-format without attestation-payload")
	case payload != nil && len(payload) == 0:
		return errors.New("attestation-payload is empty")
	case payload != nil && IsEATFormat(format) && !wellformed(payload):
		return errors.New("attestation-payload is not CBOR, and attestation-payload-format does not name another format")
	}
	return nil
}

// validMediaType checks the shape type "/" subtype, then anything printable: the parameters of
// the text's own media type are not quoted as RFC 9110 would have them.
func validMediaType(s string) bool {
	kind, rest, ok := strings.Cut(s, "/")
	if !ok || kind == "" || rest == "" || len(s) > 1024 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// checkExtensions keeps options that a type has fields for out of its Extensions.
func checkExtensions(extensions map[uint64]RawMessage, sending bool, own ...uint64) error {
	if !sending {
		return nil
	}
	for _, label := range own {
		if _, ok := extensions[label]; ok {
			return fmt.Errorf("extension under label %d, which is %s", label, LabelName(label))
		}
	}
	for label, value := range extensions {
		if err := cbor.Wellformed(value); err != nil {
			return fmt.Errorf("extension under label %d: %w", label, err)
		}
	}
	return nil
}

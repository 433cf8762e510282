package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-teep/teep"
)

// teepSections are the sections that define the messages (TEEP §4).
var teepSections = map[teep.MessageType]string{
	teep.TypeQueryRequest: "TEEP §4.2", teep.TypeQueryResponse: "TEEP §4.3", teep.TypeUpdate: "TEEP §4.4",
	teep.TypeSuccess: "TEEP §4.5", teep.TypeError: "TEEP §4.6",
}

// option is what the CDDL says of one option. Sizes are in bytes for strings and in elements for
// arrays; high 0 means no limit.
type option struct {
	major     byte
	low, high uint64
	in        []teep.MessageType
}

func teepOptions() map[uint64]option {
	const (
		qreq = teep.TypeQueryRequest
		qres = teep.TypeQueryResponse
		upd  = teep.TypeUpdate
		succ = teep.TypeSuccess
		fail = teep.TypeError
	)
	in := func(types ...teep.MessageType) []teep.MessageType { return types }
	return map[uint64]option{
		teep.LabelToken:               {majorBytes, teep.MinToken, teep.MaxToken, in(qreq, qres, upd, succ, fail)},
		teep.LabelChallenge:           {majorBytes, teep.MinChallenge, teep.MaxChallenge, in(qreq, fail)},
		teep.LabelFreshnessMechanisms: {majorArray, 1, 0, in(qreq, fail)},
		teep.LabelVersions:            {majorArray, 1, 0, in(qreq, fail)},
		teep.LabelSelectedVersion:     {majorUint, 0, 0, in(qres)},
		teep.LabelAttestationFormat:   {majorText, 1, 0, in(qreq, qres, upd)},
		teep.LabelAttestationPayload:  {majorBytes, 0, 0, in(qreq, qres, upd)},
		teep.LabelSUITReports:         {majorArray, 1, 0, in(qreq, qres, succ, fail)},
		teep.LabelTCList:              {majorArray, 0, 0, in(qres)},
		teep.LabelRequestedTCList:     {majorArray, 1, 0, in(qres)},
		teep.LabelUnneededManifests:   {majorArray, 0, 0, in(qres, upd)},
		teep.LabelExtList:             {majorArray, 0, 0, in(qres)},
		teep.LabelManifestList:        {majorArray, 0, 0, in(upd)},
		teep.LabelErrCode:             {majorUint, 0, 0, in(upd)},
		teep.LabelErrMsg:              {majorText, 1, teep.MaxText, in(upd, fail)},
		teep.LabelErrLang:             {majorText, 1, teep.MaxLanguage, in(upd, fail)},
		teep.LabelMsg:                 {majorText, 1, teep.MaxText, in(succ)},
		teep.LabelCipherSuites:        {majorArray, 1, 0, in(fail)},
		teep.LabelSUITProfiles:        {majorArray, 1, 0, in(fail)},
	}
}

// teep inspects a TEEP message. Its own checks find everything at once; the decoder has the last
// word, for it decides what receivers accept.
func (n *inspector) teep(it *item, path string) string {
	message := it.untag()
	t := messageType(it)
	section, known := teepSections[t]
	if !known {
		n.error("TEEP §14.2", under(path, "type"), "message type %d is unknown", uint64(t))
		section = "TEEP §4"
	}
	before := n.errors()
	if it.is(majorTag) {
		n.error(section, path, "a TEEP message has no tag")
	}
	if want := map[teep.MessageType]int{teep.TypeQueryRequest: 5, teep.TypeError: 3}[t]; known && len(message.kids) != max(want, 2) {
		n.error(section, path, "an array of %d elements; a %v has %d", len(message.kids), t, max(want, 2))
	}
	options := &message.kids[1]
	n.options(options, t, section, path)
	n.dependent(message, t, section, path)
	_, err := teep.Decode(message.raw)
	var refused *teep.ProtocolError
	switch {
	case errors.As(err, &refused) && n.errors() == before:
		n.error(section, path, "%s", refused.Msg)
	case err == nil:
		n.senderRules(message, t, path)
	}
	n.carried(options, path)
	return n.teepSummary(t, options)
}

func (n *inspector) errors() int {
	count := 0
	for _, f := range n.report.Findings {
		if f.Severity == SeverityError {
			count++
		}
	}
	return count
}

func (n *inspector) options(options *item, t teep.MessageType, section, path string) {
	rules := teepOptions()
	for i := 0; i+1 < len(options.kids); i += 2 {
		key, value := &options.kids[i], &options.kids[i+1]
		if !key.is(majorUint) {
			n.error(section, under(path, "options"), "an option's label is not an unsigned integer")
			continue
		}
		rule, known := rules[key.arg]
		name := teep.LabelName(key.arg)
		switch {
		case !known:
			n.note("TEEP §6", under(path, "options"), "option %d%s is unknown and ignored", key.arg, legacyOption(key.arg))
		case !slices.Contains(rule.in, t):
			n.warn(section, under(path, name), "%s is not an option of a %v, and is ignored", name, t)
		default:
			n.option(value, name, rule, section, under(path, name))
		}
	}
}

// legacyOption tells what a label meant in earlier drafts.
func legacyOption(label uint64) string {
	if label == 5 {
		return " (selected-teep-cipher-suite in earlier drafts)"
	}
	return ""
}

func (n *inspector) option(value *item, name string, rule option, section, path string) {
	if value.major != rule.major {
		n.error(section, path, "%s is not %s", name, majorName(rule.major))
		return
	}
	size, unit := uint64(len(value.content)), "bytes"
	switch rule.major {
	case majorUint:
		return
	case majorArray:
		size, unit = uint64(len(value.kids)), "elements"
	}
	switch {
	case size == 0 && rule.low > 0:
		n.error(section, path, "%s is empty; leave it out instead", name)
	case size < rule.low, rule.high > 0 && size > rule.high:
		n.error(section, path, "%s is %d %s, allowed are %d to %d", name, size, unit, rule.low, rule.high)
	case size == 0 && (rule.major == majorArray || name == teep.LabelName(teep.LabelAttestationPayload)):
		n.warn(section, path, "%s is empty", name)
	}
}

func majorName(major byte) string {
	return [...]string{"an unsigned integer", "a negative integer", "a byte string", "a text string", "an array", "a map", "a tag", "a simple value"}[major]
}

// dependent checks what ties options together.
func (n *inspector) dependent(message *item, t teep.MessageType, section, path string) {
	options := &message.kids[1]
	has := func(label uint64) bool { return options.value(int64(label)) != nil }
	if has(teep.LabelAttestationFormat) && !has(teep.LabelAttestationPayload) {
		n.warn(section, under(path, teep.LabelName(teep.LabelAttestationFormat)), "attestation-payload-format without attestation-payload")
	}
	switch {
	case t == teep.TypeQueryRequest && len(message.kids) == 5 && message.kids[4].is(majorUint):
		n.queryRequest(teep.DataItem(message.kids[4].arg), has, path)
	case t == teep.TypeError && len(message.kids) == 3 && message.kids[2].is(majorUint):
		n.errorCode(teep.ErrorCode(message.kids[2].arg), has, section, path)
	case t == teep.TypeUpdate && options.value(int64(teep.LabelErrCode)).is(majorUint):
		n.errorCode(teep.ErrorCode(options.value(int64(teep.LabelErrCode)).arg), nil, section, path)
	case t == teep.TypeQueryResponse:
		n.requested(options.value(int64(teep.LabelRequestedTCList)), path)
	}
}

func (n *inspector) queryRequest(items teep.DataItem, has func(uint64) bool, path string) {
	const section = "TEEP §4.2"
	if !items.Has(teep.DataAttestation) {
		for _, label := range []uint64{teep.LabelChallenge, teep.LabelFreshnessMechanisms} {
			if has(label) {
				n.error(section, under(path, teep.LabelName(label)), "%s with the attestation bit clear in data-item-requested", teep.LabelName(label))
			}
		}
		if !has(teep.LabelToken) {
			n.warn(section, path, "no token although the attestation bit is clear in data-item-requested: a sender has to include one")
		}
	} else if has(teep.LabelToken) {
		n.warn(section, under(path, "token"), "a token although the attestation bit is set in data-item-requested: the challenge takes its place; receivers accept it")
	}
	if items >= 1<<4 && items < 1<<32 {
		n.note("TEEP §14.3", under(path, "data-item-requested"), "bits that this version does not know are ignored")
	}
}

func (n *inspector) errorCode(code teep.ErrorCode, has func(uint64) bool, section, path string) {
	at := under(path, teep.LabelName(teep.LabelErrCode))
	if code == 0 {
		n.error(section, at, "err-code is 0, which is reserved")
	} else if _, known := errorNames()[int64(code)]; !known {
		n.note("TEEP §14.4", at, "err-code %d is unknown", uint64(code))
	}
	needs := map[teep.ErrorCode]uint64{
		teep.ErrUnsupportedCipherSuites: teep.LabelCipherSuites, teep.ErrUnsupportedFreshnessMechanisms: teep.LabelFreshnessMechanisms,
		teep.ErrUnsupportedSUITReport: teep.LabelSUITProfiles, teep.ErrUnsupportedMsgVersion: teep.LabelVersions,
	}
	if label, ok := needs[code]; ok && has != nil && !has(label) {
		n.error(section, at, "%v without %s, which says what is supported", code, teep.LabelName(label))
	}
}

func (n *inspector) requested(list *item, path string) {
	if !list.is(majorArray) {
		return
	}
	for i := range list.kids {
		at := under(path, teep.LabelName(teep.LabelRequestedTCList)+index(i))
		entry := &list.kids[i]
		have := entry.value(int64(teep.LabelHaveBinary))
		switch {
		case !entry.is(majorMap):
			n.error("TEEP §4.3", at, "not a map")
		case entry.value(int64(teep.LabelComponentID)) == nil:
			n.error("TEEP §4.3", at, "component-id is missing")
		case have.is(majorSimple) && have.info == 21 && entry.value(int64(teep.LabelTCSequenceNumber)) == nil:
			n.error("TEEP §4.3", at, "have-binary is true without tc-manifest-sequence-number")
		}
	}
}

// senderRules reports what our own encoder refuses to send although receivers accept it, as far
// as nothing else has said so yet.
func (n *inspector) senderRules(message *item, t teep.MessageType, path string) {
	m, err := teep.Decode(message.raw)
	if err != nil {
		return
	}
	before := len(n.report.Findings)
	for _, f := range n.report.Findings[:before] {
		if f.Severity != SeverityNote && strings.HasPrefix(f.Section, "TEEP §4") {
			return
		}
	}
	if _, err := teep.Encode(m); err != nil {
		n.warn(teepSections[t], path, "receivers accept it, but it must not be sent: %s", strings.TrimPrefix(err.Error(), "teep: "))
	}
}

// carried inspects what a message carries for others: attestation, manifests and reports.
func (n *inspector) carried(options *item, path string) {
	if payload := options.value(int64(teep.LabelAttestationPayload)); payload.is(majorBytes) && len(payload.content) > 0 {
		n.attestation(options, payload, path)
	}
	for label, x := range map[uint64]expectation{
		teep.LabelManifestList: {kinds: []Kind{KindEnvelope}, inTEEP: true},
		teep.LabelSUITReports:  {kinds: []Kind{KindReport}, other: otherReport, inTEEP: true},
	} {
		list := options.value(int64(label))
		if !list.is(majorArray) {
			continue
		}
		for i := range list.kids {
			at := under(path, teep.LabelName(label)+index(i))
			if !list.kids[i].is(majorBytes) {
				n.error("TEEP §4", at, "not a byte string: what is carried is wrapped in one")
				continue
			}
			n.structure(list.kids[i].content, at, x)
		}
	}
}

func (n *inspector) attestation(options, payload *item, path string) {
	at := under(path, teep.LabelName(teep.LabelAttestationPayload))
	x := expectation{kinds: []Kind{KindClaims, KindBundle}, other: otherEAT, inTEEP: true}
	if format := options.value(int64(teep.LabelAttestationFormat)); format.is(majorText) && !teep.IsEATFormat(string(format.content)) {
		if !strings.Contains(string(format.content), "eat") {
			n.note("TEEP §4.3.1", at, "evidence in format %q, which is for its verifier to read", format.content)
			return
		}
		x.inTEEP = false // an EAT of another profile
	}
	n.structure(payload.content, at, x)
}

func (n *inspector) teepSummary(t teep.MessageType, options *item) string {
	summary := fmt.Sprintf("TEEP message %v", t)
	for _, label := range []uint64{teep.LabelToken, teep.LabelChallenge, teep.LabelAttestationPayload} {
		if v := options.value(int64(label)); v.is(majorBytes) {
			summary += fmt.Sprintf(", %s of %d bytes", teep.LabelName(label), len(v.content))
		}
	}
	for _, label := range []uint64{teep.LabelManifestList, teep.LabelSUITReports, teep.LabelRequestedTCList, teep.LabelTCList} {
		if v := options.value(int64(label)); v.is(majorArray) {
			summary += fmt.Sprintf(", %s of %d", teep.LabelName(label), len(v.kids))
		}
	}
	return summary
}

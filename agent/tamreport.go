package agent

import (
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// checkReports refuses SUIT Reports of a TAM that are protected by what the agent does not support
// (TEEP §7.2.1). What else is in them is not looked at: nothing here depends on it.
//
//	SUIT_Report_Protected   = COSE_Sign1 / COSE_Mac0, tagged or not
//	SUIT_Report_Unprotected = SUIT_Report / COSE_Encrypt
func (a *Agent) checkReports(q *teep.QueryRequest) error {
	supported := map[cose.Algorithm]bool{}
	for _, p := range a.suitProfiles() {
		supported[p.Auth], supported[p.Encryption] = true, true
	}
	for i, report := range q.SUITReports {
		alg, protected := reportAlgorithm(report)
		if protected && !supported[alg] {
			e := teep.NewProtocolError(teep.ErrUnsupportedSUITReport,
				fmt.Sprintf("suit-reports[%d] is protected with %v, of no profile supported here", i, alg), nil)
			e.SUITProfiles = a.suitProfiles()
			return e
		}
	}
	return nil
}

// reportAlgorithm returns the algorithm that the outermost COSE structure names, 0 if it names none. That of
// a cipher that authenticates nothing is in the unprotected bucket (RFC 9459 §4).
func reportAlgorithm(report []byte) (alg cose.Algorithm, protected bool) {
	const majorMap = 5
	if len(report) > 0 && report[0]>>5 == majorMap {
		return 0, false
	}
	var tag cbor.RawTag
	if cbor.Unmarshal(report, &tag) == nil {
		report = tag.Content
	}
	var parts []cbor.RawMessage
	var bucket []byte
	if cbor.Unmarshal(report, &parts) != nil || len(parts) < 3 || cbor.Unmarshal(parts[0], &bucket) != nil {
		return 0, true
	}
	for _, b := range [][]byte{bucket, parts[1]} {
		var header struct {
			Algorithm cbor.RawMessage `cbor:"1,keyasint,omitempty"`
		}
		if cbor.Unmarshal(b, &header) == nil && cbor.Unmarshal(header.Algorithm, &alg) == nil {
			return alg, true
		}
	}
	return 0, true
}

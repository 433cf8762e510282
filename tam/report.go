package tam

import (
	"bytes"
	"errors"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// openReport takes the protection off a SUIT Report and parses it.
//
//	SUIT_Report_Protected   = COSE_Sign1(SUIT_Report_Unprotected) / COSE_Mac0(SUIT_Report_Unprotected) ; tagged or not
//	SUIT_Report_Unprotected = SUIT_Report / COSE_Encrypt(SUIT_Report)
//
// What a report says is as good as the signature of the TEEP message around it, which was checked.
// A signature of its own adds nothing to that as long as the TAM knows no report key of the device;
// one by the key of the message itself is not allowed (TEEP §4.5).
func (t *TAM) openReport(s *sender, data []byte) (*suit.Report, error) {
	if suit.ReportTag(data) == cose.TagSign1 {
		if err := distinctKey(data, s.key); err != nil {
			return nil, err
		}
	}
	return OpenReport(data, t.keys.Load().decrypt)
}

// OpenReport takes the protection off a SUIT Report that came in a message whose signature held, and
// parses it. It checks no signature of the report's own.
func OpenReport(data []byte, keys cose.DecryptKeys) (*suit.Report, error) {
	switch suit.ReportTag(data) {
	case cose.TagSign1, cose.TagMac0: // the MAC is by a key that no agent signs messages with
		payload, err := cose.UnverifiedPayload(data)
		if err != nil {
			return nil, err
		}
		data = payload
	}
	opened, err := suit.OpenReport(data, suit.OpenReportOptions{AuthenticatedByContainer: true, DecryptKeys: keys})
	if err != nil {
		return nil, err
	}
	return opened.Report, nil
}

// distinctKey refuses a report that the key of the TEEP message signed.
func distinctKey(report []byte, messageKey *cose.Key) error {
	errSame := errors.New("is signed with the key of the TEEP message; another key is required (TEEP §4.5)")
	body, _, err := cose.UnverifiedHeaders(report)
	if err != nil {
		return err
	}
	kid := body.KeyID()
	if bytes.Equal(kid, messageKey.Thumbprint()) {
		return errSame
	}
	if kid != nil {
		return nil
	}
	v, err := messageKey.Verifier()
	if err != nil {
		return err
	}
	if _, err := cose.Verify(report, cose.KeySet{v}, cose.VerifyOptions{}); err == nil {
		return errSame
	}
	return nil
}

package teep

import (
	"bytes"
	"fmt"
	"slices"
)

// CheckQueryResponse checks that r answers q: the token echoed, a version that was offered, and
// every parameter that q's data items make mandatory (TEEP §4.3, §7.1.1). The error is a
// [*ProtocolError], for which [AsUpdate] has the TAM's answer. A TAM that keeps no requests fills in
// the fields of q that it knows: Token, Versions and DataItems.
//
// The nonce inside SUIT Reports and Evidence is not looked at; who opens those compares it.
func CheckQueryResponse(q *QueryRequest, r *QueryResponse) error {
	if err := checkEcho(q.Token, r.Token); err != nil {
		return err
	}
	version := Version0
	if r.SelectedVersion != nil {
		version = *r.SelectedVersion
	}
	offered := q.Versions
	if len(offered) == 0 {
		offered = []Version{Version0}
	}
	switch {
	case !slices.Contains(offered, version):
		e := NewProtocolError(ErrUnsupportedMsgVersion, fmt.Sprintf("selected-version %d was not offered", version), nil)
		e.Versions = slices.Clone(offered)
		return e
	case q.DataItems.Has(DataAttestation) && r.AttestationPayload == nil:
		return permanent("attestation-payload is missing; it was requested")
	case q.DataItems.Has(DataTrustedComponents) && r.TrustedComponents == nil:
		return permanent("tc-list is missing; it was requested")
	case q.DataItems.Has(DataExtensions) && r.ExtensionList == nil:
		return permanent("ext-list is missing; it was requested")
	}
	return nil
}

// CheckUpdateResponse checks that r, a Success or an Error, answers u: the token echoed
// (TEEP §4.5, §4.6). The nonce inside SUIT Reports is not looked at.
func CheckUpdateResponse(u *Update, r Message) error {
	switch r := r.(type) {
	case *Success:
		return checkEcho(u.Token, r.Token)
	case *Error:
		return checkEcho(u.Token, r.Token)
	}
	return permanent("a %v does not answer an update", r.Type())
}

func checkEcho(sent, received []byte) error {
	switch {
	case sent == nil && received != nil:
		return permanent("token in the answer to a message without one")
	case sent != nil && received == nil:
		return permanent("token is missing")
	case !bytes.Equal(sent, received):
		return permanent("token is not that of the request")
	}
	return nil
}

// TokenOf returns a message's token, nil if it has none.
func TokenOf(m Message) []byte {
	switch m := m.(type) {
	case *QueryRequest:
		return m.Token
	case *QueryResponse:
		return m.Token
	case *Update:
		return m.Token
	case *Success:
		return m.Token
	case *Error:
		return m.Token
	}
	return nil
}

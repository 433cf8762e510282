package teep

import "strings"

// EATProfile is the profile label of the EAT profile for TEEP (TEEP §5).
const EATProfile = "urn:ietf:rfc:rfcXXXX"

// EATMediaType is the format of an attestation payload when attestation-payload-format is absent
// (TEEP §4.2): an Attestation Result in the EAT profile for TEEP.
const EATMediaType = "application/eat+cwt; eat_profile=" + EATProfile

// IsEATFormat tells whether an attestation-payload-format means [EATMediaType]: by absence, or by
// saying so with or without quotes, spaces and capitals.
//
// A payload in this format may be Evidence or an Attestation Result (TEEP §4.3); §7.1.1 takes the
// media type for the mark of an Attestation Result, so whoever sends Evidence in it gives it a
// format of its own.
func IsEATFormat(format string) bool {
	if format == "" {
		return true
	}
	parts := strings.Split(format, ";")
	if !strings.EqualFold(strings.TrimSpace(parts[0]), "application/eat+cwt") {
		return false
	}
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "eat_profile") {
			return strings.Trim(strings.TrimSpace(value), `"`) == EATProfile
		}
	}
	return false
}

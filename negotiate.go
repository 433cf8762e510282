package teep

import (
	"slices"
)

// The Choose functions take what the other side offered and what this side supports, preferred
// first, and choose this side's most preferred common value. Without one they fail with a
// [*ProtocolError] that carries what is supported, as its code requires (TEEP §4.6).

// ChooseCipherSuite chooses the suite for the rest of the session (TEEP §8.1). The Error message
// that its failure becomes is to be protected with one of [MandatoryCipherSuites].
func ChooseCipherSuite(offered, supported []CipherSuite) (CipherSuite, error) {
	for _, s := range supported {
		if slices.ContainsFunc(offered, s.Equal) {
			return s, nil
		}
	}
	return nil, &ProtocolError{
		Code: ErrUnsupportedCipherSuites, Msg: "no common cipher suite", CipherSuites: slices.Clone(supported),
	}
}

// ChooseVersion chooses the highest common version. Offering none is offering version 0
// (TEEP §4.2).
func ChooseVersion(offered, supported []Version) (Version, error) {
	if len(offered) == 0 {
		offered = []Version{Version0}
	}
	best, found := Version0, false
	for _, v := range supported {
		if slices.Contains(offered, v) && (!found || v > best) {
			best, found = v, true
		}
	}
	if !found {
		return 0, &ProtocolError{
			Code: ErrUnsupportedMsgVersion, Msg: "no common protocol version", Versions: slices.Clone(supported),
		}
	}
	return best, nil
}

// ChooseFreshness chooses the freshness mechanism for the attestation payload. Offering none is
// offering the nonce (TEEP §4.2).
func ChooseFreshness(offered, supported []FreshnessMechanism) (FreshnessMechanism, error) {
	if len(offered) == 0 {
		offered = []FreshnessMechanism{FreshnessNonce}
	}
	for _, f := range supported {
		if slices.Contains(offered, f) {
			return f, nil
		}
	}
	return 0, &ProtocolError{
		Code: ErrUnsupportedFreshnessMechanisms, Msg: "no common freshness mechanism",
		FreshnessMechanisms: slices.Clone(supported),
	}
}

// ChooseSUITProfile chooses the profile for SUIT Reports and for the encryption of EATs
// (TEEP §8.2).
func ChooseSUITProfile(offered, supported []SUITProfile) (SUITProfile, error) {
	for _, p := range supported {
		if slices.Contains(offered, p) {
			return p, nil
		}
	}
	return SUITProfile{}, &ProtocolError{
		Code: ErrUnsupportedSUITReport, Msg: "no common SUIT profile", SUITProfiles: slices.Clone(supported),
	}
}

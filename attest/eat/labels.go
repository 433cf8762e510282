package eat

import (
	"mime"
	"strings"
)

// Profile is the eat_profile of TEEP (TEEP §5): the URI of the specification, which has no number
// yet.
const Profile = "urn:ietf:rfc:rfcXXXX"

// MediaType is what Evidence and Attestation Results of the profile go under (RFC 9782). The value
// is quoted because it contains colons; the TEEP text writes it without, and both are accepted.
const MediaType = `application/eat+cwt; eat_profile="` + Profile + `"`

// BundleMediaType is the same for detached EAT bundles (RFC 9711 §5).
const BundleMediaType = `application/eat-bun+cbor; eat_profile="` + Profile + `"`

const (
	tokenType  = "application/eat+cwt"
	bundleType = "application/eat-bun+cbor"
)

// Claim keys: CWT (RFC 8392 §4), cnf (RFC 8747), EAT (RFC 9711 §10.2), EAR (rats-ear §9.1).
const (
	labelIssuer       int64 = 1
	labelExpires      int64 = 4
	labelNotBefore    int64 = 5
	labelIssuedAt     int64 = 6
	labelConfirmation int64 = 8
	labelNonce        int64 = 10
	labelUEID         int64 = 256
	labelOEMID        int64 = 258
	labelHWModel      int64 = 259
	labelHWVersion    int64 = 260
	labelDebugStatus  int64 = 263
	labelProfile      int64 = 265
	labelSubmods      int64 = 266
	labelSWName       int64 = 270
	labelSWVersion    int64 = 271
	labelManifests    int64 = 272
	labelMeasurements int64 = 273

	labelStatus      int64 = 1000
	labelTrustVector int64 = 1001
	labelPolicyIDs   int64 = 1003
	labelVerifierID  int64 = 1004
)

// Private claims (CWT keys below -65536 are for private use).
const (
	// LabelWeaknesses is an array of text: protections that the TEE says it lacks.
	LabelWeaknesses int64 = -70101
	// LabelReasons is an array of [claim: tstr, status: int, why: tstr]: how a verifier came to
	// its verdict.
	LabelReasons int64 = -70102
	// LabelEncryptionKey is a COSE_Key: the public key that content keys and data for the TEE are
	// wrapped to. The TEEP profile has no claim for it.
	LabelEncryptionKey int64 = -70103
)

// AppraisalLabel names the submodule of an Attestation Result that holds the appraisal of the
// agent (EAR asks verifiers to document their labels).
const AppraisalLabel = "teep-agent"

// ContentFormatCBOR is application/cbor, the Content-Format under which SUIT_Reference and
// measured components go until they have their own.
const ContentFormatCBOR = 60

// CBOR tags around tokens (RFC 8392 §6, RFC 9711 §10.4).
const (
	tagCWT    = 61
	tagBundle = 602
)

// kind tells what a media type announces.
type kind int

const (
	kindNone kind = iota
	kindToken
	kindBundle
)

// mediaKind parses a media type exactly: type and profile must be TEEP's, and there must be no
// parameter whose meaning is unknown. No media type at all means a token: TEEP §4.3 says so for
// an absent attestation-payload-format.
func mediaKind(mediaType string) kind {
	if mediaType == "" {
		return kindToken
	}
	// The TEEP text leaves out the quotes that RFC 9110 §5.6.6 asks for around a colon.
	mediaType = strings.Replace(mediaType, "eat_profile="+Profile, `eat_profile="`+Profile+`"`, 1)
	typ, params, err := mime.ParseMediaType(mediaType)
	if err != nil || len(params) != 1 || params["eat_profile"] != Profile {
		return kindNone
	}
	switch typ {
	case tokenType:
		return kindToken
	case bundleType:
		return kindBundle
	}
	return kindNone
}

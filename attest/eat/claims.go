package eat

import (
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Limits of a token. They bound what a stranger can make a verifier do before anything is trusted.
const (
	// MaxTokenBytes is the largest token or bundle that is read.
	MaxTokenBytes = 256 << 10
	// MaxSubmods is the largest number of submodules of one claims set.
	MaxSubmods = 1024
	// MaxSubmodDepth is the deepest nesting of submodules.
	MaxSubmodDepth = 4
	// MaxManifests bounds the manifests claim, and MaxMeasurements the measurements claim.
	MaxManifests    = 2048
	MaxMeasurements = 256
	// MaxTextBytes bounds every text of a claim.
	MaxTextBytes = 2048
	// MaxWeaknesses and MaxReasons bound the private claims.
	MaxWeaknesses = 64
	MaxReasons    = 512
)

// Sizes of claims (RFC 9711 §4.1, §4.2.1, §4.2.4).
const (
	MinNonceBytes   = 8
	MaxNonceBytes   = 64
	minUEIDBytes    = 7
	maxUEIDBytes    = 33
	maxHWModelBytes = 32
)

// DebugStatus is the dbgstat claim (RFC 9711 §4.2.9). The zero value means that nothing is
// reported, which is not the same as disabled; on the wire the values are one less.
type DebugStatus int8

// Debug states. Each of the later ones includes those before it, down to disabled.
const (
	DebugNotReported DebugStatus = iota
	DebugEnabled
	DebugDisabled
	DebugDisabledSinceBoot
	DebugDisabledPermanently
	DebugDisabledFullyAndPermanently

	debugStates
)

func (d DebugStatus) String() string {
	names := [...]string{"not reported", "enabled", "disabled", "disabled since boot",
		"disabled permanently", "disabled fully and permanently"}
	if d < 0 || d >= debugStates {
		return "unknown"
	}
	return names[d]
}

// Version schemes of CoSWID (RFC 9393 §4.1).
const (
	SchemeMultipartNumeric = 1
	SchemeAlphanumeric     = 3
	SchemeDecimal          = 4
	SchemeSemVer           = 16384
)

// Version is a version with the scheme that tells how to compare it; scheme 0 means none given.
//
//	sw-version-type = [ version: tstr, ? scheme: $version-scheme ]
type Version struct {
	Text   string
	Scheme int64
}

// Claims is a claims set. What is absent is zero.
//
//	Claims-Set = {
//	    ? 1 => tstr,                    ; iss
//	    ? 4 => int, ? 5 => int, ? 6 => int, ; exp, nbf, iat: no floating point (RFC 9711 §4.3.1)
//	    ? 8 => cnf,                     ; RFC 8747
//	    ? 10 => bstr .size (8..64),     ; eat_nonce: TEEP §5 allows a single one
//	    ? 256 => bstr .size (7..33),    ; ueid
//	    ? 258 => oemid,
//	    ? 259 => bstr .size (1..32),    ; hwmodel
//	    ? 260 => [ tstr, ? scheme ],    ; hwversion
//	    ? 263 => 0..4,                  ; dbgstat
//	    ? 265 => tstr,                  ; eat_profile
//	    ? 266 => { + tstr => submodule },
//	    ? 270 => tstr,                  ; sw-name
//	    ? 271 => [ tstr, ? scheme ],    ; sw-version
//	    ? 272 => [ + [ uint, manifest ] ],
//	    ? 273 => [ + [ uint, measurement ] ],
//	    ? 1000 => 0 / 2 / 32 / 96,      ; ear_status
//	    ? 1001 => trustworthiness-vector,
//	    ? 1003 => [ + tstr ],           ; ear_appraisal_policy_ids
//	    ? 1004 => { 0 => tstr, 1 => tstr }, ; ear_verifier_id: developer, build
//	    ? -70101 => [ + tstr ], ? -70102 => [ + [ tstr, int, tstr ] ],
//	    ? -70103 => COSE_Key,
//	    * int => any
//	}
type Claims struct {
	Issuer string
	// Expires, NotBefore and IssuedAt count whole seconds; zero means absent.
	Expires, NotBefore, IssuedAt time.Time
	Confirmation                 *Confirmation
	Nonce                        []byte
	UEID                         []byte
	// OEMID is the encoded claim; see attest.ParseOEMID.
	OEMID        []byte
	HWModel      []byte
	HWVersion    *Version
	Debug        DebugStatus
	Profile      string
	Submods      map[string]Submodule
	SWName       string
	SWVersion    *Version
	Manifests    []Manifest
	Measurements []Measurement

	// Appraisal claims, of Attestation Results and their submodules only.
	Appraised  bool // whether ear_status is present
	Status     attest.Status
	Vector     appraisal.TrustVector
	PolicyIDs  []string
	VerifierID *VerifierID

	Weaknesses []string
	Reasons    []attest.Reason
	// EncryptionKey is a public key for key agreement.
	EncryptionKey *cose.Key

	// Unknown are claims that this package does not interpret; they must be ignored (RFC 9711 §4)
	// and are kept.
	Unknown map[int64]cbor.RawMessage
}

// VerifierID names the software that appraised (rats-ear §3).
type VerifierID struct {
	Developer, Build string
}

// Submodule is one of the four things that a submods entry can be; exactly one field is set.
//
//	Submodule = Claims-Set / CBOR-Nested-Token / Detached-Submodule-Digest / JSON-Selector
type Submodule struct {
	Claims *Claims
	// Detached is the digest of claims that travel elsewhere (RFC 9711 §4.2.18.2).
	Detached *appraisal.Digest
	// Token is a nested token, not verified: a tagged CBOR item.
	Token []byte
	// JSON is a nested token in JSON, not interpreted.
	JSON string
}

// ManifestReference is a SUIT_Reference (SUIT Report §4). Digest is over the bstr-wrapped manifest.
//
//	SUIT_Reference = [ suit-report-manifest-uri : tstr, suit-report-manifest-digest : SUIT_Digest ]
//	SUIT_Digest = [ suit-digest-algorithm-id : int, suit-digest-bytes : bstr ]
type ManifestReference struct {
	URI    string
	Digest appraisal.Digest
}

// Manifest is an entry of the manifests claim. One of another format has its Content-Format and
// encoded body only.
type Manifest struct {
	Reference     *ManifestReference
	ContentFormat uint64
	Body          cbor.RawMessage
}

// Measurement is an entry of the measurements claim. One of another format than measured
// component has its Content-Format and encoded body only.
type Measurement struct {
	Component     *MeasuredComponent
	ContentFormat uint64
	Body          cbor.RawMessage
}

// MeasuredComponent is a piece of software and its digest (rats-eat-measured-component §4.3). The
// profile uses neither authorities nor flags, so a component with either is refused (§4.7 there).
// Raw measurements are read as entries of another format.
//
//	measured-component = {
//	    1 => [ name: tstr, ? version: [ tstr, ? scheme ] ],
//	    2 => [ alg: int / tstr, val: bstr ]  ; named-information registry
//	}
type MeasuredComponent struct {
	Name    string
	Version *Version
	Digest  appraisal.Digest
}

package appraisal

import "github.com/go-teep/teep/attest"

// TrustVector is the AR4SI trustworthiness vector (rats-ar4si §2.3.5): one claim for each aspect,
// whose tier [attest.StatusOf] gives. An aspect that is absent from the map is not asserted.
//
//	trustworthiness-vector = non-empty<{
//	    ? 0 => int8, ; instance-identity
//	    ? 1 => int8, ; configuration
//	    ? 2 => int8, ; executables
//	    ? 3 => int8, ; file-system
//	    ? 4 => int8, ; hardware
//	    ? 5 => int8, ; runtime-opaque
//	    ? 6 => int8, ; storage-opaque
//	    ? 7 => int8, ; sourced-data
//	}>
type TrustVector map[Aspect]int8

// Aspect is one of the aspects of trustworthiness.
type Aspect uint8

// Aspects, with their labels in EAR.
const (
	InstanceIdentity Aspect = iota
	Configuration
	Executables
	FileSystem
	Hardware
	RuntimeOpaque
	StorageOpaque
	SourcedData

	aspects
)

// Values of claims that verifiers here make.
const (
	Affirmed                 int8 = 2  // of any aspect: recognized and approved
	ConfigurationVulnerable  int8 = 32 // exposes known vulnerabilities
	ConfigurationUnavailable int8 = 36 // relevant elements are not visible to the verifier
	ConfigurationUnsupported int8 = 96 // unacceptable
	ExecutablesVulnerable    int8 = 32 // genuine, but with known vulnerabilities
	ExecutablesUnrecognized  int8 = 33
	ExecutablesRefused       int8 = 96
	HardwareUnsafe           int8 = 32 // genuine, but with known vulnerabilities
	HardwareContraindicated  int8 = 96 // genuine, but not to be trusted
	HardwareUnrecognized     int8 = 97
)

// Valid tells whether the aspect is one of the eight.
func (a Aspect) Valid() bool { return a < aspects }

func (a Aspect) String() string {
	names := [...]string{"instance-identity", "configuration", "executables", "file-system",
		"hardware", "runtime-opaque", "storage-opaque", "sourced-data"}
	if !a.Valid() {
		return "unknown aspect"
	}
	return names[a]
}

// Lower sets the claim of an aspect unless a less trusted one stands there already.
func (v TrustVector) Lower(a Aspect, claim int8) {
	if old, ok := v[a]; !ok || attest.StatusOf(claim) > attest.StatusOf(old) {
		v[a] = claim
	}
}

// Status is the tier of the worst claim, which bounds the overall status (EAR §3.1).
func (v TrustVector) Status() attest.Status {
	worst := attest.StatusNone
	for _, claim := range v {
		worst = worst.Worst(attest.StatusOf(claim))
	}
	return worst
}

package suit

import (
	"errors"
	"strconv"

	"github.com/go-teep/teep/cose"
)

// Reason is SUIT_Report_Reasons: why a procedure ended (SUIT report §4.2).
type Reason int64

// The reasons.
const (
	ReasonOK                    Reason = 0
	ReasonCBORParse             Reason = 1
	ReasonCOSEUnsupported       Reason = 2
	ReasonAlgUnsupported        Reason = 3
	ReasonUnauthorised          Reason = 4
	ReasonCommandUnsupported    Reason = 5
	ReasonComponentUnsupported  Reason = 6
	ReasonComponentUnauthorised Reason = 7
	ReasonParameterUnsupported  Reason = 8
	ReasonSeveringUnsupported   Reason = 9
	ReasonConditionFailed       Reason = 10
	ReasonOperationFailed       Reason = 11
	ReasonInvokePending         Reason = 12
)

var reasonNames = [...]string{"ok", "cbor-parse", "cose-unsupported", "alg-unsupported", "unauthorised",
	"command-unsupported", "component-unsupported", "component-unauthorised", "parameter-unsupported",
	"severing-unsupported", "condition-failed", "operation-failed", "invoke-pending"}

// String names the reason as the text does, without "suit-report-reason-".
func (r Reason) String() string {
	if r >= 0 && int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown(" + strconv.FormatInt(int64(r), 10) + ")"
}

// Sentinels for what goes wrong often enough that callers tell it apart.
var (
	// ErrManifestDigest says that the manifest is not the one whose digest was authenticated.
	ErrManifestDigest = errors.New("suit: the manifest does not match the digest in the authentication wrapper")
	// ErrSeveredDigest says that a member in the envelope is not the one that the manifest names.
	ErrSeveredDigest = errors.New("suit: severed member does not match its digest in the manifest")
	// ErrNoAuthentication says that the envelope has a digest but no signature or MAC.
	ErrNoAuthentication = errors.New("suit: envelope carries no signature: sign it first")
	// ErrUnauthorized says that no authentication block verifies with a trusted key.
	ErrUnauthorized = errors.New("suit: no signature of a trusted key")
	// ErrHash says that a digest uses an algorithm that is not implemented.
	ErrHash = errors.New("suit: digest algorithm is not supported: use SHA-256 (-16), SHA-384 (-43) or SHA-512 (-44)")
	// ErrVersion says that the manifest has another encoding version than 1.
	ErrVersion = errors.New("suit: manifest encoding version is not supported: only version 1 is")
)

// ParseError tells what is wrong with an envelope, manifest or report, and where.
type ParseError struct {
	// Reason is what a SUIT report says of it.
	Reason Reason
	// Path leads from the outermost structure to the fault, as in
	// "install[4]: directive-fetch"; the number is the position of the command's code in its
	// sequence, counted in commands from 0.
	Path string
	// Err is what is wrong there.
	Err error
}

func (e *ParseError) Error() string {
	if e.Path == "" {
		return "suit: " + e.Err.Error()
	}
	return "suit: " + e.Path + ": " + e.Err.Error()
}

// Unwrap returns the fault itself.
func (e *ParseError) Unwrap() error { return e.Err }

// ReasonFor returns the SUIT report reason of an error from this package or package cose: that of
// a [ParseError], what kept a signature from being checked, unauthorised if it was checked or no
// key is trusted, and operation-failed otherwise.
func ReasonFor(err error) Reason {
	var pe *ParseError
	unauthorized := errors.Is(err, ErrUnauthorized)
	switch {
	case err == nil:
		return ReasonOK
	case errors.As(err, &pe) && !unauthorized:
		return pe.Reason
	case errors.Is(err, cose.ErrUnknownSigner), errors.Is(err, cose.ErrSignature),
		errors.Is(err, ErrNoAuthentication), errors.Is(err, ErrManifestDigest):
		return ReasonUnauthorised
	case errors.Is(err, ErrHash), errors.Is(err, cose.ErrAlgorithm):
		return ReasonAlgUnsupported
	case errors.Is(err, cose.ErrMalformed), errors.Is(err, cose.ErrHeader):
		return ReasonCOSEUnsupported
	case errors.As(err, &pe):
		return pe.Reason
	case unauthorized:
		return ReasonUnauthorised
	}
	return ReasonOperationFailed
}

// fault makes a ParseError without a path yet; at adds it while the error travels outward.
func fault(reason Reason, err error) error { return &ParseError{Reason: reason, Err: err} }

// at puts step in front of the path of err. Errors that are not yet a ParseError become one
// with reason cbor-parse, because what reaches here otherwise comes from the CBOR reader.
func at(err error, step string) error {
	if err == nil {
		return nil
	}
	pe, ok := err.(*ParseError)
	if !ok {
		pe = &ParseError{Reason: ReasonCBORParse, Err: err}
	}
	switch {
	case pe.Path == "":
		pe.Path = step
	case step == "":
	case pe.Path[0] == '[':
		pe.Path = step + pe.Path
	default:
		pe.Path = step + ": " + pe.Path
	}
	return pe
}

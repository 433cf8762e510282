package teep

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrorCode is an err-code. 0 is reserved and never sent; codes that are not listed here are
// kept and treated as unknown errors (TEEP §4.6).
type ErrorCode uint64

// Error codes (TEEP §4.6). Each says what the receiver is expected to do differently.
const (
	// ErrPermanentError: fields were incorrect or inconsistent. The receiver backs off.
	ErrPermanentError ErrorCode = 1
	// ErrUnsupportedExtension: retry without extensions.
	ErrUnsupportedExtension ErrorCode = 2
	// ErrUnsupportedFreshnessMechanisms carries the mechanisms that are supported.
	ErrUnsupportedFreshnessMechanisms ErrorCode = 3
	// ErrUnsupportedMsgVersion carries the versions that are supported.
	ErrUnsupportedMsgVersion ErrorCode = 4
	// ErrUnsupportedCipherSuites carries the suites that are supported. It is protected with a
	// suite that is mandatory for the TAM.
	ErrUnsupportedCipherSuites ErrorCode = 5
	// ErrBadCertificate: retry with another certificate.
	ErrBadCertificate ErrorCode = 6
	// ErrAttestationRequired: the sender wants the receiver to attest itself.
	ErrAttestationRequired ErrorCode = 7
	// ErrUnsupportedSUITReport carries the SUIT profiles that are supported.
	ErrUnsupportedSUITReport ErrorCode = 8
	// ErrCertificateExpired: renew the certificate.
	ErrCertificateExpired ErrorCode = 9
	// ErrTemporaryError: retry the same message later.
	ErrTemporaryError ErrorCode = 10
	// ErrManifestProcessingFailed: the SUIT Reports say what failed.
	ErrManifestProcessingFailed ErrorCode = 17
)

// String returns the name that the text uses, such as "ERR_PERMANENT_ERROR".
func (c ErrorCode) String() string {
	switch c {
	case ErrPermanentError:
		return "ERR_PERMANENT_ERROR"
	case ErrUnsupportedExtension:
		return "ERR_UNSUPPORTED_EXTENSION"
	case ErrUnsupportedFreshnessMechanisms:
		return "ERR_UNSUPPORTED_FRESHNESS_MECHANISMS"
	case ErrUnsupportedMsgVersion:
		return "ERR_UNSUPPORTED_MSG_VERSION"
	case ErrUnsupportedCipherSuites:
		return "ERR_UNSUPPORTED_CIPHER_SUITES"
	case ErrBadCertificate:
		return "ERR_BAD_CERTIFICATE"
	case ErrAttestationRequired:
		return "ERR_ATTESTATION_REQUIRED"
	case ErrUnsupportedSUITReport:
		return "ERR_UNSUPPORTED_SUIT_REPORT"
	case ErrCertificateExpired:
		return "ERR_CERTIFICATE_EXPIRED"
	case ErrTemporaryError:
		return "ERR_TEMPORARY_ERROR"
	case ErrManifestProcessingFailed:
		return "ERR_MANIFEST_PROCESSING_FAILED"
	}
	return fmt.Sprintf("err-code %d", uint64(c))
}

// ProtocolError is a failure that has an answer in the protocol: the error code, and what has to
// accompany it. Msg goes to the other side and therefore holds no secrets; the cause does not.
type ProtocolError struct {
	Code ErrorCode
	// Msg becomes err-msg; it is brought to Net-Unicode and 128 bytes when it is sent.
	Msg string
	// What is supported, for the ERR_UNSUPPORTED_* codes.
	CipherSuites        []CipherSuite
	FreshnessMechanisms []FreshnessMechanism
	SUITProfiles        []SUITProfile
	Versions            []Version
	// Challenge accompanies ErrAttestationRequired where a nonce is needed.
	Challenge []byte
	// Token is the token of the message that failed, where it could be read; the answer echoes
	// it.
	Token []byte

	cause error
}

// NewProtocolError makes a ProtocolError. The cause may be nil; it is for logs on this side and
// for errors.Is, and never leaves in a message.
func NewProtocolError(code ErrorCode, msg string, cause error) *ProtocolError {
	return &ProtocolError{Code: code, Msg: msg, cause: cause}
}

func permanent(format string, args ...any) *ProtocolError {
	return &ProtocolError{Code: ErrPermanentError, Msg: fmt.Sprintf(format, args...)}
}

// Error returns code, message and cause, for logs on this side.
func (e *ProtocolError) Error() string {
	s := "teep: " + e.Code.String()
	if e.Msg != "" {
		s += ": " + e.Msg
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *ProtocolError) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &ProtocolError{Code: c}) true for every ProtocolError of that code.
func (e *ProtocolError) Is(target error) bool {
	t, ok := target.(*ProtocolError)
	return ok && t.Code == e.Code && t.Msg == "" && t.cause == nil
}

// AsErrorMessage turns any error into the Error message that answers it, nil into nil. A
// [*ProtocolError] in the chain decides code, text and parameters. Errors that are none, among
// them an ended context, become ERR_TEMPORARY_ERROR with a text that says nothing about this
// side.
func AsErrorMessage(err error) *Error {
	if err == nil {
		return nil
	}
	var pe *ProtocolError
	if !errors.As(err, &pe) {
		msg := "internal error; try again later"
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			msg = "processing was interrupted; try again later"
		}
		return &Error{Code: ErrTemporaryError, Message: msg}
	}
	return &Error{
		Token:               slices.Clone(pe.Token),
		Message:             NetUnicode(pe.Msg),
		CipherSuites:        slices.Clone(pe.CipherSuites),
		FreshnessMechanisms: slices.Clone(pe.FreshnessMechanisms),
		SUITProfiles:        slices.Clone(pe.SUITProfiles),
		Challenge:           slices.Clone(pe.Challenge),
		Versions:            slices.Clone(pe.Versions),
		Code:                pe.Code,
	}
}

// AsUpdate turns any error into the Update by which a TAM reports what was wrong with a
// QueryResponse (TEEP §7.1.1). It has no token yet.
func AsUpdate(err error) *Update {
	m := AsErrorMessage(err)
	if m == nil {
		return nil
	}
	return &Update{ErrorCode: m.Code, ErrorMessage: m.Message}
}

// AsProtocolError returns what a received Error or error-carrying Update says as a Go error; nil
// for other messages and for an Update without err-code.
func AsProtocolError(m Message) *ProtocolError {
	switch m := m.(type) {
	case *Error:
		return &ProtocolError{
			Code: m.Code, Msg: m.Message, CipherSuites: m.CipherSuites,
			FreshnessMechanisms: m.FreshnessMechanisms, SUITProfiles: m.SUITProfiles,
			Versions: m.Versions, Challenge: m.Challenge, Token: m.Token,
		}
	case *Update:
		if m.ErrorCode != 0 {
			return &ProtocolError{Code: m.ErrorCode, Msg: m.ErrorMessage, Token: m.Token}
		}
	}
	return nil
}

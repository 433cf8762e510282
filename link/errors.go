package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/link/frame"
)

// Sentinel errors that cross the link. An [Agent] wraps one of them in every error that the broker
// is to learn the text of; any other error crosses as [ErrInternal], without its text.
var (
	// ErrNotInstalled: the component to open is not installed.
	ErrNotInstalled = errors.New("link: component is not installed")
	// ErrNoSession: the session, of TEEP or of an application, does not exist or is over.
	ErrNoSession = errors.New("link: no such session")
	// ErrTrap: the Trusted Application ended abnormally.
	ErrTrap = errors.New("link: application trapped")
	// ErrQuota: a limit on memory, time, storage or output was reached.
	ErrQuota = errors.New("link: quota exceeded")
	// ErrBusy: too much is in progress; try again later.
	ErrBusy = errors.New("link: busy")
	// ErrRefused: the agent does not do that, because its configuration or a policy says so, or
	// because an argument is not acceptable.
	ErrRefused = errors.New("link: refused by the agent")
	// ErrUnavailable: the TEE cannot do it now: storage full, sealed state unreadable.
	ErrUnavailable = errors.New("link: not available")
	// ErrInternal: the agent failed for a reason that stays inside.
	ErrInternal = errors.New("link: internal error of the agent")
	// ErrUnknownCall: the agent does not know the call or its arguments: another version.
	ErrUnknownCall = errors.New("link: unknown call")
	// ErrClosed: the connection to the agent was lost. Whether a call was carried out is unknown.
	ErrClosed = errors.New("link: connection to the agent lost")
)

// ExitError is the end of a Trusted Application that refused its command.
type ExitError struct {
	// Code is the exit code, not 0.
	Code uint32
	// Stderr is the end of what the application wrote to standard error, at most 1 KiB. It is
	// the application's text, as untrusted as the application.
	Stderr string
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("link: application ended with code %d", e.Code)
	}
	return fmt.Sprintf("link: application ended with code %d: %s", e.Code, e.Stderr)
}

// Failure codes of the link.
const (
	codeNotInstalled = frame.FirstCode + iota
	codeNoSession
	codeTrap
	codeQuota
	codeExit
	codeRefused
	codeUnavailable
)

// codes are the errors that have one. What is too much, and a call that is unknown, are the frames' own.
func codes() frame.Codes {
	return frame.Codes{
		{Code: codeNotInstalled, Err: ErrNotInstalled},
		{Code: codeNoSession, Err: ErrNoSession},
		{Code: codeTrap, Err: ErrTrap},
		{Code: codeQuota, Err: ErrQuota},
		{Code: codeRefused, Err: ErrRefused},
		{Code: codeUnavailable, Err: ErrUnavailable},
		{Code: frame.CodeBusy, Err: ErrBusy},
		{Code: frame.CodeUnknown, Err: ErrUnknownCall},
	}
}

// asFailure decides what of an agent's error leaves the TEE.
func asFailure(err error) error {
	if failure := ExitFailure(err, codeExit); failure != nil {
		return failure
	}
	return codes().Failure(err)
}

// ExitFailure is how the end of an application crosses a connection, under the code that the protocol there
// has for it; nil when the error is something else. [ExitFromFailure] is its other side.
func ExitFailure(err error, code uint64) error {
	var exit *ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	return &frame.Failure{Code: code, Text: exit.Stderr, Detail: uint64(exit.Code)}
}

// ExitFromFailure is the end of an application that crossed a connection.
func ExitFromFailure(f *frame.Failure) *ExitError {
	return &ExitError{Code: uint32(f.Detail), Stderr: f.Text}
}

// fromFailure is the broker's side of asFailure.
func fromFailure(err error) error {
	var f *frame.Failure
	switch {
	case err == nil:
		return nil
	case errors.Is(err, frame.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case !errors.As(err, &f):
		return err
	case f.Code == codeExit:
		return ExitFromFailure(f)
	case f.Code == frame.CodeCancelled:
		return &frame.RemoteError{Text: "link: the agent cancelled the call", Err: context.Canceled}
	}
	if known := codes().Err(f); known != nil {
		return known
	}
	return ErrInternal
}

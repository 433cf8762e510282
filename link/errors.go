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

type codedError struct {
	code     uint64
	sentinel error
}

func codedErrors() []codedError {
	return []codedError{
		{codeNotInstalled, ErrNotInstalled},
		{codeNoSession, ErrNoSession},
		{codeTrap, ErrTrap},
		{codeQuota, ErrQuota},
		{codeRefused, ErrRefused},
		{codeUnavailable, ErrUnavailable},
		{frame.CodeBusy, ErrBusy},
		{frame.CodeUnknown, ErrUnknownCall},
	}
}

// asFailure decides what of an agent's error leaves the TEE.
func asFailure(err error) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		return &frame.Failure{Code: codeExit, Text: exit.Stderr, Detail: uint64(exit.Code)}
	}
	for _, c := range codedErrors() {
		if errors.Is(err, c.sentinel) {
			return &frame.Failure{Code: c.code, Text: err.Error()}
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &frame.Failure{Code: frame.CodeCancelled, Text: "cancelled"}
	}
	return err
}

// remoteError is an error that came over the link: the agent's text, and the sentinel for errors.Is.
type remoteError struct {
	text     string
	sentinel error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

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
		return &ExitError{Code: uint32(f.Detail), Stderr: f.Text}
	case f.Code == frame.CodeCancelled:
		return &remoteError{"link: the agent cancelled the call", context.Canceled}
	}
	for _, c := range codedErrors() {
		if f.Code == c.code {
			if f.Text == "" || f.Text == c.sentinel.Error() {
				return c.sentinel
			}
			return &remoteError{f.Text, c.sentinel}
		}
	}
	return ErrInternal
}

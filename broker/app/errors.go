package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/link/frame"
)

// ErrClosed says that the connection to the broker was lost. Whether a call was carried out is
// unknown; applications' sessions are over.
var ErrClosed = errors.New("app: connection to the broker lost")

// Failure codes.
const (
	codeNotInstalled = frame.FirstCode + iota
	codeNoSession
	codeTrap
	codeQuota
	codeExit
	codeRefused
	codeUnavailable
	codeBusy
	codeNoTEE
	codeNotProvided
	codeTransport
	codeAgentLost
	codeTooLong
	codeInvalid
	codeAgent
)

type codedError struct {
	code     uint64
	sentinel error
}

// codedErrors lists the most telling first: an error often wraps several.
func codedErrors() []codedError {
	return []codedError{
		{codeNotInstalled, link.ErrNotInstalled},
		{codeNoSession, broker.ErrNoSession},
		{codeNoSession, link.ErrNoSession},
		{codeTrap, link.ErrTrap},
		{codeQuota, link.ErrQuota},
		{codeRefused, link.ErrRefused},
		{codeUnavailable, link.ErrUnavailable},
		{codeBusy, link.ErrBusy},
		{codeNoTEE, broker.ErrNoTEE},
		{codeNotProvided, broker.ErrNotProvided},
		{codeTransport, broker.ErrTransport},
		{codeAgentLost, link.ErrClosed},
		{codeTooLong, broker.ErrTooLong},
		{codeInvalid, ErrInvalid},
		{codeAgent, broker.ErrAgent},
	}
}

// asFailure turns an error of the broker into what an app gets: a broker's texts name URIs, TEEs
// and components, and nothing that an app may not know.
func asFailure(err error) error {
	var exit *link.ExitError
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

type remoteError struct {
	text     string
	sentinel error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

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
		return &link.ExitError{Code: uint32(f.Detail), Stderr: f.Text}
	case f.Code == frame.CodeBusy:
		return &remoteError{f.Text, link.ErrBusy}
	case f.Code == frame.CodeCancelled:
		return &remoteError{"app: the broker cancelled the call", context.Canceled}
	}
	for _, c := range codedErrors() {
		if f.Code == c.code {
			return &remoteError{f.Text, c.sentinel}
		}
	}
	return fmt.Errorf("app: the broker failed: %w", f)
}

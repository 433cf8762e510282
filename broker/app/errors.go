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

// codes lists the most telling first: an error often wraps several.
func codes() frame.Codes {
	return frame.Codes{
		{Code: codeNotInstalled, Err: link.ErrNotInstalled},
		{Code: codeNoSession, Err: broker.ErrNoSession},
		{Code: codeNoSession, Err: link.ErrNoSession},
		{Code: codeTrap, Err: link.ErrTrap},
		{Code: codeQuota, Err: link.ErrQuota},
		{Code: codeRefused, Err: link.ErrRefused},
		{Code: codeUnavailable, Err: link.ErrUnavailable},
		{Code: codeBusy, Err: link.ErrBusy},
		{Code: codeNoTEE, Err: broker.ErrNoTEE},
		{Code: codeNotProvided, Err: broker.ErrNotProvided},
		{Code: codeTransport, Err: broker.ErrTransport},
		{Code: codeAgentLost, Err: link.ErrClosed},
		{Code: codeTooLong, Err: broker.ErrTooLong},
		{Code: codeInvalid, Err: ErrInvalid},
		{Code: codeAgent, Err: broker.ErrAgent},
	}
}

// asFailure turns an error of the broker into what an app gets: a broker's texts name URIs, TEEs
// and components, and nothing that an app may not know.
func asFailure(err error) error {
	if failure := link.ExitFailure(err, codeExit); failure != nil {
		return failure
	}
	return codes().Failure(err)
}

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
		return link.ExitFromFailure(f)
	case f.Code == frame.CodeBusy:
		return &frame.RemoteError{Text: f.Text, Err: link.ErrBusy}
	case f.Code == frame.CodeCancelled:
		return &frame.RemoteError{Text: "app: the broker cancelled the call", Err: context.Canceled}
	}
	if known := codes().Err(f); known != nil {
		return known
	}
	return fmt.Errorf("app: the broker failed: %w", f)
}

package agent

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
)

// sentinel is an error whose text crosses the link: it wraps the link's sentinel that the broker
// learns it by.
type sentinel struct {
	text    string
	crosses error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.crosses }

// What a call of the broker can end in. Everything that a TAM should know is an Error message to
// it instead.
var (
	// ErrSession says that the session is unknown: it expired, ended, or never was.
	ErrSession error = &sentinel{"agent: unknown session: begin again with RequestTA or RequestPolicyCheck", link.ErrNoSession}
	// ErrFetch says that nobody asked for the chunk, or that it is not what was asked for.
	ErrFetch error = &sentinel{"agent: chunk was not asked for", link.ErrRefused}
	// ErrAppraisal says that nobody asked for the Attestation Result, or does not wait for it any longer.
	ErrAppraisal error = &sentinel{"agent: Attestation Result was not asked for", link.ErrRefused}
	// ErrUntrusted says that a message that came without a session is not of a trusted TAM. It
	// is not answered: the answer would tell a stranger that and who the agent is.
	ErrUntrusted error = &sentinel{"agent: message is not of a trusted TAM", link.ErrRefused}
	// ErrWrongTAM says that a message is of a trusted TAM, but not of the one that the session
	// is with.
	ErrWrongTAM error = &sentinel{"agent: message belongs to another TAM than the session", link.ErrRefused}
	// ErrNoTAM says that no TAM may manage the component that was requested.
	ErrNoTAM error = &sentinel{"agent: no trusted TAM may manage this component: check the trust anchors", link.ErrRefused}
	// ErrNotInstalled says that the component is not installed, or not needed any longer.
	ErrNotInstalled error = &sentinel{"agent: component is not installed: request it first", link.ErrNotInstalled}
	// ErrNotRunnable says that the component is no application, or failed its validation.
	ErrNotRunnable error = &sentinel{"agent: component cannot be run", link.ErrRefused}
	// ErrReplaced says that the component was updated again and again while it was opened.
	ErrReplaced error = &sentinel{"agent: component is being updated: open it again", link.ErrBusy}
	// ErrLimit says that a limit of the configuration was reached.
	ErrLimit error = &sentinel{"agent: limit reached", link.ErrBusy}
	// ErrClosed says that the agent was closed.
	ErrClosed error = &sentinel{"agent: closed", link.ErrUnavailable}
	// ErrProvisioning says why the trust anchors that were given are not those in force.
	ErrProvisioning error = &sentinel{"agent: trust anchors", link.ErrRefused}
)

// What a manifest can run into on this device, beyond what the processor checks.
var (
	errNotOwner   = errors.New("belongs to another TAM")
	errNotGranted = errors.New("is not among what the TAM's trust anchor lets it manage")
	errReadOnly   = errors.New("components are not changed while an application is started")
)

// ofApplication says an application's end in the link's terms, so that the app that invoked it
// learns what happened.
func ofApplication(err error) error {
	var exit *tee.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &link.ExitError{Code: exit.Code, Stderr: exit.Stderr}
	case errors.Is(err, tee.ErrTrap):
		return fmt.Errorf("%w: %w", link.ErrTrap, err)
	case errors.Is(err, tee.ErrQuota):
		return fmt.Errorf("%w: %w", link.ErrQuota, err)
	}
	return err
}

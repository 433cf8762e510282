package agent

import "errors"

// What a call of the broker can end in. Everything that a TAM should know is an Error message to
// it instead.
var (
	// ErrSession says that the session is unknown: it expired, ended, or never was.
	ErrSession = errors.New("agent: unknown session: begin again with RequestTA or RequestPolicyCheck")
	// ErrFetch says that nobody asked for the chunk, or that it is not what was asked for.
	ErrFetch = errors.New("agent: chunk was not asked for")
	// ErrUntrusted says that a message that came without a session is not of a trusted TAM. It
	// is not answered: the answer would tell a stranger that and who the agent is.
	ErrUntrusted = errors.New("agent: message is not of a trusted TAM")
	// ErrWrongTAM says that a message is of a trusted TAM, but not of the one that the session
	// is with.
	ErrWrongTAM = errors.New("agent: message belongs to another TAM than the session")
	// ErrNoTAM says that no TAM may manage the component that was requested.
	ErrNoTAM = errors.New("agent: no trusted TAM may manage this component: check the trust anchors")
	// ErrNotInstalled says that the component is not installed, or not needed any longer.
	ErrNotInstalled = errors.New("agent: component is not installed: request it first")
	// ErrNotRunnable says that the component is no application, or failed its validation.
	ErrNotRunnable = errors.New("agent: component cannot be run")
	// ErrLimit says that a limit of the configuration was reached.
	ErrLimit = errors.New("agent: limit reached")
	// ErrClosed says that the agent was closed.
	ErrClosed = errors.New("agent: closed")
	// ErrProvisioning says why the trust anchors that were given are not those in force.
	ErrProvisioning = errors.New("agent: trust anchors")
)

// What a manifest can run into on this device, beyond what the processor checks.
var (
	errNotOwner   = errors.New("belongs to another TAM")
	errNotGranted = errors.New("is not among what the TAM's trust anchor lets it manage")
	errReadOnly   = errors.New("components are not changed while an application is started")
)

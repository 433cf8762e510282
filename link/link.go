// Package link is the boundary between the TEEP Broker outside the TEE and the TEEP Agent inside:
// the calls of the architecture (RFC 9397 §6.2.1), the opening of a session with an installed
// application and its invocation, and nothing else.
//
// The agent never calls out. What it wants from outside (send this message to that TAM, fetch this
// URI from that offset) is what a call returns, as an [Ask]; the broker does it and calls again
// with the outcome. Frames are length-prefixed CBOR over any byte stream: a Unix socket,
// virtio-serial, vsock, a pipe. [Client] and [Serve] are the two ends.
package link

import "context"

// Limits of the link, checked on both ends before anything is decoded.
const (
	// MaxFrame is the largest frame in bytes. A TEEP message with integrated payloads fits.
	MaxFrame = 64 << 20
	// MaxChunk is the largest piece of a fetched payload in one Deliver.
	MaxChunk = 1 << 20
)

// ComponentID is a SUIT component identifier, part by part.
type ComponentID = [][]byte

// Ask is what the agent wants done. The zero Ask is "no data": the broker's task is complete.
type Ask struct {
	// Session identifies the agent's context that the outcome belongs to; opaque to the broker.
	Session uint64
	// TAMURI is where to connect, or to send Message to.
	TAMURI string
	// Message is a TEEP message to POST to TAMURI; nil with a TAMURI means an empty POST.
	Message []byte
	// Fetch, if not nil, asks for a payload; the outcome goes to Deliver.
	Fetch *Fetch
}

// Fetch asks for a payload by URI. The broker's bytes are not trusted: the agent checks them.
type Fetch struct {
	ID     uint64
	URI    string
	Offset int64 // first byte wanted
	Length int64 // most bytes wanted in one Deliver
}

// Chunk is the outcome of a Fetch.
type Chunk struct {
	Session uint64
	FetchID uint64
	Offset  int64
	Data    []byte
	// Last says that Data reaches the end of the payload.
	Last bool
	// Err is the reason why there is no data; the agent may try elsewhere or later.
	Err string
}

// Request is RequestTA's argument (RFC 9397 §6.2.1).
type Request struct {
	Component ComponentID
	// TAMURI is a hint from the application's metadata; the agent's configuration decides.
	TAMURI string
	// MinSequence is the smallest acceptable manifest sequence number; 0 for any.
	MinSequence uint64
	// HasBinary says that the app has the component's binary, of the version whose manifest has
	// sequence number MinSequence. The agent may fetch it from [BinaryURI] in the session that
	// its Ask opens.
	HasBinary bool
}

// BinaryURI is where an agent fetches the binary that comes with a [Request].
const BinaryURI = "teep-request:binary"

// Agent is the TEE's side of the link. The agent package implements it; [Client] is the broker's
// stand-in for it. Safe for concurrent use.
type Agent interface {
	RequestTA(ctx context.Context, r Request) (Ask, error)
	UnrequestTA(ctx context.Context, component ComponentID) (Ask, error)
	RequestPolicyCheck(ctx context.Context) (Ask, error)
	// ProcessTeepMessage passes a TAM's message in, for the session that an Ask opened.
	ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (Ask, error)
	// ProcessError tells that the transport to the TAM failed. The session is over.
	ProcessError(ctx context.Context, session uint64, tamURI, reason string) error
	// Deliver brings the outcome of a Fetch, chunk by chunk.
	Deliver(ctx context.Context, c Chunk) (Ask, error)

	// OpenSession starts an installed Trusted Application for an app on the device.
	OpenSession(ctx context.Context, component ComponentID) (app uint64, err error)
	Invoke(ctx context.Context, app uint64, command string, input []byte) (output []byte, err error)
	CloseSession(ctx context.Context, app uint64) error
}

// Observer is an [Agent] that wants to know whether a broker is connected. [Serve] tells it of each
// connection and, by the function that it gets, of its end.
type Observer interface {
	Connected() (disconnected func())
}

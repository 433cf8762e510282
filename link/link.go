// Package link is the boundary between the TEEP Broker outside the TEE and the TEEP Agent inside:
// the calls of the architecture (RFC 9397 §6.2.1), the opening of a session with an installed
// application and its invocation, two by which signed trust anchors and revocation lists come in, and
// nothing else.
//
// The agent never calls out. What it wants from outside (send this message to that TAM, fetch this
// URI from that offset, have this Evidence appraised) is what a call returns, as an [Ask]; the
// broker does it and calls again with the outcome. Frames are length-prefixed CBOR over any byte stream: a Unix socket,
// virtio-serial, vsock, a pipe. [Client] and [Serve] are the two ends.
package link

import "context"

// Limits of the link, checked on both ends before anything is decoded.
const (
	// MaxFrame is the largest frame in bytes. A TEEP message with integrated payloads fits.
	MaxFrame = 64 << 20
	// MaxChunk is the largest piece of a fetched payload in one Deliver.
	MaxChunk = 1 << 20
	// MaxEvidence is the largest Evidence in an Appraisal, MaxResult the largest result of one, in bytes.
	MaxEvidence = 1 << 20
	MaxResult   = 64 << 10
	// MaxMediaType is the longest media type in bytes.
	MaxMediaType = 256
	// MaxAnchors is the largest signed set of trust anchors, in bytes.
	MaxAnchors = 1 << 20
	// MaxRevocationFile is the largest file of revocation lists in bytes, MaxRevocationFiles how many
	// come at a time.
	MaxRevocationFile  = 1 << 20
	MaxRevocationFiles = 16
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
	// Appraisal, if not nil, asks to have Evidence appraised; the outcome goes to Appraised.
	Appraisal *Appraisal
}

// None tells whether there is nothing to do.
func (a Ask) None() bool { return a.TAMURI == "" && a.Fetch == nil && a.Appraisal == nil }

// Appraisal asks to have Evidence appraised by a verifier that the broker knows (passport model, RFC
// 9334 §5.1). The result is signed by the verifier for whoever relies on it: the broker need not be
// trusted to have it made, only to bring it.
type Appraisal struct {
	ID uint64
	// MediaType is that of Evidence, 1 to [MaxMediaType] bytes.
	MediaType string
	// Evidence has 1 to [MaxEvidence] bytes.
	Evidence []byte
	// Nonce is what the Evidence holds against replay, 8 to 64 bytes (RFC 9711 §4.1); the result is
	// to hold it too.
	Nonce []byte
}

// Appraised is the outcome of an Appraisal.
type Appraised struct {
	Session     uint64
	AppraisalID uint64
	// MediaType is that of Result, at most [MaxMediaType] bytes.
	MediaType string
	// Result is what the verifier signed, at most [MaxResult] bytes.
	Result []byte
	// Err is the reason why there is no result.
	Err string
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
	// Appraised brings the outcome of an Appraisal.
	Appraised(ctx context.Context, r Appraised) (Ask, error)

	// ReplaceTrustAnchors brings a set of trust anchors that the device's administrator signed. Whether it
	// takes the place of the one in force is for the agent to say. The set in force again is no error.
	ReplaceTrustAnchors(ctx context.Context, signed []byte) error
	// RenewRevocationLists brings X.509 CRLs for the certificates of TAMs: files with one list in DER
	// or several in PEM. None takes a revocation back that a newer one made.
	RenewRevocationLists(ctx context.Context, files [][]byte) error

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

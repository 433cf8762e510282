package link

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// The calls of the link, as the body of a frame of package frame: code is the method, body the
// arguments, the answer's body the result. There are no other methods.
//
//	request-ta           = 1   args: [ component-id, tam-uri: tstr, min-sequence: uint,
//	                                   has-binary: bool ]                                 result: ask
//	unrequest-ta         = 2   args: [ component-id ]                                     result: ask
//	request-policy-check = 3   args: []                                                   result: ask
//	process-teep-message = 4   args: [ session: uint, message: bstr ]                     result: ask
//	process-error        = 5   args: [ session: uint, tam-uri: tstr, reason: tstr ]       result: null
//	deliver              = 6   args: [ session: uint, fetch-id: uint, offset: uint,
//	                                   data: bstr .size (0..1048576), last: bool, err: tstr ]  result: ask
//	open-session         = 7   args: [ component-id ]                                     result: uint
//	invoke               = 8   args: [ app: uint, command: tstr, input: bstr ]            result: bstr
//	close-session        = 9   args: [ app: uint ]                                        result: null
//
//	component-id = [ + bstr ]
//	ask   = [ session: uint, tam-uri: tstr, message: bstr / null, fetch: fetch / null ]
//	fetch = [ id: uint, uri: tstr, offset: uint, length: uint ]
const (
	methodRequestTA          = 1
	methodUnrequestTA        = 2
	methodRequestPolicyCheck = 3
	methodProcessTeepMessage = 4
	methodProcessError       = 5
	methodDeliver            = 6
	methodOpenSession        = 7
	methodInvoke             = 8
	methodCloseSession       = 9
)

// Limits on strings and identifiers; both ends check.
const (
	// MaxURI is the longest URI in bytes.
	MaxURI = 4096
	// MaxReason is the longest reason in bytes, of ProcessError and of a Chunk.
	MaxReason = 1024
	// MaxCommand is the longest name of an application's command in bytes.
	MaxCommand = 1024
	// MaxComponentID bounds a component identifier: the sum of its parts in bytes.
	MaxComponentID = 1024
	// MaxComponentParts is the largest number of parts of a component identifier.
	MaxComponentParts = 64
)

type requestArgs struct {
	_           struct{} `cbor:",toarray"`
	Component   ComponentID
	TAMURI      string
	MinSequence uint64
	HasBinary   bool
}

type componentArgs struct {
	_         struct{} `cbor:",toarray"`
	Component ComponentID
}

type noArgs struct {
	_ struct{} `cbor:",toarray"`
}

type messageArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	Message []byte
}

type errorArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	TAMURI  string
	Reason  string
}

type chunkArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	FetchID uint64
	Offset  uint64
	Data    []byte
	Last    bool
	Err     string
}

type invokeArgs struct {
	_       struct{} `cbor:",toarray"`
	App     uint64
	Command string
	Input   []byte
}

type appArgs struct {
	_   struct{} `cbor:",toarray"`
	App uint64
}

type wireAsk struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	TAMURI  string
	Message []byte
	Fetch   *wireFetch
}

type wireFetch struct {
	_      struct{} `cbor:",toarray"`
	ID     uint64
	URI    string
	Offset uint64
	Length uint64
}

// majorArray is the major type of CBOR arrays (RFC 8949 §3.1).
const majorArray = 4

const maxInt63 = 1<<63 - 1

func toWire(a Ask) (wireAsk, error) {
	w := wireAsk{Session: a.Session, TAMURI: a.TAMURI, Message: a.Message}
	if a.Fetch != nil {
		if a.Fetch.Offset < 0 || a.Fetch.Length < 0 {
			return w, fmt.Errorf("link: fetch of %d bytes from offset %d", a.Fetch.Length, a.Fetch.Offset)
		}
		w.Fetch = &wireFetch{ID: a.Fetch.ID, URI: a.Fetch.URI, Offset: uint64(a.Fetch.Offset), Length: uint64(a.Fetch.Length)}
	}
	return w, nil
}

// fromWire checks an ask that came from the agent. Its URIs are checked for size only: which ones
// may be used is for the broker to say.
func fromWire(w wireAsk) (Ask, error) {
	a := Ask{Session: w.Session, TAMURI: w.TAMURI, Message: w.Message}
	switch {
	case len(w.TAMURI) > MaxURI:
		return Ask{}, fmt.Errorf("link: the agent gave a TAM URI of %d bytes; %d are allowed", len(w.TAMURI), MaxURI)
	case len(w.Message) > 0 && w.TAMURI == "":
		return Ask{}, errors.New("link: the agent gave a message and no TAM URI to send it to")
	case w.Fetch == nil:
		return a, nil
	case w.TAMURI != "":
		return Ask{}, errors.New("link: the agent asked for a message to be sent and a fetch at once")
	case len(w.Fetch.URI) > MaxURI || w.Fetch.URI == "":
		return Ask{}, fmt.Errorf("link: the agent asked to fetch from a URI of %d bytes; 1 to %d are allowed", len(w.Fetch.URI), MaxURI)
	case w.Fetch.Offset > maxInt63 || w.Fetch.Length > MaxChunk || w.Fetch.Length == 0:
		return Ask{}, fmt.Errorf("link: the agent asked to fetch %d bytes from offset %d", w.Fetch.Length, w.Fetch.Offset)
	}
	a.Fetch = &Fetch{ID: w.Fetch.ID, URI: w.Fetch.URI, Offset: int64(w.Fetch.Offset), Length: int64(w.Fetch.Length)}
	return a, nil
}

func checkComponent(id ComponentID) error {
	size := 0
	for _, part := range id {
		size += len(part)
	}
	if len(id) == 0 || len(id) > MaxComponentParts || size > MaxComponentID {
		return fmt.Errorf("%w: component identifier of %d parts and %d bytes; 1 to %d parts and up to %d bytes are allowed",
			ErrRefused, len(id), size, MaxComponentParts, MaxComponentID)
	}
	return nil
}

func checkText(name, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s of %d bytes; up to %d are allowed", ErrRefused, name, len(s), limit)
	}
	return nil
}

func checkChunk(c Chunk) error {
	switch {
	case len(c.Data) > MaxChunk:
		return fmt.Errorf("%w: chunk of %d bytes; up to %d are allowed", ErrRefused, len(c.Data), MaxChunk)
	case c.Offset < 0:
		return fmt.Errorf("%w: chunk at offset %d", ErrRefused, c.Offset)
	case c.Err != "" && (len(c.Data) > 0 || c.Last):
		return fmt.Errorf("%w: chunk with data and an error", ErrRefused)
	}
	return checkText("reason", c.Err, MaxReason)
}

// decodeArgs decodes a call's arguments; what does not fit is an unknown call.
func decodeArgs[T any](body cbor.RawMessage) (args T, err error) {
	// The CBOR library takes null for the zero value of anything.
	if len(body) == 0 || body[0]>>5 != majorArray {
		return args, fmt.Errorf("%w: the arguments are no array", ErrUnknownCall)
	}
	if err := cbor.Unmarshal(body, &args); err != nil {
		return args, fmt.Errorf("%w: %w", ErrUnknownCall, err)
	}
	return args, nil
}

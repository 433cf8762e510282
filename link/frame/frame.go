// Package frame carries calls over any byte stream: length-prefixed CBOR frames, and on top of them
// calls that run side by side, are cancelled, report progress and fail with a code.
//
// A [Caller] makes calls at one end; [Serve] answers them at the other. Which methods there are and
// what their arguments mean is the business of the two packages that use this one: link, between
// broker and agent, and broker/app, between broker and apps.
//
// Neither end trusts the other. Sizes are checked before memory is taken, memory is taken as bytes
// arrive and not as they are announced, the number of calls in flight is bounded, and whatever
// breaks the rules of the protocol ends the connection with [ErrViolation].
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/internal/cbor"
)

// Sentinel errors.
var (
	// ErrTooLarge says that a frame exceeds the limit of this end.
	ErrTooLarge = errors.New("frame: too large")
	// ErrViolation says that the other end broke the protocol; the connection is of no more use.
	ErrViolation = errors.New("frame: protocol violation")
	// ErrClosed says that the connection was lost or closed before the answer came. Whether the
	// call was carried out is not known.
	ErrClosed = errors.New("frame: connection lost")
)

// headerSize is the length prefix: 4 bytes, big endian, of the CBOR that follows.
const headerSize = 4

// Read reads one frame of at most limit bytes. The end of the stream between two frames is io.EOF,
// inside one io.ErrUnexpectedEOF.
func Read(r io.Reader, limit int) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(header[:]))
	if size > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes announced, %d allowed", ErrTooLarge, size, limit)
	}
	// The buffer grows with what arrives: an announcement alone costs nothing.
	var b bytes.Buffer
	n, err := io.CopyN(&b, r, size)
	if err == nil || n == size {
		return b.Bytes(), nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// Write writes one frame of at most limit bytes. Writers of one stream take turns.
func Write(w io.Writer, payload []byte, limit int) error {
	if len(payload) > limit || int64(len(payload)) > 1<<32-1 {
		return fmt.Errorf("%w: %d bytes to send, %d allowed", ErrTooLarge, len(payload), limit)
	}
	b := make([]byte, headerSize, headerSize+len(payload))
	binary.BigEndian.PutUint32(b, uint32(len(payload)))
	_, err := w.Write(append(b, payload...))
	return err
}

// Kinds of frames.
const (
	kindCall    = 1 // code is the method, body its arguments
	kindAnswer  = 2 // body is the result
	kindFailure = 3 // code says why, body is [text, detail]
	kindCancel  = 4 // the caller no longer waits; an answer or failure still comes
	kindNote    = 5 // body is progress of a call that goes on
)

// envelope is what every frame holds.
//
//	frame = [ kind: 1..5, id: uint, code: uint, body: any ]
//
// The caller numbers its calls; a number is used again only after its answer or failure.
type envelope struct {
	_    struct{} `cbor:",toarray"`
	Kind uint64
	ID   uint64
	Code uint64
	Body cbor.RawMessage
}

// failureBody is the body of a failure.
//
//	[ text: tstr .size (0..1024), detail: uint ]
type failureBody struct {
	_      struct{} `cbor:",toarray"`
	Text   string
	Detail uint64
}

var null = cbor.RawMessage{0xf6}

// encodeEnvelope encodes a frame with body v, which nil leaves empty.
func encodeEnvelope(kind, id, code uint64, v any) ([]byte, error) {
	body := null
	if raw, ok := v.(cbor.RawMessage); ok {
		body = raw
	} else if v != nil {
		b, err := cbor.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = b
	}
	return cbor.Marshal(envelope{Kind: kind, ID: id, Code: code, Body: body})
}

func decodeEnvelope(data []byte) (envelope, error) {
	var e envelope
	if err := cbor.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrViolation, err)
	}
	if e.Kind < kindCall || e.Kind > kindNote {
		return e, fmt.Errorf("%w: frame of kind %d", ErrViolation, e.Kind)
	}
	return e, nil
}

// Codes of failures that this package knows. Those of its users start at FirstCode.
const (
	// CodeInternal: the call failed for a reason that stays at the other end.
	CodeInternal uint64 = 1
	// CodeUnknown: there is no such method, or its arguments are not what they should be.
	CodeUnknown uint64 = 2
	// CodeBusy: too many calls, or too many bytes of them, are in flight. Try again later.
	CodeBusy uint64 = 3
	// CodeCancelled: the call was cancelled.
	CodeCancelled uint64 = 4
	// CodeTooLarge: the result does not fit a frame.
	CodeTooLarge uint64 = 5

	FirstCode uint64 = 16
)

// MaxFailureText is the largest text of a failure in bytes; longer ones are cut.
const MaxFailureText = 1024

// Failure is an error that crosses the connection. A handler's error that is no Failure crosses as
// CodeInternal, without its text.
type Failure struct {
	Code   uint64
	Text   string
	Detail uint64
}

// Error returns the text.
func (f *Failure) Error() string {
	if f.Text == "" {
		return fmt.Sprintf("failure %d", f.Code)
	}
	return f.Text
}

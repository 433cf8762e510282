package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-teep/teep/internal/cbor"
)

// Handler carries out one call and returns its result, which is encoded as CBOR. note sends
// progress to the caller while the call goes on; its error means that the connection is gone. An
// error that is a [*Failure] crosses as it is, any other as CodeInternal without its text. The
// context ends when the caller cancels or the connection is lost.
type Handler func(ctx context.Context, method uint64, args cbor.RawMessage, note func(any) error) (any, error)

// ServeOptions are limits of [Serve].
type ServeOptions struct {
	// MaxFrame is the largest frame in bytes, in both directions.
	MaxFrame int
	// MaxCalls bounds the calls in flight of one connection; more are answered CodeBusy.
	// 0 means 32.
	MaxCalls int
	// MaxBytes bounds the arguments of calls in flight of one connection, in bytes; a call beyond
	// is answered CodeBusy. 0 means twice MaxFrame.
	MaxBytes int
}

// Serve answers the calls that come over conn until it ends, ctx ends, or the other end breaks the
// protocol. It owns conn, closes it, and returns after every handler has returned: nil when the
// other end closed the connection between two frames.
func Serve(ctx context.Context, conn io.ReadWriteCloser, h Handler, o ServeOptions) error {
	if o.MaxCalls == 0 {
		o.MaxCalls = 32
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 2 * o.MaxFrame
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the read below
	defer stop()
	s := &server{conn: conn, handler: h, options: o, calls: make(map[uint64]*servedCall)}
	err := s.read(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel()
	conn.Close() //nolint:errcheck // handlers that write get an error
	s.handlers.Wait()
	return err
}

type server struct {
	conn     io.ReadWriteCloser
	handler  Handler
	options  ServeOptions
	handlers sync.WaitGroup

	writing sync.Mutex

	mu    sync.Mutex
	calls map[uint64]*servedCall
	bytes int
}

type servedCall struct {
	cancel context.CancelFunc
	size   int
}

func (s *server) read(ctx context.Context) error {
	for {
		data, err := Read(s.conn, s.options.MaxFrame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := decodeEnvelope(data)
		if err != nil {
			return err
		}
		switch e.Kind {
		case kindCall:
			err = s.begin(ctx, e)
		case kindCancel:
			s.cancelCall(e.ID)
		default:
			err = fmt.Errorf("%w: frame of kind %d from the end that calls", ErrViolation, e.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// cancelCall ends a call's context. A call that is not there was answered meanwhile.
func (s *server) cancelCall(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		c.cancel()
	}
}

func (s *server) begin(ctx context.Context, e envelope) error {
	ctx, cancel := context.WithCancel(ctx)
	taken, busy := s.admit(e, cancel)
	switch {
	case taken:
		cancel()
		return fmt.Errorf("%w: call %d is in flight already", ErrViolation, e.ID)
	case busy:
		cancel()
		// From the reader, so that a flood is slowed to the pace at which it reads its refusals.
		s.reply(e.ID, nil, &Failure{Code: CodeBusy, Text: "too many calls in flight; try again later"})
		return nil
	}
	s.handlers.Add(1)
	go s.serve(ctx, e)
	return nil
}

func (s *server) admit(e envelope, cancel context.CancelFunc) (taken, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[e.ID] != nil {
		return true, false
	}
	if len(s.calls) >= s.options.MaxCalls || s.bytes+len(e.Body) > s.options.MaxBytes {
		return false, true
	}
	s.calls[e.ID] = &servedCall{cancel: cancel, size: len(e.Body)}
	s.bytes += len(e.Body)
	return false, false
}

func (s *server) serve(ctx context.Context, e envelope) {
	defer s.handlers.Done()
	result, err := s.handler(ctx, e.Code, e.Body, func(v any) error { return s.send(kindNote, e.ID, 0, v) })
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = &Failure{Code: CodeCancelled, Text: "cancelled"}
	}
	// The number is free before the answer leaves, so that the caller may use it right after.
	s.mu.Lock()
	c := s.calls[e.ID]
	delete(s.calls, e.ID)
	s.bytes -= c.size
	s.mu.Unlock()
	c.cancel()
	s.reply(e.ID, result, err)
}

// reply sends the one answer or failure of a call. A connection that cannot take it is lost, which
// the reader finds out by itself.
func (s *server) reply(id uint64, result any, err error) {
	if err == nil {
		err = s.send(kindAnswer, id, 0, result)
		if err == nil || !errors.Is(err, ErrTooLarge) {
			return
		}
		err = &Failure{Code: CodeTooLarge, Text: "the result is larger than a frame"}
	}
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{Code: CodeInternal, Text: "internal error"}
	}
	text := strings.ToValidUTF8(f.Text, "\uFFFD")
	if len(text) > MaxFailureText {
		text = strings.ToValidUTF8(text[:MaxFailureText], "")
	}
	s.send(kindFailure, id, f.Code, failureBody{Text: text, Detail: f.Detail}) //nolint:errcheck // see above
}

func (s *server) send(kind, id, code uint64, v any) error {
	data, err := encodeEnvelope(kind, id, code, v)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := Write(s.conn, data, s.options.MaxFrame); err != nil {
		if !errors.Is(err, ErrTooLarge) {
			s.conn.Close() //nolint:errcheck // a frame may be half written: nothing can follow it
		}
		return err
	}
	return nil
}

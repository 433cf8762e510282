package link

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"
)

// ServeOptions are limits of the agent's end, and where its failures are told.
type ServeOptions struct {
	// MaxFrame is the largest frame in bytes; 0 means [MaxFrame].
	MaxFrame int
	// MaxCalls bounds the calls in flight of one connection; more fail with [ErrBusy].
	// 0 means 32.
	MaxCalls int
	// MaxBytes bounds the arguments of calls in flight of one connection. 0 means twice MaxFrame.
	MaxBytes int
	// MaxConns bounds the connections of [ServeListener]; more are closed at once. 0 means 8.
	MaxConns int
	// OnError, if not nil, gets errors whose text does not cross the link, inside the TEE: of
	// calls, with the call's name, and of connections that broke the protocol. It may be called
	// from several goroutines.
	OnError func(call string, err error)
}

// Serve answers the calls that come over conn until it or ctx ends. It owns conn. The error is nil
// when the broker closed the connection, and wraps [frame.ErrViolation] or [frame.ErrTooLarge] when
// the broker broke the protocol.
func Serve(ctx context.Context, conn io.ReadWriteCloser, agent Agent, o ServeOptions) error {
	if o.MaxFrame == 0 {
		o.MaxFrame = MaxFrame
	}
	if observer, ok := agent.(Observer); ok {
		defer observer.Connected()()
	}
	s := &server{agent: agent, options: o}
	return frame.Serve(ctx, conn, s.handle, frame.ServeOptions{MaxFrame: o.MaxFrame, MaxCalls: o.MaxCalls, MaxBytes: o.MaxBytes})
}

// Listener is a source of connections, such as a net.Listener.
type Listener[C io.ReadWriteCloser] interface {
	Accept() (C, error)
	Close() error
}

// ServeListener serves every connection of ln until ctx ends or ln fails. It closes ln, and returns
// after every connection was served to its end: nil when ctx ended.
func ServeListener[C io.ReadWriteCloser](ctx context.Context, ln Listener[C], agent Agent, o ServeOptions) error {
	if o.MaxConns == 0 {
		o.MaxConns = 8
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() }) //nolint:errcheck // ends Accept below
	defer stop()

	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	slots := make(chan struct{}, o.MaxConns)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close() //nolint:errcheck // came too late
			}
			return nil
		}
		if isTemporary(err) {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close() //nolint:errcheck // over the limit
			continue
		}
		conns.Add(1)
		go func() {
			defer conns.Done()
			defer func() { <-slots }()
			if err := Serve(ctx, conn, agent, o); err != nil && ctx.Err() == nil && o.OnError != nil {
				o.OnError("connection", err)
			}
		}()
	}
}

// isTemporary recognises what a listener gets over, such as too many open files.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type server struct {
	agent   Agent
	options ServeOptions
}

func (s *server) handle(ctx context.Context, method uint64, body cbor.RawMessage, _ func(any) error) (any, error) {
	name, result, err := s.dispatch(ctx, method, body)
	if err == nil {
		return result, nil
	}
	failure := asFailure(err)
	var f *frame.Failure
	if !errors.As(failure, &f) && s.options.OnError != nil {
		s.options.OnError(name, err)
	}
	return nil, failure
}

func (s *server) dispatch(ctx context.Context, method uint64, body cbor.RawMessage) (name string, result any, err error) {
	switch method {
	case methodRequestTA:
		result, err = s.requestTA(ctx, body)
		return "RequestTA", result, err
	case methodUnrequestTA:
		result, err = s.unrequestTA(ctx, body)
		return "UnrequestTA", result, err
	case methodRequestPolicyCheck:
		result, err = s.requestPolicyCheck(ctx, body)
		return "RequestPolicyCheck", result, err
	case methodProcessTeepMessage:
		result, err = s.processTeepMessage(ctx, body)
		return "ProcessTeepMessage", result, err
	case methodProcessError:
		return "ProcessError", nil, s.processError(ctx, body)
	case methodDeliver:
		result, err = s.deliver(ctx, body)
		return "Deliver", result, err
	case methodOpenSession:
		result, err = s.openSession(ctx, body)
		return "OpenSession", result, err
	case methodInvoke:
		result, err = s.invoke(ctx, body)
		return "Invoke", result, err
	case methodCloseSession:
		return "CloseSession", nil, s.closeSession(ctx, body)
	case methodAppraised:
		result, err = s.appraised(ctx, body)
		return "Appraised", result, err
	case methodReplaceTrust:
		return "ReplaceTrustAnchors", nil, s.replaceTrust(ctx, body)
	case methodRenewRevocations:
		return "RenewRevocationLists", nil, s.renewRevocations(ctx, body)
	}
	return "unknown", nil, ErrUnknownCall
}

func answer(a Ask, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return toWire(a)
}

func (s *server) requestTA(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[requestArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err == nil {
		err = checkText("TAM URI", args.TAMURI, MaxURI)
	}
	if err != nil {
		return nil, err
	}
	return answer(s.agent.RequestTA(ctx, Request{
		Component: args.Component, TAMURI: args.TAMURI, MinSequence: args.MinSequence, HasBinary: args.HasBinary,
	}))
}

func (s *server) unrequestTA(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[componentArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err != nil {
		return nil, err
	}
	return answer(s.agent.UnrequestTA(ctx, args.Component))
}

func (s *server) requestPolicyCheck(ctx context.Context, body cbor.RawMessage) (any, error) {
	if _, err := decodeArgs[noArgs](body); err != nil {
		return nil, err
	}
	return answer(s.agent.RequestPolicyCheck(ctx))
}

func (s *server) processTeepMessage(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[messageArgs](body)
	if err != nil {
		return nil, err
	}
	return answer(s.agent.ProcessTeepMessage(ctx, args.Session, args.Message))
}

func (s *server) processError(ctx context.Context, body cbor.RawMessage) error {
	args, err := decodeArgs[errorArgs](body)
	if err == nil {
		err = checkText("TAM URI", args.TAMURI, MaxURI)
	}
	if err == nil {
		err = checkText("reason", args.Reason, MaxReason)
	}
	if err != nil {
		return err
	}
	return s.agent.ProcessError(ctx, args.Session, args.TAMURI, args.Reason)
}

func (s *server) deliver(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[chunkArgs](body)
	if err != nil {
		return nil, err
	}
	c := Chunk{Session: args.Session, FetchID: args.FetchID, Offset: int64(args.Offset), Data: args.Data, Last: args.Last, Err: args.Err}
	if err := checkChunk(c); err != nil {
		return nil, err
	}
	return answer(s.agent.Deliver(ctx, c))
}

func (s *server) appraised(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[appraisedArgs](body)
	if err != nil {
		return nil, err
	}
	r := Appraised{Session: args.Session, AppraisalID: args.AppraisalID, MediaType: args.MediaType, Result: args.Result, Err: args.Err}
	if err := checkAppraised(r); err != nil {
		return nil, err
	}
	return answer(s.agent.Appraised(ctx, r))
}

func (s *server) replaceTrust(ctx context.Context, body cbor.RawMessage) error {
	args, err := decodeArgs[trustArgs](body)
	if err == nil {
		err = checkAnchors(args.Signed)
	}
	if err != nil {
		return err
	}
	return s.agent.ReplaceTrustAnchors(ctx, args.Signed)
}

func (s *server) renewRevocations(ctx context.Context, body cbor.RawMessage) error {
	args, err := decodeArgs[revocationArgs](body)
	if err == nil {
		err = checkRevocationFiles(args.Files)
	}
	if err != nil {
		return err
	}
	return s.agent.RenewRevocationLists(ctx, args.Files)
}

func (s *server) openSession(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[componentArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err != nil {
		return nil, err
	}
	return s.agent.OpenSession(ctx, args.Component)
}

func (s *server) invoke(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeArgs[invokeArgs](body)
	if err == nil {
		err = checkText("command", args.Command, MaxCommand)
	}
	if err != nil {
		return nil, err
	}
	output, err := s.agent.Invoke(ctx, args.App, args.Command, args.Input)
	if output == nil {
		output = []byte{} // an answer is always a byte string
	}
	return output, err
}

func (s *server) closeSession(ctx context.Context, body cbor.RawMessage) error {
	args, err := decodeArgs[appArgs](body)
	if err != nil {
		return err
	}
	return s.agent.CloseSession(ctx, args.App)
}

// cut shortens s to at most limit bytes of valid UTF-8.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

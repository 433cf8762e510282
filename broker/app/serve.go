package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/link/frame"
)

// Backend is what apps are served from; a *broker.Broker is one.
type Backend interface {
	Request(ctx context.Context, r Request, progress func(Progress)) error
	UnrequestFor(ctx context.Context, app string, component ComponentID, r Requirements) error
	Open(ctx context.Context, component ComponentID, r Requirements) (uint64, error)
	Invoke(ctx context.Context, session uint64, command string, input []byte) ([]byte, error)
	Close(ctx context.Context, session uint64) error
	PolicyCheck(ctx context.Context) (sessions int, err error)
	Status(ctx context.Context) []Status
	// ReplaceTrustAnchors and RenewRevocationLists bring what others signed: any app may.
	ReplaceTrustAnchors(ctx context.Context, signed []byte, r Requirements) error
	RenewRevocationLists(ctx context.Context, file []byte, r Requirements) error
}

// ServeOptions are limits of the broker's end.
type ServeOptions struct {
	// Authorize, if not nil, decides by the credentials of its process whether an app may connect.
	// Where the system tells none, or for other streams than Unix sockets, it is not asked and
	// the connection is refused.
	Authorize func(Peer) error
	// MaxConns bounds the connections, and MaxConnsPerUser those of one user of the device where
	// the system tells whose they are; more are answered link.ErrBusy. 0 means 64, and a
	// quarter of MaxConns.
	MaxConns, MaxConnsPerUser int
	// IdleTimeout closes connections on which nothing came for so long, no call is under way and
	// no session is open. 0 means 10 minutes.
	IdleTimeout time.Duration
	// MaxSessions bounds the application sessions of one connection; 0 means 16.
	MaxSessions int
	// MaxCalls bounds the calls in flight of one connection; 0 means 16.
	MaxCalls int
	// OnError, if not nil, gets what went wrong with connections and calls and did not cross.
	OnError func(err error)
}

// Peer is the process at the other end of a Unix socket, when it connected.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
}

// ErrNoCredentials says that the system does not tell who connected.
var ErrNoCredentials = errors.New("app: no credentials of the peer")

func (o ServeOptions) report(err error) {
	if o.OnError != nil {
		o.OnError(err)
	}
}

type server struct {
	backend Backend
	options ServeOptions
	// owner is whose apps they are, as far as the system tells: one user cannot speak for the apps
	// of another.
	owner string

	mu       sync.Mutex
	sessions map[uint64]bool
	opening  int
	calls    int
	used     time.Time // when a call last began or ended
}

func (s *server) handle(ctx context.Context, method uint64, body cbor.RawMessage, note func(any) error) (any, error) {
	s.begin(1)
	defer s.begin(-1)
	result, err := s.dispatch(ctx, method, body, note)
	if err == nil {
		return result, nil
	}
	failure := asFailure(err)
	var f *frame.Failure
	if !errors.As(failure, &f) {
		s.options.report(err)
	}
	return nil, failure
}

func (s *server) dispatch(ctx context.Context, method uint64, body cbor.RawMessage, note func(any) error) (any, error) {
	switch method {
	case methodRequest:
		return nil, s.request(ctx, body, note)
	case methodUnrequest:
		return nil, s.unrequest(ctx, body)
	case methodOpen:
		return s.open(ctx, body)
	case methodInvoke:
		return s.invoke(ctx, body)
	case methodClose:
		return nil, s.close(ctx, body)
	case methodPolicyCheck:
		if _, err := decode[noArgs](body); err != nil {
			return nil, err
		}
		return s.backend.PolicyCheck(ctx)
	case methodStatus:
		return s.status(ctx, body)
	case methodReplaceTrust:
		return nil, signed(ctx, body, s.backend.ReplaceTrustAnchors)
	case methodRenewRevocations:
		return nil, signed(ctx, body, s.backend.RenewRevocationLists)
	}
	return nil, &frame.Failure{Code: frame.CodeUnknown, Text: "unknown call"}
}

func decode[T any](body cbor.RawMessage) (args T, err error) {
	// The CBOR library takes null for the zero value of anything; arguments are an array, major
	// type 4.
	if len(body) == 0 || body[0]>>5 != 4 || cbor.Unmarshal(body, &args) != nil {
		return args, &frame.Failure{Code: frame.CodeUnknown, Text: "the arguments are not those of the call"}
	}
	return args, nil
}

func decodeComponent(body cbor.RawMessage) (componentArgs, error) {
	args, err := decode[componentArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err == nil {
		err = checkRequirements(args.Requirements)
	}
	return args, err
}

func (s *server) request(ctx context.Context, body cbor.RawMessage, note func(any) error) error {
	args, err := decode[requestArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err == nil {
		err = checkRequirements(args.Requirements)
	}
	if err == nil {
		err = checkTexts(args.TAMURI, args.App)
	}
	if err != nil {
		return err
	}
	r := Request{
		Component: args.Component, TAMURI: args.TAMURI, MinSequence: args.MinSequence,
		Requirements: requirementsFromWire(args.Requirements), App: s.owner + args.App,
		Binary: args.Binary,
	}
	return s.backend.Request(ctx, r, func(p Progress) {
		// An app that went away ends the context; the note has nobody to miss it.
		note(progressNote{TEE: p.TEE, Kind: string(p.Kind), URI: p.URI, Bytes: p.Bytes}) //nolint:errcheck // see above
	})
}

func (s *server) unrequest(ctx context.Context, body cbor.RawMessage) error {
	args, err := decode[unrequestArgs](body)
	if err == nil {
		err = checkComponent(args.Component)
	}
	if err == nil {
		err = checkRequirements(args.Requirements)
	}
	if err == nil {
		err = checkTexts(args.App)
	}
	if err != nil {
		return err
	}
	return s.backend.UnrequestFor(ctx, s.owner+args.App, args.Component, requirementsFromWire(args.Requirements))
}

func signed(ctx context.Context, body cbor.RawMessage, call func(context.Context, []byte, Requirements) error) error {
	args, err := decode[signedArgs](body)
	if err == nil {
		err = checkRequirements(args.Requirements)
	}
	if err == nil {
		err = checkSigned(args.Data)
	}
	if err != nil {
		return err
	}
	return call(ctx, args.Data, requirementsFromWire(args.Requirements))
}

func (s *server) open(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decodeComponent(body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	full := len(s.sessions)+s.opening >= s.options.MaxSessions
	if !full {
		s.opening++
	}
	s.mu.Unlock()
	if full {
		return nil, link.ErrBusy
	}
	session, err := s.backend.Open(ctx, args.Component, requirementsFromWire(args.Requirements))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
	if err != nil {
		return nil, err
	}
	s.sessions[session] = true
	return session, nil
}

// own tells whether a session is one of this connection.
func (s *server) own(session uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sessions[session] {
		return link.ErrNoSession
	}
	return nil
}

func (s *server) invoke(ctx context.Context, body cbor.RawMessage) (any, error) {
	args, err := decode[invokeArgs](body)
	if err == nil {
		err = checkTexts(args.Command)
	}
	if err == nil {
		err = s.own(args.Session)
	}
	if err != nil {
		return nil, err
	}
	output, err := s.backend.Invoke(ctx, args.Session, args.Command, args.Input)
	if output == nil {
		output = []byte{} // an answer is always a byte string
	}
	return output, err
}

func (s *server) close(ctx context.Context, body cbor.RawMessage) error {
	args, err := decode[sessionArgs](body)
	if err == nil {
		err = s.own(args.Session)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.sessions, args.Session)
	s.mu.Unlock()
	return s.backend.Close(ctx, args.Session)
}

func (s *server) status(ctx context.Context, body cbor.RawMessage) (any, error) {
	if _, err := decode[noArgs](body); err != nil {
		return nil, err
	}
	all := s.backend.Status(ctx)
	wire := make([]wireStatus, len(all))
	for i, st := range all {
		wire[i] = statusToWire(st)
	}
	return wire, nil
}

// closeAll ends the sessions that the connection leaves behind.
func (s *server) closeAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if err := s.backend.Close(ctx, session); err != nil {
			s.options.report(err)
		}
	}
}

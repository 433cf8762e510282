// Package owner is how the maker or the owner of a device asks the agent in it for what verifiers and
// authors have to know, where the agent has no command line: in a virtual machine. It is a channel of its own
// beside the link; the broker's programs carry it and see bytes.
//
//	client := owner.NewClient(conn)
//	defer client.Close()
//	pem, err := client.Key(ctx, "encryption")
//
// There are three questions: a public key, the collateral that endorses the device, and the two steps of the
// enrolment of its TPM. Nothing that is answered is secret, and nothing changes the agent. Whoever is on the
// way can change the answers: who endorses a device by them has it in hand, or enrols its TPM, which proves
// itself.
package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"
)

// Limits, checked on both ends.
const (
	// MaxFrame is the largest question or answer in bytes.
	MaxFrame = 1 << 20
	// MaxName is the longest name in bytes.
	MaxName = 256
	// MaxCertificates is how many intermediate certificates come with an enrolment.
	MaxCertificates = 8
)

// ErrRefused is an answer that says no; the text is the agent's.
var ErrRefused = errors.New("owner: the agent refused")

// Agent answers. It must be safe for concurrent use. The text of its errors is shown to who asked.
type Agent interface {
	// Key returns a public key of the device, in PEM, by what it is for.
	Key(ctx context.Context, use string) ([]byte, error)
	// Collateral returns the collateral file for verifiers.
	Collateral(ctx context.Context, c Collateral) ([]byte, error)
	// Enrol returns the request for the enrolment of the TPM or, with a credential, the answer to it.
	Enrol(ctx context.Context, e Enrolment) ([]byte, error)
}

// Collateral says what should be in the file.
type Collateral struct {
	// Owner is who vouches for the device, 1 to MaxName bytes.
	Owner string
	// Lifetime is how long the file counts, in whole seconds.
	Lifetime time.Duration
	// AcceptWeaknesses lists the weaknesses of the TEE as accepted.
	AcceptWeaknesses bool
}

// Enrolment is one of its two steps.
type Enrolment struct {
	// Intermediates are certificates, in DER, between the endorsement key's and its maker's root.
	Intermediates [][]byte
	// Credential is what the owner answered to the request; nil for the request.
	Credential []byte
}

const (
	methodKey        = 1
	methodCollateral = 2
	methodEnrol      = 3
	codeRefused      = frame.FirstCode
)

// The arguments. Each answer is a byte string.
//
//	key        = [ use: tstr ]
//	collateral = [ owner: tstr, seconds: uint, accept-weaknesses: bool ]
//	enrol      = [ intermediates: [ *8 bstr ], credential: bstr / null ]
type (
	keyArgs struct {
		_   struct{} `cbor:",toarray"`
		Use string
	}
	collateralArgs struct {
		_       struct{} `cbor:",toarray"`
		Owner   string
		Seconds uint32
		Accept  bool
	}
	enrolArgs struct {
		_             struct{} `cbor:",toarray"`
		Intermediates [][]byte
		Credential    []byte
	}
)

// handler has an agent answer.
func handler(a Agent) frame.Handler {
	return func(ctx context.Context, method uint64, raw cbor.RawMessage, _ func(any) error) (any, error) {
		answer, err := dispatch(ctx, a, method, raw)
		var failure *frame.Failure
		switch {
		case errors.As(err, &failure):
			return nil, failure
		case err != nil:
			return nil, &frame.Failure{Code: codeRefused, Text: err.Error()}
		case answer == nil:
			answer = []byte{}
		}
		return answer, nil
	}
}

func dispatch(ctx context.Context, a Agent, method uint64, raw cbor.RawMessage) ([]byte, error) {
	malformed := &frame.Failure{Code: frame.CodeUnknown, Text: "no such question, or not asked as it should be"}
	switch method {
	case methodKey:
		var args keyArgs
		if cbor.Unmarshal(raw, &args) != nil || !isName(args.Use) {
			return nil, malformed
		}
		return a.Key(ctx, args.Use)
	case methodCollateral:
		var args collateralArgs
		if cbor.Unmarshal(raw, &args) != nil || !isName(args.Owner) || args.Seconds == 0 {
			return nil, malformed
		}
		return a.Collateral(ctx, Collateral{Owner: args.Owner, Lifetime: time.Duration(args.Seconds) * time.Second, AcceptWeaknesses: args.Accept})
	case methodEnrol:
		var args enrolArgs
		if cbor.Unmarshal(raw, &args) != nil || len(args.Intermediates) > MaxCertificates || args.Credential != nil && len(args.Credential) == 0 {
			return nil, malformed
		}
		return a.Enrol(ctx, Enrolment{Intermediates: args.Intermediates, Credential: args.Credential})
	}
	return nil, malformed
}

func isName(s string) bool { return s != "" && len(s) <= MaxName }

// Listener gives connections, one after the other.
type Listener[C io.ReadWriteCloser] interface {
	Accept() (C, error)
	Close() error
}

// Serve answers on one connection at a time until ctx ends, which is no error, or the listener fails. It
// closes the listener.
func Serve[C io.ReadWriteCloser](ctx context.Context, ln Listener[C], a Agent) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() }) //nolint:errcheck // ends Accept below
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close() //nolint:errcheck // came too late
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("owner: %w", err)
		}
		// How a connection ends is the other end's business: the next one is as good as the first.
		_ = frame.Serve(ctx, conn, handler(a), frame.ServeOptions{MaxFrame: MaxFrame, MaxCalls: 1})
	}
}

// Client asks. Safe for concurrent use, though the agent answers one question at a time.
type Client struct{ caller *frame.Caller }

// NewClient uses a connection, which it owns.
func NewClient(conn io.ReadWriteCloser) *Client {
	return &Client{caller: frame.NewCaller(conn, frame.CallerOptions{MaxFrame: MaxFrame})}
}

// Close ends the connection.
func (c *Client) Close() error { return c.caller.Close() }

// Key asks for a public key in PEM.
func (c *Client) Key(ctx context.Context, use string) ([]byte, error) {
	return c.ask(ctx, methodKey, keyArgs{Use: use})
}

// Collateral asks for the collateral file.
func (c *Client) Collateral(ctx context.Context, r Collateral) ([]byte, error) {
	seconds := int64(r.Lifetime / time.Second)
	if seconds < 1 || seconds > 1<<32-1 {
		return nil, fmt.Errorf("owner: a lifetime of %v: write a second at least, and 136 years at most", r.Lifetime)
	}
	return c.ask(ctx, methodCollateral, collateralArgs{Owner: r.Owner, Seconds: uint32(seconds), Accept: r.AcceptWeaknesses})
}

// Enrol makes one step of an enrolment.
func (c *Client) Enrol(ctx context.Context, r Enrolment) ([]byte, error) {
	return c.ask(ctx, methodEnrol, enrolArgs{Intermediates: r.Intermediates, Credential: r.Credential})
}

func (c *Client) ask(ctx context.Context, method uint64, args any) ([]byte, error) {
	var answer []byte
	err := c.caller.Call(ctx, method, args, &answer, nil)
	var failure *frame.Failure
	if errors.As(err, &failure) {
		return nil, fmt.Errorf("%w: %w", ErrRefused, failure)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

package app

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"

	"github.com/go-teep/teep/broker"
)

// Client is an app's connection to the broker. Safe for concurrent use. A call whose context ends
// is cancelled. Errors are those of package broker, [link.ExitError], the sentinels of package link
// and [ErrClosed]; use errors.Is and errors.As.
type Client struct {
	caller *frame.Caller
	name   string
}

// As returns the same connection for an app of that name. The broker tells the apps of one user of
// the device from each other by their names: what one of them needs stays when another leaves.
func (c *Client) As(name string) *Client { return &Client{c.caller, name} }

// Dial connects to a broker's socket.
func Dial(ctx context.Context, path string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("app: cannot connect to the broker at %s; is it running? %w", path, err)
	}
	return NewClient(conn), nil
}

// NewClient uses a connection that was made otherwise, which it owns from now on.
func NewClient(conn io.ReadWriteCloser) *Client {
	return &Client{caller: frame.NewCaller(conn, frame.CallerOptions{MaxFrame: MaxFrame})}
}

// Close ends the connection, and with it every session.
func (c *Client) Close() error { return c.caller.Close() }

func (c *Client) call(ctx context.Context, method uint64, args, result any) error {
	return fromFailure(c.caller.Call(ctx, method, args, result, nil))
}

// Request says that the app depends on a component, and returns when it is installed or cannot be.
// r.App is not looked at; see [Client.As].
// progress may be nil; it is called from this goroutine, and may miss some steps.
func (c *Client) Request(ctx context.Context, r Request, progress func(Progress)) error {
	args := requestArgs{
		Component: r.Component, TAMURI: r.TAMURI, MinSequence: r.MinSequence, Requirements: requirementsToWire(r.Requirements), App: c.name, Binary: r.Binary,
	}
	var note func(cbor.RawMessage)
	if progress != nil {
		note = func(raw cbor.RawMessage) {
			var n progressNote
			if cbor.Unmarshal(raw, &n) == nil {
				progress(Progress{TEE: n.TEE, Kind: broker.EventKind(n.Kind), URI: n.URI, Bytes: n.Bytes})
			}
		}
	}
	return fromFailure(c.caller.Call(ctx, methodRequest, args, nil, note))
}

// Unrequest says that the app no longer depends on a component.
func (c *Client) Unrequest(ctx context.Context, component ComponentID, r Requirements) error {
	return c.call(ctx, methodUnrequest, unrequestArgs{Component: component, Requirements: requirementsToWire(r), App: c.name}, nil)
}

// Open starts a session with an installed Trusted Application.
func (c *Client) Open(ctx context.Context, component ComponentID, r Requirements) (session uint64, err error) {
	err = c.call(ctx, methodOpen, componentArgs{Component: component, Requirements: requirementsToWire(r)}, &session)
	return session, err
}

// Invoke runs one command of a Trusted Application.
func (c *Client) Invoke(ctx context.Context, session uint64, command string, input []byte) (output []byte, err error) {
	err = c.call(ctx, methodInvoke, invokeArgs{Session: session, Command: command, Input: input}, &output)
	return output, err
}

// CloseSession ends a session with a Trusted Application.
func (c *Client) CloseSession(ctx context.Context, session uint64) error {
	return c.call(ctx, methodClose, sessionArgs{Session: session}, nil)
}

// PolicyCheck has every agent ask its TAMs for changes now, and returns when they were made, with
// the number of sessions with TAMs that were begun. With none, no agent found it time to ask one: each TAM was
// asked a moment ago, or is waited for after a failure.
func (c *Client) PolicyCheck(ctx context.Context) (sessions int, err error) {
	err = c.call(ctx, methodPolicyCheck, noArgs{}, &sessions)
	return sessions, err
}

// Status tells the state of every TEE.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	var wire []wireStatus
	if err := c.call(ctx, methodStatus, noArgs{}, &wire); err != nil {
		return nil, err
	}
	all := make([]Status, len(wire))
	for i, w := range wire {
		all[i] = statusFromWire(w)
	}
	return all, nil
}

// ReplaceTrustAnchors brings a set of trust anchors that the device's administrator signed to the agents that
// fit. Whether it takes the place of theirs is for them to say: the signature decides, not who brings it.
func (c *Client) ReplaceTrustAnchors(ctx context.Context, signed []byte, r Requirements) error {
	if err := checkSigned(signed); err != nil {
		return err
	}
	return c.call(ctx, methodReplaceTrust, signedArgs{Requirements: requirementsToWire(r), Data: signed}, nil)
}

// RenewRevocationLists brings a file of X.509 CRLs for the certificates of TAMs to the agents that fit.
func (c *Client) RenewRevocationLists(ctx context.Context, file []byte, r Requirements) error {
	if err := checkSigned(file); err != nil {
		return err
	}
	return c.call(ctx, methodRenewRevocations, signedArgs{Requirements: requirementsToWire(r), Data: file}, nil)
}

package link

import (
	"context"
	"io"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"
)

// ClientOptions are limits of a [Client].
type ClientOptions struct {
	// MaxFrame is the largest frame in bytes; 0 means [MaxFrame].
	MaxFrame int
	// MaxPending bounds the calls that wait for an answer; 0 means 256.
	MaxPending int
}

// Client is the broker's stand-in for the agent at the other end of a connection. It implements
// [Agent], for any number of goroutines at a time. When the connection is lost, every call fails
// with [ErrClosed], and so does every later one: see [Redialer].
//
// A call whose context ends returns the context's error and cancels the call in the agent, which
// may have carried it out nevertheless.
type Client struct {
	caller *frame.Caller
}

var _ Agent = (*Client)(nil)

// NewClient starts to use conn, which it owns from now on. [Client.Close] ends it.
func NewClient(conn io.ReadWriteCloser, o ClientOptions) *Client {
	if o.MaxFrame == 0 {
		o.MaxFrame = MaxFrame
	}
	return &Client{frame.NewCaller(conn, frame.CallerOptions{MaxFrame: o.MaxFrame, MaxPending: o.MaxPending})}
}

// Close ends the connection. Calls that wait fail with [ErrClosed].
func (c *Client) Close() error { return c.caller.Close() }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.caller.Done() }

func (c *Client) call(ctx context.Context, method uint64, args, result any) error {
	return fromFailure(c.caller.Call(ctx, method, args, result, nil))
}

func (c *Client) callForAsk(ctx context.Context, method uint64, args any) (Ask, error) {
	var w cbor.RawMessage
	if err := c.call(ctx, method, args, &w); err != nil {
		return Ask{}, err
	}
	return decodeAsk(w)
}

// RequestTA implements [Agent].
func (c *Client) RequestTA(ctx context.Context, r Request) (Ask, error) {
	if err := checkComponent(r.Component); err != nil {
		return Ask{}, err
	}
	if err := checkText("TAM URI", r.TAMURI, MaxURI); err != nil {
		return Ask{}, err
	}
	return c.callForAsk(ctx, methodRequestTA, requestArgs{Component: r.Component, TAMURI: r.TAMURI, MinSequence: r.MinSequence, HasBinary: r.HasBinary})
}

// UnrequestTA implements [Agent].
func (c *Client) UnrequestTA(ctx context.Context, component ComponentID) (Ask, error) {
	if err := checkComponent(component); err != nil {
		return Ask{}, err
	}
	return c.callForAsk(ctx, methodUnrequestTA, componentArgs{Component: component})
}

// RequestPolicyCheck implements [Agent].
func (c *Client) RequestPolicyCheck(ctx context.Context) (Ask, error) {
	return c.callForAsk(ctx, methodRequestPolicyCheck, noArgs{})
}

// ProcessTeepMessage implements [Agent].
func (c *Client) ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (Ask, error) {
	return c.callForAsk(ctx, methodProcessTeepMessage, messageArgs{Session: session, Message: message})
}

// ProcessError implements [Agent]. A reason that is too long is cut.
func (c *Client) ProcessError(ctx context.Context, session uint64, tamURI, reason string) error {
	if err := checkText("TAM URI", tamURI, MaxURI); err != nil {
		return err
	}
	return c.call(ctx, methodProcessError, errorArgs{Session: session, TAMURI: tamURI, Reason: cut(reason, MaxReason)}, nil)
}

// Deliver implements [Agent]. A reason that is too long is cut.
func (c *Client) Deliver(ctx context.Context, k Chunk) (Ask, error) {
	k.Err = cut(k.Err, MaxReason)
	if err := checkChunk(k); err != nil {
		return Ask{}, err
	}
	return c.callForAsk(ctx, methodDeliver, chunkArgs{
		Session: k.Session, FetchID: k.FetchID, Offset: uint64(k.Offset), Data: k.Data, Last: k.Last, Err: k.Err,
	})
}

// Appraised implements [Agent]. A reason that is too long is cut.
func (c *Client) Appraised(ctx context.Context, r Appraised) (Ask, error) {
	r.Err = cut(r.Err, MaxReason)
	if err := checkAppraised(r); err != nil {
		return Ask{}, err
	}
	if r.Result == nil {
		r.Result = []byte{} // always a byte string
	}
	return c.callForAsk(ctx, methodAppraised, appraisedArgs{
		Session: r.Session, AppraisalID: r.AppraisalID, MediaType: r.MediaType, Result: r.Result, Err: r.Err,
	})
}

// ReplaceTrustAnchors implements [Agent].
func (c *Client) ReplaceTrustAnchors(ctx context.Context, signed []byte) error {
	if err := checkAnchors(signed); err != nil {
		return err
	}
	return c.call(ctx, methodReplaceTrust, trustArgs{Signed: signed}, nil)
}

// RenewRevocationLists implements [Agent].
func (c *Client) RenewRevocationLists(ctx context.Context, files [][]byte) error {
	if err := checkRevocationFiles(files); err != nil {
		return err
	}
	return c.call(ctx, methodRenewRevocations, revocationArgs{Files: files}, nil)
}

// OpenSession implements [Agent].
func (c *Client) OpenSession(ctx context.Context, component ComponentID) (app uint64, err error) {
	if err := checkComponent(component); err != nil {
		return 0, err
	}
	err = c.call(ctx, methodOpenSession, componentArgs{Component: component}, &app)
	return app, err
}

// Invoke implements [Agent].
func (c *Client) Invoke(ctx context.Context, app uint64, command string, input []byte) (output []byte, err error) {
	if err := checkText("command", command, MaxCommand); err != nil {
		return nil, err
	}
	err = c.call(ctx, methodInvoke, invokeArgs{App: app, Command: command, Input: input}, &output)
	return output, err
}

// CloseSession implements [Agent].
func (c *Client) CloseSession(ctx context.Context, app uint64) error {
	return c.call(ctx, methodCloseSession, appArgs{App: app}, nil)
}

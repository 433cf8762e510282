package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Redialer is an [Agent] that connects when it is first called and again after the connection was
// lost. A call that was under way when that happened fails with [ErrClosed] and is not repeated,
// because the agent may have carried it out; sessions do not survive an agent that restarted.
type Redialer struct {
	// Dial makes a connection to the agent.
	Dial func(ctx context.Context) (io.ReadWriteCloser, error)
	// Options of every connection.
	Options ClientOptions

	mu     sync.Mutex
	client *Client
	closed bool
}

var _ Agent = (*Redialer)(nil)

// connected returns the living connection, or makes one.
func (r *Redialer) connected(ctx context.Context) (*Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("%w: closed by the broker", ErrClosed)
	}
	if r.client != nil {
		select {
		case <-r.client.Done():
			r.client.Close() //nolint:errcheck // waits for its goroutines
			r.client = nil
		default:
			return r.client, nil
		}
	}
	conn, err := r.Dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: cannot connect to the agent; is it running? %w", ErrClosed, err)
	}
	r.client = NewClient(conn, r.Options)
	return r.client, nil
}

// Close ends the connection; later calls fail with [ErrClosed].
func (r *Redialer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}

func redialed[T any](ctx context.Context, r *Redialer, call func(*Client) (T, error)) (T, error) {
	c, err := r.connected(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return call(c)
}

// Check connects if there is no connection, and tells whether there is one.
func (r *Redialer) Check(ctx context.Context) error {
	_, err := r.connected(ctx)
	if errors.Is(err, ErrClosed) || err == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// Watch connects if there is no connection, and returns when the connection is lost, with [ErrClosed],
// or when ctx ends.
func (r *Redialer) Watch(ctx context.Context) error {
	c, err := r.connected(ctx)
	if err != nil {
		return err
	}
	select {
	case <-c.Done():
		return fmt.Errorf("%w: it was lost", ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RequestTA implements [Agent].
func (r *Redialer) RequestTA(ctx context.Context, q Request) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.RequestTA(ctx, q) })
}

// UnrequestTA implements [Agent].
func (r *Redialer) UnrequestTA(ctx context.Context, component ComponentID) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.UnrequestTA(ctx, component) })
}

// RequestPolicyCheck implements [Agent].
func (r *Redialer) RequestPolicyCheck(ctx context.Context) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.RequestPolicyCheck(ctx) })
}

// ProcessTeepMessage implements [Agent].
func (r *Redialer) ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.ProcessTeepMessage(ctx, session, message) })
}

// ProcessError implements [Agent].
func (r *Redialer) ProcessError(ctx context.Context, session uint64, tamURI, reason string) error {
	_, err := redialed(ctx, r, func(c *Client) (struct{}, error) {
		return struct{}{}, c.ProcessError(ctx, session, tamURI, reason)
	})
	return err
}

// Deliver implements [Agent].
func (r *Redialer) Deliver(ctx context.Context, k Chunk) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.Deliver(ctx, k) })
}

// Appraised implements [Agent].
func (r *Redialer) Appraised(ctx context.Context, o Appraised) (Ask, error) {
	return redialed(ctx, r, func(c *Client) (Ask, error) { return c.Appraised(ctx, o) })
}

// ReplaceTrustAnchors implements [Agent].
func (r *Redialer) ReplaceTrustAnchors(ctx context.Context, signed []byte) error {
	_, err := redialed(ctx, r, func(c *Client) (struct{}, error) { return struct{}{}, c.ReplaceTrustAnchors(ctx, signed) })
	return err
}

// RenewRevocationLists implements [Agent].
func (r *Redialer) RenewRevocationLists(ctx context.Context, files [][]byte) error {
	_, err := redialed(ctx, r, func(c *Client) (struct{}, error) { return struct{}{}, c.RenewRevocationLists(ctx, files) })
	return err
}

// OpenSession implements [Agent].
func (r *Redialer) OpenSession(ctx context.Context, component ComponentID) (uint64, error) {
	return redialed(ctx, r, func(c *Client) (uint64, error) { return c.OpenSession(ctx, component) })
}

// Invoke implements [Agent].
func (r *Redialer) Invoke(ctx context.Context, app uint64, command string, input []byte) ([]byte, error) {
	return redialed(ctx, r, func(c *Client) ([]byte, error) { return c.Invoke(ctx, app, command, input) })
}

// CloseSession implements [Agent].
func (r *Redialer) CloseSession(ctx context.Context, app uint64) error {
	_, err := redialed(ctx, r, func(c *Client) (struct{}, error) { return struct{}{}, c.CloseSession(ctx, app) })
	return err
}

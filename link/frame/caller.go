package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-teep/teep/internal/cbor"
)

// CallerOptions are limits of a [Caller].
type CallerOptions struct {
	// MaxFrame is the largest frame in bytes, in both directions.
	MaxFrame int
	// MaxPending bounds the calls that wait for an answer, those included that nobody waits for
	// any longer. 0 means 256.
	MaxPending int
}

// Caller makes calls over one connection. Any number of goroutines may use it at a time; answers
// come in any order. When the connection is lost, all calls fail with [ErrClosed], now and later.
type Caller struct {
	conn    io.ReadWriteCloser
	options CallerOptions
	writes  chan []byte
	done    chan struct{}
	loops   sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	pending map[uint64]*pendingCall
	err     error // why the connection ended
}

// pendingCall is a call whose answer has not come.
type pendingCall struct {
	outcome chan envelope
	notes   chan cbor.RawMessage
	// abandoned says that the caller went away; the answer is awaited to free the number.
	abandoned bool
}

// NewCaller starts to use conn, which it owns from now on.
func NewCaller(conn io.ReadWriteCloser, o CallerOptions) *Caller {
	if o.MaxPending == 0 {
		o.MaxPending = 256
	}
	c := &Caller{
		conn: conn, options: o, writes: make(chan []byte, 16), done: make(chan struct{}),
		pending: make(map[uint64]*pendingCall),
	}
	c.loops.Add(2)
	go c.read()
	go c.write()
	return c
}

// Close ends the connection and waits for its goroutines.
func (c *Caller) Close() error {
	c.end(errors.New("closed by this end"))
	c.loops.Wait()
	return nil
}

// Done is closed when the connection has ended.
func (c *Caller) Done() <-chan struct{} { return c.done }

// end closes the connection once; the first reason is the one that counts.
func (c *Caller) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = fmt.Errorf("%w: %w", ErrClosed, why)
	close(c.done)
	c.conn.Close() //nolint:errcheck // the connection is given up; there is nobody to tell
}

func (c *Caller) endReason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Call calls a method and decodes its result into result, unless that is nil. note, unless nil, is
// called with each progress note, from this goroutine; when notes come faster than it returns, some
// are lost. If ctx ends first, Call tells the other end and returns the context's error; the call
// may have been carried out nevertheless.
func (c *Caller) Call(ctx context.Context, method uint64, args, result any, note func(cbor.RawMessage)) error {
	id, p, err := c.register(note != nil)
	if err != nil {
		return err
	}
	data, err := encodeEnvelope(kindCall, id, method, args)
	if err == nil && len(data) > c.options.MaxFrame {
		err = fmt.Errorf("%w: %d bytes to send, %d allowed", ErrTooLarge, len(data), c.options.MaxFrame)
	}
	if err != nil {
		c.forget(id)
		return err
	}
	select {
	case c.writes <- data:
	case <-c.done:
		return c.endReason()
	case <-ctx.Done():
		c.forget(id)
		return ctx.Err()
	}
	return c.await(ctx, id, p, result, note)
}

func (c *Caller) await(ctx context.Context, id uint64, p *pendingCall, result any, note func(cbor.RawMessage)) error {
	for {
		select {
		case e := <-p.outcome:
			return decodeOutcome(e, result)
		case n := <-p.notes:
			note(n)
		case <-ctx.Done():
			c.abandon(id)
			return ctx.Err()
		case <-c.done:
			// The answer may have come just before the end.
			select {
			case e := <-p.outcome:
				return decodeOutcome(e, result)
			default:
				return c.endReason()
			}
		}
	}
}

func decodeOutcome(e envelope, result any) error {
	if e.Kind == kindFailure {
		var b failureBody
		if err := cbor.Unmarshal(e.Body, &b); err != nil {
			return fmt.Errorf("%w: failure: %w", ErrViolation, err)
		}
		return &Failure{Code: e.Code, Text: b.Text, Detail: b.Detail}
	}
	if result == nil {
		return nil
	}
	if err := cbor.Unmarshal(e.Body, result); err != nil {
		return fmt.Errorf("%w: answer: %w", ErrViolation, err)
	}
	return nil
}

func (c *Caller) register(notes bool) (uint64, *pendingCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	if len(c.pending) >= c.options.MaxPending {
		return 0, nil, &Failure{Code: CodeBusy, Text: fmt.Sprintf("%d calls are waiting for answers; try again later", len(c.pending))}
	}
	c.next++
	p := &pendingCall{outcome: make(chan envelope, 1)}
	if notes {
		p.notes = make(chan cbor.RawMessage, 16)
	}
	c.pending[c.next] = p
	return c.next, p, nil
}

// forget removes a call that was never sent.
func (c *Caller) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// abandon tells the other end that nobody waits. Its number stays taken until the answer comes.
func (c *Caller) abandon(id uint64) {
	c.mu.Lock()
	if p := c.pending[id]; p != nil {
		p.abandoned = true
	}
	c.mu.Unlock()
	data, err := encodeEnvelope(kindCancel, id, 0, nil)
	if err != nil {
		return
	}
	select {
	case c.writes <- data:
	default: // The writer is stuck; cancelling is a courtesy.
	}
}

func (c *Caller) write() {
	defer c.loops.Done()
	for {
		select {
		case data := <-c.writes:
			if err := Write(c.conn, data, c.options.MaxFrame); err != nil {
				c.end(fmt.Errorf("write: %w", err))
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *Caller) read() {
	defer c.loops.Done()
	for {
		data, err := Read(c.conn, c.options.MaxFrame)
		if err == nil {
			err = c.receive(data)
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the other end closed it")
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

func (c *Caller) receive(data []byte) error {
	e, err := decodeEnvelope(data)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[e.ID]
	if p == nil {
		return fmt.Errorf("%w: frame of kind %d for call %d, which is not pending", ErrViolation, e.Kind, e.ID)
	}
	switch e.Kind {
	case kindAnswer, kindFailure:
		delete(c.pending, e.ID)
		p.outcome <- e // room for one, and one is all that comes
	case kindNote:
		if p.abandoned || p.notes == nil {
			return nil
		}
		select {
		case p.notes <- e.Body:
		default:
		}
	default:
		return fmt.Errorf("%w: frame of kind %d from the end that answers", ErrViolation, e.Kind)
	}
	return nil
}

// Package serial carries the link over a byte stream that has no connections of its own: a
// virtio-serial port, whose two ends open and close it at times of their own, so that what one end
// left half-said is what the next one reads first.
//
// A connection begins with a greeting of the broker's end, which the agent's end repeats:
//
//	greeting = FF FF FF FF / "TEEP" / nonce (16)
//
// The agent's end drops what comes before a greeting; the broker's end drops what comes before the
// answer to its own. As a frame, a greeting announces more than any end accepts, so that one in the
// middle of an old connection ends that. Until it is answered it is sent again and again: the other
// end may not have started yet. So the answer is also the sign that the agent is ready.
//
//	err := serial.Greet(ctx, conn, rand.Reader)       // broker: conn now carries frames
//	ln := serial.NewListener(port)                    // agent
//	err := link.ServeListener(ctx, ln, agent, link.ServeOptions{})
package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	mark         = "\xff\xff\xff\xffTEEP"
	nonceSize    = 16
	greetingSize = len(mark) + nonceSize
	// repeatAfter is how long the broker's end waits for an answer before it greets again.
	repeatAfter = 200 * time.Millisecond
)

// ErrNoAnswer says that the other end did not answer the greeting.
var ErrNoAnswer = errors.New("serial: the agent does not answer")

// Greet begins a connection at the broker's end, and returns when the agent has answered. After an
// error the stream is of no more use; the end of ctx closes it.
func Greet(ctx context.Context, conn io.ReadWriteCloser, rand io.Reader) error {
	greeting := make([]byte, greetingSize)
	copy(greeting, mark)
	if _, err := io.ReadFull(rand, greeting[len(mark):]); err != nil {
		return fmt.Errorf("serial: no randomness: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the reads and writes below
	defer stop()
	answered, written := make(chan struct{}), make(chan error, 1)
	go func() { written <- repeat(conn, greeting, answered) }()
	err := skipPast(conn, greeting)
	close(answered)
	if err != nil {
		// A write may wait for an end that is not there.
		conn.Close() //nolint:errcheck // the connection failed
	}
	err = errors.Join(err, <-written)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return nil
}

// repeat writes the greeting until it is answered. The other end knows repetitions of one greeting,
// and there are none after it was answered: frames follow.
func repeat(w io.Writer, greeting []byte, answered <-chan struct{}) error {
	again := time.NewTicker(repeatAfter)
	defer again.Stop()
	for {
		if _, err := w.Write(greeting); err != nil {
			return err
		}
		select {
		case <-answered:
			return nil
		case <-again.C:
		}
	}
}

// skipPast reads byte by byte, so that nothing after the wanted bytes is taken. What comes before
// them is at most what was under way in the stream when an old connection ended.
func skipPast(r io.Reader, wanted []byte) error {
	var window []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, one); err != nil {
			return err
		}
		window = append(window, one[0])
		if len(window) > len(wanted) {
			window = window[1:]
		}
		if bytes.Equal(window, wanted) {
			return nil
		}
	}
}

package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-teep/teep/attest/bound"
)

// maxRelayed is the largest report that is relayed, in bytes.
const maxRelayed = 1 << 20

// The first byte of an answer.
const relayOK, relayFailed = 0, 1

// Serve has r report for whoever is at the other end of conn, a [Relay], until conn ends. A process
// behind walls reaches no configfs; what starts it does, and cannot lie: the processor signs the
// binding that was asked for, or a verifier refuses it.
//
//	greeting = answer                          ; the media type of the reports
//	request  = binding (64 bytes)
//	answer   = 0 or 1 (1) / size (4, big endian) / a report, or what went wrong
func Serve(ctx context.Context, conn io.ReadWriter, r bound.Reporter) error {
	if err := answer(conn, relayOK, []byte(r.MediaType())); err != nil {
		return err
	}
	for {
		var b bound.Binding
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("tsm: relay: %w", err)
		}
		report, err := r.Report(ctx, b)
		kind := byte(relayOK)
		if err != nil {
			kind, report = relayFailed, []byte(err.Error())
		}
		if err := answer(conn, kind, report); err != nil {
			return err
		}
	}
}

func answer(w io.Writer, kind byte, content []byte) error {
	if len(content) > maxRelayed {
		return fmt.Errorf("tsm: relay: a report of %d bytes, at most %d are relayed", len(content), maxRelayed)
	}
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	if _, err := w.Write(append(message, content...)); err != nil {
		return fmt.Errorf("tsm: relay: %w", err)
	}
	return nil
}

// Relay reports through [Serve] at the other end of a connection. It is safe for concurrent use.
type Relay struct {
	mu        sync.Mutex
	conn      io.ReadWriter
	mediaType string
}

var _ bound.Reporter = (*Relay)(nil)

// NewRelay learns what kind of reports there are. The connection stays the caller's.
func NewRelay(conn io.ReadWriter) (*Relay, error) {
	r := &Relay{conn: conn}
	greeting, err := r.read()
	if err != nil {
		return nil, err
	}
	switch r.mediaType = string(greeting); r.mediaType {
	case bound.SEVSNPReport, bound.TDXQuote:
		return r, nil
	}
	return nil, fmt.Errorf("tsm: relay: reports of type %.100q are not known here", greeting)
}

// MediaType implements [bound.Reporter].
func (r *Relay) MediaType() string { return r.mediaType }

// Report implements [bound.Reporter].
func (r *Relay) Report(ctx context.Context, b bound.Binding) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.conn.Write(b[:]); err != nil {
		return nil, fmt.Errorf("tsm: relay: %w", err)
	}
	return r.read()
}

func (r *Relay) read() ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.conn, head[:]); err != nil {
		return nil, fmt.Errorf("tsm: relay: %w", err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxRelayed {
		return nil, fmt.Errorf("tsm: relay: an answer of %d bytes, at most %d are read", size, maxRelayed)
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(r.conn, content); err != nil {
		return nil, fmt.Errorf("tsm: relay: %w", err)
	}
	if head[0] != relayOK {
		return nil, fmt.Errorf("tsm: %.500s", content)
	}
	return content, nil
}

package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/link"
)

// errorTimeout bounds telling the agent of a failure after the caller has gone.
const errorTimeout = 10 * time.Second

// relay is one TEEP session under way: the session state of TEEP/HTTP §5.1.1.
type relay struct {
	broker   *Broker
	tee      *managedTEE
	progress func(Progress)
	binary   []byte // the app's
	payload  openPayload
	fetched  int64
	messages int
	pieces   int
}

// session does what the agent asks until it asks for nothing more (TEEP/HTTP §5.1.1, §5.3, §5.4).
// binary is that of the request that the session is for, if the app has it.
func (b *Broker) session(ctx context.Context, t *managedTEE, ask link.Ask, binary []byte, progress func(Progress)) (err error) {
	r := &relay{broker: b, tee: t, progress: progress, binary: binary}
	defer r.payload.close()
	for !ask.None() && err == nil {
		if ask.TAMURI == "" {
			ask, err = r.bring(ctx, ask)
		} else {
			ask, err = r.post(ctx, ask)
		}
	}
	if err == nil {
		b.emit(Event{TEE: t.Name, Session: ask.Session, Kind: EventDone})
	}
	return err
}

func (r *relay) post(ctx context.Context, ask link.Ask) (link.Ask, error) {
	if r.messages++; r.messages > r.broker.options.MaxMessages {
		err := fmt.Errorf("%w: more than %d messages", ErrTooLong, r.broker.options.MaxMessages)
		return link.Ask{}, r.failed(ctx, ask, err)
	}
	e := Event{Kind: EventConnect, URI: ask.TAMURI}
	if len(ask.Message) > 0 {
		e.Kind, e.Message = EventSend, ask.Message
	}
	r.event(ask.Session, e)
	reply, err := r.broker.options.Poster.Post(ctx, ask.TAMURI, ask.Message)
	if err != nil {
		r.event(ask.Session, Event{Kind: EventTransport, URI: ask.TAMURI, Err: err})
		return link.Ask{}, r.failed(ctx, ask, fmt.Errorf("%w at %s: %w", ErrTransport, ask.TAMURI, err))
	}
	if len(reply) == 0 {
		return link.Ask{Session: ask.Session}, nil
	}
	r.event(ask.Session, Event{Kind: EventReceive, URI: ask.TAMURI, Message: reply})
	next, err := r.tee.Agent.ProcessTeepMessage(ctx, ask.Session, reply)
	if err != nil {
		return link.Ask{}, r.broker.agentFailed(r.tee, ask.Session, err)
	}
	return next, nil
}

// failed tells the agent that its message was not delivered (TEEP/HTTP §5.6), even when the reason
// is that the caller no longer waits.
func (r *relay) failed(ctx context.Context, ask link.Ask, cause error) error {
	r.broker.emit(Event{TEE: r.tee.Name, Session: ask.Session, Kind: EventFailed, URI: ask.TAMURI, Err: cause})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), errorTimeout)
	defer cancel()
	if err := r.tee.Agent.ProcessError(ctx, ask.Session, ask.TAMURI, cause.Error()); err != nil {
		return errors.Join(cause, r.broker.agentFailed(r.tee, ask.Session, err))
	}
	return cause
}

func (r *relay) event(session uint64, e Event) {
	e.TEE, e.Session = r.tee.Name, session
	r.broker.emit(e)
	r.fetched += int64(e.Bytes)
	if r.progress != nil && e.Err == nil {
		r.progress(Progress{TEE: e.TEE, Kind: e.Kind, URI: e.URI, Bytes: r.fetched})
	}
}

// bring gets the agent what it asks for beside messages.
func (r *relay) bring(ctx context.Context, ask link.Ask) (link.Ask, error) {
	if ask.Appraisal != nil {
		return r.appraise(ctx, ask)
	}
	return r.fetch(ctx, ask)
}

// fetch brings the agent the piece of a payload that it asks for, or the reason why there is none,
// which is no end of the session: the agent may know another source.
func (r *relay) fetch(ctx context.Context, ask link.Ask) (link.Ask, error) {
	f := *ask.Fetch
	if r.pieces++; r.pieces > r.broker.options.MaxPieces {
		err := fmt.Errorf("%w: more than %d pieces of payload", ErrTooLong, r.broker.options.MaxPieces)
		return link.Ask{}, r.failed(ctx, ask, err)
	}
	chunk := link.Chunk{Session: ask.Session, FetchID: f.ID, Offset: f.Offset}
	data, last, err := r.payload.read(ctx, r.open, f)
	switch {
	case err != nil && ctx.Err() != nil:
		return link.Ask{}, r.failed(ctx, ask, ctx.Err())
	case err != nil:
		r.event(ask.Session, Event{Kind: EventNoPayload, URI: f.URI, Offset: f.Offset, Err: err})
		chunk.Err = err.Error()
	default:
		r.event(ask.Session, Event{Kind: EventFetch, URI: f.URI, Offset: f.Offset, Bytes: len(data)})
		chunk.Data, chunk.Last = data, last
	}
	next, err := r.tee.Agent.Deliver(ctx, chunk)
	if err != nil {
		return link.Ask{}, r.broker.agentFailed(r.tee, ask.Session, err)
	}
	return next, nil
}

// open opens what the app brought, or else what a manifest names.
func (r *relay) open(ctx context.Context, uri string, offset int64) (io.ReadCloser, error) {
	if uri != link.BinaryURI {
		return r.broker.openPayload(ctx, uri, offset)
	}
	if r.binary == nil || offset > int64(len(r.binary)) {
		return nil, fmt.Errorf("%w: the app brought no binary of so many bytes", ErrFetchURI)
	}
	return io.NopCloser(bytes.NewReader(r.binary[offset:])), nil
}

// openPayload is the stream that the agent's next piece probably comes from: pieces are asked for in
// order, and a request for each would cost a round trip for each.
type openPayload struct {
	uri    string
	offset int64
	stream io.ReadCloser
	reader *bufio.Reader
}

type opener func(ctx context.Context, uri string, offset int64) (io.ReadCloser, error)

// read reads at most f.Length bytes from f.Offset, and tells whether they reach the end. A stream
// that breaks after some bytes gives those; the next call finds out whether it can be taken up.
func (p *openPayload) read(ctx context.Context, open opener, f link.Fetch) (data []byte, last bool, err error) {
	if p.stream == nil || p.uri != f.URI || p.offset != f.Offset {
		p.close()
		stream, err := open(ctx, f.URI, f.Offset)
		if err != nil {
			return nil, false, err
		}
		*p = openPayload{uri: f.URI, offset: f.Offset, stream: stream, reader: bufio.NewReaderSize(stream, 64<<10)}
	}
	data = make([]byte, min(f.Length, link.MaxChunk))
	n, err := io.ReadFull(p.reader, data)
	data = data[:n]
	p.offset += int64(n)
	if err == nil {
		// Whether these bytes were the last ones shows only behind them.
		_, err = p.reader.Peek(1)
	}
	switch {
	case err == nil:
		return data, false, nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && endedCleanly(p.reader):
		p.close()
		return data, true, nil
	}
	p.close()
	if n > 0 {
		return data, false, nil
	}
	return nil, false, err
}

// endedCleanly tells the end of a stream, which io.ReadFull calls unexpected, from a stream that
// itself reports an unexpected end: the latter repeats it.
func endedCleanly(r *bufio.Reader) bool {
	_, err := r.Peek(1)
	return errors.Is(err, io.EOF)
}

func (p *openPayload) close() {
	if p.stream != nil {
		p.stream.Close() //nolint:errcheck // was only read
	}
	*p = openPayload{}
}

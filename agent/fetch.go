package agent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/link"
)

// fetchReader reads a payload chunk by chunk through an exchange. Memory use is one chunk.
type fetchReader struct {
	ctx context.Context
	run *run
	// next is what is asked for next; its ID stays the same for the whole payload.
	next    link.Fetch
	rest    []byte
	last    bool
	breaks  int
	retries int
	failure error
}

// Read implements io.Reader. A fetch that breaks is taken up again where it broke, a few times
// without progress; after that the manifest may know another source.
func (r *fetchReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		switch {
		case r.failure != nil:
			return 0, r.failure
		case r.last:
			return 0, io.EOF
		}
		r.failure = r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *fetchReader) fill() error {
	for {
		want := r.next
		chunk, err := r.run.exchange.fetch(r.ctx, link.Ask{Fetch: &want})
		if err != nil {
			return err
		}
		if chunk.Err == "" {
			r.rest, r.last, r.breaks = chunk.Data, chunk.Last, 0
			r.next.Offset += int64(len(chunk.Data))
			return nil
		}
		// The reason is the broker's text: it goes to the log and not to the TAM.
		r.run.agent.log.Warn("fetch broke off", "uri", r.next.URI, "offset", r.next.Offset, "reason", brief(chunk.Err))
		if r.breaks++; r.breaks > r.retries {
			return fmt.Errorf("%w from %q at byte %d", errUnreachable, r.next.URI, r.next.Offset)
		}
	}
}

// Close implements io.Closer. There is nothing to give back: the broker keeps no state either.
func (r *fetchReader) Close() error {
	r.failure = errors.New("agent: read of a closed fetch")
	return nil
}

var errUnreachable = errors.New("payload could not be fetched")

// brief cuts a text from outside for the log.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

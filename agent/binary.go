package agent

import (
	"context"
	"fmt"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
)

// broughtBinary is a Trusted Component binary that an app brings along with its request (RFC 9397 §4.4.1), while
// it comes in. When it is here, the TAM is told that it need not send it (have-binary, TEEP §4.3).
// Nothing is believed of it: it becomes the component only if a manifest names its digest.
// Agent.mu guards it.
type broughtBinary struct {
	session uint64
	want    state.Request
	fetch   link.Fetch
	writer  tee.BlobWriter
}

// askForBinary begins to take a binary in; where that is not possible now, next is what remains to do.
// Of several, the newest counts.
func (a *Agent) askForBinary(next link.Ask, want state.Request) link.Ask {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.run != nil || a.record.Pending != nil {
		return next // blobs that nothing names yet are the Update's
	}
	a.dropBinaryLocked()
	w, err := a.store.CreateBlob()
	if err != nil {
		a.log.Warn("the app's binary is not taken in", "component", want.ID.String(), "error", err)
		return next
	}
	f := link.Fetch{URI: link.BinaryURI, Length: min(a.cfg.Limits.Chunk, link.MaxChunk)}
	a.binary = &broughtBinary{session: next.Session, want: want, fetch: f, writer: w}
	return link.Ask{Session: next.Session, Fetch: &f}
}

// dropBinaryLocked ends what is coming in. Whoever brings the rest is refused.
func (a *Agent) dropBinaryLocked() {
	if a.binary == nil {
		return
	}
	if err := a.binary.writer.Abort(); err != nil {
		a.log.Warn("an app's unfinished binary is not removed yet", "error", err)
	}
	a.binary = nil
}

// deliverBinary takes a chunk. Whatever goes wrong, the request goes on without the binary; only a
// chunk that was not asked for is an error.
func (a *Agent) deliverBinary(ctx context.Context, c link.Chunk) (link.Ask, error) {
	a.mu.Lock()
	ask, done, err := a.chunkOfBinaryLocked(c)
	tam, trusted := a.anchors.TAM(a.sessionTAMLocked(c.Session))
	a.mu.Unlock()
	if err != nil || !done || !trusted {
		return ask, err
	}
	return a.unsolicited(ctx, ask, tam)
}

func (a *Agent) sessionTAMLocked(id uint64) string {
	if s, ok := a.sessions[id]; ok {
		return s.tam
	}
	return ""
}

func (a *Agent) chunkOfBinaryLocked(c link.Chunk) (next link.Ask, done bool, err error) {
	b, s := a.binary, a.sessions[c.Session]
	switch {
	case b == nil, s == nil, b.session != c.Session:
		return link.Ask{}, false, fmt.Errorf("%w: the binary is not wanted any longer", ErrFetch)
	case c.FetchID != b.fetch.ID, c.Err == "" && c.Offset != b.fetch.Offset, int64(len(c.Data)) > b.fetch.Length,
		c.Err == "" && len(c.Data) == 0 && !c.Last:
		return link.Ask{}, false, fmt.Errorf("%w: at most %d bytes of the binary from offset %d were wanted", ErrFetch, b.fetch.Length, b.fetch.Offset)
	case c.Err != "":
		err = fmt.Errorf("the broker does not have it: %s", brief(c.Err))
	case b.fetch.Offset+int64(len(c.Data)) > a.cfg.Limits.Binary:
		err = fmt.Errorf("%w: more than %d bytes", ErrLimit, a.cfg.Limits.Binary)
	default:
		_, err = b.writer.Write(c.Data)
	}
	if err == nil && !c.Last {
		b.fetch.Offset += int64(len(c.Data))
		f := b.fetch
		return link.Ask{Session: b.session, Fetch: &f}, false, nil
	}
	if err == nil {
		err = a.keepBinaryLocked(b)
	}
	if err != nil {
		a.log.Warn("the app's binary is not taken in", "component", b.want.ID.String(), "error", err)
	}
	a.dropBinaryLocked() // of a finished one, nothing is left to drop
	return link.Ask{Session: b.session, TAMURI: s.uri}, true, nil
}

// keepBinaryLocked makes the binary part of the request that it came with, if that still stands.
func (a *Agent) keepBinaryLocked(b *broughtBinary) error {
	sum, size, err := b.writer.Commit()
	if err != nil {
		return err
	}
	return a.changeLocked(func(next *state.Record) error {
		q, ok := next.Requested[b.want.ID.Key()]
		if !ok || q.TAM != b.want.TAM || q.MinSequence != b.want.MinSequence {
			return fmt.Errorf("component %s is not requested any longer", b.want.ID)
		}
		q.Binary = &state.Content{SHA256: sum, Size: size}
		next.Requested[b.want.ID.Key()] = q
		return nil
	})
}

// forgetBinaries drops the binaries of a TAM's requests, after an Update failed that may have relied on one:
// the next time the TAM is asked for everything.
func forgetBinaries(next *state.Record, tam string) {
	for key, q := range next.Requested {
		if q.TAM == tam && q.Binary != nil {
			q.Binary = nil
			next.Requested[key] = q
		}
	}
}

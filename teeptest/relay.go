package teeptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/link"
)

// Faults are the probabilities, 0 to 1, with which a [Relay] harms a message. Each is drawn for
// each message in each direction.
type Faults struct {
	// Drop loses it; the sender learns that much.
	Drop float64
	// Duplicate delivers it twice, and one of the answers.
	Duplicate float64
	// Delay keeps it back, so that it looks lost, and delivers it before a later one; Reorder
	// delivers it after the next one. Nobody gets the answers.
	Delay, Reorder float64
	// Replay delivers an old message before it, and an old answer instead of its own.
	Replay float64
	// Truncate cuts it off somewhere, FlipBit turns one of its bits.
	Truncate, FlipBit float64
}

// ErrLost is what a relay returns for messages that it lost.
var ErrLost = errors.New("teeptest: the relay lost the message")

// Relay is what lies between brokers and the world: a broker.Poster and broker.Fetcher that passes
// everything on, and does so badly when told to. Safe for concurrent use.
type Relay struct {
	poster  broker.Poster
	fetcher broker.Fetcher

	mu      sync.Mutex
	rand    *rand.Rand
	faults  Faults
	held    []post // to be delivered before a later message
	after   []post // to be delivered after the next message
	sent    []post
	replies [][]byte
	log     []string
}

type post struct {
	uri  string
	body []byte
}

const (
	maxHistory = 64
	maxLog     = 1000
)

func newRelay(p broker.Poster, f broker.Fetcher, seed uint64) *Relay {
	return &Relay{poster: p, fetcher: f, rand: rand.New(rand.NewPCG(seed, 1))}
}

// NewRelay makes a relay in front of other clients than those of a [World]. f may be nil if nothing
// is fetched through it.
func NewRelay(p broker.Poster, f broker.Fetcher, seed uint64) *Relay { return newRelay(p, f, seed) }

// SetFaults says what the relay does from now on. The zero value makes it honest; messages that it
// keeps back are then lost.
func (r *Relay) SetFaults(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = f
	if f == (Faults{}) {
		r.held, r.after = nil, nil
	}
}

// Log tells what the relay did that it should not have, oldest first.
func (r *Relay) Log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *Relay) note(format string, args ...any) {
	if len(r.log) == maxLog {
		r.log = r.log[1:]
	}
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *Relay) draw(probability float64) bool {
	return probability > 0 && r.rand.Float64() < probability
}

// plan is what happens to one request.
type plan struct {
	body          []byte
	before, after []post
	lost          bool
	twice, second bool
}

func (r *Relay) planRequest(uri string, body []byte) plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := plan{body: r.damage("request", body)}
	if n := len(r.held); n > 0 && r.draw(0.5) {
		p.before, r.held = append(p.before, r.held[0]), r.held[1:]
	}
	p.after, r.after = r.after, nil
	if len(r.sent) > 0 && r.draw(r.faults.Replay) {
		p.before = append(p.before, r.sent[r.rand.IntN(len(r.sent))])
		r.note("replayed an old request")
	}
	switch {
	case r.draw(r.faults.Drop):
		r.note("lost a request of %d bytes", len(body))
		p.lost = true
	case r.draw(r.faults.Delay):
		r.note("kept back a request of %d bytes", len(body))
		r.held, p.lost = append(r.held, post{uri, body}), true
	case r.draw(r.faults.Reorder):
		r.note("swapped a request of %d bytes with the next one", len(body))
		r.after, p.lost = append(r.after, post{uri, body}), true
	case r.draw(r.faults.Duplicate):
		r.note("doubled a request of %d bytes", len(body))
		p.twice, p.second = true, r.draw(0.5)
	}
	if len(body) > 0 {
		r.sent = remember(r.sent, post{uri, body})
	}
	return p
}

func remember[T any](history []T, v T) []T {
	if len(history) == maxHistory {
		history = history[1:]
	}
	return append(history, v)
}

// damage returns a copy that is cut or has a bit turned, or the bytes as they are.
func (r *Relay) damage(what string, b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	if r.draw(r.faults.Truncate) {
		n := r.rand.IntN(len(b))
		r.note("cut a %s of %d bytes to %d", what, len(b), n)
		b = b[:n]
	}
	if len(b) > 0 && r.draw(r.faults.FlipBit) {
		b = bytes.Clone(b)
		bit := r.rand.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
		r.note("turned bit %d of a %s of %d bytes", bit, what, len(b))
	}
	return b
}

// Post implements broker.Poster.
func (r *Relay) Post(ctx context.Context, uri string, body []byte) ([]byte, error) {
	p := r.planRequest(uri, body)
	r.deliver(ctx, p.before)
	defer r.deliver(ctx, p.after)
	if p.lost {
		return nil, ErrLost
	}
	reply, err := r.poster.Post(ctx, uri, p.body)
	if p.twice {
		again, errAgain := r.poster.Post(ctx, uri, p.body)
		if p.second {
			reply, err = again, errAgain
		}
	}
	if err != nil {
		return nil, err
	}
	return r.planReply(reply)
}

func (r *Relay) deliver(ctx context.Context, late []post) {
	for _, p := range late {
		if reply, err := r.poster.Post(ctx, p.uri, p.body); err == nil && len(reply) > 0 {
			r.mu.Lock()
			r.replies = remember(r.replies, reply)
			r.mu.Unlock()
		}
	}
}

func (r *Relay) planReply(reply []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.replies
	if len(reply) > 0 {
		r.replies = remember(r.replies, reply)
	}
	switch {
	case r.draw(r.faults.Drop):
		r.note("lost an answer of %d bytes", len(reply))
		return nil, ErrLost
	case len(old) > 0 && r.draw(r.faults.Replay):
		r.note("put an old answer in the place of one of %d bytes", len(reply))
		return old[r.rand.IntN(len(old))], nil
	}
	return r.damage("answer", reply), nil
}

// Open implements broker.Fetcher.
func (r *Relay) Open(ctx context.Context, uri string, offset int64) (io.ReadCloser, error) {
	r.mu.Lock()
	lost, cut, turned := r.draw(r.faults.Drop), r.draw(r.faults.Truncate), r.draw(r.faults.FlipBit)
	at := r.rand.Int64N(256)
	if lost || cut || turned {
		r.note("payload at %d: lost %v, cut %v, turned %v, %d bytes on", offset, lost, cut, turned, at)
	}
	r.mu.Unlock()
	if lost {
		return nil, ErrLost
	}
	stream, err := r.fetcher.Open(ctx, uri, offset)
	if err != nil {
		return nil, err
	}
	b := &badStream{Reader: stream, Closer: stream, turn: -1}
	if cut {
		b.Reader = io.LimitReader(stream, at)
	}
	if turned {
		b.turn = at
	}
	return b, nil
}

// badStream turns a bit of the byte at turn, if that is not negative.
type badStream struct {
	io.Reader
	io.Closer
	turn int64
}

func (b *badStream) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.turn >= 0 && b.turn < int64(n) {
		p[b.turn] ^= 1
	}
	b.turn -= int64(n)
	return n, err
}

// Agent puts the relay between a broker and its agent too: it then passes messages of the TAM in
// twice, and old ones before new ones, as Duplicate and Replay say.
func (r *Relay) Agent(a link.Agent) link.Agent { return &badBroker{a, r} }

type badBroker struct {
	link.Agent
	relay *Relay
}

func (b *badBroker) ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (link.Ask, error) {
	r := b.relay
	r.mu.Lock()
	twice := r.draw(r.faults.Duplicate)
	var old []byte
	if len(r.replies) > 0 && r.draw(r.faults.Replay) {
		old = r.replies[r.rand.IntN(len(r.replies))]
		r.note("passed an old message to the agent")
	}
	if twice {
		r.note("passed a message to the agent twice")
	}
	r.mu.Unlock()
	if old != nil {
		b.Agent.ProcessTeepMessage(ctx, session, old) //nolint:errcheck // whatever it says is lost
	}
	ask, err := b.Agent.ProcessTeepMessage(ctx, session, message)
	if twice {
		return b.Agent.ProcessTeepMessage(ctx, session, message)
	}
	return ask, err
}

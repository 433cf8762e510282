package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/link/frame"
)

const (
	// closeTimeout bounds the closing of sessions that an app left open.
	closeTimeout = 10 * time.Second
	// busyTimeout is how long a connection that is turned away may take to hear so, and
	// maxTurnedAway how many are told at a time; beyond that they are closed.
	busyTimeout   = 2 * time.Second
	maxTurnedAway = 16
)

func (o *ServeOptions) complete() {
	if o.MaxConns == 0 {
		o.MaxConns = 64
	}
	if o.MaxConnsPerUser == 0 {
		o.MaxConnsPerUser = max(1, o.MaxConns/4)
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 16
	}
	if o.MaxCalls == 0 {
		o.MaxCalls = 16
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 10 * time.Minute
	}
}

// ServeListener serves every connection of ln until ctx ends or ln fails. It closes ln, and returns
// after every connection was served to its end: nil when ctx ended.
func ServeListener(ctx context.Context, ln net.Listener, b Backend, o ServeOptions) error {
	o.complete()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ln.Close() }) //nolint:errcheck // ends Accept below
	defer stop()
	l := &listener{backend: b, options: o, perUser: make(map[string]int)}
	defer l.conns.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close() //nolint:errcheck // came too late
			}
			return nil
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) && temporary.Temporary() {
			o.report(err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		l.accept(ctx, conn)
	}
}

// listener counts the connections.
type listener struct {
	backend Backend
	options ServeOptions
	conns   sync.WaitGroup

	mu         sync.Mutex
	all        int
	perUser    map[string]int
	turnedAway int
}

func (l *listener) accept(ctx context.Context, conn net.Conn) {
	peer, err := peerOf(conn)
	if l.options.Authorize != nil {
		if err == nil {
			err = l.options.Authorize(peer)
		}
		if err != nil {
			conn.Close() //nolint:errcheck // is refused
			l.options.report(err)
			return
		}
	}
	owner := ""
	if err == nil {
		owner = fmt.Sprintf("uid %d/", peer.UID)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all < l.options.MaxConns && l.perUser[owner] < l.options.MaxConnsPerUser:
		l.all++
		l.perUser[owner]++
		l.start(func() { l.all--; l.leave(owner) }, func() error { return serve(ctx, conn, l.backend, l.options, owner) })
	case l.turnedAway < maxTurnedAway:
		l.turnedAway++
		l.start(func() { l.turnedAway-- }, func() error { return turnAway(ctx, conn) })
	default:
		conn.Close() //nolint:errcheck // over every limit
	}
}

// start serves a connection on a goroutine of its own; end is called under the lock afterwards.
func (l *listener) start(end func(), serve func() error) {
	l.conns.Add(1)
	go func() {
		defer l.conns.Done()
		if err := serve(); err != nil && !errors.Is(err, context.Canceled) {
			l.options.report(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		end()
	}()
}

func (l *listener) leave(owner string) {
	if l.perUser[owner]--; l.perUser[owner] == 0 {
		delete(l.perUser, owner)
	}
}

// errTooMany is reported when a connection is turned away.
var errTooMany = errors.New("app: too many connections; one was turned away")

// turnAway answers what comes with link.ErrBusy, for a moment.
func turnAway(ctx context.Context, conn io.ReadWriteCloser) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	busy := func(context.Context, uint64, cbor.RawMessage, func(any) error) (any, error) {
		return nil, asFailure(link.ErrBusy)
	}
	frame.Serve(ctx, conn, busy, frame.ServeOptions{MaxFrame: 64 << 10}) //nolint:errcheck // see below
	return errTooMany
}

// Serve serves one connection, which it owns, until it or ctx ends, and closes the sessions that the
// app left open. It does not ask [ServeOptions.Authorize].
func Serve(ctx context.Context, conn io.ReadWriteCloser, b Backend, o ServeOptions) error {
	o.complete()
	return serve(ctx, conn, b, o, "")
}

// errIdle ends a connection that nobody uses.
var errIdle = errors.New("app: connection was idle for too long")

func serve(ctx context.Context, conn io.ReadWriteCloser, b Backend, o ServeOptions, owner string) error {
	s := &server{backend: b, options: o, owner: owner, sessions: make(map[uint64]bool), used: time.Now()}
	inner, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Add(1)
	go func() {
		defer watching.Done()
		s.watch(inner, cancel)
	}()
	err := frame.Serve(inner, conn, s.handle, frame.ServeOptions{MaxFrame: MaxFrame, MaxCalls: o.MaxCalls})
	cancel(nil)
	watching.Wait()
	s.closeAll(context.WithoutCancel(ctx))
	return err
}

// watch ends the connection when nobody uses it.
func (s *server) watch(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(max(s.options.IdleTimeout/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			idle := s.calls+len(s.sessions)+s.opening == 0 && now.Sub(s.used) >= s.options.IdleTimeout
			s.mu.Unlock()
			if idle {
				end(errIdle)
				return
			}
		}
	}
}

// begin counts calls under way.
func (s *server) begin(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls += n
	s.used = time.Now()
}

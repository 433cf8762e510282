package processor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/suit"
)

// errUnavailable marks a source that could not be reached or broke off for good.
var errUnavailable = errors.New("payload is not available")

// fetch obtains a payload, or the envelope of a dependency (SUIT §8.4.10.4).
func (r *run) fetch(k *call) (m suit.Parameters, err error) {
	if k.c.dependency {
		err := r.soften(r.fetchDependency(k))
		if e := r.incoming[k.c.key()]; e != nil && err == nil {
			m.SetDigest(e.Digest)
		}
		return m, err
	}
	if err := r.alter(k, k.c); err != nil {
		return m, err
	}
	if done, err := r.adopt(k); done || err != nil {
		r.measured(k, &m)
		return m, err
	}
	src, err := r.open(k)
	if err != nil {
		return m, r.soften(err)
	}
	defer func() { _ = src.Close() }()
	// Only copy and write look beyond the component itself: what a dependent says of the key is
	// for the payload, which may be fetched as it is and decrypted by a copy.
	info, _ := k.args.EncryptionInfo()
	if _, err := r.store(k, src, info); err != nil {
		return m, r.soften(err)
	}
	r.measured(k, &m)
	return m, nil
}

// soften lets try-each go on to the next mirror when the source is what failed: it cannot be reached,
// or has something of another size. Nothing was stored then.
func (r *run) soften(err error) error {
	source := errors.Is(err, errUnavailable) || errors.Is(err, errSize)
	if !source {
		return err
	}
	if cause := r.ctx.Err(); cause != nil {
		return fmt.Errorf("stopped: %w", cause)
	}
	f := *asFailure(err)
	f.soft = true
	return &f
}

// measured says in a record what was stored.
func (r *run) measured(k *call, m *suit.Parameters) {
	if o := r.origin.get(k.c.id); o != nil && o.size >= 0 {
		m.SetSize(uint64(o.size))
	}
}

// adopt takes content that the device has already, by its digest, instead of fetching it
// (SUIT §8.4.10.4).
func (r *run) adopt(k *call) (bool, error) {
	want, ok := k.args.Digest()
	if !ok {
		return false, nil
	}
	err := r.tx.Adopt(k.c.id, want)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("adopt: %w", err)
	}
	// The device has it under this name; whether it is still what the name says, reading it tells.
	// Damaged content is fetched anew, and must not be committed if that fails.
	r.origin.set(k.c.id, &origin{bad: true, size: -1})
	have, size, err := r.digest(k.c.id, want)
	if cause := r.ctx.Err(); cause != nil {
		return false, fmt.Errorf("stopped: %w", cause)
	}
	if err != nil || !have.Equal(want) {
		return false, nil
	}
	if say, ok := k.args.Size(); ok && say != uint64(size) {
		return false, fmt.Errorf("content %s has %d bytes, image-size says %d", want, size, say)
	}
	o := &origin{trusted: true, size: size}
	o.remember(want.Algorithm, have.Bytes)
	r.origin.set(k.c.id, o)
	return true, nil
}

// open finds the payload: in the envelope of the manifest, or of one of its dependents, or
// outside. What is in an envelope is named by its key, which may be any URI (SUIT §7.5).
func (r *run) open(k *call) (io.ReadCloser, error) {
	uri, ok := k.args.URI()
	if !ok {
		return nil, fail(suit.ReasonOperationFailed, "parameter %s is not set", suit.ParamURI)
	}
	for n := k.n; n != nil; n = n.parent {
		if n.envelope == nil {
			continue
		}
		if content, ok := n.envelope.Integrated[uri]; ok {
			return held{bytes.NewReader(content)}, nil
		}
	}
	if uri == "" || uri[0] == '#' {
		return nil, fmt.Errorf("%w: the envelope has no integrated payload %q", errUnavailable, uri)
	}
	args, _ := k.args.FetchArguments()
	s := &resumable{ctx: r.ctx, platform: r.p.cfg.Platform, uri: uri, args: args, retry: r.p.cfg.Retry}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// resumable is a payload from outside that is taken up again where it broke off.
type resumable struct {
	ctx      context.Context
	platform Platform
	uri      string
	args     []byte
	retry    Retry
	attempt  int
	offset   int64
	body     io.ReadCloser
	broke    error // what the last read returned together with data
}

// held is content in memory.
type held struct{ *bytes.Reader }

func (held) Close() error { return nil }

// connect opens the source at the offset, as often as the policy permits.
func (s *resumable) connect() error {
	for {
		body, err := s.platform.Fetch(s.ctx, s.uri, s.args, s.offset)
		if err == nil {
			s.body = body
			return nil
		}
		if err := s.again(err); err != nil {
			return err
		}
	}
}

// again decides whether a failure is the last one.
func (s *resumable) again(cause error) error {
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("fetch %q: %w", s.uri, err)
	}
	if s.attempt >= s.retry.Attempts || errors.Is(cause, ErrNotExist) {
		return fmt.Errorf("%w: fetch %q, %d bytes in: %w", errUnavailable, s.uri, s.offset, cause)
	}
	s.attempt++
	if s.retry.Wait == nil {
		return nil
	}
	if err := s.retry.Wait(s.ctx, s.attempt); err != nil {
		return fmt.Errorf("fetch %q: waiting to try again: %w", s.uri, err)
	}
	return nil
}

// Read implements io.Reader.
func (s *resumable) Read(b []byte) (int, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, fmt.Errorf("fetch %q: %w", s.uri, err)
		}
		n, err := 0, s.broke
		if err == nil {
			n, err = s.body.Read(b)
			s.offset += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, io.EOF
		case n > 0 || err == nil:
			s.broke = err
			return n, nil
		}
		if err := s.again(err); err != nil {
			return 0, err
		}
		_ = s.body.Close()
		if err := s.connect(); err != nil {
			return 0, err
		}
		s.broke = nil
	}
}

// Close implements io.Closer.
func (s *resumable) Close() error { return s.body.Close() }

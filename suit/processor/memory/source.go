package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrBroken is what a source yields where its connection breaks.
var ErrBroken = errors.New("memory: connection broke")

// Source is what the device finds behind a URI.
type Source struct {
	Content []byte
	// BreakAfter ends each of the first Breaks connections after so many bytes.
	BreakAfter, Breaks int
	// Refuse makes every connection fail.
	Refuse error
}

// Fetch is one connection that the processor opened.
type Fetch struct {
	URI    string
	Args   []byte
	Offset int64
}

// Serve puts content behind a URI.
func (p *Platform) Serve(uri string, content []byte) { p.ServeSource(uri, &Source{Content: content}) }

// ServeSource puts a source, which may misbehave, behind a URI.
func (p *Platform) ServeSource(uri string, s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources[uri] = s
}

// Fetches lists the connections that were opened, in order.
func (p *Platform) Fetches() []Fetch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Fetch(nil), p.fetches...)
}

// Fetch implements [processor.Platform].
func (p *Platform) Fetch(ctx context.Context, uri string, args []byte, offset int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.crashed {
		return nil, ErrCrashed
	}
	p.fetches = append(p.fetches, Fetch{URI: uri, Args: bytes.Clone(args), Offset: offset})
	s, ok := p.sources[uri]
	switch {
	case !ok:
		return nil, fmt.Errorf("memory: nothing is served at %q", uri)
	case s.Refuse != nil:
		return nil, s.Refuse
	case offset < 0 || offset > int64(len(s.Content)):
		return nil, fmt.Errorf("memory: offset %d is beyond the content of %q", offset, uri)
	}
	rest := s.Content[offset:]
	if s.Breaks > 0 && s.BreakAfter < len(rest) {
		s.Breaks--
		return io.NopCloser(io.MultiReader(bytes.NewReader(rest[:s.BreakAfter]), broken{})), nil
	}
	return io.NopCloser(bytes.NewReader(rest)), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, ErrBroken }

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Open starts to fetch a payload from an offset in bytes and returns it as a stream to its end. A
// stream that breaks off is taken up where it broke, as the retry policy says, provided that the
// payload is still the same one; [ErrChanged] otherwise. An offset at the very end is an empty
// stream, one beyond it [ErrRange].
//
// The stream ends with ctx. Close it. It is for one goroutine.
func (c *Client) Open(ctx context.Context, uri string, offset int64) (io.ReadCloser, error) {
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("%w: negative", ErrRange)
	}
	p := &payload{client: c, ctx: ctx, uri: uri, offset: offset}
	if err := p.reopen(); err != nil {
		return nil, err
	}
	return p, nil
}

// Fetch fetches at most length bytes of a payload from an offset, and tells whether they reach its
// end. For more than a piece or two, [Client.Open] is cheaper.
func (c *Client) Fetch(ctx context.Context, uri string, offset, length int64) (data []byte, last bool, err error) {
	stream, err := c.Open(ctx, uri, offset)
	if err != nil {
		return nil, false, err
	}
	defer stream.Close() //nolint:errcheck // what was wanted was read
	data, err = io.ReadAll(io.LimitReader(stream, length))
	if err != nil {
		return nil, false, err
	}
	n, err := io.ReadFull(stream, make([]byte, 1))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	return data, n == 0, nil
}

// payload is a fetch under way.
type payload struct {
	client *Client
	ctx    context.Context // of Open: a stream is one operation
	uri    string

	offset   int64  // of the next byte to deliver
	total    int64  // size of the payload, -1 if unknown
	etag     string // strong validator of what is being fetched
	modified string
	started  bool
	failures int // since bytes came last

	body   io.ReadCloser
	cancel context.CancelFunc
	idle   *time.Timer
	slow   *atomic.Bool
}

// reopen requests the payload from p.offset, again and again as the policy allows.
func (p *payload) reopen() error {
	o := p.client.options
	return o.Retry.do(p.ctx, o.Random, o.Sleep, p.request)
}

func (p *payload) request() error {
	ctx, cancel := context.WithCancel(p.ctx)
	slow := new(atomic.Bool)
	idle := time.AfterFunc(p.client.options.IdleTimeout, func() {
		slow.Store(true)
		cancel()
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.uri, nil)
	if err != nil {
		idle.Stop()
		cancel()
		return fmt.Errorf("%w: %w", ErrURI, err)
	}
	request.Header.Set("User-Agent", p.client.options.UserAgent)
	request.Header.Set("Accept-Encoding", "identity")
	if p.offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.offset))
		if p.etag != "" {
			request.Header.Set("If-Range", p.etag)
		}
	}
	response, err := p.client.fetches.Do(request)
	if err != nil {
		idle.Stop()
		cancel()
		return unreachable(p.ctx, err)
	}
	p.body, p.cancel, p.idle, p.slow = response.Body, cancel, idle, slow
	if err := p.accept(response); err != nil {
		p.stop()
		return err
	}
	return nil
}

// accept brings the response's body to p.offset.
func (p *payload) accept(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(response.Header.Get("Content-Range"))
		if !ok || start != p.offset {
			return fmt.Errorf("%w: the server sent another range than %d-", ErrUnreachable, p.offset)
		}
		return p.identify(response, total)
	case http.StatusOK:
		// The server knows no ranges, or the payload is not the one that If-Range named.
		if err := p.identify(response, response.ContentLength); err != nil {
			return err
		}
		if n, err := io.CopyN(io.Discard, p.body, p.offset); err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: it ends at %d", ErrRange, n)
			}
			return unreachable(p.ctx, err)
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		_, total, ok := parseContentRange(response.Header.Get("Content-Range"))
		if !ok || total < 0 {
			return newStatusError(response, p.client.options.Now())
		}
		if total != p.offset {
			return fmt.Errorf("%w: it ends at %d", ErrRange, total)
		}
		p.body.Close() //nolint:errcheck // an error page
		p.body = http.NoBody
		return p.identify(response, total)
	default:
		return newStatusError(response, p.client.options.Now())
	}
}

// identify remembers which payload this is, and later that it still is the same.
func (p *payload) identify(response *http.Response, total int64) error {
	etag := response.Header.Get("ETag")
	if strings.HasPrefix(etag, "W/") {
		etag = "" // a weak validator says nothing about bytes (RFC 9110 §8.8.1)
	}
	modified := response.Header.Get("Last-Modified")
	if !p.started {
		p.started, p.total, p.etag, p.modified = true, total, etag, modified
		return nil
	}
	if p.total >= 0 && total >= 0 && p.total != total {
		return ErrChanged
	}
	if response.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil // error responses need not carry validators
	}
	if p.etag != etag || p.etag == "" && p.modified != modified {
		return ErrChanged
	}
	return nil
}

// parseContentRange reads "bytes 0-9/10", "bytes 0-9/*" and "bytes */10"; -1 stands for the star.
func parseContentRange(s string) (start, total int64, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, size, found := strings.Cut(rest, "/")
	if unit != "bytes" || !found {
		return 0, 0, false
	}
	start, total = -1, -1
	var err error
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil || total < 0 {
			return 0, 0, false
		}
	}
	if span != "*" {
		from, _, found := strings.Cut(span, "-")
		if start, err = strconv.ParseInt(from, 10, 64); err != nil || start < 0 || !found {
			return 0, 0, false
		}
	}
	return start, total, true
}

// Read implements io.Reader. A break is mended before it is reported.
func (p *payload) Read(b []byte) (int, error) {
	for {
		if p.body == nil {
			return 0, fmt.Errorf("%w: the payload is closed", ErrUnreachable)
		}
		p.idle.Reset(p.client.options.IdleTimeout)
		n, err := p.body.Read(b)
		p.idle.Stop() // it measures the server, not the reader
		p.offset += int64(n)
		if n > 0 {
			p.failures = 0
			return n, nil // an error, if there was one, comes again
		}
		if err == nil {
			return 0, nil
		}
		if errors.Is(err, io.EOF) && (p.total < 0 || p.offset >= p.total) {
			return 0, io.EOF
		}
		if err := p.mend(err); err != nil {
			return 0, err
		}
	}
}

// mend takes a broken stream up again where it broke.
func (p *payload) mend(broken error) error {
	if p.slow.Load() {
		broken = fmt.Errorf("no bytes for %v", p.client.options.IdleTimeout)
	}
	p.stop()
	p.failures++
	o := p.client.options
	if p.ctx.Err() != nil || p.failures >= max(o.Retry.Attempts, 1) {
		return fmt.Errorf("%w: the payload broke off at byte %d: %w", ErrUnreachable, p.offset, broken)
	}
	if err := o.Sleep(p.ctx, o.Retry.delay(p.failures, o.Random())); err != nil {
		return fmt.Errorf("%w: the payload broke off at byte %d: %w", ErrUnreachable, p.offset, err)
	}
	return p.reopen()
}

func (p *payload) stop() {
	if p.body == nil {
		return
	}
	p.idle.Stop()
	p.cancel()
	p.body.Close() //nolint:errcheck // the request is cancelled
	p.body = nil
}

// Close ends the fetch.
func (p *payload) Close() error {
	p.stop()
	return nil
}

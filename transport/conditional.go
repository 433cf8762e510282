package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Download is a resource as it was found, and what tells whether it is another one later.
type Download struct {
	Data []byte
	// ETag and LastModified are the server's validators; empty where it gives none.
	ETag, LastModified string
}

// Changed fetches a small resource if it is another one than it was before (RFC 9110 §13); nil if it is
// not. limit bounds it in bytes. Faults of the transport are repeated as the policy says, and redirects
// are followed as for payloads.
func (c *Client) Changed(ctx context.Context, uri string, before Download, limit int64) (*Download, error) {
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	var found *Download
	o := c.options
	err := o.Retry.do(ctx, o.Random, o.Sleep, func() (err error) {
		found, err = c.changed(ctx, uri, before, limit)
		return err
	})
	return found, err
}

func (c *Client) changed(ctx context.Context, uri string, before Download, limit int64) (*Download, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURI, err)
	}
	request.Header.Set("User-Agent", c.options.UserAgent)
	if before.ETag != "" {
		request.Header.Set("If-None-Match", before.ETag)
	} else if before.LastModified != "" {
		request.Header.Set("If-Modified-Since", before.LastModified)
	}
	response, err := c.fetches.Do(request)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer drain(response)
	switch {
	case response.StatusCode == http.StatusNotModified:
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, newStatusError(response, c.options.Now())
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: the response broke off: %w", ErrUnreachable, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return &Download{Data: data, ETag: response.Header.Get("ETag"), LastModified: response.Header.Get("Last-Modified")}, nil
}

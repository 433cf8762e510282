package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
)

// ErrFetchURI says that a payload's URI is not one that the broker fetches from.
var ErrFetchURI = errors.New("broker: unusable payload URI")

// openPayload opens a payload by its URI. The URI comes from a manifest, by way of the agent: it
// must not make the broker reach for anything but a web server.
func (b *Broker) openPayload(ctx context.Context, uri string, offset int64) (io.ReadCloser, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URI", ErrFetchURI)
	}
	switch {
	case u.Scheme == "http" || u.Scheme == "https":
		return b.options.Fetcher.Open(ctx, uri, offset)
	case u.Scheme == "file" && b.options.InsecureFileURIs:
		return openFile(u, offset)
	}
	return nil, fmt.Errorf("%w: scheme %q; payloads come by http or https", ErrFetchURI, u.Scheme)
}

func openFile(u *url.URL, offset int64) (io.ReadCloser, error) {
	if u.Host != "" && u.Host != "localhost" {
		return nil, fmt.Errorf("%w: file on another host", ErrFetchURI)
	}
	f, err := os.Open(u.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot open the file", ErrFetchURI)
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || offset > st.Size() {
		f.Close() //nolint:errcheck // was not used
		return nil, fmt.Errorf("%w: not a regular file of at least %d bytes", ErrFetchURI, offset)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close() //nolint:errcheck // was not used
		return nil, fmt.Errorf("%w: %w", ErrFetchURI, err)
	}
	return f, nil
}

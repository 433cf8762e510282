package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-teep/teep/link"
)

// fetchAgent asks for the payload at uri from 0 in pieces of 4 bytes, and gives up at the first
// reason why there is none.
func fetchAgent(uri string, got *bytes.Buffer) *fakeAgent {
	ask := func(offset int64) link.Ask {
		return link.Ask{Session: 1, Fetch: &link.Fetch{ID: 1, URI: uri, Offset: offset, Length: 4}}
	}
	return &fakeAgent{
		unrequest: func() (link.Ask, error) { return ask(0), nil },
		deliver: func(c link.Chunk) (link.Ask, error) {
			got.Write(c.Data)
			if c.Last || c.Err != "" {
				return link.Ask{Session: 1}, nil
			}
			return ask(c.Offset + int64(len(c.Data))), nil
		},
	}
}

func TestFetchURIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("secret of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for uri, insecure := range map[string]string{
		"file://" + file:               "secret of the host",
		"file://localhost" + file:      "secret of the host",
		"file://elsewhere" + file:      "",
		"file://" + filepath.Dir(file): "",
		"file:///does/not/exist":       "",
		"ftp://cdn.example/x":          "",
		"unix:///run/x":                "",
		"":                             "",
		"relative":                     "",
		"http://[::1":                  "",
		"data:,x":                      "",
	} {
		for _, allowed := range []bool{false, true} {
			var got bytes.Buffer
			a := fetchAgent(uri, &got)
			b := newBroker(t, a, func(o *Options) { o.InsecureFileURIs = allowed })
			if err := b.Unrequest(context.Background(), id("x"), Requirements{}); err != nil {
				t.Fatal(err)
			}
			want := ""
			if allowed {
				want = insecure
			}
			if got.String() != want || want == "" && !strings.Contains(a.told(), "unusable payload URI") {
				t.Errorf("%q, insecure %v: got %q; the agent was told %s", uri, allowed, got.String(), a.told())
			}
		}
	}
}

// A stream that breaks gives what it gave, and is taken up where it broke.
func TestFetchBreaks(t *testing.T) {
	data := "0123456789abcdef"
	var got bytes.Buffer
	var offsets []int64
	a := fetchAgent("https://cdn.example/p", &got)
	b := newBroker(t, a, func(o *Options) {
		o.Fetcher = openFunc(func(_ context.Context, _ string, offset int64) (io.ReadCloser, error) {
			offsets = append(offsets, offset)
			rest := data[offset:]
			if len(rest) > 7 {
				return io.NopCloser(io.MultiReader(strings.NewReader(rest[:7]), iotest.ErrReader(io.ErrUnexpectedEOF))), nil
			}
			return io.NopCloser(iotest.OneByteReader(strings.NewReader(rest))), nil
		})
	})
	if err := b.Unrequest(context.Background(), id("x"), Requirements{}); err != nil || got.String() != data {
		t.Errorf("%q, %v", got.String(), err)
	}
	if !slices.Equal(offsets, []int64{0, 7, 14}) {
		t.Errorf("opened at %v", offsets)
	}
}

func TestFetchFails(t *testing.T) {
	var got bytes.Buffer
	a := fetchAgent("https://cdn.example/p", &got)
	var event Event
	b := newBroker(t, a, func(o *Options) {
		o.Events = func(e Event) {
			if e.Kind == EventNoPayload {
				event = e
			}
		}
	})
	// The agent decides that this is the end of the session, so it is no error of the broker.
	if err := b.Unrequest(context.Background(), id("x"), Requirements{}); err != nil || event.Err == nil || !strings.Contains(a.told(), "no fetch expected") {
		t.Errorf("%v, %+v, %s", err, event, a.told())
	}
}

func TestFetchWithoutEnd(t *testing.T) {
	var got bytes.Buffer
	a := fetchAgent("https://cdn.example/p", &got)
	b := newBroker(t, a, func(o *Options) {
		o.MaxPieces = 3
		o.Fetcher = openFunc(func(context.Context, string, int64) (io.ReadCloser, error) { return io.NopCloser(endless{}), nil })
	})
	if err := b.Unrequest(context.Background(), id("x"), Requirements{}); !errors.Is(err, ErrTooLong) || got.Len() != 12 {
		t.Errorf("%v after %d bytes", err, got.Len())
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// One stream at a time, and none left open.
func TestStreamsAreClosed(t *testing.T) {
	open := 0
	ask := func(i int64) link.Ask {
		return link.Ask{Session: 1, Fetch: &link.Fetch{ID: uint64(i), URI: fmt.Sprintf("https://cdn.example/%d", i%2), Offset: i * 10, Length: 4}}
	}
	n := int64(0)
	a := &fakeAgent{unrequest: func() (link.Ask, error) { return ask(0), nil }, deliver: func(link.Chunk) (link.Ask, error) {
		if n++; n < 5 {
			return ask(n), nil
		}
		return link.Ask{}, errors.New("enough")
	}}
	b := newBroker(t, a, func(o *Options) {
		o.Fetcher = openFunc(func(context.Context, string, int64) (io.ReadCloser, error) {
			if open++; open > 1 {
				t.Errorf("%d streams are open", open)
			}
			return &counted{endless{}, &open}, nil
		})
	})
	if err := b.Unrequest(context.Background(), id("x"), Requirements{}); !errors.Is(err, ErrAgent) {
		t.Error(err)
	}
	if open != 0 {
		t.Errorf("%d streams are left open", open)
	}
}

type counted struct {
	io.Reader
	open *int
}

func (c *counted) Close() error { *c.open--; return nil }

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/webhook"
)

// FeedEvent is something that happened with a device, with its place in the order of all.
type FeedEvent webhook.Event

const (
	// streamMediaType is that of server-sent events (HTML §9.2).
	streamMediaType = "text/event-stream"
	// maxStreams bounds the streams of one process, each of which asks the store once in streamInterval.
	maxStreams     = 100
	streamInterval = time.Second
	// streamAlive is how often a quiet stream says that it is there, and how often it is looked at again who reads any.
	streamAlive = 15 * time.Second
	streamPage  = 200
	// streamWrite bounds how long a reader may leave an event untaken.
	streamWrite = 10 * time.Second
)

func (h *handler) listFeed(w http.ResponseWriter, r *http.Request) error {
	text, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	after, err := position(text)
	if err != nil {
		return err
	}
	find := h.Store.FeedEvents
	switch order := r.URL.Query().Get(queryOrder); order {
	case "", "oldest":
	case "newest":
		find = h.Store.FeedBefore
	default:
		return badRequest("order", fmt.Sprintf("%q is not an order.", order), "Use oldest or newest, for what comes first.")
	}
	list, err := find(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, func(e *tam.FeedEvent) FeedEvent { return FeedEvent(webhook.NewEvent(*e)) },
		func(e *tam.FeedEvent) string { return strconv.FormatInt(e.Position, 10) }))
}

// streamFeed sends events as they happen. Last-Event-ID is what a reader sends that was cut off.
func (h *handler) streamFeed(w http.ResponseWriter, r *http.Request) error {
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		return &Problem{Status: http.StatusServiceUnavailable, Code: "too-many-streams", Detail: "Too many streams are open.", Next: "Try again later, or poll /v1/events."}
	}
	from := r.Header.Get("Last-Event-ID")
	if from == "" {
		from = r.URL.Query().Get(queryAfter)
	}
	after, err := position(from)
	if err == nil && from == "" {
		ctx, cancel := h.step(r.Context())
		defer cancel()
		after, err = h.Store.FeedHead(ctx)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", streamMediaType)
	w.Header().Set("X-Accel-Buffering", "no") // proxies that hold answers back would hold events back
	s := &stream{w: w, control: http.NewResponseController(w), after: after, looked: time.Now()}
	if err := s.write(": begins\n\n"); err != nil {
		return nil // the reader went away
	}
	h.follow(r, s)
	return nil
}

// stream is one reader.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	after   int64
	// spoken is when something was sent last, looked when it was last looked at who reads.
	spoken, looked time.Time
}

// due says what it is time for: to look at who reads, however much there is to say, and to say something.
func (s *stream) due(now time.Time) (look, speak bool) {
	return now.Sub(s.looked) >= streamAlive, now.Sub(s.spoken) >= streamAlive
}

func (s *stream) write(text string) error {
	s.spoken = time.Now()
	s.control.SetWriteDeadline(s.spoken.Add(streamWrite)) //nolint:errcheck // not every ResponseWriter has deadlines; a server's has
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// follow sends what happens until the reader is gone, may not read any more, or the service ends.
func (h *handler) follow(r *http.Request, s *stream) {
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	for {
		look, speak := s.due(time.Now())
		if look {
			if h.mayStill(r) != nil {
				return
			}
			s.looked = time.Now()
		}
		if speak && s.write(": is there\n\n") != nil {
			return
		}
		list, err := h.nextEvents(r.Context(), s.after)
		if err != nil && r.Context().Err() == nil {
			h.Logger.WarnContext(r.Context(), "stream of events waits", "err", err)
		}
		for _, e := range list {
			data, err := json.Marshal(webhook.NewEvent(e))
			if err != nil || s.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Position, e.Kind, data)) != nil {
				return
			}
			s.after = e.Position
		}
		if len(list) == streamPage {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-h.Ending:
			return
		case <-tick.C:
		}
	}
}

func (h *handler) nextEvents(ctx context.Context, after int64) ([]tam.FeedEvent, error) {
	ctx, cancel := h.step(ctx)
	defer cancel()
	return h.Store.FeedEvents(ctx, after, streamPage)
}

// mayStill finds out again who reads: a token may be revoked meanwhile.
func (h *handler) mayStill(r *http.Request) error {
	c := caller(r.Context())
	if r.Header.Get("Authorization") != "" || r.TLS != nil {
		var err error
		if c, err = h.authenticateSoon(r.WithContext(WithCaller(r.Context(), nil))); err != nil {
			return err
		}
	}
	if !h.Clock().Before(c.Expires) || !c.Has(ScopeOperator) && !c.Has(ScopeAuditor) {
		return noToken()
	}
	return nil
}

// FeedEvents lists what happened with all devices, oldest first; after is Next of the page before.
func (c *Client) FeedEvents(ctx context.Context, after string) (*Page[FeedEvent], error) {
	return list[FeedEvent](ctx, c, "/v1/events", after)
}

// NewestEvents lists what happened with all devices, newest first; after is Next of the page before.
func (c *Client) NewestEvents(ctx context.Context, after string, limit int) (*Page[FeedEvent], error) {
	q := url.Values{queryOrder: {"newest"}, queryLimit: {strconv.Itoa(limit)}}
	if after != "" {
		q.Set(queryAfter, after)
	}
	var p Page[FeedEvent]
	return &p, c.call(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil, &p)
}

// Follow gives each event that happens to see, from the one after the position `after` on; 0 means from now.
// It returns when the connection ends, or with the error of see.
func (c *Client) Follow(ctx context.Context, after int64, see func(FeedEvent) error) error {
	path := "/v1/events/stream"
	if after > 0 {
		path += "?" + url.Values{queryAfter: {strconv.FormatInt(after, 10)}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.BaseURL, "/")+path, nil)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Accept", streamMediaType)
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.client()
	client.Timeout = 0
	res, err := client.Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(res.Body, maxJSON))
		return errors.Join(problemOf(res.StatusCode, data), err)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxJSON)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e FeedEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("api: event: %w", err)
		}
		if err := see(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("api: stream: %w", err)
	}
	return ctx.Err()
}

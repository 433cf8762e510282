package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-teep/teep/tam"
)

// Store is what a sender needs of a store.
type Store interface {
	tam.Feed
	tam.Webhooks
}

// Config is what a sender works with. Store is required.
type Config struct {
	Store Store
	// InsecurePrivateAddresses lets webhooks go to loopback and private addresses, and over plain HTTP:
	// whoever may make webhooks can then send requests to services inside of the operator's network.
	InsecurePrivateAddresses bool
	// Wrap, if not nil, is put around the HTTP transport, for whoever follows requests.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

const (
	interval = time.Second
	// batch is how many events go into one request.
	batch = 100
	// claim is how long an attempt may take: longer than the client's timeout.
	claim = 30 * time.Second
	// firstPause doubles with each failure, up to longestPause.
	firstPause, longestPause = 2 * time.Second, time.Hour
	// maxHooks bounds how many webhooks there are.
	maxHooks = 1000
)

// Sender delivers events. Several may work on one store.
type Sender struct {
	config Config
	client *http.Client

	mu   sync.Mutex
	busy map[string]bool // webhooks that Run is telling
}

// NewSender makes a sender.
func NewSender(c Config) *Sender {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	client := newClient(c.InsecurePrivateAddresses)
	if c.Wrap != nil {
		client.Transport = c.Wrap(client.Transport)
	}
	return &Sender{config: c, client: client, busy: map[string]bool{}}
}

// Run delivers until ctx ends. A delivery under way then is made again later, by whoever runs. Each webhook goes at
// its own pace: one that is slow holds up no other, and one with much to be told is told it without a pause.
func (s *Sender) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	var telling sync.WaitGroup
	defer telling.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		due, err := s.due(ctx)
		s.complain(ctx, err)
		for _, id := range due {
			if s.take(id) {
				telling.Go(func() {
					defer s.leave(id)
					s.tell(ctx, id)
				})
			}
		}
	}
}

func (s *Sender) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.config.Logger.ErrorContext(ctx, "webhooks", "err", err)
	}
}

func (s *Sender) take(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return false
	}
	s.busy[id] = true
	return true
}

func (s *Sender) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

// tell makes attempts as long as they go well and there is more.
func (s *Sender) tell(ctx context.Context, id string) {
	for more := true; more && ctx.Err() == nil; {
		var err error
		more, err = s.attempt(ctx, id)
		s.complain(ctx, err)
	}
}

// Deliver makes one attempt for each webhook that has something to be told, and whose attempt is due. A
// webhook with nothing to be told costs no write.
func (s *Sender) Deliver(ctx context.Context) error {
	due, err := s.due(ctx)
	done := make(chan error)
	for _, id := range due {
		go func() {
			_, err := s.attempt(ctx, id)
			done <- err
		}()
	}
	errs := []error{err}
	for range due {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// due lists the webhooks that have something to be told now.
func (s *Sender) due(ctx context.Context) (ids []string, err error) {
	hooks, err := s.config.Store.ListWebhooks(ctx, "", maxHooks)
	if err != nil || len(hooks) == 0 {
		return nil, err
	}
	head, err := s.config.Store.FeedHead(ctx)
	if err != nil {
		return nil, err
	}
	now := s.config.Clock()
	for _, w := range hooks {
		if w.Position < head && !w.Next.After(now) {
			ids = append(ids, w.ID)
		}
	}
	return ids, nil
}

// attempt tells one webhook what comes next. more says that it went well, and that there may be more.
func (s *Sender) attempt(ctx context.Context, id string) (more bool, err error) {
	now := s.config.Clock()
	until := now.Add(claim).Truncate(time.Millisecond)
	w, err := s.config.Store.ClaimWebhook(ctx, id, now, until)
	if errors.Is(err, tam.ErrConflict) || errors.Is(err, tam.ErrNotFound) {
		return false, nil // another replica has it, or it is gone
	}
	if err != nil {
		return false, err
	}
	events, err := s.config.Store.FeedEvents(ctx, w.Position, batch)
	if err != nil {
		return false, err
	}
	p := w.WebhookProgress
	if err := s.post(ctx, w, events); err != nil {
		p.Failures++
		p.Next, p.LastError = s.config.Clock().Add(pause(p.Failures)), truncate(err.Error())
		s.config.Logger.WarnContext(ctx, "webhook was not delivered", "webhook", w.ID, "failures", p.Failures, "next", p.Next, "err", err)
	} else if len(events) > 0 {
		p, more = tam.WebhookProgress{Position: events[len(events)-1].Position}, len(events) == batch
	}
	// Also when the service is about to end: what was delivered should be known to be.
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = s.config.Store.SettleWebhook(settle, id, until, p)
	if errors.Is(err, tam.ErrConflict) || errors.Is(err, tam.ErrNotFound) {
		return false, nil
	}
	return more && err == nil, err
}

// pause grows with the number of failures; its last quarter is chance.
func pause(failures int) time.Duration {
	d := min(firstPause<<min(failures-1, 12), longestPause)
	return d - d/4 + rand.N(d/4+1)
}

func truncate(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// post sends the events that the webhook wants to hear of, if there are any.
func (s *Sender) post(ctx context.Context, w *tam.Webhook, events []tam.FeedEvent) error {
	m := message{}
	for _, e := range events {
		if len(w.Kinds) == 0 || slices.Contains(w.Kinds, e.Kind) {
			m.Events = append(m.Events, NewEvent(e))
		}
	}
	if len(m.Events) == 0 {
		return nil
	}
	if err := CheckURL(w.URL, s.config.InsecurePrivateAddresses); err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	// Repeated with each attempt, unless there is more to tell by then.
	id := fmt.Sprintf("%s.%d.%d", w.ID, w.Position, m.Events[len(m.Events)-1].Position)
	timestamp := strconv.FormatInt(s.config.Clock().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "teep-tam")
	r.Header.Set(headerID, id)
	r.Header.Set(headerTimestamp, timestamp)
	r.Header.Set(headerSignature, sign(w.Secret, id, timestamp, body))
	res, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer res.Body.Close()
	// The connection can be used again if little is left on it.
	io.CopyN(io.Discard, res.Body, 64<<10) //nolint:errcheck // see above
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("webhook: the receiver answered %d", res.StatusCode)
	}
	return nil
}

package tam

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Feed is the history of all devices and rollouts in one order, for those who follow it: webhooks and streams. It
// keeps what [Exchanges.Sweep] left of the history.
type Feed interface {
	// FeedEvents lists events by their positions, ascending, beginning after the position `after`.
	// Positions rise, with gaps; an event that was acknowledged gets one, and none ever appears before
	// one that was listed already: who remembers the last position that it saw misses nothing.
	FeedEvents(ctx context.Context, after int64, limit int) ([]FeedEvent, error)
	// FeedBefore lists events by their positions, descending, beginning before the position `before`; 0 begins
	// with the newest.
	FeedBefore(ctx context.Context, before int64, limit int) ([]FeedEvent, error)
	// FeedHead returns the position of the newest event; 0 where there was none.
	FeedHead(ctx context.Context) (int64, error)
}

// FeedEvent is an event with its place in the feed. Its ID is that within its device, as [Devices.Events]
// has it, or 0.
type FeedEvent struct {
	Position int64
	Event
}

// Webhooks keeps who is told of events by HTTP, and how far each was told.
type Webhooks interface {
	// AddWebhook adds a webhook; ErrExists when the ID is taken.
	AddWebhook(ctx context.Context, w Webhook) error
	// ListWebhooks lists webhooks by ID, ascending, beginning after `after`.
	ListWebhooks(ctx context.Context, after string, limit int) ([]Webhook, error)
	// DeleteWebhook removes a webhook.
	DeleteWebhook(ctx context.Context, id string) error
	// ClaimWebhook gives one webhook to the caller alone until the time `until`, if its next attempt
	// is due at now and nobody else has it; ErrConflict otherwise, ErrNotFound when it is gone.
	ClaimWebhook(ctx context.Context, id string, now, until time.Time) (*Webhook, error)
	// SettleWebhook stores the progress of a webhook that was claimed until the time `until`, and gives it
	// back; ErrConflict when somebody else has it meanwhile, ErrNotFound when it is gone.
	SettleWebhook(ctx context.Context, id string, until time.Time, p WebhookProgress) error
}

// Webhook is a URL that events are posted to.
type Webhook struct {
	ID  string
	URL string
	// Kinds limits it to kinds of event; empty means all.
	Kinds []EventKind
	// Secret authenticates what is posted. It is stored as it is, because every delivery needs it.
	Secret  []byte
	Created time.Time
	WebhookProgress
}

// WebhookProgress is how far a webhook was told.
type WebhookProgress struct {
	// Position is that of the last event that was delivered, or that it does not want to hear of.
	Position int64
	// Failures counts the attempts that failed since the last that did not; Next is when the next one
	// is due, LastError what was wrong.
	Failures  int
	Next      time.Time
	LastError string
}

// Describe says what a webhook is, without its secret.
func (w Webhook) Describe() string {
	kinds := make([]string, len(w.Kinds))
	for i, k := range w.Kinds {
		kinds[i] = string(k)
	}
	if len(kinds) == 0 {
		return fmt.Sprintf("all events to %s", w.URL)
	}
	return fmt.Sprintf("%s to %s", strings.Join(kinds, ", "), w.URL)
}

// EventKinds lists the kinds of event.
func EventKinds() []EventKind {
	return []EventKind{EventAttested, EventAttestationFailed, EventUpdateSent, EventSucceeded, EventFailed, EventStatus,
		EventRolloutCreated, EventRolloutApproved, EventRolloutStarted, EventRolloutStage, EventRolloutPaused, EventRolloutResumed,
		EventRolloutDone, EventRolloutStopped, EventRolloutAborted, EventRolloutArchived, EventRolloutDeleted}
}

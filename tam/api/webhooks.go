package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/webhook"
)

// maxWebhooks keeps the cost of telling them bounded.
const maxWebhooks = 100

// NewWebhook describes a webhook to make.
type NewWebhook struct {
	URL string `json:"url"`
	// Kinds limits it to kinds of event; empty means all.
	Kinds []tam.EventKind `json:"kinds,omitempty"`
}

// Webhook is a URL that events are posted to.
type Webhook struct {
	ID      string          `json:"id"`
	URL     string          `json:"url"`
	Kinds   []tam.EventKind `json:"kinds"`
	Created time.Time       `json:"created"`
	// Position is that of the last event that was delivered; Failures counts the attempts since that
	// failed, and Next is when the next one is made.
	Position  int64      `json:"position"`
	Failures  int        `json:"failures"`
	Next      *time.Time `json:"next,omitempty"`
	LastError string     `json:"lastError,omitempty"`
	// Secret checks the signatures, in the answer to its making only.
	Secret string `json:"secret,omitempty"`
}

func viewWebhook(w *tam.Webhook) Webhook {
	view := Webhook{ID: w.ID, URL: w.URL, Kinds: w.Kinds, Created: w.Created.UTC(), Position: w.Position, Failures: w.Failures, LastError: w.LastError}
	if view.Kinds == nil {
		view.Kinds = []tam.EventKind{}
	}
	if w.Failures > 0 {
		view.Next = timePointer(w.Next)
	}
	return view
}

func (h *handler) addWebhook(w http.ResponseWriter, r *http.Request) error {
	var body NewWebhook
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := webhook.CheckURL(body.URL, h.InsecureWebhooks); err != nil {
		return badRequest("url", "The URL cannot be used: "+err.Error()+".", "Name an https URL without user and fragment.")
	}
	for _, k := range body.Kinds {
		if !slices.Contains(tam.EventKinds(), k) {
			return badRequest("kinds", fmt.Sprintf("%q is not a kind of event.", k), fmt.Sprintf("Use some of %v, or none for all.", tam.EventKinds()))
		}
	}
	hooks, err := h.Store.ListWebhooks(r.Context(), "", maxWebhooks)
	if err != nil {
		return err
	}
	if len(hooks) == maxWebhooks {
		return &Problem{Status: http.StatusConflict, Code: "too-many", Detail: fmt.Sprintf("There are %d webhooks already.", maxWebhooks), Next: "Delete one."}
	}
	// From now on: what happened before is listed at /v1/events.
	head, err := h.Store.FeedHead(r.Context())
	if err != nil {
		return err
	}
	var random [40]byte
	rand.Read(random[:]) //nolint:errcheck // it cannot fail
	made := tam.Webhook{
		ID: hex.EncodeToString(random[32:]), URL: body.URL, Kinds: body.Kinds, Secret: random[:32], Created: h.Clock().UTC(),
		WebhookProgress: tam.WebhookProgress{Position: head},
	}
	if err := h.Store.AddWebhook(r.Context(), made); err != nil {
		return err
	}
	h.log(r, "webhook made", "id", made.ID)
	view := viewWebhook(&made)
	view.Secret = webhook.FormatSecret(made.Secret)
	return writeJSON(w, http.StatusCreated, view)
}

func (h *handler) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.ListWebhooks(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewWebhook, func(w *tam.Webhook) string { return w.ID }))
}

func (h *handler) deleteWebhook(w http.ResponseWriter, r *http.Request) error {
	if err := h.Store.DeleteWebhook(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	h.log(r, "webhook deleted", "id", r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// AddWebhook makes a webhook; its Secret is in this answer only.
func (c *Client) AddWebhook(ctx context.Context, w NewWebhook) (*Webhook, error) {
	var made Webhook
	return &made, c.call(ctx, http.MethodPost, "/v1/webhooks", w, &made)
}

// Webhooks lists webhooks.
func (c *Client) Webhooks(ctx context.Context, after string) (*Page[Webhook], error) {
	return list[Webhook](ctx, c, "/v1/webhooks", after)
}

// DeleteWebhook deletes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/webhooks/"+url.PathEscape(id), nil, nil)
}
